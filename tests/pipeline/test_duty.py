"""The schedule: by the local time of a fixed zone, over midnight and where clocks change."""

import time
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from device.config import Gate
from device.config.values import Day
from device.pipeline.duty import Duty

ZONE = "Europe/Berlin"
# 2026-11-23 is a Monday.
WORKDAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri")


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield
    time.tzset()


def is_on(moment: str, *hours: str, days: tuple[Day, ...] = ()) -> bool:
    """Whether the device looks at a local time, or at one with its distance from UTC."""
    at = datetime.fromisoformat(moment)
    at = at if at.tzinfo else at.replace(tzinfo=ZoneInfo(ZONE))
    return Duty(Gate(hours=hours, days=days), at.timestamp).is_on()


def test_without_a_schedule_it_always_looks() -> None:
    assert is_on("2026-11-23T03:00")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-23T06:59:59", False),
        ("2026-11-23T07:00", True),
        ("2026-11-23T21:59:59", True),
        ("2026-11-23T22:00", False),
        ("2026-11-29T12:00", True),
    ],
)
def test_a_range_has_its_begin_and_not_its_end(moment: str, expected: bool) -> None:
    assert is_on(moment, "07:00-22:00") is expected


def test_several_ranges_and_the_end_of_a_day() -> None:
    ranges = "00:00-01:00", "23:30-24:00"
    times = ("00:30", "01:00", "23:29", "23:59")
    assert [is_on(f"2026-11-23T{t}", *ranges) for t in times] == [True, False, False, True]


def test_days_without_hours_are_whole_days() -> None:
    dates = ("2026-11-22T23:59", "2026-11-23T00:00", "2026-11-27T23:59", "2026-11-28T00:00")
    assert [is_on(d, days=WORKDAYS) for d in dates] == [False, True, True, False]


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-23T03:00", False),  # the night that began on Sunday
        ("2026-11-23T22:00", True),
        ("2026-11-24T05:59", True),
        ("2026-11-24T06:00", False),
        ("2026-11-28T05:59", True),  # Saturday, in the night that began on Friday
        ("2026-11-28T22:00", False),
    ],
)
def test_a_range_over_midnight_belongs_to_the_day_on_which_it_begins(
    moment: str, expected: bool
) -> None:
    assert is_on(moment, "22:00-06:00", days=WORKDAYS) is expected


def test_in_spring_an_hour_is_left_out() -> None:
    # 2026-03-29: 01:59:59 is followed by 03:00.
    assert is_on("2026-03-29T01:59:59+01:00", "01:30-02:30")
    assert not is_on("2026-03-29T03:00+02:00", "01:30-02:30")
    assert is_on("2026-03-29T03:00+02:00", "02:30-03:30")
    assert not is_on("2026-03-29T03:30+02:00", "02:30-03:30")


def test_in_autumn_an_hour_comes_twice() -> None:
    # 2026-10-25: 02:59:59 in summer time is followed by 02:00.
    for offset in ("+02:00", "+01:00"):
        assert is_on(f"2026-10-25T02:15{offset}", "02:00-02:30")
        assert not is_on(f"2026-10-25T02:45{offset}", "02:00-02:30")
    assert not is_on("2026-10-25T03:00+01:00", "01:00-03:00")


def test_the_days_around_a_change_keep_their_hours() -> None:
    for date, offset in (
        ("2026-03-28", 1),
        ("2026-03-30", 2),
        ("2026-10-24", 2),
        ("2026-10-26", 1),
    ):
        assert is_on(f"{date}T07:00+0{offset}:00", "07:00-22:00")
        assert not is_on(f"{date}T06:59+0{offset}:00", "07:00-22:00")


def test_a_clock_that_is_set_counts_from_then_on() -> None:
    # A Raspberry Pi starts in 1970 or at its last shutdown, until the network tells the time.
    wall = 0.0
    duty = Duty(Gate(hours=("07:00-22:00",)), lambda: wall)
    said = []
    for moment in ("1970-01-01T01:00", "2026-11-23T12:00", "2020-01-01T23:00", "2026-11-23T12:00"):
        wall = datetime.fromisoformat(moment).timestamp()
        said.append(duty.is_on())
    assert said == [False, True, False, True]


def test_a_time_zone_that_is_set_counts_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    at = datetime.fromisoformat("2026-11-23T21:30+01:00").timestamp()
    duty = Duty(Gate(hours=("07:00-22:00",)), lambda: at)
    assert duty.is_on()
    monkeypatch.setenv("TZ", "Asia/Tokyo")  # 05:30 on the next day
    assert not duty.is_on()
