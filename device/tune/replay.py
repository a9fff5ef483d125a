"""The decider's rule for many settings at once, over all frames of a recording.

This is ``device.pipeline.decider.Decider``, with an axis of settings before that of labels: what
that says of a frame, this says of it too, to the bit (tests/tune/test_replay.py has both go over
the same scores). One ``Decider`` takes 30 µs a frame, and 200 of them take 6 ms; all of them here
take 0.1 ms. A label that never comes near the least threshold cannot begin, and is left out.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from device.config import Decide
from device.pipeline.words import Thresholds, Words
from device.recordings.scores import Track
from device.tune.judge import Said

Scores = NDArray[np.float32]

# Rounding may lift a smoothed score over all that it was made of.
_ROUNDING = 1e-4
_GAP = 1.5


class Series(NamedTuple):
    """The words of one camera over time.

    ``at_s`` (float64) is when each frame was taken, and ``elapsed_s`` how long the frame before
    it, which may have been left out, lasted: what smoothing goes by. ``scores`` is float32,
    (frames, words).
    """

    camera: str
    names: tuple[str, ...]
    at_s: NDArray[np.float64]
    elapsed_s: NDArray[np.float64]
    scores: Scores


def series_of(track: Track, words: Words) -> Series:
    """The scores of a recording as words, frame by frame as the decider gets them."""
    count = len(track.at_s)
    scores: Scores = np.zeros((count, len(words.names)), np.float32)
    dense: Scores = np.zeros(len(track.source.names), np.float32)
    for frame in range(count):
        part = slice(track.starts[frame], track.starts[frame + 1])
        rows = track.rows[part]
        dense[rows] = track.scores[part]
        scores[frame] = words(dense)
        dense[rows] = 0
    return Series(track.source.camera, words.names, track.at_s, _elapsed(track), scores)


def _elapsed(track: Track) -> NDArray[np.float64]:
    """Seconds between frames; where the gate may have left frames out, as if it had not."""
    elapsed_s = np.diff(track.at_s, prepend=track.at_s[:1])
    if track.source.gated and len(elapsed_s) > 2:
        usual_s = float(np.median(elapsed_s[1:]))
        # As the decider is told of each that was left out: the last just before this one.
        elapsed_s[elapsed_s > _GAP * usual_s] = usual_s
    return elapsed_s


def gaps(track: Track) -> int:
    """How often the gate left frames out."""
    return int((_elapsed(track) < np.diff(track.at_s, prepend=track.at_s[:1])).sum())


def replay(
    series: Series,
    settings: Sequence[Decide],
    words: Words,
    progress: Callable[[int], None] = lambda _: None,
) -> list[list[Said]]:
    """What each of the settings, which share their mode, says of the series.

    ``progress`` is told every thousand frames.
    """
    if not len(series.at_s):
        return [[] for _ in settings]
    thresholds = [words.thresholds(one) for one in settings]
    columns = _that_matter(series, settings, thresholds)
    names = [series.names[column] for column in columns]
    scores = np.ascontiguousarray(series.scores[:, columns])
    kind = _OneLabel if settings[0].mode == "one" else _AnyLabel
    rule = kind(settings, names, _stacked(thresholds, columns))
    paces, pace_of = np.unique([one.smoothing_s for one in settings], return_inverse=True)
    smoothed: Scores = np.repeat(scores[:1], len(paces), axis=0)
    change: Scores = np.zeros_like(smoothed)
    of_each: Scores = np.zeros((len(settings), len(names)), np.float32)
    before = float(series.at_s[0])
    for frame, (at, elapsed_s) in enumerate(
        zip(series.at_s.tolist(), series.elapsed_s.tolist(), strict=True)
    ):
        if at < before:
            rule.set_back(at - before, at)
        before = at
        if frame:
            shares = [_share(max(0.0, elapsed_s), pace) for pace in paces.tolist()]
            np.subtract(scores[frame], smoothed, out=change)
            change *= np.array(shares, np.float32)[:, None]
            smoothed += change
        np.take(smoothed, pace_of, axis=0, out=of_each, mode="clip")
        rule.decide(of_each, at)
        if not frame % 1000:
            progress(frame)
    return rule.said


def _stacked(thresholds: Sequence[Thresholds], columns: NDArray[np.intp]) -> Thresholds:
    """The thresholds of these columns, (settings, columns)."""
    return Thresholds(
        np.stack([one.enter[columns] for one in thresholds]),
        np.stack([one.exit[columns] for one in thresholds]),
        np.stack([one.min_hold_s[columns] for one in thresholds]),
        np.stack([one.cooldown_s[columns] for one in thresholds]),
    )


def _share(elapsed_s: float, smoothing_s: float) -> float:
    return -math.expm1(-elapsed_s / smoothing_s) if smoothing_s else 1.0


def _that_matter(
    series: Series, settings: Sequence[Decide], thresholds: Sequence[Thresholds]
) -> NDArray[np.intp]:
    """The columns that may begin with any setting, or stand in the way of one that does."""
    most = series.scores.max(axis=0)
    margin = max(one.margin for one in settings)
    least = np.min([one.enter for one in thresholds], axis=0)
    near = least.min() - margin if margin else least
    columns = np.flatnonzero(most >= near - _ROUNDING)
    # The rules need a column to look at.
    return columns if len(columns) else np.array([int(most.argmax())])


class _Rule(ABC):
    """What is in force with each setting; arrays are (settings, labels)."""

    def __init__(
        self, settings: Sequence[Decide], names: Sequence[str], thresholds: Thresholds
    ) -> None:
        self.said: list[list[Said]] = [[] for _ in settings]
        self._names = names
        self._thresholds = thresholds
        self._min_frames = np.array([one.min_frames for one in settings], np.int32)
        shape = len(settings), len(names)
        self._streak = np.zeros(shape, np.int32)
        self._qualifies = np.zeros(shape, np.bool_)
        self._cools = bool(thresholds.cooldown_s.any())
        self._ended = np.full(shape, -np.inf)
        self._nothing = np.array([name == settings[0].unknown for name in names])

    @abstractmethod
    def decide(self, scores: Scores, at: float) -> None:
        """Take the smoothed scores of a frame."""

    def set_back(self, elapsed_s: float, at: float) -> None:
        """Go on at ``at``, ``elapsed_s`` < 0 after the frame before."""
        np.minimum(self._ended + elapsed_s, at, out=self._ended)

    def _count(self, scores: Scores, at: float) -> None:
        qualifies = self._qualifies
        np.greater_equal(scores, self._thresholds.enter, out=qualifies)
        self._streak += 1
        self._streak *= qualifies
        np.greater_equal(self._streak, self._min_frames[:, None], out=qualifies)
        if self._cools:
            qualifies &= at - self._ended >= self._thresholds.cooldown_s


# Numbers of names; a class of that name is nothing too.
_NONE_YET, _UNKNOWN = -2, -1


class _OneLabel(_Rule):
    """One label at a time."""

    def __init__(
        self, settings: Sequence[Decide], names: Sequence[str], thresholds: Thresholds
    ) -> None:
        super().__init__(settings, names, thresholds)
        count = len(settings)
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        numbers[settings[0].unknown] = _UNKNOWN
        self._number = np.array([numbers[name] for name in names], np.int32)
        self._margin = np.array([one.margin for one in settings], np.float32)
        self._hold_s = np.array([one.min_hold_s for one in settings])
        self._every = np.arange(count)
        self._row = np.full(count, -1, np.intp)
        self._label = np.full(count, _NONE_YET, np.int32)
        self._idle = np.zeros(count, np.int32)
        self._since: Any = None

    def set_back(self, elapsed_s: float, at: float) -> None:
        super().set_back(elapsed_s, at)
        self._since = np.minimum(self._since + elapsed_s, at)

    def decide(self, scores: Scores, at: float) -> None:
        if self._since is None:
            self._since = np.full(len(self._every), at)
        self._count(scores, at)
        every, row = self._every, self._row
        best = (scores * self._qualifies).argmax(axis=1)
        best_scores = scores[every, best]
        qualifies = self._qualifies[every, best]
        if qualifies.any():
            qualifies &= self._stands_out(scores, best, best_scores)
        there = row >= 0
        active = scores[every, row]
        stays = there & (active >= self._thresholds.exit[every, row])
        self._idle += 1
        self._idle *= ~(qualifies | stays)
        better = qualifies & (~there | (best_scores > active))
        chosen = better | (self._idle >= self._min_frames)
        to = np.where(better, best, -1)
        label = np.where(better, self._number[best], _UNKNOWN)
        same = chosen & (label == self._label)
        row[same] = to[same]
        hold_s = np.where(there, self._thresholds.min_hold_s[every, row], self._hold_s)
        free = (self._label == _NONE_YET) | (at - self._since >= hold_s)
        changes = np.flatnonzero(chosen & (label != self._label) & free)
        for number in changes.tolist():
            self._change(number, int(to[number]), int(label[number]), at)

    def _stands_out(
        self, scores: Scores, best: NDArray[np.intp], best_scores: Scores
    ) -> NDArray[np.bool_]:
        near = scores > (best_scores - self._margin)[:, None]
        near &= self._number != self._number[best][:, None]
        stands_out: NDArray[np.bool_] = (self._margin == 0) | ~near.any(axis=1)
        return stands_out

    def _change(self, number: int, row: int, label: int, at: float) -> None:
        before = int(self._label[number])
        if self._cools and self._row[number] >= 0:
            self._ended[number, self._number == before] = at
        self._row[number], self._label[number], self._since[number] = row, label, at
        active = (self._names[row],) if label != _UNKNOWN else ()
        if active or before >= 0:
            self.said[number].append(Said(at, active))


class _AnyLabel(_Rule):
    """Each label by itself."""

    def __init__(
        self, settings: Sequence[Decide], names: Sequence[str], thresholds: Thresholds
    ) -> None:
        super().__init__(settings, names, thresholds)
        shape = len(settings), len(names)
        self._on = np.zeros(shape, np.bool_)
        self._began = np.zeros(shape)
        self._under = np.zeros(shape, np.int32)

    def set_back(self, elapsed_s: float, at: float) -> None:
        super().set_back(elapsed_s, at)
        np.minimum(self._began + elapsed_s, at, out=self._began)

    def decide(self, scores: Scores, at: float) -> None:
        self._count(scores, at)
        self._qualifies[:, self._nothing] = False
        begins = self._qualifies & ~self._on
        self._under += 1
        self._under *= scores < self._thresholds.exit
        ends = self._on & (self._under >= self._min_frames[:, None])
        ends &= at - self._began >= self._thresholds.min_hold_s
        changes = begins | ends
        if not changes.any():
            return
        self._on ^= changes
        self._began[begins], self._under[begins] = at, 0
        self._ended[ends] = at
        for number in np.flatnonzero(changes.any(axis=1)).tolist():
            active = tuple(self._names[row] for row in np.flatnonzero(self._on[number]))
            self.said[number].append(Said(at, active))
