"""The live picture in a window, or straight on a screen where there is no desktop."""

from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The window. Raises DependencyError without pygame, SinkError where there is no screen."""
    from device.sinks.window.sink import WindowSink

    return WindowSink(run.settings.window, run.cameras, run.device)
