"""Scores over time to label changes; pure: no clock, no I/O, no threads.

Scores are smoothed by an exponential moving average in seconds. With the smoothed scores
of the labels that ``allow`` and ``deny`` leave:

- a label *qualifies* while it has been at ``enter`` or over for ``min_frames`` frames
  without a break;
- the best label that qualifies becomes active when none is, or when it beats the active one;
- the active label stays while it is at ``exit`` or over, and until something replaces it;
- ``unknown`` replaces it after ``min_frames`` frames in which nothing qualified and the
  active label was under ``exit``;
- whatever became active, ``unknown`` too, is held ``min_hold_s``. The first decision waits
  only for ``min_frames``.

Labels are names: where a model has two classes of one name ("crane"), moving from one to
the other is no change, and a class that is itself named ``unknown`` is the same as nothing.
"""

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.config import Decide
from device.errors import ConfigError
from device.pipeline.groups import Groups, Rollup

Scores = NDArray[np.float32]

# A label is in doubt where it is nearer to its end than ``_SLACK``, where a frame's own scores are
# further than ``_BAND`` from the smoothed ones, or where those still move: they differ by more than
# ``_REST`` from what they were a smoothing time ago. A label that is far from its end may have the
# given shares of that way instead.
_SLACK = 0.05
_BAND, _BAND_SHARE = 0.1, 0.5
_REST, _REST_SHARE = 0.02, 0.125
# What is left of a deviation with the next frame.
_FADE = 0.8


class Decision(msgspec.Struct, frozen=True):
    """A change of the active label, as it happened at ``at``.

    ``score`` is smoothed: of the label, or of the best candidate when it is ``unknown``.
    ``previous`` is None for the first decision after the start or a reset, and ``held_s``
    then is how long there was none.
    """

    label: str
    score: float
    previous: str | None
    held_s: float
    at: float


