"""labelcam: a camera that says what it sees."""

__version__ = "0.1.0"
