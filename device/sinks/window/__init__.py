"""The window, on a desktop or straight on a screen."""
