"""Which way to run a model is the best of those that were measured."""

from collections.abc import Mapping, Sequence

from device.inference import runtimes
from device.inference.runtimes import Candidate, Choice

# What is found otherwise must be clearly faster than the default; and twice the processors
# that a camera, a broker and a display want too must bring more than a few per cent.
_WORTH_CHANGING = 0.95
_WORTH_MORE_THREADS = 0.8
# With a thread on every core, whatever else the machine does one day stops them all: 30 times
# slower was seen. So that must bring nearly all that it can.
_WORTH_ALL_CORES = 0.6


def judge(samples: Mapping[Candidate, Sequence[float]]) -> Choice | None:
    """The best of the candidates with samples in ms, listed by preference; None of none."""
    best = pick(samples)
    if best is None:
        return None
    reason = f"best measured here: {best} {median(samples[best]):.3g} ms"
    others = [
        f"{candidate} {median(times):.3g} ms"
        for candidate, times in samples.items()
        if times and candidate != best
    ]
    return Choice(best, f"{reason}; others: {', '.join(others)}" if others else reason)


def pick(samples: Mapping[Candidate, Sequence[float]]) -> Candidate | None:
    """The candidate to run with, of those with samples in ms, listed by preference."""
    ran = {candidate: times for candidate, times in samples.items() if times}
    if not ran:
        return None
    fewest = min(candidate.threads for candidate in ran)
    best, *others = (candidate for candidate in ran if candidate.threads == fewest)
    for candidate in others:
        if median(ran[candidate]) < _WORTH_CHANGING * median(ran[best]):
            best = candidate
    same = [c for c in ran if (c.runtime, c.delegate) == (best.runtime, best.delegate)]
    cores = runtimes.usable_cores()
    for candidate in sorted(same, key=lambda c: c.threads):
        worth = _WORTH_ALL_CORES if candidate.threads >= cores else _WORTH_MORE_THREADS
        # By the mean: where threads wait for a core that others want, one call in fifty takes
        # a hundred times as long, and a median hides it.
        if _mean(ran[candidate]) < worth * _mean(ran[best]):
            best = candidate
    return best


def median(times: Sequence[float]) -> float:
    """The 50th percentile by nearest rank; the statistics module costs 30 ms to import."""
    return sorted(times)[(len(times) - 1) // 2]


def _mean(times: Sequence[float]) -> float:
    return sum(times) / len(times)
