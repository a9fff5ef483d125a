"""A change is found within days, and what is always so is not: on made weeks of cameras."""

import itertools
from collections.abc import Callable

import pytest

from device.health.drift import (
    ACCEPT_DAYS,
    KEPT_DAYS,
    LEARN_DAYS,
    MEASURES,
    Detector,
    Hour,
)
from tests.health.drift_world import (
    PLACES,
    START,
    Camera,
    Change,
    calendar,
    fogged,
    knocked,
    lit,
    replace_figures,
    stuck,
    turned,
    worse,
)

PLACE = {place.name: place for place in PLACES}
CHANGED_ON = 30.3
# Seeds of devices that live for a hundred days after they have learnt.
DEVICES = (1000, 2000, 3000)


def plain(number: int, **figures: float) -> Hour:
    """An hour of a camera that sees something 70 % of the time by day, and nothing by night."""
    by_day = 8 <= calendar(number).hour < 20
    # A little of chance, the same each time.
    noise = (number * 7919 % 13 - 6) / 600
    usual = Hour(
        number,
        0.3 + noise if by_day else 0.98,
        1.2 + noise,
        0.0,
        120.0 + 100 * noise if by_day else 20.0,
        -1.5 + noise,
    )
    return replace_figures(usual, **figures)


def days(count: float, detector: Detector, first: float = 0.0, **figures: float) -> list[str]:
    """Give the detector so many days of plain hours from a day on; what it says."""
    numbers = range(START + round(24 * first), START + round(24 * (first + count)))
    return [event for n in numbers if (event := detector.add(plain(n, **figures)))]


def delay_days(place: str, change: Change, seed: int) -> float:
    """Days from a change to the alarm, infinite where there is none in three weeks."""
    detector = Detector(calendar)
    for hour in Camera(PLACE[place], seed).hours(52, change, CHANGED_ON):
        at = (hour.number - START) / 24 - CHANGED_ON
        if detector.add(hour) == "began":
            assert at >= 0, "an alarm before the change"
            return at
    return float("inf")


@pytest.mark.parametrize(
    ("place", "change", "within"),
    [
        ("office", turned, 3.0),
        ("street", turned, 3.0),
        ("crossing", turned, 3.0),
        ("crossing", knocked(0.5), 2.5),
        ("office", stuck, 1.0),
        ("street", fogged(0.7), 3.0),
        ("office", fogged(0.7), 3.0),
        ("hall", lit(0.5), 2.0),
        ("crossing", lit(0.5), 2.0),
        ("office", worse(0.5), 2.0),
        ("crossing", worse(0.5), 3.0),
    ],
)
@pytest.mark.slow
def test_a_known_change_is_found_within_days(place: str, change: Change, within: float) -> None:
    delays = sorted(delay_days(place, change, seed) for seed in range(100, 105))
    # The median: figures of the rest are in docs/drift.md.
    assert delays[2] <= within, delays


@pytest.mark.long
@pytest.mark.slow
def test_stationary_cameras_are_left_alone() -> None:
    """At most one in a hundred days of a device with one of each of six cameras."""
    alarms = []
    for place, seed in itertools.product(PLACES, DEVICES):
        detector = Detector(calendar)
        hours = Camera(place, seed).hours(107)
        alarms += [(place.name, hour.number) for hour in hours if detector.add(hour) == "began"]
    assert len(alarms) <= len(DEVICES), alarms


def test_nothing_is_said_before_a_week_is_learnt() -> None:
    detector = Detector(calendar)
    assert not days(3, detector)
    assert detector.days(START + 72) < LEARN_DAYS
    # Another world every day: there is nothing yet that it could be compared with.
    assert not days(3, detector, first=3, nothing=1.0, entropy=2.5)


def test_a_change_is_told_once_with_what_is_other_and_ends_when_all_is_as_before() -> None:
    detector = Detector(calendar)
    assert days(20, detector) == []
    assert days(3, detector, first=20, nothing=0.95) == ["began"]
    [(measure, found)] = detector.changes()
    assert measure.name == "nothing"
    assert found.now == pytest.approx(0.95)
    assert 0.25 < found.least < found.most < 0.7
    assert days(4, detector, first=23) == ["ended"]
    assert not detector.alarmed
    assert detector.changes() == []
    assert days(10, detector, first=27) == []


def test_the_baseline_is_held_while_alarmed() -> None:
    detector = Detector(calendar)
    days(20, detector)
    days(10, detector, first=20, nothing=0.95)
    assert detector.alarmed
    assert all(hour.nothing != 0.95 for hour in detector.memory.hours[:-6])
    assert detector.memory.held


def test_what_lasts_two_weeks_is_taken_for_usual() -> None:
    detector = Detector(calendar)
    days(20, detector)
    assert days(ACCEPT_DAYS + 2, detector, first=20, nothing=0.95) == ["began", "accepted"]
    assert not detector.alarmed
    assert days(5, detector, first=36, nothing=0.95) == []
    # And the former is what is other now.
    assert days(3, detector, first=41) == ["began"]


def test_accepting_takes_it_for_usual_at_once_and_learns_anew() -> None:
    detector = Detector(calendar)
    assert not detector.accept()
    days(20, detector)
    days(3, detector, first=20, nothing=0.95)
    assert detector.accept()
    assert not detector.alarmed
    assert detector.days(START + 24 * 24) < LEARN_DAYS
    assert days(20, detector, first=23, nothing=0.95) == []


def test_an_hour_that_comes_twice_counts_once() -> None:
    detector = Detector(calendar)
    days(3, detector)
    days(3, detector)
    assert len(detector.memory.hours) == 72


def test_the_past_is_bounded() -> None:
    detector = Detector(calendar)
    days(KEPT_DAYS + 10, detector)
    assert len(detector.memory.hours) == KEPT_DAYS * 24


def test_a_figure_that_is_not_known_is_no_evidence() -> None:
    detector = Detector(calendar)
    for number in range(START, START + 24 * 30):
        usual = plain(number)
        detector.add(Hour(number, usual.nothing, usual.entropy))
        assert not detector.alarmed
    assert detector.memory.high == pytest.approx([0.0] * len(MEASURES), abs=1.0)


def test_a_weekend_is_compared_with_weekends() -> None:
    detector = Detector(calendar)
    for number in range(START, START + 24 * 35):
        figures: dict[str, float] = {"nothing": 1.0} if calendar(number).weekend else {}
        assert detector.add(plain(number, **figures)) is None


def test_a_clock_that_ran_a_year_ahead_and_came_back_leaves_the_past_in_force() -> None:
    detector = Detector(calendar)
    days(20, detector)
    assert days(1, detector, first=385) == []
    assert days(1, detector, first=20) == []
    assert detector.days(START + 21 * 24) >= LEARN_DAYS


@pytest.mark.parametrize("look", [lambda m: m.high, lambda m: m.low])
def test_evidence_is_forgotten_where_the_clock_was_set(
    look: Callable[[object], list[float]],
) -> None:
    detector = Detector(calendar)
    days(20, detector)
    days(0.3, detector, first=20.4, nothing=0.0, entropy=2.5)
    assert any(detector.memory.high + detector.memory.low)
    detector.forget_evidence()
    assert not any(look(detector.memory))
