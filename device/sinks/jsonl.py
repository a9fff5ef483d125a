"""Label changes as JSON, one object a line."""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TextIO

import msgspec

from device.events import DeviceHealth, LabelChange, Observation
from device.sinks.lines import write_line
from device.sinks.outlet import Run
from device.system.text import json_line


class Line(msgspec.Struct, frozen=True):
    """What a line holds; ``at`` is wall time, ISO 8601 in UTC with milliseconds."""

    camera: str
    label: str
    score: float
    previous: str | None
    held_s: float
    model: str
    at: str


class JsonlSink:
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

    def observe(self, observation: Observation) -> None:
        """Nothing: only changes are written."""

    def change(self, change: LabelChange) -> None:
        """Write the change."""
        now = datetime.fromtimestamp(self._wall_clock(), UTC)
        line = Line(
            camera=change.camera,
            label=change.label,
            score=round(change.score, 4),
            previous=change.previous,
            held_s=round(change.held_s, 3),
            model=change.model,
            at=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        write_line(self._file, json_line(line).encode())

    def report(self, health: DeviceHealth) -> None:
        """Nothing: only changes are written."""

    def close(self) -> None:
        """Nothing to let go: each line was flushed, and the stream is not ours."""


def open_sink(_run: Run) -> JsonlSink:
    """Lines on stdout."""
    return JsonlSink()
