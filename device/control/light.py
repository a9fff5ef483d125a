"""The light of the board, for a person who looks for this device among others."""

import logging
from pathlib import Path

from device.errors import CommandError

_log = logging.getLogger("labelcam.commands")

IDENTIFY_S = 10.0
# The green light of a Raspberry Pi, under the names that its kernels have had.
_LEDS = ("ACT", "led0", "PWR")


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
