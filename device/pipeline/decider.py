"""Scores over time to label changes; pure: no clock, no I/O, no threads.

Scores are smoothed by an exponential moving average in seconds. With the smoothed scores of the
words that ``allow`` and ``deny`` leave, and the thresholds of each word:

- a label *qualifies* while it has been at ``enter`` or over for ``min_frames`` frames without a
  break, and did not end within its ``cooldown_s``.

With ``mode`` "one" a camera has one label at a time:

- the best label that qualifies becomes active when none is, or when it beats the active one, and
  where there is a ``margin``, when it is that far above the next best;
- the active label stays while it is at ``exit`` or over, and until something replaces it;
- ``unknown`` replaces it after ``min_frames`` frames in which nothing qualified and the active
  label was under ``exit``;
- whatever became active, ``unknown`` too, is held ``min_hold_s``. The first decision waits only
  for ``min_frames``.

With "any" each label comes and goes by itself:

- one that qualifies becomes active, and ends after ``min_frames`` frames without a break under
  ``exit``, ``min_hold_s`` after it began at the earliest;
- ``unknown`` is the label while none is active. It is said as the first decision only, after
  ``min_frames`` frames in which nothing qualified.

Labels are names: where a model has two classes of one name ("crane"), moving from one to the other
is no change, and a class that is itself named ``unknown`` is the same as nothing.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from device.config import Decide
from device.pipeline.groups import Groups
from device.pipeline.rules import AnyLabel, Decision, OneLabel, Rule
from device.pipeline.smoothing import Smoothing
from device.pipeline.words import Scores, Words

# Probabilities in 8 bits are rounded, each by itself; what is further out is none.
_LEAST, _MOST = -0.01, 1.01


class Decider:
    """Turns the scores of one frame after another into changes of label.

    ``names`` are the labels that may become active: with ``groups`` the words of groups.Rollup
    take the place of the model's labels, and the settings name those. ``scores`` are those of
    ``names`` in the last frame, float32, and hold until the next one. ``faults`` counts the frames
    with scores that were no probabilities, which count as 0.
    Raises ConfigError where settings contradict each other, name what is not there, or leave no
    label; of ``alias`` and ``label`` the second is passed over unless ``strict``.
    """

    def __init__(
        self,
        settings: Decide,
        names: Sequence[str],
        groups: Groups | None = None,
        *,
        strict: bool = True,
    ) -> None:
        self._shape = (len(names),)
        self._settings = settings
        self._words = Words(settings, names, groups, strict=strict)
        self.names = self._words.names
        self.known, self.classes = self._words.known, self._words.classes
        self.scores: Scores = np.zeros(len(self.names), np.float32)
        self.faults = 0
        self._smoothing = Smoothing(len(self.names), settings.smoothing_s)
        thresholds = self._words.thresholds(settings)
        kind = OneLabel if settings.mode == "one" else AnyLabel
        self._rule: Rule = kind(settings, self.names, self._smoothing.scores, thresholds)
        self._last: float | None = None

    @property
    def smoothed(self) -> Scores:
        """The smoothed scores of ``names``, float32; written in place by the next frame."""
        return self._smoothing.scores

    @property
    def label(self) -> str | None:
        """The active label, the best where there are several, ``unknown`` where there is none.

        None before the first decision.
        """
        return self._rule.label

    @property
    def active(self) -> tuple[str, ...]:
        """The active labels, best first; ``unknown`` is none of them."""
        return self._rule.active

    @property
    def score(self) -> float:
        """Smoothed score of ``label``, or of the best candidate when there is none."""
        return self._rule.score

    def update(self, scores: Scores, at: float) -> tuple[Decision, ...]:
        """The changes that the scores of a frame at ``at`` seconds bring about, in their order.

        ``scores`` has the shape of the model's labels, float32. Time that stands still or runs
        backwards counts as no time passed.
        """
        if scores.shape != self._shape:
            raise ValueError(f"expected scores of shape {self._shape}, met {scores.shape}")
        # The square of a sum of 1 tells in one step, and NaN is under nothing.
        with np.errstate(over="ignore"):  # what is so large is none either
            squares = scores.dot(scores)
        if not squares <= _MOST:
            sound = (scores >= _LEAST) & (scores <= _MOST)
            if not sound.all():
                self.faults += 1
                scores = np.where(sound, scores, np.float32(0))
        self.scores = self._words(scores)
        self._smoothing.update(self.scores, self._elapse(at))
        return self._rule.decide(at)

    def skip(self, at: float) -> None:
        """Take note of a frame at ``at`` that was not classified, as while the label is ``steady``.

        Scores and counts stay as they are: only time moves on, so that the next frame weighs as
        if none had been left out.
        """
        self._elapse(at)

    @property
    def steady(self) -> bool:
        """Whether the labels stand: more frames like the last would change nothing.

        The smoothed scores have come to rest, the last frames were close to them, and they are
        further from any change than that.
        """
        return self.label is not None and self._smoothing.rests(self._rule.slack())

    def retune(self, enter: float, exit_: float) -> None:
        """Go on with other thresholds; labels that have their own keep them.

        What is active stays while it is at its exit or over. Raises ValueError where they cross,
        and changes nothing.
        """
        settings = msgspec.structs.replace(self._settings, enter=enter, exit=exit_)
        self._rule.thresholds = self._words.thresholds(settings)

    def reset(self, at: float) -> None:
        """Forget what was seen, as when the camera was lost at ``at``: no stale label survives.

        What was active has ended by that, and cools down.
        """
        self._smoothing.reset()
        self._rule.reset(at)
        self._last = at

    def _elapse(self, at: float) -> float:
        """Seconds since the last frame, never negative."""
        if self._last is None:
            self._last = at
            self._rule.begin(at)
        elapsed_s, self._last = at - self._last, at
        if elapsed_s < 0:
            self._rule.set_back(elapsed_s, at)
            return 0.0
        return elapsed_s
