"""Pins, through gpiozero: high while a label is in force, for a moment, or as high as its score.

Which of gpiozero's ways to the pins is used, it chooses itself, or ``GPIOZERO_PIN_FACTORY`` does:
"mock" is pins that are not there.
"""

import contextlib
import os
import re
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from device import config
from device.errors import ActionError, ConfigError, DependencyError
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.system.text import one_line, quoted

_CHIP = Path("/dev/gpiochip0")
_PIPES = ".lgd-nfy*"
_PIN = re.compile(r"[A-Za-z0-9:]+")
# The way to the pins is one for the whole process, and is made by who needs it first.
_making = threading.Lock()


class GpioPerformer(Performer):
    """The pins of ``on`` and ``off``, and which labels of which cameras are in force.

    Held, those of ``on`` are on while any is, and those of ``off`` while none is. With
    ``pulse_s`` each beginning and each end is a pulse instead; one that comes during a pulse makes
    it longer. With ``pwm`` those of ``on`` are as much on as the best of the scores.
    """

    def __init__(self, settings: config.Action) -> None:
        self.wants_score = bool(settings.pwm)
        self._settings = settings
        self._on: list[Any] = []
        self._off: list[Any] = []
        self._scores: dict[tuple[str, str], float] = {}

    def open(self) -> None:
        """Take the pins, all off, but for those of ``off`` that are held while no label is."""
        self.close()
        _make_way(self._settings.name)
        import gpiozero

        settings = self._settings
        kind = gpiozero.PWMOutputDevice if settings.pwm else gpiozero.DigitalOutputDevice
        try:
            self._on = self._take(kind, settings.targets(on=True))
            self._off = self._take(gpiozero.DigitalOutputDevice, settings.targets(on=False))
            self._show()
        except BaseException:
            self.close()
            raise

    def begin(self, occurrence: Occurrence) -> str | None:
        """Turn the pins of ``on`` on, and those of ``off`` off."""
        self._scores[occurrence.camera, occurrence.label] = occurrence.score
        return self._pulse(self._on) if self._settings.pulse_s else self._show()

    def end(self, occurrence: Occurrence) -> str | None:
        """Turn the pins of ``on`` off where no other label is in force, and those of ``off`` on."""
        self._scores.pop((occurrence.camera, occurrence.label), None)
        return self._pulse(self._off) if self._settings.pulse_s else self._show()

    def update(self, occurrence: Occurrence) -> None:
        """Follow the score."""
        self._scores[occurrence.camera, occurrence.label] = occurrence.score
        self._show()

    def close(self) -> None:
        """Turn all pins off and give them back."""
        pins, self._on, self._off = self._on + self._off, [], []
        for pin in pins:
            with contextlib.suppress(Exception):
                pin.off()
            with contextlib.suppress(Exception):
                pin.close()

    def _take(self, kind: Any, names: Sequence[str]) -> list[Any]:
        taken: list[Any] = []
        for name in names:
            try:
                pin = int(name) if name.isdecimal() else name
                taken.append(kind(pin, active_high=not self._settings.active_low))
            # Each way to the pins has errors of its own, which are not all gpiozero's.
            except Exception as error:  # noqa: BLE001
                for pin in taken:
                    pin.close()
                raise ActionError(self._settings.name, _pin_problem(name, error)) from None
        return taken

    def _show(self) -> str:
        """Make the pins what is in force, and return what they are."""
        if self._settings.pulse_s:
            return ""
        level = max(self._scores.values(), default=0.0) if self._settings.pwm else 1.0
        level = min(1.0, max(0.0, level)) if self._scores else 0.0
        for pin in self._on:
            pin.value = level
        for pin in self._off:
            pin.value = not self._scores
        shown = f"at {level:.2f}" if self._settings.pwm else "on" if level else "off"
        said = [f"{name} {shown}" for name in self._settings.targets(on=True)]
        said += [
            f"{name} {'off' if self._scores else 'on'}" for name in self._settings.targets(on=False)
        ]
        return f"pin {', '.join(said)}"

    def _pulse(self, pins: Sequence[Any]) -> str:
        pulse_s = self._settings.pulse_s or 0.0
        for pin in pins:
            # On a thread of gpiozero's own; another pulse takes the place of one under way.
            pin.blink(on_time=pulse_s, off_time=0, n=1)
        names = ", ".join(self._settings.targets(on=pins is self._on))
        return f"pin {names} on for {pulse_s:g} s" if pins else "nothing to do"


