"""What lies on disk: a video, a picture, a folder of pictures, and the footage that ships."""

import stat
from pathlib import Path

from device.cameras import REMEDY, Camera, Request
from device.errors import CameraError, UsageError
from device.recordings.pictures import is_picture
from device.system.paths import MODELS

FOOTAGE = MODELS / "footage" / "demo.mp4"


def open_source(request: Request) -> Camera:
    """A video, a picture or a folder of pictures; told by content, then by suffix."""
    source, settings, stop = request.source, request.settings, request.stop
    path = FOOTAGE if source == "footage" else Path(source)
    mode = _mode(path, source)
    if stat.S_ISCHR(mode):
        from device.cameras.v4l2 import V4l2Camera

        return V4l2Camera(path, settings, stop)
    # Opening a pipe would wait for its writer, perhaps for ever.
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise CameraError(source, f"is neither a file, a folder nor a camera; {REMEDY}")
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
        raise UsageError(f"camera {source!r}: is no path; {REMEDY}") from None


def _unreadable(source: str, error: OSError) -> CameraError:
    if isinstance(error, PermissionError):
        return CameraError(source, "may not be read by this user; check its permissions")
    if source == "footage":
        return CameraError(source, f"{FOOTAGE} is missing; get the whole project again")
    return CameraError(source, f"cannot be opened: {error.strerror}; {REMEDY}")
