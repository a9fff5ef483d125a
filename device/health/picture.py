"""What is wrong with a camera's picture, as far as pixels tell: frozen, dark, covered, moved …

A frame a second is looked at, reduced to a small grey one, so that it costs well under a
hundredth of the time between two frames. Each trouble has to last before it is told, and to be
gone as long before it is no more. What counts as sharp, and as the usual view, is learnt from
the camera itself.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from device.events import PictureTrouble
from device.frames import Frame, PixelFormat, Pixels

PERIOD_S = 1.0

_WIDTH, _HEIGHT = 160, 120
# Looked at for so long before it is told, and before it is taken back.
_ON_S, _OFF_S = 5.0, 5.0
# A still scene may come out of a video codec to the bit the same for a few seconds.
_FROZEN_S = 30.0
_BLACK_MEAN, _BLACK_DEVIATION = 16.0, 8.0
_WHITE, _WHITE_SHARE = 250, 0.6
# Nothing to see, though there is light: less than this between the grey values.
_PLAIN_DEVIATION = 6.0
# Sharpness against its own history: told under the first, taken back over the second.
_BLURRED, _SHARP = 0.25, 0.5
# The history follows slowly, and hardly at all while the picture is blurred.
_LEARN_S, _LEARN_BLURRED_S = 300.0, 7200.0
_LEARNT_AFTER_S = 20.0
# A shift of the whole view, as a share of its width, seen with this certainty.
_MOVED, _UNMOVED, _CERTAIN = 0.03, 0.015, 0.15
# A view that stays so long is the usual one.
_ACCEPT_S = 600.0
_VIEW_S = 60.0

_FORMAT_TO_GREY = {PixelFormat.BGR: cv2.COLOR_BGR2GRAY, PixelFormat.RGB: cv2.COLOR_RGB2GRAY}


class PictureHealth:
    """Looks at one camera's frames; ``troubles`` is what is wrong now, in a fixed order."""

    def __init__(self) -> None:
        self._due = -math.inf
        self._at: float | None = None
        self._begun_at = 0.0
        # Of the last picture that was looked at: mean grey, and edges by contrast.
        self.brightness: float | None = None
        self.sharpness: float | None = None
        self._last: Pixels | None = None
        self._same_since = 0.0
        self._sharpness: float | None = None
        self._view: NDArray[np.float32] | None = None
        self._moved_since: float | None = None
        self._window = cv2.createHanningWindow((_WIDTH, _HEIGHT), cv2.CV_32F)
        self._latches: dict[PictureTrouble, _Latch] = {
            "frozen": _Latch(0.0, 0.0),
            "black": _Latch(),
            "overexposed": _Latch(),
            "covered": _Latch(),
            "blurred": _Latch(),
            "moved": _Latch(),
        }

    @property
    def troubles(self) -> tuple[PictureTrouble, ...]:
        """What is wrong with the picture."""
        return tuple(name for name, latch in self._latches.items() if latch.on)

    def update(self, frame: Frame) -> bool:
        """Look at the frame, if one is due; whether ``troubles`` has changed."""
        at = frame.captured_at
        if self._at is not None and at < self._at:
            self._due = at  # time ran backwards
        if at < self._due:
            return False
        if self._at is None:
            self._begun_at = at
        passed_s = 0.0 if self._at is None else max(0.0, at - self._at)
        self._at, self._due = at, at + PERIOD_S
        before = self.troubles
        self._look(_small_grey(frame), at, passed_s)
        return self.troubles != before

    def reset(self) -> None:
        """Begin anew, as when the camera was away; what was learnt of its view stays."""
        self._last = None
        self.brightness = self.sharpness = None
        self._at = None
        self._due = -math.inf
        for latch in self._latches.values():
            latch.clear()

    def _look(self, grey: Pixels, at: float, passed_s: float) -> None:
        latches = self._latches
        latches["frozen"].update(self._is_frozen(grey, at), at)
        mean, deviation = (float(value[0][0]) for value in cv2.meanStdDev(grey))
        self.brightness, self.sharpness = mean, None
        black = mean < _BLACK_MEAN and deviation < _BLACK_DEVIATION
        white = float((grey >= _WHITE).mean()) > _WHITE_SHARE
        latches["black"].update(black, at)
        latches["overexposed"].update(white, at)
        plain = deviation < _PLAIN_DEVIATION
        latches["covered"].update(plain and not black and not white, at)
        # Of a picture without contrast neither sharpness nor a shift can be told.
        if not (plain or black or white):
            self._look_at_sharpness(grey, deviation, at, passed_s)
            self._look_at_view(grey, at, passed_s)

    def _is_frozen(self, grey: Pixels, at: float) -> bool:
        if self._last is None or not np.array_equal(grey, self._last):
            self._last, self._same_since = grey, at
        return at - self._same_since >= _FROZEN_S

    def _look_at_sharpness(
        self, grey: Pixels, deviation: float, at: float, passed_s: float
    ) -> None:
        # The variance of the Laplacian, against that of the picture: less light is less of
        # both, and no blur.
        edges = float(cv2.Laplacian(grey, cv2.CV_16S).var()) / deviation**2
        self.sharpness = edges
        if self._sharpness is None:
            self._sharpness = edges
        latch = self._latches["blurred"]
        share = edges / max(self._sharpness, 1e-6)
        learnt = at - self._begun_at >= _LEARNT_AFTER_S
        limit = _SHARP if latch.on else _BLURRED
        latch.update(learnt and share < limit, at)
        learn_s = _LEARN_BLURRED_S if share < _SHARP else _LEARN_S
        if not learnt:
            learn_s = _LEARNT_AFTER_S / 4
        self._sharpness += (edges - self._sharpness) * -math.expm1(-passed_s / learn_s)

    def _look_at_view(self, grey: Pixels, at: float, passed_s: float) -> None:
        picture = grey.astype(np.float32)
        if self._view is None:
            self._view = picture
            return
        (x, y), certainty = cv2.phaseCorrelate(self._view, picture, self._window)
        shift = math.hypot(x, y) / _WIDTH
        latch = self._latches["moved"]
        learnt = at - self._begun_at >= _LEARNT_AFTER_S
        limit = _UNMOVED if latch.on else _MOVED
        moved = learnt and certainty > _CERTAIN and shift > limit
        latch.update(moved, at)
        if not moved:
            self._moved_since = None
            self._view += (picture - self._view) * np.float32(-math.expm1(-passed_s / _VIEW_S))
        elif self._moved_since is None:
            self._moved_since = at
        elif at - self._moved_since > _ACCEPT_S:
            self._view, self._moved_since = picture, None