def open_action(settings: config.Action, _report: Report) -> Performer:
    """The pins, which are not taken yet."""
    return GpioPerformer(settings)


def check_action(settings: config.Action) -> None:
    """Raise DependencyError without gpiozero, ConfigError for what is no pin."""
    if find_spec("gpiozero") is None:
        raise DependencyError(
            f"action {settings.name}: gpiozero is not installed; sudo apt install python3-gpiozero "
            "python3-lgpio, or pip install gpiozero lgpio"
        )
    where = f"action.{settings.name}"
    pins = settings.targets(on=True) + settings.targets(on=False)
    for pin in pins:
        if not _PIN.fullmatch(pin):
            raise ConfigError(
                where, f'expected a pin such as 17, "GPIO17" or "BOARD11", met {quoted(pin)}'
            )
        if pins.count(pin) > 1:
            raise ConfigError(where, f"expected each pin once, met {quoted(pin)} twice")


def _make_way(action: str) -> None:
    """Have gpiozero find its way to the pins. Raises ActionError."""
    with _making, _folder_for_lgpio(), warnings.catch_warnings(record=True) as caught:
        # It warns of each way that it tries in vain, at length.
        warnings.simplefilter("always")
        try:
            from gpiozero import Device

            Device.ensure_pin_factory()
        # What a way to the pins may fail with is not bounded: RuntimeError, OSError, its own.
        except Exception as error:  # noqa: BLE001
            raise ActionError(
                action, _way_problem(error, [str(w.message) for w in caught])
            ) from None


@contextlib.contextmanager
def _folder_for_lgpio() -> Iterator[None]:
    """A working folder in which lgpio can be loaded: it makes a pipe there and stays in it.

    Where ours may be written that is ours, so that no other thread meets another one, and the
    pipe is removed. A service's is / and may not: it has its own back afterwards.
    """
    if find_spec("lgpio") is None or "LG_WD" in os.environ:
        yield
    elif os.access(".", os.W_OK):
        before = set(Path().glob(_PIPES))
        try:
            yield
        finally:
            for pipe in set(Path().glob(_PIPES)) - before:
                pipe.unlink(missing_ok=True)
    else:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        with tempfile.TemporaryDirectory(prefix="labelcam-lgpio-") as folder:
            os.environ["LG_WD"] = folder
            try:
                yield
            finally:
                os.fchdir(here)
                os.close(here)
                del os.environ["LG_WD"]


def _way_problem(error: Exception, tried: Sequence[str]) -> str:
    """Why there is no way to the pins, and what to do."""
    if os.environ.get("GPIOZERO_PIN_FACTORY"):
        return f"no way to the pins: {one_line(str(error))}"
    if not _CHIP.exists():
        return f"this computer has no pins that the system knows of: {_CHIP} is not there"
    if not os.access(_CHIP, os.R_OK | os.W_OK):
        return f"the pins are not ours: {_CHIP} is for the group gpio; sudo usermod -aG gpio $USER"
    if find_spec("lgpio") is None:
        return "gpiozero has no way to the pins here; sudo apt install python3-lgpio"
    return f"no way to the pins: {one_line('; '.join(tried) or str(error))}"


def _pin_problem(name: str, error: Exception) -> str:
    """Why a pin cannot be had."""
    kind = type(error).__name__
    if kind == "PinInvalidPin":
        return f"{name} is no pin of this board; `pinout` shows which there are"
    if kind == "GPIOPinInUse":
        return f"pin {name} is another action's; let one action have all its labels"
    if "busy" in str(error).lower():
        return f"pin {name} is another program's; end that first"
    if kind.startswith("PinPWM"):
        return f"pin {name} has no PWM here: {one_line(str(error))}"
    return f"pin {name}: {one_line(str(error)) or kind}"
