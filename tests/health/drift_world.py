"""Made weeks of cameras, hour by hour, with the day, the week, the weather and people in them.

Nothing here is as regular as a detector would like it: activity has busy and quiet days and hours
that follow one another, and heavy tails; there are holidays, storms of an hour, outages; the sun
rises two minutes earlier every day.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from device.health.drift import Calendar, Hour

# A Monday, 1 June 2026, at midnight.
START = 494_616
START_DAY = START // 24
Change = Callable[[Hour, float], Hour]


def calendar(number: int) -> Calendar:
    """The hour on the wall where these cameras are, in UTC; 1970 began on a Thursday."""
    day, hour = divmod(number, 24)
    return Calendar(day, hour, (day + 3) % 7 >= 5)


@dataclass(frozen=True)
class Place:
    """Where a camera looks: how many things happen an hour, by hour of day, and the light."""

    name: str
    workday: tuple[float, ...]
    weekend: tuple[float, ...]
    outdoors: bool = False
    # Hours at which it looks.
    duty: tuple[int, int] = (0, 24)
    # How dark it is when no lamp and no sun is on, in grey levels.
    night: float = 30.0
    # How surely it is recognised what is there, and how many bits its scores have for nothing.
    sure: float = 0.9
    bits: float = 1.6
    # How far busy days and hours differ, as deviations of a logarithm.
    day_spread: float = 0.3
    hour_spread: float = 0.5


def _hours(**levels: float) -> tuple[float, ...]:
    """Things an hour: ``h7_12=3`` is three an hour from 7 to 12."""
    found = [0.02] * 24
    for key, level in levels.items():
        first, last = map(int, key[1:].split("_"))
        found[first:last] = [level] * (last - first)
    return tuple(found)


PLACES = (
    Place(
        "office",
        _hours(h7_8=0.4, h8_9=1.2, h9_12=2.5, h12_13=1.0, h13_17=2.2, h17_19=0.6),
        _hours(h10_16=0.05),
    ),
    Place(
        "street",
        _hours(h5_7=0.8, h7_9=3.0, h9_16=1.5, h16_19=3.0, h19_23=1.0, h23_24=0.4),
        _hours(h7_10=0.6, h10_18=1.4, h18_24=0.9),
        outdoors=True,
        night=45.0,
    ),
    Place(
        "garden",
        _hours(h6_20=0.15),
        _hours(h8_20=0.4),
        outdoors=True,
        night=6.0,
        sure=0.6,
        bits=2.0,
        day_spread=0.6,
        hour_spread=0.9,
    ),
    Place(
        "shop",
        _hours(h9_18=4.0),
        _hours(h9_18=2.0),
        duty=(9, 18),
        bits=1.2,
    ),
    Place(
        "hall",
        _hours(h6_8=0.5, h8_16=0.2, h16_21=0.7),
        _hours(h8_22=0.5),
        day_spread=0.5,
        hour_spread=0.8,
    ),
    Place(
        "crossing",
        _hours(h0_6=1.5, h6_10=4.0, h10_16=2.5, h16_20=4.0, h20_24=2.0),
        _hours(h0_8=1.5, h8_24=2.5),
        outdoors=True,
        night=60.0,
        sure=0.8,
    ),
)


class Camera:
    """One camera's hours from ``START`` on, by the seed."""

    def __init__(self, place: Place, seed: int) -> None:
        self.place = place
        self._draw = np.random.default_rng(seed)
        # No two are alike.
        self._level = float(np.exp(0.3 * self._draw.standard_normal()))
        self._base_sharpness = float(self._draw.normal(-1.5, 0.4))
        self._base_bits = place.bits * float(np.exp(0.15 * self._draw.standard_normal()))
        self._day = self._hour = self._cloud = self._haze = 0.0
        self._front = self._scene = 0.0
        self._holiday = False
        self._event_h = 0
        self._trouble_h = 0.0

    def hours(
        self, days: int, change: Change | None = None, from_day: float = 0.0
    ) -> Iterator[Hour]:
        """Hour after hour; from ``from_day`` on as ``change`` makes them, given days since then."""
        for number in range(START, START + 24 * days):
            hour = self._next(number)
            if hour is None:
                continue
            since = (number - START) / 24 - from_day
            yield change(hour, since) if change and since >= 0 else hour

    def _next(self, number: int) -> Hour | None:
        draw, place = self._draw, self.place
        at = calendar(number)
        if at.hour == 0:
            # One day's business follows the other's a little; a working day in forty is none.
            spread = place.day_spread
            self._day = 0.3 * self._day + draw.normal(0, spread) * math.sqrt(1 - 0.3**2)
            self._holiday = bool(draw.random() < 1 / 40)
            # The weather of days, and what stands about in the picture for days.
            self._front = 0.6 * self._front + draw.normal(0, 1) * math.sqrt(1 - 0.6**2)
            self._scene = 0.7 * self._scene + draw.normal(0, 1) * math.sqrt(1 - 0.7**2)
        self._hour = 0.6 * self._hour + draw.normal(0, place.hour_spread) * math.sqrt(1 - 0.6**2)
        self._cloud = 0.9 * self._cloud + draw.normal(0, 1) * math.sqrt(1 - 0.9**2)
        self._haze = 0.85 * self._haze + draw.normal(0, 1) * math.sqrt(1 - 0.85**2)
        # Once in three weeks something goes on for hours: Pareto, with an exponent of 1.5.
        self._event_h -= 1
        if self._event_h <= 0 and draw.random() < 1 / 500:
            self._event_h = min(24, round(2 * (1 + draw.pareto(1.5))))
        self._trouble_h = max(0.0, self._trouble_h - 1)
        if draw.random() < (1 / 200 if place.outdoors else 1 / 1000):
            self._trouble_h = min(12.0, 0.2 * (1 + draw.pareto(1.5)))
        figures = self._figures(number, at)
        # The network, the power, a restart: an hour in a hundred is not there.
        out = draw.random() < 0.01 or not place.duty[0] <= at.hour < place.duty[1]
        return None if out else figures

    def _figures(self, number: int, at: Calendar) -> Hour:
        draw, place = self._draw, self.place
        rates = place.weekend if at.weekend or self._holiday else place.workday
        rate = rates[at.hour] * self._level * math.exp(self._day + self._hour)
        if self._event_h > 0:
            rate = 3 * rate + 0.5
        # Each thing is there for minutes, some for very long: the share of time with one of them.
        spans = 2 * (1 + draw.pareto(1.6, draw.poisson(rate * 2)))
        seen = place.sure * -math.expm1(-float(np.minimum(spans, 60).sum()) / 30)
        sun = self._sun(number, at) if place.outdoors else self._lamp(at)
        cloud = 0.7 * (self._cloud + self._front)
        rain = 1.0 if place.outdoors and cloud > 1.3 else 0.0
        nothing = min(1.0, max(0.0, 1 - seen + draw.normal(0, 0.01)))
        light = place.night + 110 * sun * (1 - 0.25 * max(0.0, math.tanh(cloud)))
        light *= math.exp(0.05 * draw.standard_t(4))
        bits = self._base_bits * (0.55 + 0.45 * nothing) + 0.25 * (1 - sun) + 0.2 * rain
        bits += 0.06 * (self._haze + self._scene) + 0.05 * draw.standard_t(3)
        sharp = self._base_sharpness + 0.4 * sun - 0.3 * rain
        sharp += (0.06 if place.outdoors else 0.03) * (
            self._haze + self._scene
        ) + 0.04 * draw.standard_t(3)
        return Hour(
            number,
            round(nothing, 3),
            round(min(2.585, max(0.0, bits)), 3),
            round(min(1.0, self._trouble_h), 3),
            round(min(255.0, max(0.0, light)), 2),
            round(sharp, 3),
        )

    def _sun(self, number: int, at: Calendar) -> float:
        day = (number - START) / 24
        half_day_h = 6 + 2 / 60 * day % 4
        height = math.cos((at.hour + 0.5 - 13) / half_day_h * math.pi / 2)
        return math.sqrt(max(0.0, height)) if abs(at.hour + 0.5 - 13) < half_day_h else 0.0

    def _lamp(self, at: Calendar) -> float:
        """Daylight through windows and lamps while people are there."""
        day = 0.5 if 7 <= at.hour < 19 else 0.0
        rates = self.place.weekend if at.weekend or self._holiday else self.place.workday
        return day + (0.4 if rates[at.hour] > 0.1 else 0.0)


