"""Labels of one's own, learned on the device from a few pictures."""
