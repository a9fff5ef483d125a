"""What may be asked of a running device, within which limits, and what is remembered of it.

A command reaches the node from any side (a broker, a page, a key) through ``Node.submit``
and is obeyed on the node's thread; ``parse`` makes one of a message. Values have the limits
of the configuration, because they are decoded by its own types.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_type_hints

import msgspec
from msgspec import Meta

from device import config
from device.errors import CommandError
from device.events import Controls
from device.system.files import replace_file

_log = logging.getLogger("labelcam.commands")

MAX_BYTES = 1024
# More than a person or a dashboard asks for at once; what is over it is refused, so that
# a storm of commands never becomes a queue that outlasts it.
MAX_WAITING = 64

IDENTIFY_S = 10.0
# The green light of a Raspberry Pi, under the names that its kernels have had.
_LEDS = ("ACT", "led0", "PWR")
_MAX_KEPT_BYTES = 1 << 20

Value = bool | float | str | tuple[float, float, float, float] | None


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

    def submit(self, command: Command, answered: Callable[[Answer], None] | None = None) -> None:
        """Have the command obeyed soon; ``answered`` is called on the node's thread.

        Raises CommandError when MAX_WAITING commands wait already.
        """

    def labels(self, camera: str) -> tuple[str, ...]:
        """What the camera may report, ``unknown`` last; empty until its model is loaded."""

    def models(self) -> tuple[str, ...]:
        """The models that the command ``model`` may choose."""


class Key(msgspec.Struct, frozen=True):
    """A thing to command: whose it is, what values it takes, and whether they are kept."""

    scope: Literal["camera", "device"]
    type: Any
    kept: bool = False


def _limits(section: type, key: str) -> Any:
    return get_type_hints(section, include_extras=True)[key]


KEYS = {
    "enabled": Key("camera", bool, kept=True),
    "enter": Key("camera", _limits(config.Decide, "enter"), kept=True),
    "exit": Key("camera", _limits(config.Decide, "exit"), kept=True),
    "max_fps": Key("camera", _limits(config.Gate, "max_fps"), kept=True),
    "model": Key("camera", Annotated[str, Meta(min_length=1, max_length=255)], kept=True),
    "region": Key("camera", _limits(config.Camera, "region"), kept=True),
    "snapshot": Key("camera", None),
    "interval_s": Key("device", _limits(config.Mqtt, "interval_s"), kept=True),
    "identify": Key("device", None),
    "reload": Key("device", None),
    "restart": Key("device", None),
}
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
    known = KEYS.get(key)
    if known is None:
        raise CommandError(called(key), f"is no command; there are {', '.join(KEYS)}")
    if camera is not None and camera not in cameras:
        raise CommandError(key, f"no camera is called {shown(camera)}")
    if camera is not None and known.scope == "device":
        raise CommandError(key, "is for the whole device, not for one camera")
    size = len(payload) if size is None else size
    if size > MAX_BYTES:
        raise CommandError(key, f"has {size} bytes; at most {MAX_BYTES} are taken")
    if known.type is None:
        if payload.strip() not in _PRESSED:
            raise CommandError(key, f"takes no value, met {shown(payload)}; send PRESS")
        return Command(camera, key)
    try:
        return Command(camera, key, _decode(known.type, payload.strip()))
    except msgspec.DecodeError as error:
        problem = str(error)
        # Where it is no JSON at all, what was expected says more than the byte it broke at.
        if not isinstance(error, msgspec.ValidationError):
            words = {bool: "true or false", KEYS["region"].type: "[left, top, right, bottom]"}
            problem = f"expected {words.get(known.type, 'a number')}"
        problem = problem[0].lower() + problem[1:]
        raise CommandError(key, f"{problem}, met {shown(payload)}") from None


def _decode(kind: Any, payload: bytes) -> Value:
    value: Value
    if kind is KEYS["model"].type and not payload.startswith(b'"'):
        # Names come bare from Home Assistant and from a shell.
        value = msgspec.convert(payload.decode("utf-8", "replace"), kind)
    else:
        value = msgspec.json.decode(payload, type=kind)
    return value


def called(key: str) -> str:
    """A key as messages have it: bare where it is one, else so that it is safe to print."""
    return key if key in KEYS else shown(key)


def shown(met: str | bytes) -> str:
    """What was met, on one line, cut to forty characters and safe to print."""
    text = met if isinstance(met, str) else met[:200].decode("utf-8", "replace")
    cut = text[:40] + "…" * (len(text) > 40 or len(met) > 200)
    return repr(cut)


class CommandQueue:
    """Commands on their way to the node's thread, at most MAX_WAITING; for all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: deque[tuple[Command, Callable[[Answer], None] | None]] = deque()

    def put(self, command: Command, answered: Callable[[Answer], None] | None) -> None:
        """Line a command up. Raises CommandError when too many wait."""
        with self._lock:
            if len(self._commands) >= MAX_WAITING:
                raise CommandError(command.key, f"{MAX_WAITING} others wait; try again later")
            self._commands.append((command, answered))

    def take(self) -> tuple[Command, Callable[[Answer], None] | None] | None:
        """The one that has waited longest, or None."""
        return self._commands.popleft() if self._commands else None

    def __len__(self) -> int:
        """How many wait."""
        return len(self._commands)