class Decider:
    """Turns the scores of one frame after another into at most one change a frame.

    ``label`` is the active label, ``unknown`` included, and None before the first decision;
    ``names`` are the labels that may become active.
    With ``groups`` the words of groups.Rollup take the place of the model's labels, and
    ``allow`` and ``deny`` name those.
    Raises ConfigError when ``allow`` or ``deny`` name what is not in ``names``, contradict
    each other, or leave no label.
    """

    def __init__(
        self, settings: Decide, names: Sequence[str], groups: Groups | None = None
    ) -> None:
        self._shape = (len(names),)
        self._rollup = Rollup(names, groups) if groups else None
        names = self._rollup.names if self._rollup else names
        kept = _kept(settings, names)
        self.label: str | None = None
        self._settings = settings
        self.names = tuple(names[row] for row in kept)
        # All labels being kept is the usual case and needs no gathering.
        self._rows = np.array(kept, np.intp) if len(kept) < len(names) else None
        # Thresholds are rounded like the scores: float32(0.7) < 0.7, and a label that is
        # exactly at its threshold must not depend on that.
        self._enter = np.float32(settings.enter)
        self._exit = np.float32(settings.exit)
        # Everything per label is allocated here and written in place for every frame.
        self._scores: Scores = np.zeros(len(kept), np.float32)
        self._smoothed: Scores = np.zeros(len(kept), np.float32)
        self._scratch: Scores = np.zeros(len(kept), np.float32)
        self._over = np.zeros(len(kept), np.bool_)
        # 64 bits: at 30 frames a second, 32 would wrap in the third year.
        self._streak = np.zeros(len(kept), np.int64)
        # The smoothed scores, smoothed once more: those of a while ago.
        self._before: Scores = np.zeros(len(kept), np.float32)
        self._deviation = 1.0
        self._fresh = True
        self._active = -1
        self._idle = 0
        self._last: float | None = None
        self._since = 0.0

    @property
    def score(self) -> float:
        """Smoothed score of the active label, or of the best candidate when there is none."""
        if self._active >= 0:
            return float(self._smoothed[self._active])
        return float(self._smoothed.max())

    def update(self, scores: Scores, at: float) -> Decision | None:
        """The change that the scores of a frame at ``at`` seconds bring about, if any.

        ``scores`` has the shape of ``names``, float32, free of NaN, and is not kept. Time
        that stands still or runs backwards counts as no time passed.
        """
        if scores.shape != self._shape:
            raise ValueError(f"expected scores of shape {self._shape}, met {scores.shape}")
        if self._rollup is not None:
            scores = self._rollup(scores)
        self._smooth(scores, self._elapse(at))
        chosen = self._choose()
        if chosen is None:
            return None
        label = self.names[chosen] if chosen >= 0 else self._settings.unknown
        if label == self.label:
            self._active = chosen
            return None
        held_s = at - self._since
        if self.label is not None and held_s < self._settings.min_hold_s:
            return None
        previous, self.label = self.label, label
        self._active, self._since = chosen, at
        return Decision(label, self.score, previous, held_s, at)

    def skip(self, at: float) -> None:
        """Take note of a frame at ``at`` that was not classified, as while the label is ``steady``.

        Scores and counts stay as they are: only time moves on, so that the next frame weighs as
        if none had been left out.
        """
        self._elapse(at)

    @property
    def steady(self) -> bool:
        """Whether the label stands: more frames like the last would change nothing.

        The smoothed scores have come to rest, the last frames were close to them, and they are
        further from any change than that.
        """
        if self.label is None:
            return False
        slack = self._slack()
        if slack < _SLACK or self._deviation > max(_BAND, _BAND_SHARE * slack):
            return False
        np.subtract(self._smoothed, self._before, out=self._scratch)
        np.abs(self._scratch, out=self._scratch)
        return float(self._scratch.max()) <= max(_REST, _REST_SHARE * slack)

    def _slack(self) -> float:
        """How far all scores may move, each up or down, before the label might change."""
        np.copyto(self._scratch, self._smoothed)
        if self._active < 0:
            return float(self._enter - self._scratch.max())
        active = self._smoothed[self._active]
        self._scratch[self._active] = 0
        best = self._scratch.max()
        return float(min(active - self._exit, max(self._enter - best, (active - best) / 2)))

    def retune(self, enter: float, exit_: float) -> None:
        """Go on with other thresholds; what is active stays while it is at ``exit_`` or over."""
        self._enter, self._exit = np.float32(enter), np.float32(exit_)

    def reset(self, at: float) -> None:
        """Forget everything, as when the camera was lost at ``at``: no stale label survives."""
        self.label = None
        self._fresh = True
        self._deviation = 1.0
        self._smoothed.fill(0)
        self._streak.fill(0)
        self._active = -1
        self._idle = 0
        self._last = self._since = at

    def _elapse(self, at: float) -> float:
        """Seconds since the last frame, never negative."""
        if self._last is None:
            self._last = self._since = at
        elapsed_s, self._last = at - self._last, at
        if elapsed_s < 0:
            # The start of the current label moves back too, or the hold would last until
            # the clock has caught up; rounding must not put it after this frame.
            self._since = min(self._since + elapsed_s, at)
            return 0.0
        return elapsed_s

    def _smooth(self, scores: Scores, elapsed_s: float) -> None:
        if self._rows is not None:
            # mode="clip" spares the copy that the default makes of its output.
            np.take(scores, self._rows, out=self._scores, mode="clip")
            scores = self._scores
        if self._fresh:
            np.copyto(self._smoothed, scores)
            np.copyto(self._before, scores)
            self._fresh = False
            return
        np.subtract(scores, self._smoothed, out=self._scratch)
        deviation = float(max(self._scratch.max(), -self._scratch.min()))
        self._deviation = max(deviation, _FADE * self._deviation)
        smoothing_s = self._settings.smoothing_s
        alpha = -math.expm1(-elapsed_s / smoothing_s) if smoothing_s else 1.0
        self._scratch *= np.float32(alpha)
        self._smoothed += self._scratch
        np.subtract(self._smoothed, self._before, out=self._scratch)
        self._scratch *= np.float32(alpha)
        self._before += self._scratch

    def _choose(self) -> int | None:
        """The row that should be active, -1 for ``unknown``, or None to leave it as it is."""
        np.greater_equal(self._smoothed, self._enter, out=self._over)
        self._streak += 1
        self._streak *= self._over
        np.greater_equal(self._streak, self._settings.min_frames, out=self._over)
        np.multiply(self._smoothed, self._over, out=self._scratch)
        # argmax takes the first of equals, so ties go to the lowest row.
        best = int(self._scratch.argmax())
        qualifies = bool(self._over[best])
        active = self._smoothed[self._active] if self._active >= 0 else None
        if qualifies or (active is not None and active >= self._exit):
            self._idle = 0
        else:
            self._idle += 1
        if qualifies and (active is None or self._smoothed[best] > active):
            return best
        return -1 if self._idle >= self._settings.min_frames else None


def _kept(settings: Decide, names: Sequence[str]) -> list[int]:
    """Rows of ``names`` that may become active."""
    for key, entries in (("allow", settings.allow), ("deny", settings.deny)):
        for entry in entries:
            if entry not in names:
                raise ConfigError(
                    f"decide.{key}", f"{entry!r} is no label of the model{nearest(entry, names)}"
                )
    allow, deny = set(settings.allow), set(settings.deny)
    if both := sorted(allow & deny):
        raise ConfigError("decide.deny", f"{both[0]!r} is in decide.allow too; keep one of them")
    kept = [
        row for row, name in enumerate(names) if name not in deny and (not allow or name in allow)
    ]
    if not kept:
        raise ConfigError("decide.deny", "names every label, so that none is left to report")
    return kept


def nearest(entry: str, names: Iterable[str]) -> str:
    """``; did you mean …?`` with up to three labels, or nothing where none is near."""
    # Only someone about to read an error pays for this import.
    from difflib import get_close_matches

    folded = {name.casefold(): name for name in names}
    word = entry.casefold()
    # "cat" should find "tiger cat", which is too long to be a close match.
    near = [name for name in folded if word in name.replace("-", " ").split()]
    near += [name for name in get_close_matches(word, folded, cutoff=0.6) if name not in near]
    shown = [repr(folded[name]) for name in near[:3]]
    return f"; did you mean {' or '.join(shown)}?" if shown else ""
