"""Whether a camera's answers are other than its own past weeks had them; pure: no clock, no I/O.

An hour is five figures: the share of time with nothing recognised, the entropy of the scores, the
share of time with something wrong in the picture, brightness and sharpness. Each is compared with
the medians of that hour of day and of its neighbours, of working days or of weekends, over the
last four weeks. What is outside them is divided by how far whole days usually are, and summed up
with a leak (Page's CUSUM, Biometrika 41, 1954): a change has to last, the shorter the larger it
is. Medians, and scales that one odd day in the past does not make: activity has heavy tails.

The constants are from made years of cameras: ``python -m tests.health.drift_figures``.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from device.config.values import Share

Figures = NDArray[np.float64]
_Place = int | NDArray[np.intp]
Event = Literal["began", "ended", "accepted"]

HOUR_S = 3600
# Whole weeks, so that each day of the week weighs the same.
KEPT_DAYS = 28
# One of each day of the week, before anything is compared.
LEARN_DAYS = 7
# An alarm that nobody minds for so long is how things are now.
ACCEPT_DAYS = 14

# The last day is not in the baseline: a change must not be compared with itself.
_GAP_H = 24
# So many values make a median.
_MEDIAN_OF = 3
# A day counts where it was observed for this share of the usual hours.
_WHOLE_DAY = 0.5
# In usual deviations of a day: what is let pass each day, and the sum that is an alarm. An alarm
# is over once the sum has fallen to the third, and rises no higher than the fourth.
_LEAK, _ALARM, _OVER, _MOST = 1.5, 6.0, 3.0, 7.0
# One hour counts as so many deviations at most.
_HOUR_MOST = 10.0
# A scale that few days make is too small by chance: it is taken for larger by this over the days.
_FEW_DAYS = 4.0
# The second largest deviation of a past day counts as so many usual ones.
_ODD_DAY = 2.0


# A damaged file must not name an hour that no calendar has.
HourNumber = Annotated[int, Meta(ge=0, le=10_000_000)]
Figure = Annotated[float, Meta(ge=-1000, le=1000)]
_Sums = Annotated[list[Figure], Meta(min_length=5, max_length=5)]


class Calendar(NamedTuple):
    """An hour on the wall: a day's number, the hour of the day, and whether it is a weekend."""

    day: int
    hour: int
    weekend: bool


class Measure(NamedTuple):
    """A figure of an hour; ``floor`` is the least usual deviation of a day's mean.

    That of a share is in the units of ``_even``.
    """

    name: str
    floor: float


MEASURES = (
    Measure("nothing", 0.03),
    Measure("entropy", 0.06),
    Measure("trouble", 0.05),
    Measure("brightness", 5.0),
    Measure("sharpness", 0.08),
)
_COUNT = len(MEASURES)
_SHARES = [row for row, measure in enumerate(MEASURES) if measure.name in ("nothing", "trouble")]
_FLOORS: Figures = np.array([measure.floor for measure in MEASURES])


class Hour(msgspec.Struct, frozen=True, array_like=True):
    """What was observed in one hour; ``number`` is of hours since 1970, None is not known.

    ``nothing`` and ``trouble`` are shares of the observed time, ``entropy`` is in bits,
    ``brightness`` 0 to 255 and ``sharpness`` a natural logarithm.
    """

    number: HourNumber
    nothing: Share | None
    entropy: Figure | None
    trouble: Share | None = None
    brightness: Figure | None = None
    sharpness: Figure | None = None

    @property
    def figures(self) -> tuple[float | None, ...]:
        """In the order of MEASURES."""
        return self.nothing, self.entropy, self.trouble, self.brightness, self.sharpness


class Range(NamedTuple):
    """What a figure is now and what it usually is, eight days of ten."""

    now: float
    least: float
    most: float


