"""A recording that labelcam made, played again."""

import threading
import time
from dataclasses import replace
from pathlib import Path

from device.cameras import Camera, Request
from device.cameras.pace import Pace
from device.errors import CameraError, UsageError
from device.frames import Frame
from device.recordings.format import TICKS_PER_S, entries, frame_of


def open_source(request: Request) -> Camera:
    """The recording of ``replay:FOLDER``."""
    return ReplayCamera(request.source, request.stop)


def check_source(request: Request) -> None:
    """Raise UsageError for what names no folder, or a pace that there is not."""
    _parse(request.source)


class ReplayCamera(Camera):
    """``replay:FOLDER`` at its recorded pace, or ``replay:FOLDER?pace=max`` as fast as may be.

    Each frame waits for the one before to be taken, and has the recorded distances in time, to
    the bit: the labels change in the same way each time.
    """

    live = False
    every_frame = True

    def __init__(self, source: str, stop: threading.Event) -> None:
        self.source = source
        self._folder, as_fast_as_may_be = _parse(source)
        self._stop = stop
        self._pace = None if as_fast_as_may_be else Pace(stop)
        self._entries = entries(self._folder, source)
        self._number = 0
        self._last = ""
        self._closed = False
        self._begun_at: float | None = None
        self._next = self._take()
        if self._next is None:
            raise CameraError(source, "holds no frame; record it again")

    def read(self) -> Frame | None:
        """The next frame, when it is due."""
        frame, self._next = self._next, None
        if self._closed or self._stop.is_set():
            return None
        frame = frame or self._take()
        if frame is None:
            return None
        due = self._pace is None or self._pace.wait_until(frame.captured_at)
        if self._begun_at is None:
            # A whole number of the recording's ticks, so that every sum with its times is exact.
            self._begun_at = round(time.monotonic() * TICKS_PER_S) / TICKS_PER_S - frame.captured_at
        return replace(frame, captured_at=self._begun_at + frame.captured_at) if due else None

    def close(self) -> None:
        """Play no more."""
        self._closed = True
        self._next = None
        self._entries.close()

    def _take(self) -> Frame | None:
        """The next frame, its time since the first; a line for each region may be of one."""
        for entry in self._entries:
            if entry.file != self._last:
                self._last = entry.file
                frame = frame_of(self._folder, entry, self.source, self._number, entry.at_s)
                self._number += 1
                return frame
        return None


def _parse(source: str) -> tuple[Path, bool]:
    """The folder, and whether it is played as fast as may be."""
    place, _, pace = source.removeprefix("replay:").partition("?")
    if pace not in ("", "pace=max") or not place:
        raise UsageError(
            f"camera {source}: is no replay; give it as replay:FOLDER or replay:FOLDER?pace=max"
        )
    return Path(place), bool(pace)
