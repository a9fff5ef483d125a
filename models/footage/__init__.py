"""The footage that ships with labelcam: photographs, filmed with a moving crop."""
