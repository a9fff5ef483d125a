"""`labelcam bench`: what runs a model fastest on this machine."""