def _shifted(hour: Hour, **by: float) -> Hour:
    shares = ("nothing", "trouble")
    found = {}
    for key, value in by.items():
        usual = getattr(hour, key)
        new = (usual or 0.0) + value
        found[key] = min(1.0, max(0.0, new)) if key in shares else new
    values = {name: getattr(hour, name) for name in hour.__struct_fields__} | found
    return Hour(**values)


def knocked(points: float) -> Change:
    """It looks elsewhere: of all that happened, it recognises so much of the time less."""

    def change(hour: Hour, _days: float) -> Hour:
        return _shifted(hour, nothing=points, entropy=0.5 * points)

    return change


def turned(hour: Hour, _days: float) -> Hour:
    """Knocked, as it is seen: 30 points less recognised, another view and another light."""
    other = replace_figures(hour, brightness=0.75 * (hour.brightness or 0.0))
    return _shifted(other, nothing=0.3, entropy=0.15, sharpness=-0.4)


def stuck(hour: Hour, _days: float) -> Hour:
    """A thing stands before the lens that it takes for something, all the time."""
    return replace_figures(hour, nothing=0.0)


def fogged(amount: float, over_days: float = 2.0) -> Change:
    """The lens grows dull: less sharp by a factor of e to ``amount``, and less sure."""

    def change(hour: Hour, days: float) -> Hour:
        so_far = amount * min(1.0, days / over_days)
        return _shifted(hour, sharpness=-so_far, entropy=0.5 * so_far, nothing=0.1 * so_far)

    return change


def lit(factor: float) -> Change:
    """Another lamp, a hedge that was cut: the light is multiplied."""

    def change(hour: Hour, _days: float) -> Hour:
        return replace_figures(hour, brightness=min(255.0, (hour.brightness or 0.0) * factor))

    return change


def worse(bits: float) -> Change:
    """The model has got worse: it knows less of what it sees, and is less sure of it."""

    def change(hour: Hour, _days: float) -> Hour:
        return _shifted(hour, nothing=0.3 * bits, entropy=bits)

    return change


def replace_figures(hour: Hour, **figures: float) -> Hour:
    """The hour with other figures."""
    values = {name: getattr(hour, name) for name in hour.__struct_fields__} | figures
    return Hour(**values)
