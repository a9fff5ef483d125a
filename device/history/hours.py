"""Intervals to hours of the day: how long and how often a label was there."""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache

_HOUR_S = 3600.0
_QUARTER_S = 900


def hour_of(wall: float) -> int:
    """The beginning of the local hour of a moment, seconds since 1970."""
    return _hour_of_quarter(int(wall // _QUARTER_S))


def day_of(wall: float) -> int:
    """The beginning of the local day of a moment, seconds since 1970."""
    return _day_of_quarter(int(wall // _QUARTER_S))


# Clocks of the world are whole quarters of an hour apart. A year of intervals is asked for at once.
@lru_cache(maxsize=4096)
def _hour_of_quarter(quarter: int) -> int:
    local = datetime.fromtimestamp(quarter * _QUARTER_S).astimezone()
    return round(local.replace(minute=0).timestamp())


@lru_cache(maxsize=4096)
def _day_of_quarter(quarter: int) -> int:
    local = datetime.fromtimestamp(quarter * _QUARTER_S)
    return round(local.replace(hour=0, minute=0).timestamp())


def day_after(day: int) -> int:
    """The beginning of the local day after; days have 23 to 25 hours."""
    noon = datetime.fromtimestamp(day).replace(hour=12)
    return day_of((noon + timedelta(days=1)).timestamp())


def by_hour(begin: float, end: float) -> Iterator[tuple[int, float]]:
    """The local hours that an interval touches, and how many seconds of each."""
    hour = hour_of(begin)
    while True:
        after = hour + _HOUR_S
        yield hour, max(0.0, min(end, after) - max(begin, hour))
        if end <= after:
            return
        hour = round(after)


def add_hours(db: sqlite3.Connection, rows: Iterable[tuple[int, str, str, float, float]]) -> None:
    """Add intervals, as id, camera, label, begin and end by the wall clock, to their hours."""
    seconds: dict[tuple[int, str, str], float] = defaultdict(float)
    times: dict[tuple[int, str, str], int] = defaultdict(int)
    for _, camera, label, begin, end in rows:
        times[hour_of(begin), camera, label] += 1
        for hour, share in by_hour(begin, end):
            seconds[hour, camera, label] += share
    db.executemany(
        "INSERT INTO hours (hour, camera, label, seconds, times) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET seconds = seconds + excluded.seconds,"
        " times = times + excluded.times",
        [(*key, round(share, 3), times[key]) for key, share in seconds.items()],
    )


def forget() -> None:
    """Forget where hours begin, as when the time zone is another."""
    _hour_of_quarter.cache_clear()
    _day_of_quarter.cache_clear()
