"""From a frame to a change of label."""
