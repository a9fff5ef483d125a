"""What commands changed, over restarts."""

import logging
from pathlib import Path

import msgspec

from device.control.table import CONTROLS, Value
from device.events import Controls
from device.system.files import replace_file
from device.system.text import from_json

_log = logging.getLogger("labelcam.commands")

_MAX_BYTES = 1 << 20


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
            if path.stat().st_size > _MAX_BYTES:
                raise ValueError(f"is over {_MAX_BYTES} bytes")
            for change in from_json(path.read_bytes(), tuple[_Change, ...]):
                known = CONTROLS[change.key]
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
