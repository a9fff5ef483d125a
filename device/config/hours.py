"""Ranges of a day's hours as they are written: "07:00-22:00"."""

import re

_RANGE = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)", re.ASCII)
_DAY = 24 * 60


def minutes(text: str) -> tuple[int, int]:
    """Begin and end of a range in minutes after midnight; an end before its begin is a day later.

    Raises ValueError for what is no range.
    """
    if found := _RANGE.fullmatch(text):
        hour, minute, end_hour, end_minute = map(int, found.groups())
        begin, end = hour * 60 + minute, end_hour * 60 + end_minute
        if max(minute, end_minute) < 60 and begin < _DAY and end <= _DAY and begin != end:
            return begin, end
    raise ValueError(
        f'Expected `hours` as "07:00-22:00", from 00:00 to 24:00 and not empty, met {text[:40]!r}'
    )
