"""From a camera's frame to the model's input tensor, written in place.

The order is chosen for the least work: the region is cut out as a view, resized to the
model's size, and only that small picture is rotated, mirrored and turned to RGB.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.config import Camera as Settings
from device.errors import ModelError
from device.events import Tensor
from device.frames import Frame, PixelFormat

Image = NDArray[np.uint8]

# What the numbers of models in the field mean: the real values of pixel 0 and pixel 255.
# [-1, 1] is the MobileNet papers' and Keras' "tf" mode, the others are plain scalings.
_REAL_RANGES = ((-1.0, 1.0), (0.0, 1.0), (0.0, 255.0))
# Bilinear weighs 2 pixels a side: reduced further than this it skips some, and thin things
# flicker. Halving by averaging first is cheaper than INTER_AREA at an uneven ratio (1.4 ms
# against 0.15 ms for 480 to 224 on x86-64).
_MAX_BILINEAR = 2.5
_ROTATIONS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
_TO_RGB = {
    PixelFormat.BGR: cv2.COLOR_BGR2RGB,
    PixelFormat.GREY: cv2.COLOR_GRAY2RGB,
    PixelFormat.YUV420: cv2.COLOR_YUV2RGB_I420,
}
_TO_GREY = {
    PixelFormat.BGR: cv2.COLOR_BGR2GRAY,
    PixelFormat.RGB: cv2.COLOR_RGB2GRAY,
}


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    def of(self, image: Image) -> Image:
        """The part of ``image`` in this rectangle, as a view."""
        return image[self.top : self.top + self.height, self.left : self.left + self.width]

    def halved(self) -> "_Box":
        """The same rectangle on a plane of half the width and height."""
        return _Box(self.left // 2, self.top // 2, self.width // 2, self.height // 2)


class Preprocessor:
    """Writes frames into an input tensor; no picture is allocated after the first of a size.

    ``settings.region`` is [left, top, right, bottom] as shares of the picture as a viewer
    sees it, after ``rotate`` (clockwise) and then ``mirror``. Of the region, ``crop`` takes
    the central part that has the model's shape (``center``), all of it between black bars
    (``letterbox``), or all of it squeezed (``stretch``).
    """

    def __init__(self, tensor: Tensor, settings: Settings) -> None:
        """Prepare for an input of shape (1, height, width, channels), 3 channels or 1.

        Raises ModelError for an input of another shape or dtype.
        """
        name = tensor.name or "input"
        if len(tensor.shape) != 4 or tensor.shape[0] != 1 or tensor.shape[3] not in (1, 3):
            raise ModelError(
                name, f"takes shape {list(tensor.shape)}; expected [1, height, width, 3 or 1]"
            )
        if tensor.dtype not in ("uint8", "int8", "float32"):
            raise ModelError(name, f"takes {tensor.dtype}; expected uint8, int8 or float32")
        _, height, width, self._channels = tensor.shape
        if settings.rotate in (90, 270):
            height, width = width, height
        self._width, self._height = width, height  # of the picture before it is rotated
        self._settings = settings
        self._encoding = encoding(tensor)
        self._buffers: dict[tuple[object, ...], Image] = {}
        self._plan_for: tuple[int, int] | None = None
        self._source = self._target = _Box(0, 0, 0, 0)

    def __call__(self, frame: Frame, tensor: NDArray[Any]) -> None:
        """Write ``frame`` into ``tensor``, the input's own memory, shape as the model's."""
        if self._plan_for != (frame.width, frame.height):
            self._plan(frame.width, frame.height)
        picture, order = self._reduce(frame)
        if self._settings.rotate:
            sides = picture.shape[:2]
            if self._settings.rotate != 180:
                sides = sides[::-1]
            rotated = self._buffer("rotated", (*sides, *picture.shape[2:]))
            cv2.rotate(picture, _ROTATIONS[self._settings.rotate], dst=rotated)
            picture = rotated
        if self._settings.mirror:
            mirrored = self._buffer("mirrored", picture.shape)
            cv2.flip(picture, 1, dst=mirrored)
            picture = mirrored
        self._write(picture, order, tensor[0])

    def _plan(self, width: int, height: int) -> None:
        """Where in a frame of this size the model looks, and where on its input it goes."""
        region = _sensor_region(self._settings)
        left, top = round(region[0] * width), round(region[1] * height)
        across = max(1, round(region[2] * width) - left)
        down = max(1, round(region[3] * height) - top)
        left, top = min(left, width - across), min(top, height - down)
        target = _Box(0, 0, self._width, self._height)
        if self._settings.crop == "center":
            scale = min(across / self._width, down / self._height)
            inner_x = min(across, max(1, round(self._width * scale)))
            inner_y = min(down, max(1, round(self._height * scale)))
            left, top = left + (across - inner_x) // 2, top + (down - inner_y) // 2
            across, down = inner_x, inner_y
        elif self._settings.crop == "letterbox":
            scale = min(self._width / across, self._height / down)
            inner_x = max(1, round(across * scale))
            inner_y = max(1, round(down * scale))
            # Even offsets, so that a plane of half the size has the same bars.
            left_bar = (self._width - inner_x) // 4 * 2
            top_bar = (self._height - inner_y) // 4 * 2
            target = _Box(left_bar, top_bar, inner_x, inner_y)
        self._source, self._target = _Box(left, top, across, down), target
        self._plan_for = (width, height)
        self._buffers.clear()

    def _reduce(self, frame: Frame) -> tuple[Image, PixelFormat]:
        """The model's picture before rotation, and the order of its colours."""
        if frame.format is not PixelFormat.YUV420:
            small = self._buffer("small", (self._height, self._width, *frame.pixels.shape[2:]))
            self._resize(self._source.of(frame.pixels), self._target.of(small))
            return small, frame.format
        luma, *chroma = _planes(frame)
        if self._channels == 1:
            small = self._buffer("small", (self._height, self._width))
            self._resize(self._source.of(luma), self._target.of(small))
            return small, PixelFormat.GREY
        rgb = self._buffer("rgb", (self._height, self._width, 3))
        if any(side % 2 for side in (self._width, self._height, *_sides(self._target))):
            # Half planes of odd sides do not line up: turn the whole frame to RGB first.
            packed = frame.pixels[:, : frame.width]
            if frame.pixels.shape[1] != frame.width:
                packed = self._buffer("packed", (frame.height * 3 // 2, frame.width))
                for mine, theirs in zip(_split(packed), (luma, *chroma), strict=True):
                    np.copyto(mine, theirs)
            whole = self._buffer("whole", (frame.height, frame.width, 3))
            cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420, dst=whole)
            self._resize(self._source.of(whole), self._target.of(rgb))
            return rgb, PixelFormat.RGB
        # Each plane is resized by itself: half the bytes of a frame turned to RGB first.
        small = self._buffer("small", (self._height * 3 // 2, self._width))
        if self._target.width < self._width or self._target.height < self._height:
            small[: self._height], small[self._height :] = 16, 128  # black
        parts = _split(small)
        self._resize(self._source.of(luma), self._target.of(parts[0]))
        for plane, part in zip(chroma, parts[1:], strict=True):
            self._resize(self._source.halved().of(plane), self._target.halved().of(part))
        cv2.cvtColor(small, _TO_RGB[frame.format], dst=rgb)
        return rgb, PixelFormat.RGB

    def _resize(self, source: Image, target: Image) -> None:
        """Fill ``target`` with ``source``, averaging over the pixels that it leaves out."""
        height, width = target.shape[:2]
        for step in range(16):
            halve_x = source.shape[1] > _MAX_BILINEAR * width
            halve_y = source.shape[0] > _MAX_BILINEAR * height
            if not (halve_x or halve_y):
                break
            across = source.shape[1] // 2 if halve_x else source.shape[1]
            down = source.shape[0] // 2 if halve_y else source.shape[0]
            buffer = self._buffer(f"half {step}", (down, across, *source.shape[2:]))
            # An odd last row or column is left out: only a whole ratio has the fast way.
            even = source[: 2 * down if halve_y else down, : 2 * across if halve_x else across]
            cv2.resize(even, (across, down), dst=buffer, interpolation=cv2.INTER_AREA)
            source = buffer
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)

    def _write(self, picture: Image, order: PixelFormat, out: NDArray[Any]) -> None:
        """Colours and number format of the model."""
        if out.dtype == np.float32:
            pixels = self._buffer("pixels", out.shape)
        else:
            pixels = out.view(np.uint8)
        code = (_TO_GREY if self._channels == 1 else _TO_RGB).get(order)
        if code is None:
            np.copyto(pixels, picture.reshape(pixels.shape))
        else:
            cv2.cvtColor(picture, code, dst=pixels)
        if self._encoding is not None:
            cv2.LUT(pixels, self._encoding, dst=out if out.dtype == np.float32 else pixels)
        elif out.dtype == np.int8:
            # The pixel less 128: flipping the top bit is the same number in two's complement.
            np.bitwise_xor(pixels, 0x80, out=pixels)

    def _buffer(self, role: str, shape: tuple[int, ...]) -> Image:
        buffer = self._buffers.get((role, shape))
        if buffer is None:
            buffer = self._buffers[role, shape] = np.zeros(shape, np.uint8)
        return buffer


def encoding(tensor: Tensor) -> NDArray[Any] | None:
    """The 256 numbers that stand for pixels 0 to 255 in a model's input.

    None where a pixel goes in as it is (uint8), or less 128 (int8), to within one step.
    A float32 input gets [-1, 1]. A quantized input that spans, to a tenth, one of the
    ranges that models are trained on gets that range by its own scale and zero point;
    one that spans another (the mean and deviation of a data set) gets all of its span.
    """
    pixels = np.arange(256, dtype=np.float64)
    if tensor.dtype == "float32":
        return (pixels / 127.5 - 1.0).astype(np.float32)
    limits = np.iinfo(tensor.dtype)
    if tensor.scale == 0:
        return None
    low = tensor.scale * (limits.min - tensor.zero_point)
    high = tensor.scale * (limits.max - tensor.zero_point)
    for black, white in _REAL_RANGES:
        if max(abs(low - black), abs(high - white)) <= 0.1 * (white - black):
            real = black + pixels / 255 * (white - black)
            codes = np.rint(real / tensor.scale + tensor.zero_point)
            codes = np.clip(codes, limits.min, limits.max)
            if np.abs(codes - (pixels + limits.min)).max() <= 1:
                return None
            # OpenCV looks up bytes: an int8 is the byte of the same bits.
            table: Image = codes.astype(tensor.dtype).view(np.uint8)
            return table
    return None


def _sensor_region(settings: Settings) -> tuple[float, float, float, float]:
    """The region in the sensor's own picture, before ``rotate`` and ``mirror``."""
    left, top, right, bottom = settings.region
    if settings.mirror:
        left, right = 1 - right, 1 - left
    # A clockwise quarter turn takes (x, y) to (1 - y, x); these are its inverses.
    match settings.rotate:
        case 90:
            return top, 1 - right, bottom, 1 - left
        case 180:
            return 1 - right, 1 - bottom, 1 - left, 1 - top
        case 270:
            return 1 - bottom, left, 1 - top, right
    return left, top, right, bottom


def _planes(frame: Frame) -> tuple[Image, Image, Image]:
    """Y, U and V of a YUV420 frame as views without the row padding."""
    luma, first, second = _split(frame.pixels)
    half = frame.width // 2
    return luma[:, : frame.width], first[:, :half], second[:, :half]


def _split(i420: Image) -> tuple[Image, Image, Image]:
    """Y, U and V of an I420 array (height * 3 / 2, stride) as 2-D views on its memory."""
    rows, stride = i420.shape
    height = rows * 2 // 3
    flat = i420.reshape(-1)
    size, quarter = height * stride, height * stride // 4
    half = (height // 2, stride // 2)
    return (
        i420[:height],
        flat[size : size + quarter].reshape(half),
        flat[size + quarter : size + 2 * quarter].reshape(half),
    )


def _sides(box: _Box) -> tuple[int, int]:
    return box.width, box.height
