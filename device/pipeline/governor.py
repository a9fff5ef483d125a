"""How much of its full rate the device may work at; pure: readings and times are given.

Each of three limits stands at a step of ``SHARES``, and the lowest counts:

- the temperature of the processor: from 75 °C on each half degree is a step down, and 3 °C less
  one up again, so that the last is reached 1.5 °C before the firmware throttles, at 80 °C;
- the firmware, where it throttles although the processor is cooler than that: a step down each
  10 s, and one up after a minute without. Under-voltage throttles too, which no rate mends;
- the budget of processor time: its use over 10 s, down as far as that asks for, and up by one
  step where what was used would still fit.
"""

import math
from collections.abc import Collection

from device.events import GovernedBy

# Of the full rate; the last is a frame a second.
SHARES = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625, 0.0)
_LAST = len(SHARES) - 1
_LEAST_FPS = 1.0
# What that is of a camera with 30 frames a second, for an estimate.
_LEAST_SHARE = 1 / 32
_HOT_C, _STEP_C, _COOLED_C = 75.0, 0.5, 3.0
_PERIOD_S = 10.0
_CALM_PERIODS = 6
# Those of the firmware's words that slow the whole processor. What a Raspberry Pi 3B+ gives up
# at its soft limit of 60 °C, a seventh of its clock, it gives up by design and for good.
_SLOWED = {"frequency capped", "throttled"}


class Governor:
    """The share of the full rate that is allowed, 0 for a frame a second, and why not all of it.

    ``cpu_budget`` is in percent of one core, 0 for none.
    """

    def __init__(self, cpu_budget: float = 0.0) -> None:
        self._budget = cpu_budget
        # The step at which each limit stands.
        self._heat = self._firmware = self._use = 0
        self._slowed = False
        self._calm = 0
        self._period: tuple[float, float] | None = None

    @property
    def share(self) -> float:
        """What is allowed of the full rate."""
        return SHARES[max(self._heat, self._firmware, self._use)]

    @property
    def reason(self) -> GovernedBy:
        """What limits the rate, empty where nothing does."""
        if self.share == 1:
            return ""
        return "hot" if max(self._heat, self._firmware) >= self._use else "cpu budget"

    def update(
        self,
        temperature_c: float | None,
        throttling: Collection[str] | None,
        cpu_s: float,
        at: float,
    ) -> None:
        """Take the readings of ``at``, monotonic seconds, about once a second.

        ``throttling`` is what the firmware says, ``cpu_s`` what the process has used since its
        start. A reading of None limits nothing.
        """
        if temperature_c is None:
            self._heat = 0
        else:
            cooled = min(self._heat, _heat_step(temperature_c + _COOLED_C))
            self._heat = max(cooled, _heat_step(temperature_c))
        words = set(throttling or ())
        self._slowed |= bool(words & _SLOWED) and "under-voltage" not in words
        begun_at, begun_cpu_s = self._period or (math.inf, 0.0)
        if at < begun_at:  # the first, or a clock that went back
            self._period = at, cpu_s
        elif at - begun_at >= _PERIOD_S:
            self._period = at, cpu_s
            self._heed_firmware()
            if self._budget:
                self._keep_budget(100 * (cpu_s - begun_cpu_s) / (at - begun_at))

    def _heed_firmware(self) -> None:
        if self._slowed:
            self._firmware = min(_LAST, max(self._firmware, self._heat) + 1)
            self._calm = 0
        elif self._firmware:
            self._calm += 1
            if self._calm == _CALM_PERIODS:
                self._firmware -= 1
                self._calm = 0
        self._slowed = False

    def _keep_budget(self, used: float) -> None:
        """``used`` is in percent of one core, at the present share."""
        if used > self._budget:
            bearable = self.share * self._budget / used
            self._use = next(step for step, share in enumerate(SHARES) if share <= bearable)
        elif self._use:
            more = SHARES[self._use - 1] / max(self.share, _LEAST_SHARE)
            self._use -= used * more <= self._budget


def governed_fps(share: float, full_fps: float) -> float:
    """What a share of a full rate comes to: a frame a second at least, where that is full less."""
    return max(share * full_fps, min(_LEAST_FPS, full_fps))


def _heat_step(temperature_c: float) -> int:
    return max(0, min(_LAST, math.floor((temperature_c - _HOT_C) / _STEP_C) + 1))
