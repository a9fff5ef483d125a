"""Small pictures of how a camera's hours usually look, and of an alarm; and what writes them."""

import contextlib
import hashlib
import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from device import config
from device.frames import Frame
from device.recordings.rendering import jpeg, upright
from device.system.files import read_file, replace_file

_log = logging.getLogger("labelcam.health")

FOLDER = "drift"
_LONGEST_PX = 320
_QUALITY = 80
_MAX_BYTES = 1 << 20

Which = Literal["then", "now"]
Work = Callable[[], None]


class DriftPictures:
    """A JPEG for each camera and hour of day, and two of its alarm; for the device's user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    @staticmethod
    def forget(folder: Path) -> None:
        """Delete what was kept when it was asked for."""
        shutil.rmtree(folder / FOLDER, ignore_errors=True)

    def has(self, camera: str, hour: int) -> bool:
        """Whether there is a picture of the usual at this hour of day."""
        return self._usual(camera, hour).exists()

    def keep(self, camera: config.Camera, frame: Frame, hour: int) -> Work:
        """What keeps the frame as the picture of an hour of day; raises OSError."""
        return lambda: self._write(self._usual(camera.name, hour), camera, frame)

    def tell(self, camera: config.Camera, frame: Frame, hour: int) -> Work:
        """What keeps the frame as that of an alarm, beside the usual one; raises OSError."""

        def work() -> None:
            self._write(self._of_alarm(camera.name, "now"), camera, frame)
            usual = self._usual(camera.name, hour)
            with contextlib.suppress(FileNotFoundError):
                data = read_file(usual, _MAX_BYTES)
                replace_file(self._of_alarm(camera.name, "then"), data, mode=0o600)

        return work

    def read(self, camera: str, which: Which) -> bytes | None:
        """The picture of an alarm; None where there is none."""
        try:
            return read_file(self._of_alarm(camera, which), _MAX_BYTES)
        except OSError:
            return None

    def _write(self, path: Path, camera: config.Camera, frame: Frame) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder.chmod(0o700)
        picture = jpeg(upright(frame, camera.rotate, camera.mirror, _LONGEST_PX), _QUALITY)
        replace_file(path, picture, mode=0o600)

    def _usual(self, camera: str, hour: int) -> Path:
        return self._folder / f"{_slug(camera)}-{hour:02}.jpg"

    def _of_alarm(self, camera: str, which: Which) -> Path:
        return self._folder / f"{_slug(camera)}-{which}.jpg"


class Writer:
    """Writes on a thread of its own, which ends when there is nothing left to write.

    A card may take seconds, and the loop must not wait for it. What fails is said once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._work: list[Work] = []
        self._thread: threading.Thread | None = None
        self._failed = False

    def write(self, data: bytes) -> None:
        """Have the file replaced by ``data``."""
        self.put(lambda: replace_file(self._path, data, mode=0o600))

    def put(self, work: Work) -> None:
        """Have something done after what was put before."""
        with self._lock:
            self._work.append(work)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="labelcam-drift", daemon=True
                )
                self._thread.start()

    def close(self, timeout_s: float = 2.0) -> None:
        """Wait for what was put, so long at most; may be called twice."""
        if (thread := self._thread) is not None:
            thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._work:
                    self._thread = None
                    return
                work = self._work.pop(0)
            try:
                work()
                self._failed = False
            except OSError as error:
                if not self._failed:
                    where = error.filename or self._path
                    said = error.strerror or error
                    _log.warning(
                        "%s cannot be written: %s; what is usual is lost at the next start",
                        where,
                        said,
                    )
                self._failed = True


def _slug(camera: str) -> str:
    """A name of a file that no camera's name can lead astray."""
    return hashlib.sha256(camera.encode()).hexdigest()[:16]
