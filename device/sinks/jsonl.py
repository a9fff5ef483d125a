"""Label changes as JSON, one object a line."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from device.events import LabelChange, Sink
from device.frames import Frame
from device.sinks.lines import write_line
from device.sinks.outlet import Run
from device.sinks.wire import change_fields
from device.system.text import json_line


class JsonlSink(Sink):
    """Writes each label change as it happens, flushed a line at a time.

    A reader that stops reading stops labelcam once the pipe is full, as with any filter.
    ``change`` raises OutputClosed when the reader has gone.
    """

    name = "jsonl"

    def __init__(
        self, file: TextIO | None = None, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._file = file or sys.stdout
        self._wall_clock = wall_clock

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Write the change."""
        fields = change_fields(change, self._wall_clock())
        write_line(self._file, json_line(fields).encode())

    def close(self) -> None:
        """Nothing to let go: each line was flushed, and the stream is not ours."""


def open_sink(_run: Run) -> JsonlSink:
    """Lines on stdout."""
    return JsonlSink()
