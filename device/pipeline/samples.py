"""Frames that are kept to learn from: the one that was asked for, and those that were in doubt."""

import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

import numpy as np

from device.frames import Frame
from device.pipeline.classifier import Classifier, Scores

# Two labels as close as this are a doubt, and so is one that was held as briefly.
_CLOSE = 0.2
_BRIEF_S = 2.0
# A scene that stays in doubt would fill the ring with one picture.
_DOUBT_EVERY_S = 30.0


class Sample(NamedTuple):
    """A frame of which somebody wants to learn, and its features, float32 (features,)."""

    features: Scores
    frame: Frame


class Samples:
    """What one channel hands out to be learned from. For the node's thread, save ``request``."""

    def __init__(self) -> None:
        self._requested: Future[Sample] | None = None
        self._doubt: Sample | None = None
        self._doubt_due = -math.inf

    @property
    def requested(self) -> bool:
        """Whether somebody waits for the next frame."""
        return self._requested is not None

    def request(self) -> "Future[Sample]":
        """Have the next frame handed out, for any thread."""
        sample: Future[Sample] = Future()
        self._requested = sample
        return sample

    def hand_out(self, classifier: Classifier, frame: Frame) -> None:
        """Give the frame that was just classified to whoever asked for one."""
        sample, self._requested = self._requested, None
        if sample is not None:
            sample.set_result(Sample(classifier.features(), frame))

    def look_for_doubt(
        self, classifier: Classifier, scores: Scores, held_s: Sequence[float], frame: Frame
    ) -> None:
        """Keep a frame where two labels are close, or where one ended, ``held_s`` long."""
        if frame.captured_at < self._doubt_due or not classifier.can_be_taught:
            return
        best = np.sort(scores)[-2:]
        is_close = float(best[-1] - best[0]) < _CLOSE
        if is_close or any(held < _BRIEF_S for held in held_s):
            self._doubt_due = frame.captured_at + _DOUBT_EVERY_S
            self._doubt = Sample(classifier.features(), frame)

    def take_doubt(self) -> Sample | None:
        """A frame that was in doubt since the last call, to be named by somebody."""
        doubt, self._doubt = self._doubt, None
        return doubt
