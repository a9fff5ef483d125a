"""The picture of a change, for every way out that keeps or sends it: made once, if at all."""

import threading
import weakref
from collections.abc import Sequence

from device import config
from device.config.values import Box
from device.control.commands import Device
from device.frames import Frame
from device.recordings.rendering import photo


class Photo:
    """A frame that is a JPEG when somebody asks for one; ``size`` is the bytes of its pixels."""

    def __init__(self, frame: Frame, camera: config.Camera, clear: Box | None) -> None:
        self.size = frame.pixels.nbytes
        self._source = weakref.ref(frame)
        self._camera = camera
        self._clear = clear
        self._lock = threading.Lock()
        self._frame: Frame | None = frame
        self._jpeg = b""

    def is_of(self, frame: Frame) -> bool:
        """Whether it is the photo of this frame, which it need not have kept."""
        return self._source() is frame

    def jpeg(self) -> bytes:
        """The picture, upright, blurred where that is asked for, without EXIF; for any thread.

        Whoever asks first encodes it, in some milliseconds; the others wait for that.
        """
        with self._lock:
            if self._frame is not None:
                camera = self._camera
                self._jpeg = photo(self._frame, camera.rotate, camera.mirror, self._clear)
                # The pixels are ten times as large.
                self._frame = None
            return self._jpeg


class Photos:
    """Frames to photos, as ``[snapshots]`` has them; for the node's thread.

    ``cameras`` are those that are reported, each region as one of its own.
    """

    def __init__(
        self, settings: config.Snapshots, cameras: Sequence[config.Camera], device: Device
    ) -> None:
        self.blur = settings.blur
        self._cameras = {camera.name: camera for camera in cameras}
        self._device = device
        # Of each camera the last, for as long as somebody has it.
        self._last: weakref.WeakValueDictionary[str, Photo] = weakref.WeakValueDictionary()

    def of(self, camera: str, frame: Frame) -> Photo:
        """The photo of this frame: the same for all that ask while one of them has it.

        It is blurred around the region that is in force now.
        """
        taken = self._last.get(camera)
        if taken is None or not taken.is_of(frame):
            clear = self._device.region(camera) if self.blur else None
            taken = Photo(frame, self._cameras[camera], clear)
            self._last[camera] = taken
        return taken
