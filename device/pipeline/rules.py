"""What makes a label begin and end: one at a time, or each by itself, as decider.py says."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import msgspec
import numpy as np

from device.config import Decide
from device.pipeline.words import Scores, Thresholds

# Two labels that are as good would be the label by turns, many times a second.
_BETTER = 0.1


class Decision(msgspec.Struct, frozen=True):
    """A label that began, or ended (``on`` is False), at ``at``; ``active`` are those since.

    ``score`` is smoothed: of the label, or of the best candidate when it is ``unknown``.
    With mode "one" ``label`` took the place of ``previous``, which was for ``held_s``; with "any"
    ``held_s`` is how long a label was that ended. ``previous`` is None for the first decision
    after the start or a reset, and ``held_s`` then is how long there was none.
    """

    label: str
    score: float
    previous: str | None
    held_s: float
    at: float
    on: bool = True
    active: tuple[str, ...] = ()


class Rule(ABC):
    """Which labels are active, by the smoothed ``scores`` of ``names``."""

    def __init__(
        self, settings: Decide, names: Sequence[str], scores: Scores, thresholds: Thresholds
    ) -> None:
        size = len(names)
        self.thresholds = thresholds
        self.label: str | None = None
        self._settings = settings
        self._names = names
        self._scores = scores
        # Since when there is the label, or none.
        self._since = 0.0
        # 64 bits: at 30 frames a second, 32 would wrap in the third year.
        self._streak = np.zeros(size, np.int64)
        self._qualifies = np.zeros(size, np.bool_)
        self._scratch: Scores = np.zeros(size, np.float32)
        self._cools = bool(thresholds.cooldown_s.any())
        self._ended = np.full(size, -math.inf)
        # Frames in a row in which nothing spoke for any label.
        self._idle = 0

    @property
    @abstractmethod
    def active(self) -> tuple[str, ...]:
        """The active labels, best first."""

    @property
    @abstractmethod
    def score(self) -> float:
        """Of the best active label, or of the best candidate where there is none."""

    @abstractmethod
    def decide(self, at: float) -> tuple[Decision, ...]:
        """What the scores of a frame at ``at`` change."""

    @abstractmethod
    def slack(self) -> float:
        """How far all scores may move, each up or down, before anything might change."""

    def begin(self, at: float) -> None:
        """Count from the first frame on."""
        self._since = at

    def set_back(self, elapsed_s: float, at: float) -> None:
        """Go on at ``at``, ``elapsed_s`` < 0 after the frame before.

        What began before it did so earlier now, or a hold would last until the clock has caught
        up; rounding must not put it after this frame.
        """
        self._since = min(self._since + elapsed_s, at)
        np.minimum(self._ended + elapsed_s, at, out=self._ended)

    def reset(self, at: float) -> None:
        """Begin anew at ``at``."""
        self.label = None
        self._streak.fill(0)
        self._idle = 0
        self._since = at

    def _count(self, at: float) -> None:
        """Find what qualifies."""
        np.greater_equal(self._scores, self.thresholds.enter, out=self._qualifies)
        self._streak += 1
        self._streak *= self._qualifies
        np.greater_equal(self._streak, self._settings.min_frames, out=self._qualifies)
        if self._cools:
            self._qualifies &= at - self._ended >= self.thresholds.cooldown_s


class OneLabel(Rule):
    """One label at a time: the best."""

    _row = -1

    @property
    def active(self) -> tuple[str, ...]:
        """The label, unless it is the word for nothing."""
        label = self.label
        return () if label is None or label == self._settings.unknown else (label,)

    @property
    def score(self) -> float:
        """Of the label, or of the best candidate where there is none."""
        return float(self._scores[self._row] if self._row >= 0 else self._scores.max())

    def decide(self, at: float) -> tuple[Decision, ...]:
        """The label that took the place of another, if one did."""
        chosen = self._choose(at)
        if chosen is None:
            return ()
        label = self._names[chosen] if chosen >= 0 else self._settings.unknown
        if label == self.label:
            self._row = chosen
            return ()
        held_s = at - self._since
        if self.label is not None and held_s < self._min_hold_s():
            return ()
        self._end(at)
        previous, self.label = self.label, label
        self._row, self._since = chosen, at
        return (Decision(label, self.score, previous, held_s, at, active=self.active),)

    def _choose(self, at: float) -> int | None:
        """The row that should be active, -1 for ``unknown``, or None to leave it as it is."""
        self._count(at)
        np.multiply(self._scores, self._qualifies, out=self._scratch)
        # argmax takes the first of equals, so ties go to the lowest row.
        best = int(self._scratch.argmax())
        qualifies = bool(self._qualifies[best]) and self._stands_out(best)
        active = self._scores[self._row] if self._row >= 0 else None
        if qualifies or (active is not None and active >= self.thresholds.exit[self._row]):
            self._idle = 0
        else:
            self._idle += 1
        if qualifies and (active is None or self._scores[best] > active):
            return best
        return -1 if self._idle >= self._settings.min_frames else None

    def _stands_out(self, best: int) -> bool:
        """Whether the row has the margin over all others of another name."""
        margin = np.float32(self._settings.margin)
        if not margin:
            return True
        over = np.flatnonzero(self._scores > self._scores[best] - margin)
        return all(self._names[row] == self._names[best] for row in over)

    def _ways_to_stand_out(self) -> Scores:
        """How far all scores may move before each has the margin; less than 0 where it has it."""
        others: Scores = np.full_like(self._scores, self._scores.max())
        if len(others) > 1:
            best = int(self._scores.argmax())
            others[best] = np.delete(self._scores, best).max()
        ways: Scores = (others + np.float32(self._settings.margin) - self._scores) / 2
        return ways

    def _min_hold_s(self) -> float:
        """How long the label is held."""
        if self._row < 0:
            return self._settings.min_hold_s
        return float(self.thresholds.min_hold_s[self._row])

    def _end(self, at: float) -> None:
        """The label is over: from now on it cools down."""
        if self._cools and self._row >= 0:
            self._ended[[name == self.label for name in self._names]] = at

    def slack(self) -> float:
        """The way to its end, and to what might replace it."""
        np.subtract(self.thresholds.enter, self._scores, out=self._scratch)
        if self._settings.margin:
            np.maximum(self._scratch, self._ways_to_stand_out(), out=self._scratch)
        if self._row < 0:
            return float(self._scratch.min())
        active = self._scores[self._row]
        # What does not qualify, or does not beat the active one, replaces nothing.
        np.maximum(self._scratch, (active - self._scores) / 2, out=self._scratch)
        self._scratch[self._row] = max(self.thresholds.enter[self._row], active / 2)
        return float(min(active - self.thresholds.exit[self._row], self._scratch.min()))

    def reset(self, at: float) -> None:
        """Begin anew; the label ended at ``at``."""
        self._end(at)
        super().reset(at)
        self._row = -1


class AnyLabel(Rule):
    """Each label by itself; ``_rows`` are those of the active ones, best first."""

    def __init__(
        self, settings: Decide, names: Sequence[str], scores: Scores, thresholds: Thresholds
    ) -> None:
        super().__init__(settings, names, scores, thresholds)
        self._on = np.zeros(len(names), np.bool_)
        self._began = np.zeros(len(names))
        self._under = np.zeros(len(names), np.int64)
        self._rows: list[int] = []
        # A class of that name is nothing that comes or goes.
        self._nothing = np.array([name == settings.unknown for name in names])

    @property
    def active(self) -> tuple[str, ...]:
        """All that began and did not end, best first."""
        return tuple(self._names[row] for row in self._rows)

    @property
    def score(self) -> float:
        """Of the best of them, or of the best candidate where there is none."""
        return float(self._scores[self._rows[0]] if self._rows else self._scores.max())

    def decide(self, at: float) -> tuple[Decision, ...]:
        """What began, best first, and then what ended."""
        self._count(at)
        self._qualifies[self._nothing] = False
        self._idle = 0 if self._qualifies.any() or self._rows else self._idle + 1
        begins = np.flatnonzero(self._qualifies & ~self._on)
        ends = self._ending(at)
        # What begins goes before what ends, lest there be nothing in between.
        decisions = [self._begin(int(row), at) for row in sorted(begins, key=self._rank)]
        decisions += [self._end(int(row), at) for row in ends]
        self._sort()
        if self._rows:
            self.label = self._names[self._rows[0]]
        elif self.label is not None or self._idle >= self._settings.min_frames:
            first = self.label is None
            self.label = self._settings.unknown
            if first:
                decisions.append(Decision(self.label, self.score, None, at - self._since, at))
        return tuple(decisions)

    def _sort(self) -> None:
        """Put the best first; the one that was it stays while no other is better by far."""
        leader = next((row for row in self._rows if self._names[row] == self.label), None)
        self._rows.sort(key=self._rank)
        if leader is not None and self._scores[self._rows[0]] - self._scores[leader] < _BETTER:
            self._rows.remove(leader)
            self._rows.insert(0, leader)

    def _rank(self, row: int) -> tuple[float, int]:
        return -float(self._scores[row]), int(row)

    def _ending(self, at: float) -> Sequence[int]:
        """Rows of the active labels that are over."""
        if not self._rows:
            return ()
        under = self._scores < self.thresholds.exit
        self._under += 1
        self._under *= under
        over = self._on & (self._under >= self._settings.min_frames)
        over &= at - self._began >= self.thresholds.min_hold_s
        return [int(row) for row in np.flatnonzero(over)]

    def _begin(self, row: int, at: float) -> Decision:
        first = self.label is None
        held_s = at - self._since if first else 0.0
        self._on[row], self._began[row], self._under[row] = True, at, 0
        self._rows.append(row)
        self._sort()
        self.label = self.active[0]
        score = float(self._scores[row])
        return Decision(self._names[row], score, None, held_s, at, active=self.active)

    def _end(self, row: int, at: float) -> Decision:
        held_s = at - float(self._began[row])
        self._on[row], self._ended[row] = False, at
        self._rows.remove(row)
        score = float(self._scores[row])
        return Decision(self._names[row], score, None, held_s, at, on=False, active=self.active)

    def slack(self) -> float:
        """The shortest way of any label to its beginning or end."""
        np.subtract(self.thresholds.enter, self._scores, out=self._scratch)
        np.subtract(self._scores, self.thresholds.exit, out=self._scratch, where=self._on)
        self._scratch[self._nothing] = 1
        return float(self._scratch.min())

    def set_back(self, elapsed_s: float, at: float) -> None:
        """As of every rule; each label began earlier, too."""
        super().set_back(elapsed_s, at)
        np.minimum(self._began + elapsed_s, at, out=self._began)

    def reset(self, at: float) -> None:
        """Begin anew; every label ended at ``at``."""
        self._ended[self._on] = at
        super().reset(at)
        self._on.fill(False)
        self._rows = []