class _Change(msgspec.Struct, frozen=True):
    """A value that a command set, and the configured one that it stands in for."""

    camera: str | None
    key: str
    value: Value
    configured: Value


class Overrides:
    """Changes by command that outlive a restart, in one small file that is replaced whole.

    A change stands in for the configured value it was made over: once that is another, the
    configuration was edited later, and counts. Not flushed to the card: a rename keeps the
    old file or gives the new one, and a command must not hold up the next frame.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changes: dict[tuple[str | None, str], _Change] = {}
        try:
            if path.stat().st_size > _MAX_KEPT_BYTES:
                raise ValueError(f"is over {_MAX_KEPT_BYTES} bytes")
            for change in msgspec.json.decode(path.read_bytes(), type=tuple[_Change, ...]):
                known = KEYS[change.key]
                msgspec.convert(change.value, known.type)
                self._changes[change.camera, change.key] = change
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
            self._changes.clear()
            _log.warning("%s: %s; kept commands are forgotten", path, error)

    def controls(self, camera: str, configured: Controls) -> Controls:
        """A camera's configured controls, with what commands changed of them."""
        fields = msgspec.structs.asdict(configured)
        values = {key: self._value(camera, key, value) for key, value in fields.items()}
        return msgspec.convert(values, Controls)

    def interval_s(self, configured: float) -> float:
        """The configured distance of health messages, or what a command made of it."""
        return msgspec.convert(self._value(None, "interval_s", configured), float)

    def _value(self, camera: str | None, key: str, configured: Value) -> Value:
        change = self._changes.get((camera, key))
        if change is None:
            return configured
        if change.configured != configured:
            del self._changes[camera, key]
            return configured
        return change.value

    def keep(self, camera: str | None, key: str, value: Value, configured: Value) -> None:
        """Remember that a command set this value; what is as configured needs no memory."""
        if value == configured:
            self._changes.pop((camera, key), None)
        else:
            self._changes[camera, key] = _Change(camera, key, value, configured)
        try:
            replace_file(self._path, msgspec.json.encode(tuple(self._changes.values())) + b"\n")
        except OSError as error:
            _log.warning(
                "%s cannot be written: %s; the change of %s is lost at the next start",
                self._path,
                error.strerror,
                key,
            )


class Light:
    """The board's own light, for a person who looks for this device among others."""

    def __init__(self, leds: Path = Path("/sys/class/leds")) -> None:
        self._leds = leds
        self._lit: tuple[Path, str, float] | None = None

    def identify(self, now: float) -> None:
        """Blink for IDENTIFY_S seconds. Raises CommandError where no light can be had."""
        self.restore(now, at_once=True)
        led = next((p for name in _LEDS if (p := self._leds / name / "trigger").exists()), None)
        if led is None:
            raise CommandError("identify", f"this board has no light {' or '.join(_LEDS)}")
        try:
            # The kernel lists all triggers and marks the one in force: "none [mmc0] timer".
            before = led.read_text().partition("[")[2].partition("]")[0] or "none"
            led.write_text("timer")
        except OSError as error:
            raise CommandError(
                "identify",
                f"{led} cannot be written: {error.strerror}; let the group of the service write it",
            ) from None
        self._lit = (led, before, now + IDENTIFY_S)

    def restore(self, now: float, *, at_once: bool = False) -> None:
        """Give the light back when its time is over."""
        if self._lit is not None and (at_once or now >= self._lit[2]):
            led, before, _ = self._lit
            self._lit = None
            try:
                led.write_text(before)
            except OSError as error:
                _log.warning("%s cannot be written: %s; it blinks on", led, error.strerror)
