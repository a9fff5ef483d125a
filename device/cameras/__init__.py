"""Where frames come from: one protocol, one factory, one file for each kind of camera.

Importing this package costs nothing: each kind is imported when a source asks for it.
"""

import logging
import re
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from device import config
from device.errors import CameraError, ConfigError, DependencyError, UsageError
from device.frames import Frame

Size = tuple[int, int]

FOOTAGE = Path(__file__).resolve().parents[2] / "models" / "footage" / "demo.mp4"

_REMEDY = (
    "give --source footage, synthetic, pi, /dev/videoN, usb:VENDOR:PRODUCT, a video, a picture, "
    "a folder of pictures or an http(s) or rtsp URL"
)
_DEVICE = re.compile(r"/dev/(video\d|v4l/)")
_log = logging.getLogger("labelcam.cameras")


class Camera(Protocol):
    """Frames, one after the other. One thread reads and closes it.

    ``source`` says in a few words where the frames come from, without any password. What is
    ``live`` is opened again when it fails, under the name ``again`` where there is a better
    one than that in the configuration; a recording ends. Of most cameras only the newest
    frame counts, but where ``every_frame`` is set each waits until the one before was taken.
    ``skipped`` counts what it could not make a frame of. Where ``has_large`` is set, the
    frame after ``picture_wanted`` was set has a ``large`` one with it.
    """

    source: str
    live: bool = True
    again: str = ""
    every_frame: bool = False
    skipped: int = 0
    has_large: bool = False
    picture_wanted: bool = False

    def read(self) -> Frame | None:
        """Wait for the next frame; None when the source is at its end or was told to stop.

        Raises CameraStalled when none came in the camera's own time, CameraError when none
        will.
        """
        ...

    def close(self) -> None:
        """Let the device go; may be called twice."""
        ...

    def __enter__(self) -> Self:
        """The camera itself; leaving the block closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()


def open_camera(  # noqa: PLR0911 - one for each kind of source
    settings: config.Camera, stop: threading.Event | None = None, wanted: Size | None = None
) -> Camera:
    """The camera that ``settings.source`` names, open and proved to deliver.

    ``stop``, once set, ends every wait for a frame. ``wanted`` is the width and height that
    are made of a frame in the end, for a camera that scales by itself. A source that is named
    never falls back to another; ``auto`` takes the first device that captures and logs which.
    Raises CameraError for what is absent, busy or broken, UsageError for a source that could
    never be one, DependencyError for a package that it needs.
    """
    stop = stop or threading.Event()
    source = settings.source.strip()
    if source == "auto":
        return _first_device(settings, stop, wanted)
    if re.fullmatch(r"pi(:.*)?", source):
        from device.cameras.pi import PiCamera

        return PiCamera(settings, stop, source.partition(":")[2], wanted)
    if settings.controls != config.CameraControls():
        raise ConfigError(
            "camera.controls", f"only a Raspberry Pi's camera takes them, not {shown(source)}"
        )
    if source == "footage":
        return _open_file(FOOTAGE, source, settings, stop)
    if source.startswith("replay:"):
        from device.cameras.replay import ReplayCamera

        return ReplayCamera(source, stop)
    if source.startswith(("usb:", "bus:")):
        from device.cameras.v4l2 import V4l2Camera, find_by_name

        return V4l2Camera(find_by_name(source), settings, stop)
    kind, _, knobs = source.partition("?")
    if kind == "synthetic":
        from device.cameras.synthetic import SyntheticCamera

        return SyntheticCamera(settings, stop, knobs)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        return _open_url(source, settings, stop)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    mode = 0 if _DEVICE.match(str(path)) else _mode(path, str(path))
    if mode == 0 or stat.S_ISCHR(mode):
        from device.cameras.v4l2 import V4l2Camera

        return V4l2Camera(path, settings, stop)
    return _open_file(path, str(path), settings, stop)


def shown(source: str) -> str:
    """The source as anyone may see it: a URL keeps scheme, host, port and path.

    User, password and query go, and so does whatever follows a ``=`` in the path, since
    some cameras take the password there. A URL with an ``@`` where none belongs may have
    split a password anywhere, so that only the scheme is left of it.
    """
    url = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*://)(.*)", source, re.DOTALL)
    if url is None:
        return source
    parts = re.fullmatch(
        r"(?P<user>[^@/?#]*@)?(?P<place>(?:[\w.-]+|\[[\w:.%]+\])(?::\d+)?(?:/[^@?#=;&]*)?)"
        r"(?P<rest>[^@]*)",
        url[2],
    )
    if parts is None or parts["rest"][:1] not in ("", "?", "#", "=", ";", "&"):
        return f"{url[1]}…"
    hidden_user, hidden_rest = "…@" * bool(parts["user"]), "…" * bool(parts["rest"])
    return f"{url[1]}{hidden_user}{parts['place']}{hidden_rest}"


def _first_device(settings: config.Camera, stop: threading.Event, wanted: Size | None) -> Camera:
    """A Raspberry Pi's own camera where there is one, else the first that captures."""
    from device.cameras.v4l2 import V4l2Camera, find_devices, has_pi_camera

    found, looked_at = find_devices()
    if has_pi_camera():
        from device.cameras.pi import PiCamera

        try:
            pi = PiCamera(settings, stop, "", wanted)
        except (CameraError, DependencyError) as error:
            if not found:
                raise
            _log.info("camera auto: not the Raspberry Pi's own (%s)", error)
        else:
            _log.info("camera auto: chose %s, the Raspberry Pi's own", pi.source)
            return pi
    if not found:
        seen = "; ".join(looked_at) or "there is no /dev/video*"
        raise CameraError("auto", f"no camera found ({seen}); plug one in, or {_REMEDY}")
    path, node = found[0]
    camera = V4l2Camera(path, settings, stop)
    _log.info("camera auto: chose %s (%s), the first that captures", path, node.card)
    return camera


def _open_url(url: str, settings: config.Camera, stop: threading.Event) -> Camera:
    scheme = url.partition("://")[0].lower()
    if scheme not in ("http", "https", "rtsp", "rtsps"):
        raise UsageError(f"camera {shown(url)}: {scheme}:// is not a camera; {_REMEDY}")
    from device.cameras.stream import open_url

    return open_url(url, shown(url), settings, stop)


def _open_file(path: Path, source: str, settings: config.Camera, stop: threading.Event) -> Camera:
    """A video, a picture or a folder of pictures; told by content, then by suffix."""
    from device.recordings.pictures import is_picture

    mode = _mode(path, source)
    # Opening a pipe would wait for its writer, perhaps for ever.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise CameraError(source, f"is neither a file, a folder nor a camera; {_REMEDY}")
    try:
        still = stat.S_ISDIR(mode) or is_picture(path)
    except OSError as error:
        raise _unreadable(source, error) from None
    if still:
        from device.cameras.stills import StillsCamera

        return StillsCamera(path, source, settings, stop)
    from device.cameras.stream import open_video

    return open_video(path, source, stop)


def _mode(path: Path, source: str) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise _unreadable(source, error) from None
    except ValueError:
        raise UsageError(f"camera {source!r}: is no path; {_REMEDY}") from None


def _unreadable(source: str, error: OSError) -> CameraError:
    if isinstance(error, PermissionError):
        return CameraError(source, "may not be read by this user; check its permissions")
    if source == "footage":
        return CameraError(source, f"{FOOTAGE} is missing; get the whole project again")
    return CameraError(source, f"cannot be opened: {error.strerror}; {_REMEDY}")
