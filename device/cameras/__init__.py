"""Where frames come from: one protocol, one factory, one file for each kind of camera.

Importing this package costs nothing: each kind is imported when a source asks for it.
"""

import re
import threading
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, Protocol, Self

from device import config
from device.errors import ConfigError
from device.frames import Frame

Size = tuple[int, int]

REMEDY = (
    "give --source footage, synthetic, pi, /dev/videoN, usb:VENDOR:PRODUCT, a video, a picture, "
    "a folder of pictures or an http(s) or rtsp URL"
)


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

    def __exit__(self, *_: object) -> None:
        self.close()


class Request(NamedTuple):
    """What a camera is opened for; ``source`` is its settings' without white space around it.

    ``stop``, once set, ends every wait for a frame. ``wanted`` is the width and height that
    are made of a frame in the end, for a camera that scales by itself.
    """

    source: str
    settings: config.Camera
    stop: threading.Event
    wanted: Size | None


class Kind(NamedTuple):
    """A kind of camera: the sources that name it, and the module whose ``open_source`` opens it.

    ``open_source(request)`` raises CameraError for what is absent, busy or broken, UsageError
    for a source that could never be one, DependencyError for a package that it needs. Where
    there is a ``check_source(request)``, it raises the last two and opens nothing.
    """

    pattern: str
    module: str
    has_controls: bool = False


# The first that matches the whole of a source opens it.
KINDS = (
    Kind("auto", "device.cameras.auto", has_controls=True),
    Kind("pi(:.*)?", "device.cameras.pi", has_controls=True),
    Kind("replay:.*", "device.cameras.replay"),
    Kind(r"synthetic(\?.*)?", "device.cameras.synthetic"),
    Kind(r"(usb|bus):.*|[0-9]+|/dev/(video[0-9]|v4l/).*", "device.cameras.v4l2"),
    Kind("[A-Za-z][A-Za-z0-9+.-]*://.*", "device.cameras.stream"),
    Kind(".*", "device.cameras.files"),
)


def open_camera(
    settings: config.Camera, stop: threading.Event | None = None, wanted: Size | None = None
) -> Camera:
    """The camera that ``settings.source`` names, open and proved to deliver.

    ``stop`` and ``wanted`` are those of Request. A source that is named never falls back to
    another; ``auto`` takes the first device that captures and logs which. Raises what
    Kind says, and ConfigError for settings that this kind does not take.
    """
    module, request = _request(settings, stop or threading.Event(), wanted)
    camera: Camera = module.open_source(request)
    return camera


def check_source(settings: config.Camera) -> None:
    """Raise what ``open_camera`` would, whatever is plugged in: all but CameraError."""
    module, request = _request(settings, threading.Event(), None)
    if check := getattr(module, "check_source", None):
        check(request)


def _request(
    settings: config.Camera, stop: threading.Event, wanted: Size | None
) -> tuple[ModuleType, Request]:
    """The module of the kind of camera, and what it is to open."""
    source = settings.source.strip()
    kind = next(kind for kind in KINDS if re.fullmatch(kind.pattern, source, re.DOTALL))
    if settings.controls != config.CameraControls() and not kind.has_controls:
        raise ConfigError(
            "camera.controls", f"only a Raspberry Pi's camera takes them, not {shown(source)}"
        )
    return import_module(kind.module), Request(source, settings, stop, wanted)


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
