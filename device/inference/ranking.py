"""Which way to run a model is the best of those that were measured."""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

from device.inference import runtimes
from device.inference.runtimes import Candidate, Choice

# What is found otherwise must be clearly faster than the default; and twice the processors
# that a camera, a broker and a display want too must bring more than a few per cent.
_WORTH_CHANGING = 0.95
_WORTH_MORE_THREADS = 0.8
# With a thread on every core, whatever else the machine does one day stops them all: 30 times
# slower was seen. So that must bring nearly all that it can.
_WORTH_ALL_CORES = 0.6


class Times(msgspec.Struct, frozen=True):
    """Milliseconds of each call, and the processor seconds of the process meanwhile.

    Those are of all threads and of the pauses too, in which threads that wait may spin.
    """

    ms: list[float] = []
    cpu_s: float = 0.0

    def __add__(self, more: Self) -> "Times":
        """These and ``more`` calls."""
        return Times(self.ms + more.ms, self.cpu_s + more.cpu_s)

    @property
    def median_ms(self) -> float:
        """The 50th percentile of the calls, of which there is at least one."""
        return median(self.ms)

    @property
    def mean_ms(self) -> float:
        """The mean of the calls, of which there is at least one."""
        return sum(self.ms) / len(self.ms)

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds a call; there is at least one."""
        return 1e3 * self.cpu_s / len(self.ms)


def judge(samples: Mapping[Candidate, Times]) -> Choice | None:
    """The best of the candidates with samples, listed by preference; None of none."""
    best = pick(samples)
    if best is None:
        return None
    reason = f"best measured here: {_figures(best, samples[best])}"
    others = [_figures(c, times) for c, times in samples.items() if times.ms and c != best]
    more = f"; others: {', '.join(others)}" if others else ""
    return Choice(best, reason + more, round(samples[best].median_ms, 3))


def pick(samples: Mapping[Candidate, Times]) -> Candidate | None:
    """The candidate to run with, of those with samples, listed by preference.

    A runtime or delegate takes another's place where it is clearly faster, or as fast for
    clearly less processor time; more threads where they are faster by far, and do not take more
    processor time by as much.
    """
    ran = {candidate: times for candidate, times in samples.items() if times.ms}
    if not ran:
        return None
    fewest = min(candidate.threads for candidate in ran)
    best, *others = (candidate for candidate in ran if candidate.threads == fewest)
    for candidate in others:
        latency = ran[candidate].median_ms / ran[best].median_ms
        thriftier = ran[candidate].cpu_ms < _WORTH_CHANGING * ran[best].cpu_ms
        if latency < _WORTH_CHANGING or (thriftier and latency * _WORTH_CHANGING <= 1):
            best = candidate
    same = [c for c in ran if (c.runtime, c.delegate) == (best.runtime, best.delegate)]
    cores = runtimes.usable_cores()
    for candidate in sorted(same, key=lambda c: c.threads):
        worth = _WORTH_ALL_CORES if candidate.threads >= cores else _WORTH_MORE_THREADS
        new, old = ran[candidate], ran[best]
        # By the mean too: where threads wait for a core that others want, one call in fifty
        # takes a hundred times as long, and a median hides it.
        faster = new.mean_ms < worth * old.mean_ms and new.median_ms < worth * old.median_ms
        if faster and new.cpu_ms * worth <= old.cpu_ms:
            best = candidate
    return best


def median(times: Sequence[float]) -> float:
    """The 50th percentile by nearest rank; the statistics module costs 30 ms to import."""
    return sorted(times)[(len(times) - 1) // 2]


def _figures(candidate: Candidate, times: Times) -> str:
    return f"{candidate} {times.median_ms:.3g} ms, CPU {times.cpu_ms:.3g}"