class Baseline:
    """The usual figures by hour of day, made of at least LEARN_DAYS of the past."""

    def __init__(self, hours: Sequence[Hour], calendar: Callable[[int], Calendar]) -> None:
        self._calendar = calendar
        places = [calendar(hour.number) for hour in hours]
        rows = {day: row for row, day in enumerate(sorted({place.day for place in places}))}
        grid: Figures = np.full((len(rows), 24, _COUNT), np.nan)
        weekend = np.zeros(len(rows), np.bool_)
        for place, hour in zip(places, hours, strict=True):
            row = rows[place.day]
            grid[row, place.hour] = hour.figures
            weekend[row] = place.weekend
        self._grid, self._weekend = grid, weekend
        grid = _even(grid)
        every = _median(grid)
        kinds = [_median(grid[weekend == kind]) for kind in (False, True)]
        self.profile: Figures = np.array([np.where(np.isnan(k), every, k) for k in kinds])
        # Sunrise moves by an hour in four weeks, and people come a little later or earlier.
        beside = [np.roll(self.profile, by, axis=1) for by in (-1, 0, 1)]
        self._least: Figures = np.fmin(np.fmin(*beside[:2]), beside[2])
        self._most: Figures = np.fmax(np.fmax(*beside[:2]), beside[2])
        self._summarize(self._outside(grid, weekend.astype(np.intp)[:, None], np.arange(24)))

    def _summarize(self, outside: Figures) -> None:
        """The mean of a day's deviations, and how far whole days usually are from that."""
        hours = (~np.isnan(outside)).sum(axis=1)
        a_day = _median(np.where(hours > 0, hours, np.nan))
        self.hours_a_day: Figures = np.where(np.isnan(a_day), 24.0, np.maximum(a_day, 1.0))
        whole = hours >= np.maximum(_WHOLE_DAY * self.hours_a_day, 1.0)
        with np.errstate(invalid="ignore"):
            means = np.where(whole, np.nansum(outside, axis=1) / hours, np.nan)
        self.usual: Figures = _median(means)
        few = 1 + _FEW_DAYS / np.maximum(whole.sum(axis=0), 1)
        # Busy days have a long tail and quiet ones have none: each side has a scale of its own.
        self.scale_up, self.scale_down = (
            few * np.fmax(_scale(sign * (means - self.usual)), _FLOORS) for sign in (1, -1)
        )

    def deviations(self, hour: Hour) -> Figures:
        """How far each figure is from the usual, in deviations of a day; NaN where not known."""
        place = self._calendar(hour.number)
        figures = _even(np.array(hour.figures, np.float64))
        outside = self._outside(figures, int(place.weekend), place.hour) - self.usual
        scaled: Figures = outside / np.where(outside > 0, self.scale_up, self.scale_down)
        return np.asarray(np.clip(scaled, -_HOUR_MOST, _HOUR_MOST), np.float64)

    def range(self, hours: Sequence[Hour], measure: int) -> Range | None:
        """The mean of some hours, and what it is of the same hours of other days.

        None where no other day has them.
        """
        known = [hour for hour in hours if hour.figures[measure] is not None]
        places = [self._calendar(hour.number) for hour in known]
        # Of each day of the past those hours that are asked for, on days of the same kind.
        same_kind = np.isin(self._weekend, [place.weekend for place in places])
        asked = sorted({place.hour for place in places})
        same = self._grid[same_kind][:, asked, measure]
        seen = ~np.isnan(same)
        whole = seen.sum(axis=1) > same.shape[1] / 2
        days = np.where(seen, same, 0.0).sum(axis=1)[whole] / seen.sum(axis=1)[whole]
        if not len(days):
            return None
        least, most = np.quantile(days, (0.1, 0.9))
        now = [hour.figures[measure] for hour in known]
        return Range(float(np.mean(np.array(now, np.float64))), float(least), float(most))

    def _outside(self, figures: Figures, kind: _Place, hour: _Place) -> Figures:
        """How far figures are outside those of their hour of day and its neighbours."""
        least, most = self._least[kind, hour], self._most[kind, hour]
        return np.asarray(figures - np.minimum(np.maximum(figures, least), most), np.float64)


class Memory(msgspec.Struct):
    """What of a camera outlives a restart; ``text`` says what is other than usual.

    ``hours`` are the past; ``held`` are those since ``since``, the hour in which a change began to
    show, while there is an alarm. ``high`` and ``low`` are the sums of deviations up and down.
    """

    hours: list[Hour] = []
    held: list[Hour] = []
    high: _Sums = msgspec.field(default_factory=lambda: [0.0] * _COUNT)
    low: _Sums = msgspec.field(default_factory=lambda: [0.0] * _COUNT)
    onset: HourNumber | None = None
    since: HourNumber | None = None
    text: str = ""