class _Latch:
    """On after ``on_s`` of it without a break, off after ``off_s`` without."""

    def __init__(self, on_s: float = _ON_S, off_s: float = _OFF_S) -> None:
        self.on = False
        self._on_s = on_s
        self._off_s = off_s
        self._since: float | None = None

    def update(self, seen: bool, at: float) -> None:
        if seen == self.on:
            self._since = None
            return
        if self._since is None or at < self._since:
            self._since = at
        if at - self._since >= (self._on_s if seen else self._off_s):
            self.on, self._since = seen, None

    def clear(self) -> None:
        self.on, self._since = False, None


def _small_grey(frame: Frame) -> Pixels:
    """The frame in grey, _WIDTH by _HEIGHT, averaged over what is left out."""
    pixels = frame.pixels
    if frame.format is PixelFormat.YUV420:
        pixels = pixels[: frame.height, : frame.width]
    # To a small multiple first by leaving pixels out: averaging all of them costs as much as
    # the classifier's own reduction.
    step = max(1, min(frame.width // (2 * _WIDTH), frame.height // (2 * _HEIGHT)))
    pixels = pixels[::step, ::step]
    if code := _FORMAT_TO_GREY.get(frame.format):
        pixels = np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), code), np.uint8)
    small = cv2.resize(
        np.ascontiguousarray(pixels), (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small, np.uint8)
