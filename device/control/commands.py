"""What may be asked of a running device: a command, its answer, and the parsing of one.

A command reaches the node from any side (a broker, a page, a key) through ``Device.submit``
and is obeyed on the node's thread; ``parse`` makes one of a message.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, get_args

import msgspec

from device.config.values import Box
from device.control.table import CONTROLS, Value
from device.errors import CommandError

if TYPE_CHECKING:
    from device.teach.teacher import Teacher
from device.system.text import from_json, quoted

MAX_BYTES = 1024


class Command(msgspec.Struct, frozen=True):
    """One order; ``camera`` is its name, or None for the device or for every camera.

    ``value`` is None for what is only pressed.
    """

    camera: str | None
    key: str
    value: Value = None


class Answer(msgspec.Struct, frozen=True):
    """What became of a command: ``error`` is empty, or the one-line reason of its refusal."""

    command: Command
    error: str = ""


class Device(Protocol):
    """What a way in may ask and know of the node; every method may be called by any thread."""

    def submit(
        self,
        command: Command,
        answered: Callable[[Answer], None] | None = None,
        *,
        by: str = "",
    ) -> None:
        """Have the command obeyed soon; ``answered`` is called on the node's thread.

        ``by`` says who asks, for the log, where that is somebody outside of the device.
        Raises CommandError when MAX_WAITING commands wait already.
        """

    def labels(self, camera: str) -> tuple[str, ...]:
        """What the camera may report, ``unknown`` last; empty until its model is loaded."""

    def taught(self, camera: str) -> tuple[str, ...]:
        """The labels that the camera was taught."""

    def region(self, camera: str) -> Box:
        """The part of the upright picture that the camera looks at, as shares of it."""

    def teacher(self, camera: str) -> "Teacher":
        """The lessons of the camera, to be closed by the thread that asks.

        Raises TeachError where they cannot be had.
        """

    def models(self) -> tuple[str, ...]:
        """The models that the command ``model`` may choose."""


# What a device's key and Home Assistant's buttons send for "do it".
_PRESSED = (b"", b"PRESS", b"null", b"true")


def parse(
    camera: str | None,
    key: str,
    payload: bytes,
    cameras: Collection[str],
    size: int | None = None,
) -> Command:
    """The command that ``payload`` gives for ``key``; ``cameras`` are the names there are.

    A value is JSON; a string may come without its quotes. ``size`` is what the payload had
    before it was cut. Raises CommandError with the reason.
    """
    known = CONTROLS.get(key)
    if known is None:
        raise CommandError(called(key), f"is no command; there are {', '.join(CONTROLS)}")
    if camera is not None and camera not in cameras:
        raise CommandError(key, f"no camera is called {quoted(camera)}")
    if camera is not None and known.scope == "device":
        raise CommandError(key, "is for the whole device, not for one camera")
    size = len(payload) if size is None else size
    if size > MAX_BYTES:
        raise CommandError(key, f"has {size} bytes; at most {MAX_BYTES} are taken")
    if known.type is None:
        if payload.strip() not in _PRESSED:
            raise CommandError(key, f"takes no value, met {quoted(payload)}; send PRESS")
        return Command(camera, key)
    try:
        return Command(camera, key, _decode(known.type, payload.strip()))
    except msgspec.DecodeError as error:
        problem = str(error)
        # Where it is no JSON at all, what was expected says more than the byte it broke at.
        if not isinstance(error, msgspec.ValidationError):
            words = {bool: "true or false", CONTROLS["region"].type: "[left, top, right, bottom]"}
            problem = f"expected {words.get(known.type, 'a number')}"
        problem = problem[0].lower() + problem[1:]
        raise CommandError(key, f"{problem}, met {quoted(payload)}") from None


def _decode(kind: Any, payload: bytes) -> Value:
    value: Value
    if str in get_args(kind) and not payload.startswith(b'"'):
        # Names come bare from Home Assistant and from a shell.
        value = msgspec.convert(payload.decode("utf-8", "replace"), kind)
    else:
        value = from_json(payload, kind)
    return value


def called(key: str) -> str:
    """A key as messages have it: bare where it is one, else so that it is safe to print."""
    return key if key in CONTROLS else quoted(key)