class Detector:
    """Takes one hour after another of one camera and says when it is other than usual.

    ``calendar`` places an hour on the wall where the device is.
    """

    def __init__(self, calendar: Callable[[int], Calendar], memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self._calendar = calendar
        self._baseline: Baseline | None = None
        self._made_on: int | None = None

    @property
    def alarmed(self) -> bool:
        """Whether it is other than usual."""
        return self.memory.since is not None

    @property
    def unsuspicious(self) -> bool:
        """Whether all is as usual, and nothing may be about to be told."""
        return not self.alarmed and max(*self.memory.high, *self.memory.low) < _ALARM / 2

    def days(self, number: int) -> int:
        """How many days the past has of which the hour of that number may be compared."""
        return len({self._calendar(hour.number).day for hour in self._past(number)})

    def add(self, hour: Hour) -> Event | None:
        """Take an hour; what that begins or ends. One that was taken before is ignored."""
        memory = self.memory
        taken = memory.held if self.alarmed else memory.hours
        if any(one.number == hour.number for one in taken[-KEPT_DAYS * 24 :]):
            return None
        taken.append(hour)
        taken.sort(key=lambda one: one.number)
        del taken[: -KEPT_DAYS * 24]
        baseline = self._usual(hour.number)
        if baseline is None:
            return None
        self._sum_up(baseline, hour)
        most = max(*memory.high, *memory.low)
        if self.alarmed:
            return self._look_for_end(hour.number, most)
        if most < _ALARM:
            return None
        memory.since = memory.onset if memory.onset is not None else hour.number
        memory.held = [one for one in memory.hours if one.number >= memory.since]
        memory.hours = [one for one in memory.hours if one.number < memory.since]
        return "began"

    def accept(self) -> bool:
        """Take how it is now for usual, and learn it from the hours since; whether there was an
        alarm."""
        if not self.alarmed:
            return False
        self._forget(self.memory.held)
        return True

    def forget_evidence(self) -> None:
        """Begin the sums anew, as where the clock was set; an alarm stays."""
        if not self.alarmed:
            self._forget(self.memory.hours)

    def changes(self) -> list[tuple[Measure, Range]]:
        """What is other than usual, most certain first, over the last day of it."""
        memory, baseline = self.memory, self._baseline
        if baseline is None or not self.alarmed:
            return []
        sums = np.maximum(memory.high, memory.low)
        last = [one for one in memory.held if one.number > memory.held[-1].number - 24]
        told = [row for row in np.argsort(-sums, kind="stable").tolist() if sums[row] >= _OVER]
        found = [(MEASURES[row], baseline.range(last, row)) for row in told]
        return [(measure, range_) for measure, range_ in found if range_ is not None]

    def _past(self, number: int) -> list[Hour]:
        """The hours that one of this number is compared with; a clock that ran ahead left more."""
        first, last = number - (KEPT_DAYS + ACCEPT_DAYS) * 24, number - _GAP_H
        return [hour for hour in self.memory.hours if first <= hour.number <= last]

    def _usual(self, number: int) -> Baseline | None:
        """The baseline, made anew each day; none while it learns, and held while alarmed."""
        day = self._calendar(number).day
        if self._baseline is None or (day != self._made_on and not self.alarmed):
            past = self._past(number)
            days = {self._calendar(hour.number).day for hour in past}
            self._baseline = Baseline(past, self._calendar) if len(days) >= LEARN_DAYS else None
            self._made_on = day
        return self._baseline

    def _sum_up(self, baseline: Baseline, hour: Hour) -> None:
        memory = self.memory
        deviations = baseline.deviations(hour)
        for sums, sign in ((memory.high, 1.0), (memory.low, -1.0)):
            steps = (sign * deviations - _LEAK) / baseline.hours_a_day
            # A figure that is not known is no evidence, and takes none away.
            steps = np.where(np.isnan(steps), 0.0, steps)
            sums[:] = np.clip(np.array(sums) + steps, 0.0, _MOST).tolist()
        if not any(memory.high) and not any(memory.low):
            memory.onset = None
        elif memory.onset is None:
            memory.onset = hour.number

    def _look_for_end(self, number: int, most: float) -> Event | None:
        memory = self.memory
        assert memory.since is not None
        if most <= _OVER:
            # What was other is no part of the usual.
            self._forget(memory.hours)
            return "ended"
        if number - memory.since >= ACCEPT_DAYS * 24:
            self._forget(memory.held)
            return "accepted"
        return None

    def _forget(self, hours: list[Hour]) -> None:
        self.memory = Memory(hours=hours)
        self._baseline = self._made_on = None


def _even(figures: Figures) -> Figures:
    """Shares as the arcsine of their roots, whose spread is the same about nought as elsewhere."""
    shares = np.sqrt(np.clip(figures[..., _SHARES], 0.0, 1.0))
    even = figures.copy()
    even[..., _SHARES] = np.arcsin(shares)
    return even


def _scale(away: Figures) -> Figures:
    """The usual deviation of those that are over nought, or what the second largest makes it."""
    away = np.where(away >= 0, away, np.nan)
    return np.fmax(1.4826 * _median(away), _second_largest(away) / _ODD_DAY)


def _sorted(values: Figures) -> tuple[Figures, NDArray[np.intp]]:
    """Along the first axis, NaN last, and how many are none."""
    return np.sort(values, axis=0), (~np.isnan(values)).sum(axis=0)


def _at(ordered: Figures, rows: NDArray[np.intp]) -> Figures:
    found = np.take_along_axis(ordered, np.clip(rows, 0, len(ordered) - 1)[None], axis=0)[0]
    return np.asarray(found, np.float64)


def _median(values: Figures) -> Figures:
    """Over the first axis, of what is not NaN; NaN of fewer than _MEDIAN_OF."""
    if not len(values):
        return np.full(values.shape[1:], np.nan)
    ordered, counts = _sorted(values)
    middle = (_at(ordered, (counts - 1) // 2) + _at(ordered, counts // 2)) / 2
    return np.where(counts >= _MEDIAN_OF, middle, np.nan)


def _second_largest(values: Figures) -> Figures:
    """Over the first axis, of what is not NaN; NaN of fewer than two."""
    ordered, counts = _sorted(values)
    return np.where(counts >= 2, _at(ordered, counts - 2), np.nan)
