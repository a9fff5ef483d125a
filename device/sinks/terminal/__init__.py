"""The terminal: what the cameras see, drawn live or written a line at a time."""

from device.sinks.outlet import Run
from device.sinks.terminal.sink import TerminalSink


def open_sink(run: Run) -> TerminalSink:
    """The display, or lines, on stdout."""
    return TerminalSink(run.settings.terminal, run.started_at, cameras=run.cameras)
