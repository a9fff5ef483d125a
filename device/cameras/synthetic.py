"""A moving test picture: no camera, no file, the same frames each time."""

import threading
import time
from urllib.parse import parse_qsl

import numpy as np

from device import config
from device.cameras import Camera, Request
from device.cameras.pace import Pace
from device.errors import CameraError, CameraStalled, UsageError
from device.frames import Frame, PixelFormat, Pixels

_KNOBS = ("frames", "stall_after", "fail_after")
_STALLED_AFTER_S = 2.0


def open_source(request: Request) -> Camera:
    """The scene of ``synthetic`` or ``synthetic?KNOB=N&KNOB=N``."""
    return SyntheticCamera(request.settings, request.stop, request.source.partition("?")[2])


def check_source(request: Request) -> None:
    """Raise UsageError for a knob that there is not."""
    _parse(request.source, request.source.partition("?")[2])


class SyntheticCamera(Camera):
    """Colour bars that drift under a jumping square, in the size and at the pace asked for.

    A frame's pixels depend on its number and size alone. Faults come from knobs in the
    source, ``synthetic?frames=200&stall_after=50``: ``frames`` ends it after so many,
    ``stall_after`` lets every read time out then, ``fail_after`` breaks it off.
    """

    def __init__(self, settings: config.Camera, stop: threading.Event, knobs: str = "") -> None:
        self.source = f"synthetic?{knobs}" if knobs else "synthetic"
        limits = _parse(self.source, knobs)
        self._end = limits.get("frames")
        self._stall = limits.get("stall_after")
        self._fail = limits.get("fail_after")
        self._fps = settings.fps
        self._scene = _scene(settings.width, settings.height)
        self._stop = stop
        self._pace = Pace(stop)
        self._number = 0
        self._closed = False

    def read(self) -> Frame | None:
        """The next frame, BGR, when it is due."""
        number = self._number
        if self._closed or number == self._end:
            return None
        if number == self._fail:
            raise CameraError(self.source, f"broke off after {number} frames, as asked")
        if number == self._stall:
            if self._stop.wait(_STALLED_AFTER_S):
                return None
            raise CameraStalled(
                self.source, f"gave no frame for {_STALLED_AFTER_S:g} s after {number}, as asked"
            )
        if not self._pace.wait_until(number / self._fps):
            return None
        self._number += 1
        return self._draw(number)

    def close(self) -> None:
        """End it."""
        self._closed = True

    def _draw(self, number: int) -> Frame:
        height, width = self._scene.shape[:2]
        pixels = np.empty_like(self._scene)
        shift = 2 * number % width
        pixels[:, : width - shift] = self._scene[:, shift:]
        pixels[:, width - shift :] = self._scene[:, :shift]
        # Steps that share no factor with most sizes: it takes long until two frames are equal.
        side = min(width, height) // 4
        top, left = 7 * number % (height - side), 11 * number % (width - side)
        pixels[top : top + side, left : left + side] = 255 - number % 128
        return Frame(pixels, PixelFormat.BGR, width, height, number, time.monotonic())


def _scene(width: int, height: int) -> Pixels:
    """Eight colour bars, darker to the bottom."""
    bars = (np.arange(width) * 8 // width)[:, np.newaxis] >> np.arange(3) & 1
    light = np.linspace(255, 64, height).astype(np.uint8)
    return np.where(bars, light[:, np.newaxis, np.newaxis], np.uint8(16)).astype(np.uint8)


def _parse(source: str, knobs: str) -> dict[str, int]:
    limits: dict[str, int] = {}
    for name, value in parse_qsl(knobs, keep_blank_values=True):
        if name not in _KNOBS or not (value.isascii() and value.isdecimal()):
            raise UsageError(
                f"camera {source}: {name}={value} is no setting of it; give {_KNOBS[0]}, "
                f"{_KNOBS[1]} or {_KNOBS[2]} a whole number"
            )
        limits[name] = int(value)
    return limits
