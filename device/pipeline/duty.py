"""The hours and days at which the device looks, by the local time on the wall."""

import time
from collections.abc import Callable
from typing import get_args

from device.config import Gate
from device.config.hours import minutes
from device.config.values import Day

_DAYS = get_args(Day)
_ALL_DAY = (0, 24 * 60)


class Duty:
    """The schedule of ``gate.hours`` and ``gate.days``; without either every hour, every day.

    A range that crosses midnight belongs to the day on which it begins. It is the clock on the
    wall that counts: a time that is skipped in spring is not waited for, one that comes twice in
    autumn counts twice, and a clock that is set is right from then on.
    """

    def __init__(self, settings: Gate, wall_clock: Callable[[], float] = time.time) -> None:
        self._always = not (settings.hours or settings.days)
        self._ranges = [minutes(text) for text in settings.hours] or [_ALL_DAY]
        self._days = {_DAYS.index(day) for day in settings.days} or set(range(len(_DAYS)))
        self._wall_clock = wall_clock

    def is_on(self) -> bool:
        """Whether the device looks now."""
        return self._always or self._holds(self._local())

    def _local(self) -> time.struct_time:
        # Without this a time zone that is set later would count from the next start on.
        time.tzset()
        return time.localtime(self._wall_clock())

    def _holds(self, now: time.struct_time) -> bool:
        minute = now.tm_hour * 60 + now.tm_min
        today = now.tm_wday in self._days
        yesterday = (now.tm_wday - 1) % len(_DAYS) in self._days
        for begin, end in self._ranges:
            if begin < end:
                if today and begin <= minute < end:
                    return True
            elif (today and minute >= begin) or (yesterday and minute < end):
                return True
        return False
