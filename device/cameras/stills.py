"""Pictures shown to the model as if a camera looked at them."""

import dataclasses
import logging
import threading
import time
from pathlib import Path

from device import config
from device.cameras import Camera
from device.cameras.pace import Pace
from device.errors import CameraError, PictureError
from device.frames import Frame
from device.recordings.pictures import find_pictures, read_picture

_SHOWN_S = 1.0

_log = logging.getLogger("labelcam.cameras.stills")


class StillsCamera(Camera):
    """One picture, without end, or those of a folder in order, once, a second each.

    A picture comes again and again at the camera's frame rate, as a camera would see it,
    so that what smooths over several frames has several. It keeps its own size. One that
    cannot be read is skipped, counted in ``skipped`` and logged.
    """

    live = False

    def __init__(
        self, path: Path, source: str, settings: config.Camera, stop: threading.Event
    ) -> None:
        self.source = source
        self.skipped = 0
        self._fps = settings.fps
        self._frames_each = max(1, round(settings.fps * _SHOWN_S))
        self._pace = Pace(stop)
        self._number = 0
        try:
            self._paths = find_pictures(path)
        except PictureError as error:
            raise CameraError(source, str(error).removeprefix(f"picture {path}: ")) from None
        self._left = iter(self._paths)
        self._picture = self._next()

    def read(self) -> Frame | None:
        """The picture of the moment, when the next frame is due."""
        shown = self._number and self._number % self._frames_each == 0
        if shown and self._picture and len(self._paths) > 1:
            self._picture = self._next()
        if self._picture is None or not self._pace.wait_until(self._number / self._fps):
            return None
        frame = dataclasses.replace(
            self._picture, number=self._number, captured_at=time.monotonic()
        )
        self._number += 1
        return frame

    def close(self) -> None:
        """Show nothing more."""
        self._left = iter(())
        self._picture = None

    def _next(self) -> Frame | None:
        """The next picture that can be read; None at the end."""
        reason = ""
        for path in self._left:
            try:
                picture = read_picture(path)
            except PictureError as error:
                self.skipped += 1
                reason = str(error)
                if len(self._paths) > 1:
                    _log.warning("camera %s: skipped %s", self.source, reason)
                continue
            # The frames that show it share its pixels.
            picture.pixels.flags.writeable = False
            return picture
        if self.skipped < len(self._paths):
            return None
        if len(self._paths) == 1:
            raise CameraError(self.source, reason.removeprefix(f"picture {self._paths[0]}: "))
        raise CameraError(
            self.source, f"none of its {self.skipped} pictures can be read; the last: {reason}"
        )
