"""The live picture in a window, or straight on a screen where there is no desktop."""

import os

from device import config
from device.errors import DependencyError
from device.events import Sink
from device.sinks.outlet import Run

# Read when pygame is imported and SDL starts: no banner on stdout, and signals are the node's.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")


def open_sink(run: Run) -> Sink:
    """The window. Raises DependencyError without pygame, SinkError where there is no screen."""
    check_settings(run.settings)
    from device.sinks.window.sink import WindowSink

    return WindowSink(run.settings.window, run.cameras, run.device)


def check_settings(_settings: config.Config) -> None:
    """Raise DependencyError without pygame."""
    try:
        import pygame  # noqa: F401
    except ImportError as error:
        if not (error.name or "").startswith("pygame"):
            raise
        raise DependencyError("the window needs pygame-ce; run: pip install pygame-ce") from None
