"""The hours on the wall, and whether the clock that tells them may be believed."""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from device.health.drift import HOUR_S, Calendar

# The wall clock was set, or the device slept.
_JUMP_S, _FAR_JUMP_S = 60.0, 1800.0
# Where nobody says whether the clock is right, it is believed after so long without a jump.
_BELIEVED_AFTER_S = 900.0
# 1 January 2026: what is before that is no clock.
_SANE = 1_767_225_600
_RTC = Path("/sys/class/rtc/rtc0/since_epoch")
_RTC_EVERY_S, _RTC_WITHIN_S = 60.0, 300.0


class Tick(NamedTuple):
    """What the clock says; ``over`` where the hour before is over, ``jumped`` where it was set.

    ``far`` is a jump after which the hours before it may have been others as well.
    """

    hour: int
    believed: bool
    over: bool
    jumped: bool
    far: bool


class WallClock:
    """Wall time against monotonic time; ``wall`` gives the former in seconds since 1970."""

    def __init__(self, wall: Callable[[], float] = time.time, rtc: Path = _RTC) -> None:
        self._wall = wall
        self._rtc = rtc
        self._offset: float | None = None
        self._steady_since = 0.0
        self._believed = False
        self._rtc_due = -math.inf
        self._hour = 0

    @property
    def hour(self) -> int:
        """The number of this hour since 1970."""
        return int(self._wall() // HOUR_S)

    def look(self, now: float, synced: bool | None) -> Tick:
        """The clock at ``now``, monotonic seconds; ``synced`` says whether a time server sets it.

        Once it was believed it is until it jumps: without a network it goes wrong by seconds a day.
        """
        wall = self._wall()
        jump_s = 0.0 if self._offset is None else abs(wall - now - self._offset)
        jumped = jump_s > _JUMP_S
        if self._offset is None or jumped:
            self._steady_since, self._believed = now, False
        hour, first = int(wall // HOUR_S), self._offset is None
        over = not first and not jumped and hour != self._hour
        self._offset, self._hour = wall - now, hour
        self._believed = self._believed or self._believes(now, wall, synced)
        return Tick(hour, self._believed, over, jumped, jump_s > _FAR_JUMP_S)

    def _believes(self, now: float, wall: float, synced: bool | None) -> bool:
        if wall < _SANE or synced:
            return bool(synced)
        if synced is None:
            return now - self._steady_since >= _BELIEVED_AFTER_S
        # No time server, but a clock with a battery, which the system's was set by.
        if now < self._rtc_due:
            return False
        self._rtc_due = now + _RTC_EVERY_S
        with contextlib.suppress(OSError, ValueError):
            return abs(float(self._rtc.read_text("ascii")) - wall) < _RTC_WITHIN_S
        return False


def on_the_wall(number: int) -> Calendar:
    """An hour by the local time of its middle, in the time zone that is set now."""
    # Without this a time zone that is set later would count from the next start on.
    time.tzset()
    local = time.localtime(number * HOUR_S + HOUR_S / 2)
    day = (local.tm_year - 1970) * 366 + local.tm_yday
    return Calendar(day, local.tm_hour, local.tm_wday >= 5)
