"""What befalls a device while it is soaked: which trouble comes when, and for how long."""

import random
from datetime import UTC, datetime
from typing import Literal, NamedTuple

DAY_S = 86_400.0
# The time zone of the replay, as POSIX writes it: a machine without tzdata knows it too.
ZONE = "CET-1CEST,M3.5.0,M10.5.0/3"
# A run is cut into as many parts, and in the middle of each the wall clock passes one of these.
# From the first to the second a board without a clock learns the time, later it goes back a year.
MOMENTS = {
    "no clock": datetime(1970, 1, 1, tzinfo=UTC),
    "spring forward": datetime(2026, 3, 29, 1, tzinfo=UTC),
    "fall back": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "year's end": datetime(2026, 12, 31, 23, tzinfo=UTC),
    "a year earlier": datetime(2025, 12, 31, 23, tzinfo=UTC),
    "leap day": datetime(2028, 2, 28, 23, tzinfo=UTC),
    "32 bits": datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC),
}
# How far a time server turns a clock that runs.
NUDGES_S = (0.5, -0.5, 90.0, -90.0, 3600.0, -3600.0)

Action = Literal[
    "set wall",
    "nudge wall",
    "kill broker",
    "start broker",
    "pause broker",
    "hang broker",
    "resume broker",
    "cut broker",
    "stall camera",
    "lose camera",
    "stick camera",
    "return camera",
    "fill disk",
    "free disk",
    "move log",
    "truncate log",
    "visit page",
    "measure",
]


class Event(NamedTuple):
    """What happens ``at_s`` seconds after the begin; ``value`` is a time on the wall or a step."""

    at_s: float
    action: Action
    value: float = 0.0


def write(length_s: float, seed: int, *, turns_clock: bool) -> list[Event]:
    """The events of a run of this length, in order.

    A day's worth of every kind of trouble for each day, at least once; a sixth of the run is one
    outage of the broker, which the outbox has to bear. All is well during the last twentieth.
    """
    chance = random.Random(seed)
    days = max(1, round(length_s / DAY_S))
    events = [Event(length_s * part / 720, "measure") for part in range(721)]
    events += [Event(length_s * part / (24 * days), "visit page") for part in range(24 * days)]
    for day in range(days):
        begin = length_s * day / days
        events += _broker(chance, begin, length_s / days)
        events += _camera(chance, begin, length_s / days)
        events.append(Event(begin + length_s / days / 3, "move log"))
        events.append(Event(begin + length_s / days * 2 / 3, "truncate log"))
        full_s = begin + length_s / days * chance.uniform(0.1, 0.8)
        events += [
            Event(full_s, "fill disk"),
            Event(full_s + length_s / days * chance.uniform(0.02, 0.1), "free disk"),
        ]
    if turns_clock:
        events += _clock(chance, length_s)
    quiet_s = length_s * 0.95
    long_s = (length_s * 0.5, length_s * (0.5 + 1 / 6))
    kept = [
        event
        for event in events
        if event.action in ("measure", "set wall")
        or (event.at_s < quiet_s and not ("broker" in event.action and _within(event.at_s, long_s)))
    ]
    kept += [Event(long_s[0], "kill broker"), Event(long_s[1], "start broker")]
    kept += [
        Event(quiet_s, action)
        for action in ("free disk", "return camera", "resume broker", "start broker")
    ]
    return sorted(kept, key=lambda event: event.at_s)


def _within(at_s: float, span: tuple[float, float]) -> bool:
    return span[0] <= at_s <= span[1]


def _broker(chance: random.Random, begin: float, day_s: float) -> list[Event]:
    """Each kind of trouble in a quarter of the day of its own."""
    ends: dict[Action, Action] = {
        "pause broker": "resume broker",
        "hang broker": "resume broker",
        "kill broker": "start broker",
        "cut broker": "resume broker",
    }
    events = []
    for quarter, (action, end) in enumerate(ends.items()):
        at_s = begin + day_s * (quarter + chance.uniform(0.0, 0.5)) / 4
        events += [Event(at_s, action), Event(at_s + day_s * chance.uniform(0.005, 0.08), end)]
    return events


def _camera(chance: random.Random, begin: float, day_s: float) -> list[Event]:
    """Each kind of trouble in a third of the day of its own."""
    actions: tuple[Action, ...] = ("stall camera", "lose camera", "stick camera")
    events = []
    for third, action in enumerate(actions):
        at_s = begin + day_s * (third + chance.uniform(0.0, 0.5)) / 3
        back_s = at_s + day_s * chance.uniform(0.01, 0.1)
        events += [Event(at_s, action), Event(back_s, "return camera")]
    return events


def _clock(chance: random.Random, length_s: float) -> list[Event]:
    part_s = length_s / len(MOMENTS)
    events = []
    for number, moment in enumerate(MOMENTS.values()):
        at = max(0.0, moment.timestamp() - part_s / 2)
        events.append(Event(number * part_s, "set wall", at))
    for number, step_s in enumerate(NUDGES_S):
        # Away from the middle of a part, so that each moment is passed.
        at_s = (number + 1 + chance.uniform(0.05, 0.2)) * part_s
        events.append(Event(at_s, "nudge wall", step_s))
    return events
