"""Which settings are tried: a designed grid over all that may be set, then finer around the best.

The points of the grid are Halton's sequence, so that every number of them covers all ranges
evenly, and rounded to values that a person would write.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from device.config import Decide
from device.tune.judge import Verdict

TRIALS = 200
# The grid, and how many rounds of so many finer trials follow.
_GRID, _ROUNDS, _BEST = 120, 4, 6
_PRIMES = (2, 3, 5, 7, 11, 13)
_SMOOTHING_S = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.5)
_HOLD_S = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0)
# How far the nearest few tell whether a setting stands on firm ground.
_NEIGHBOURS = 6


class Tried(NamedTuple):
    """A setting and how it did; ``firm`` is the mean of errors around it."""

    settings: Decide
    verdict: Verdict
    firm: float = 0.0

    @property
    def order(self) -> tuple[float, float]:
        """What is better comes first: fewer errors, then firmer ground and less delay."""
        verdict = self.verdict
        return verdict.errors, round(self.firm / 4 + verdict.median_s + verdict.p95_s / 4, 3)


Key = tuple[float, float, float, int, float, float]
Judge = Callable[[Sequence[Decide]], list[Verdict]]


def search(current: Decide, judge: Judge, trials: int = TRIALS) -> list[Tried]:
    """All that was tried, the best first; ``current`` is among them."""
    tried: dict[Key, Tried] = {}

    def attempt(settings: Iterable[Decide]) -> None:
        new = {key: one for one in settings if (key := key_of(one)) not in tried}
        for key, one, verdict in zip(new, new.values(), judge(list(new.values())), strict=True):
            tried[key] = Tried(one, verdict)

    attempt([current, *_grid(current, min(_GRID, trials - 1))])
    for number in range(_ROUNDS):
        best = _ranked(tried.values())[:_BEST]
        share = (trials - len(tried)) // (_ROUNDS - number)
        attempt(_around(best, share, number, tried))
    return _ranked(tried.values())


def key_of(settings: Decide) -> Key:
    """What is tried of the settings, in one order."""
    return (
        settings.enter,
        settings.exit,
        settings.smoothing_s,
        settings.min_frames,
        settings.min_hold_s,
        settings.margin,
    )


def _with(
    current: Decide,
    enter: float,
    exit_: float,
    smoothing_s: float,
    min_frames: float,
    min_hold_s: float,
    margin: float,
) -> Decide:
    return msgspec.structs.replace(
        current,
        enter=enter,
        exit=exit_,
        smoothing_s=smoothing_s,
        min_frames=int(min_frames),
        min_hold_s=min_hold_s,
        margin=margin,
    )


def _neat(current: Decide, values: Sequence[float]) -> Decide:
    """The setting nearest to these values that a person would write."""
    values = [float(value) for value in values]
    enter = round(min(max(values[0], 0.05), 0.95), 2)
    exit_ = round(min(max(values[1] * enter, 0.01), enter - 0.01), 2)
    smoothing_s, hold_s = round(max(0.0, values[2]), 2), round(max(0.0, values[4]), 1)
    margin = round(min(max(0.0, values[5]), 0.5), 2) if current.mode == "one" else current.margin
    return _with(current, enter, exit_, smoothing_s, max(1, round(values[3])), hold_s, margin)


def _grid(current: Decide, count: int) -> list[Decide]:
    settings = []
    for number in range(1, count + 1):
        share = [_halton(number, prime) for prime in _PRIMES]
        margin = 0.0 if share[5] < 0.5 else round(0.6 * (share[5] - 0.5), 2)
        values = (
            0.15 + 0.7 * share[0],
            0.3 + 0.65 * share[1],
            _SMOOTHING_S[int(share[2] * len(_SMOOTHING_S))],
            1 + int(6 * share[3]),
            _HOLD_S[int(share[4] * len(_HOLD_S))],
            margin,
        )
        settings.append(_neat(current, values))
    return settings


def _around(best: Sequence[Tried], count: int, number: int, known: Container[Key]) -> list[Decide]:
    """So many neighbours of the best that were not tried, nearer with each round."""
    chance = np.random.default_rng(number)
    reach = 0.5**number
    found: dict[Key, Decide] = {}
    for index in range(8 * count):
        if len(found) >= count:
            break
        one = best[index % len(best)].settings
        step = chance.normal(0, reach, 6)
        values = (
            one.enter + 0.1 * step[0],
            one.exit / one.enter + 0.15 * step[1],
            one.smoothing_s * (1 + 0.5 * step[2]) + 0.05 * step[2],
            one.min_frames + 1.5 * step[3],
            one.min_hold_s + 0.7 * step[4],
            one.margin + 0.08 * step[5],
        )
        settings = _neat(one, values)
        if (key := key_of(settings)) not in known:
            found[key] = settings
    return list(found.values())


def _halton(number: int, prime: int) -> float:
    found, share = 0.0, 1.0
    while number:
        share /= prime
        number, digit = divmod(number, prime)
        found += share * digit
    return found


def _ranked(tried: Iterable[Tried]) -> list[Tried]:
    every = list(tried)
    # In units in which a step of each changes about as much.
    places = np.array([key_of(one.settings) for one in every]) / (0.1, 0.1, 0.3, 2, 1, 0.1)
    errors = np.array([one.verdict.errors for one in every], float)
    nearest = min(_NEIGHBOURS, len(every))
    firm = []
    for place in places:
        distance = np.square(places - place).sum(1)
        firm.append(float(errors[np.argsort(distance, kind="stable")[:nearest]].mean()))
    ranked = [one._replace(firm=mean) for one, mean in zip(every, firm, strict=True)]
    return sorted(ranked, key=lambda one: one.order)
