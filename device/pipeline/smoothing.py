"""Scores smoothed by an exponential moving average in seconds; and whether they stand still."""

import math

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]

# Scores are in doubt where they are nearer to a change than ``_SLACK``, where a frame's own are
# further than ``_BAND`` from the smoothed ones, or where those still move: they differ by more than
# ``_REST`` from what they were a smoothing time ago. What is far from a change may have the given
# shares of that way instead.
_SLACK = 0.05
_BAND, _BAND_SHARE = 0.1, 0.5
_REST, _REST_SHARE = 0.02, 0.125
# What is left of a deviation with the next frame.
_FADE = 0.8


class Smoothing:
    """``scores``, float32 (words,), are smoothed, and all 0 before the first frame."""

    def __init__(self, size: int, smoothing_s: float) -> None:
        self._smoothing_s = smoothing_s
        # Everything per word is allocated here and written in place for every frame.
        self.scores: Scores = np.zeros(size, np.float32)
        self._scratch: Scores = np.zeros(size, np.float32)
        # The smoothed scores, smoothed once more: those of a while ago.
        self._before: Scores = np.zeros(size, np.float32)
        self._deviation = 1.0
        self._fresh = True

    def update(self, scores: Scores, elapsed_s: float) -> None:
        """Take the scores of a frame, ``elapsed_s`` after the one before."""
        if self._fresh:
            np.copyto(self.scores, scores)
            np.copyto(self._before, scores)
            self._fresh = False
            return
        np.subtract(scores, self.scores, out=self._scratch)
        deviation = float(max(self._scratch.max(), -self._scratch.min()))
        self._deviation = max(deviation, _FADE * self._deviation)
        alpha = -math.expm1(-elapsed_s / self._smoothing_s) if self._smoothing_s else 1.0
        self._scratch *= np.float32(alpha)
        self.scores += self._scratch
        np.subtract(self.scores, self._before, out=self._scratch)
        self._scratch *= np.float32(alpha)
        self._before += self._scratch

    def rests(self, slack: float) -> bool:
        """Whether scores that may move by ``slack`` before anything changes will not do so."""
        if slack < _SLACK or self._deviation > max(_BAND, _BAND_SHARE * slack):
            return False
        np.subtract(self.scores, self._before, out=self._scratch)
        np.abs(self._scratch, out=self._scratch)
        return float(self._scratch.max()) <= max(_REST, _REST_SHARE * slack)

    def reset(self) -> None:
        """Forget every frame."""
        self._fresh = True
        self._deviation = 1.0
        self.scores.fill(0)
