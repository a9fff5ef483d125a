"""Truth in the making: labels that begin and end as somebody says so."""

from collections.abc import Iterable

import msgspec

from device.tune.truth import Interval

# Shorter is a key that bounced.
_LEAST_S = 0.05


class Marks:
    """Intervals that are marked one after the other; a new one takes the place of what it covers.

    ``open`` are the labels that have begun, with when. Where one is there at a time, another that
    begins ends it.
    """

    def __init__(self, intervals: Iterable[Interval] = (), *, one_at_a_time: bool) -> None:
        self.open: dict[str, float] = {}
        self._one = one_at_a_time
        self._intervals = list(intervals)
        self._before: list[tuple[list[Interval], dict[str, float]]] = []

    def toggle(self, label: str, at_s: float) -> None:
        """The label begins at this time, or ends if it had begun."""
        self._before.append((list(self._intervals), dict(self.open)))
        ended = label in self.open
        for other in list(self.open) if self._one else [label] * ended:
            self._place(other, self.open.pop(other), at_s)
        if not ended:
            self.open[label] = at_s

    def undo(self) -> None:
        """Take the last ``toggle`` back."""
        if self._before:
            self._intervals, self.open = self._before.pop()

    def at(self, at_s: float) -> set[str]:
        """The labels that are marked at this time, with those that are open."""
        return {i.label for i in self._intervals if i.from_s <= at_s < i.to_s} | set(self.open)

    def finish(self, at_s: float) -> list[Interval]:
        """End what is open, and give all intervals in the order of time."""
        for label, from_s in self.open.items():
            self._place(label, from_s, at_s)
        self.open = {}
        return sorted(self._intervals, key=lambda interval: interval.from_s)

    def _place(self, label: str, one_s: float, other_s: float) -> None:
        """A new interval; of those that it covers only what is outside of it is left."""
        from_s, to_s = round(min(one_s, other_s), 2), round(max(one_s, other_s), 2)
        if to_s - from_s < _LEAST_S:
            return
        kept: list[Interval] = []
        for old in self._intervals:
            if not self._one and old.label != label:
                kept.append(old)
                continue
            for begin, end in (
                (old.from_s, min(old.to_s, from_s)),
                (max(old.from_s, to_s), old.to_s),
            ):
                if end - begin >= _LEAST_S:
                    kept.append(msgspec.structs.replace(old, from_s=begin, to_s=end))
        self._intervals = [*kept, Interval(from_s, to_s, label)]
