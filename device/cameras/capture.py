"""The thread that reads a camera, so that a slow classifier never sees an old frame."""

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from device import config
from device.cameras import Camera, open_camera, shown
from device.frames import LatestFrame

_log = logging.getLogger("labelcam.cameras.capture")


class CaptureThread:
    """Opens a camera, puts its frames into the slot, closes it; named ``camera-NAME``.

    It ends the slot when the camera ends, with the error when that was not meant to be. It
    stops when ``stop`` is set, which whoever made the event may do for all threads at once.
    """

    def __init__(
        self,
        settings: config.Camera,
        slot: LatestFrame,
        stop: threading.Event,
        opener: Callable[[config.Camera, threading.Event], Camera] = open_camera,
    ) -> None:
        self.source = shown(settings.source)
        self._settings = settings
        self._slot = slot
        self._stop = stop
        self._open = opener
        self._opened = threading.Event()
        self._error: Exception | None = None
        # A daemon, because a driver call that never comes back must not keep the process.
        self._thread = threading.Thread(
            target=self._run, name=f"camera-{settings.name}", daemon=True
        )

    def start(self) -> None:
        """Begin to open the camera and come back at once."""
        self._thread.start()

    def wait_until_open(self) -> None:
        """Wait until the camera is open, or ``stop`` is set. Raises what opening raised."""
        while not self._opened.wait(0.05) and not self._stop.is_set():
            pass
        if self._error is not None:
            raise self._error

    def close(self, timeout_s: float = 1.5) -> bool:
        """Stop; False when the camera did not let go in time and its thread was left behind."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning(
                "camera %s: its driver did not return in %g s; left behind", self.source, timeout_s
            )
            return False
        return True

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.close()

    def _run(self) -> None:
        error: Exception | None = None
        camera: Camera | None = None
        try:
            camera = self._open(self._settings, self._stop)
            self.source = camera.source
            self._opened.set()
            while not self._stop.is_set() and (frame := camera.read()) is not None:
                self._slot.put(frame)
        except Exception as caught:  # noqa: BLE001 - the slot raises it in the thread that takes
            error = caught
        finally:
            if not self._opened.is_set():
                self._error = error
            # First the slot, since a camera that broke off may take its time to close.
            self._slot.end(error)
            self._opened.set()
            if camera is not None:
                camera.close()
