"""What moves in a camera's picture: its light, its noise and what always sways are left out.

The picture is reduced to the brightness of 30 x 40 blocks. Each block has a running background
and a running variance, so that noise, rain and leaves raise the limit where they are. What the
light does to all blocks alike, a gain and an offset, is found by regression over those that do not
move, and taken out. Nothing is to be set.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from device.frames import Blocks, Frame, PixelFormat, Pixels

ROWS, COLUMNS = 30, 40

# A rectangle as shares of the picture: left, top, right, bottom.
Area = tuple[float, float, float, float]
_Values = NDArray[np.float32]

# The rows that are read, about: half of 640x480 tell as much.
_READ_ROWS = 8 * ROWS
# What is of another size is brought to a whole multiple of the blocks first: INTER_AREA at an
# uneven ratio takes ten times as long.
_EVEN = (8 * COLUMNS, _READ_ROWS)
_TO_GREY = {PixelFormat.BGR: cv2.COLOR_BGR2GRAY, PixelFormat.RGB: cv2.COLOR_RGB2GRAY}
# So many frames make the background.
_MEMORY = 50
# A block has moved when it is so many standard deviations off its background.
_DEVIATIONS = 5.0
# A variance takes many frames to be another.
_LIMIT_EVERY = 4
# Three grey values are always noise, and a hundred never.
_VARIANCE_MIN, _VARIANCE_MAX = 0.36, 400.0
# What has moved becomes background and noise more slowly: a car that is parked, leaves.
_MOVED_LEARN, _MOVED_VARIANCE = 0.2, 0.02
# No gain and offset are as good as a lens, a gamma and a clipped highlight: what a change of
# light leaves over is no motion.
_LIGHT_ERROR = 0.25
# The light has changed when it leaves at most so much of the difference, squared.
_EXPLAINED = 0.5
# So many grey values from one frame to the next are a step of the light.
_LIGHT_STEP = 2.0
_GAIN_MIN, _GAIN_MAX = 0.4, 2.5
# More than this, and it is another view: the camera was turned, its filter was switched.
_VIEW = 0.5
# Of a region's blocks so many have to move; 2 % of it are five times that.
_SHARE = 0.004
# From so many on, 2 % are nine blocks, and a block that moves alone is a drop of rain.
_LARGE = 450


class Motion:
    """What moved in one frame.

    ``blocks``, bool (30, 40), are those that did, in the sensor's own picture; ``level`` is the
    mean brightness of the picture, 0 to 255, and ``flicker`` how much that differs from frame to
    frame, lately.
    """

    __slots__ = ("blocks", "flicker", "level")

    def __init__(self, blocks: Blocks, level: float, flicker: float) -> None:
        self.blocks = blocks
        self.level = level
        self.flicker = flicker

    def within(self, area: Area) -> bool:
        """Whether something moved there."""
        left, top, right, bottom = area
        rows = slice(int(top * ROWS), math.ceil(bottom * ROWS))
        columns = slice(int(left * COLUMNS), math.ceil(right * COLUMNS))
        part = self.blocks[rows, columns]
        needed = max(1, round(_SHARE * part.size))
        if np.count_nonzero(part) < needed:
            return False
        if part.size < _LARGE:
            return True
        together = cv2.medianBlur(np.ascontiguousarray(part).view(np.uint8), 3)
        return np.count_nonzero(together) >= needed


class MotionDetector:
    """Compares each frame of one camera with those before it; pure: no clock."""

    def __init__(self) -> None:
        self._frame: Frame | None = None
        self._motion = Motion(np.ones((ROWS, COLUMNS), np.bool_), 0.0, 0.0)
        self._kind: object = None
        self._plane: Pixels = np.zeros((0, 0), np.uint8)
        self._even: Pixels = np.zeros(_EVEN[::-1], np.uint8)
        self._small: Pixels = np.zeros((ROWS, COLUMNS), np.uint8)
        size = ROWS * COLUMNS
        # All is written in place: the processor's caches are empty after an inference.
        self._seen: _Values = np.zeros(size, np.float32)
        self._background: _Values = np.zeros(size, np.float32)
        self._change: _Values = np.zeros(size, np.float32)
        self._variance: _Values = np.ones(size, np.float32)
        self._expected: _Values = np.zeros(size, np.float32)
        self._off: _Values = np.zeros(size, np.float32)
        self._limit: _Values = np.full(size, _DEVIATIONS, np.float32)
        self._scratch: _Values = np.zeros(size, np.float32)
        self._rate: _Values = np.zeros(size, np.float32)
        self._still = np.ones(size, np.bool_)
        self._moved = np.ones(size, np.bool_)
        self._count = 0
        self._level = 0.0
        self._flicker = 0.0
        self._light = 0.0

    def update(self, frame: Frame) -> Motion:
        """What moved since the frames before; of a frame that it has seen, the same again."""
        if frame is not self._frame:
            self._frame = frame
            self._reduce(frame)
            self._motion = self._compare(frame)
        return self._motion

    def _reduce(self, frame: Frame) -> None:
        """The brightness of each block, into ``_seen``."""
        step = max(1, frame.height // _READ_ROWS)
        rows = frame.pixels[: frame.height : step, : frame.width]
        if code := _TO_GREY.get(frame.format):
            if self._plane.shape != rows.shape[:2]:
                self._plane = np.zeros(rows.shape[:2], np.uint8)
            cv2.cvtColor(rows, code, self._plane)
            rows = self._plane
        if rows.shape[0] % ROWS or rows.shape[1] % COLUMNS:
            cv2.resize(rows, _EVEN, self._even)
            rows = self._even
        cv2.resize(rows, (COLUMNS, ROWS), self._small, 0, 0, cv2.INTER_AREA)
        np.copyto(self._seen, self._small.reshape(-1))

    def _compare(self, frame: Frame) -> Motion:
        level = float(self._seen.sum()) / self._seen.size
        kind = (frame.width, frame.height, frame.format)
        if kind != self._kind:
            self._kind = kind
            self._level, self._flicker = level, 0.0
            self._begin()
            return self._told(level)
        self._flicker += (abs(level - self._level) - self._flicker) / _MEMORY
        self._level = level
        self._find()
        if np.count_nonzero(self._moved) > _VIEW * self._moved.size:
            self._begin()
        else:
            self._learn()
        return self._told(level)

    def _told(self, level: float) -> Motion:
        return Motion(self._moved.reshape(ROWS, COLUMNS).copy(), level, self._flicker)

    def _begin(self) -> None:
        """Take what is seen for the background; everything has moved."""
        np.copyto(self._background, self._seen)
        self._count = 1
        self._moved.fill(True)
        self._still.fill(True)

    def _find(self) -> None:
        """Which blocks are off what the background would be in this light."""
        np.subtract(self._seen, self._background, out=self._change)
        self._fit()
        if self._light and self._moved.any():
            # What moved has bent the line: once more without it.
            np.logical_not(self._moved, out=self._still)
            self._fit()
        np.logical_not(self._moved, out=self._still)

    def _fit(self) -> None:
        """Fit gain and offset over ``_still``; ``_off`` and ``_moved`` are what they leave."""
        background, change, scratch = self._background, self._change, self._scratch
        number = max(1, np.count_nonzero(self._still))
        np.multiply(background, self._still, out=scratch)
        mean, spread = float(scratch.sum()) / number, float(scratch @ background) / number
        shared = float(scratch @ change) / number
        np.multiply(change, self._still, out=scratch)
        mean_change, total = float(scratch.sum()) / number, float(scratch @ change) / number
        spread -= mean * mean
        shared -= mean * mean_change
        # Of a picture without contrast no gain can be told.
        gain = shared / spread if spread > 1 else 0.0
        gain = min(max(gain, _GAIN_MIN - 1), _GAIN_MAX - 1)
        left = total - mean_change * mean_change - 2 * gain * shared + gain * gain * spread
        if left > _EXPLAINED * total:
            # Noise, or another picture: the light has nothing to do with it.
            self._light = 0.0
            np.copyto(self._expected, background)
            np.copyto(self._off, change)
            np.abs(change, out=scratch)
            np.greater(scratch, self._limit, out=self._moved)
            return
        np.multiply(background, 1 + gain, out=self._expected)
        self._expected += mean_change - gain * mean
        np.clip(self._expected, 0, 255, out=self._expected)
        # A highlight that is clipped ends up on the way from the one to the other.
        np.minimum(self._expected, background, out=self._off)
        np.maximum(self._expected, background, out=scratch)
        np.clip(self._seen, self._off, scratch, out=self._rate)
        scratch -= self._off
        self._light = float(scratch.mean())
        scratch *= _LIGHT_ERROR
        scratch += self._limit
        np.subtract(self._seen, self._rate, out=self._off)
        np.abs(self._off, out=self._rate)
        np.greater(self._rate, scratch, out=self._moved)

    def _learn(self) -> None:
        """Have background and variance follow."""
        self._count += 1
        rate = 1 / min(self._count, _MEMORY)
        if self._light > _LIGHT_STEP:
            # What such a fit leaves over would look as if it had moved from now on.
            np.copyto(self._background, self._seen)
        else:
            np.multiply(self._still, rate * (1 - _MOVED_LEARN), out=self._rate)
            self._rate += rate * _MOVED_LEARN
            np.subtract(self._seen, self._expected, out=self._scratch)
            self._scratch *= self._rate
            np.add(self._expected, self._scratch, out=self._background)
        self._off *= self._off
        self._off -= self._variance
        np.multiply(self._still, rate * (1 - _MOVED_VARIANCE), out=self._rate)
        self._rate += rate * _MOVED_VARIANCE
        self._off *= self._rate
        self._variance += self._off
        if not self._count % _LIMIT_EVERY:
            np.clip(self._variance, _VARIANCE_MIN, _VARIANCE_MAX, out=self._variance)
            np.sqrt(self._variance, out=self._limit)
            self._limit *= _DEVIATIONS
