"""From a camera's frame to the model's input tensor, written in place.

The order is chosen for the least work: the region is cut out as a view, resized to the
model's size, and only that small picture is rotated, mirrored and turned to RGB.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
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
}
_TO_GREY = {
    PixelFormat.BGR: cv2.COLOR_BGR2GRAY,
    PixelFormat.RGB: cv2.COLOR_RGB2GRAY,
}


# One cv2.resize(picture[part], *arguments), which writes into ``result``: both as
# (part, arguments, result).
_Resize = tuple[tuple[slice, slice], tuple[Any, ...], Image]
# One call of OpenCV, function(picture, argument, result).
_Turn = tuple[Callable[..., Any], Any, Image]


@dataclass(frozen=True, slots=True)
class _Box:
    """A rectangle in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an image with."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

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
        self._dtype = tensor.dtype
        self._encoding = encoding(tensor)
        # Floats are looked up from here; an 8-bit input holds the pixels itself.
        self._pixels = np.zeros(tensor.shape[1:], np.uint8)
        self._plan: _Plan | None = None
        # Asked for each frame, and all of one size.
        self.area = lru_cache(1)(self._area)

    def __call__(self, frame: Frame, tensor: NDArray[Any]) -> None:
        """Write ``frame`` into ``tensor``, the input's own memory, shape as the model's."""
        plan = self._plan
        if plan is None or plan.kind != _kind(frame):
            plan = self._plan = self._make_plan(frame)
        for plane, resizes in zip(plan.planes(frame), plan.reductions, strict=True):
            picture = plane
            for part, arguments, result in resizes:
                cv2.resize(picture[part], *arguments)
                picture = result
        picture = plan.reduced
        for function, argument, result in plan.turns:
            function(picture, argument, result)
            picture = result
        self._write(picture, plan.colours, tensor[0])

    @property
    def picture(self) -> Frame:
        """The last frame as the model has seen it: upright and in its size.

        Memory of this object, and none of the tensor's, that the next frame is written into.
        """
        assert self._plan, "there was no frame"
        return self._plan.picture

    def _area(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is taken of a frame of this size: left, top, right, bottom as shares of it."""
        box, _ = self._boxes(width, height)
        right, bottom = box.left + box.width, box.top + box.height
        return box.left / width, box.top / height, right / width, bottom / height

    def _write(self, picture: Image, colours: int | None, out: NDArray[Any]) -> None:
        """Colours and number format of the model."""
        if self._dtype == "float32":
            pixels = self._pixels
        else:
            pixels = out if self._dtype == "uint8" else out.view(np.uint8)
        if colours is None:
            np.copyto(pixels, picture.reshape(pixels.shape))
        else:
            cv2.cvtColor(picture, colours, pixels)
        if self._encoding is not None:
            cv2.LUT(pixels, self._encoding, out if self._dtype == "float32" else pixels)
        elif self._dtype == "int8":
            # The pixel less 128: flipping the top bit is the same number in two's complement.
            np.bitwise_xor(pixels, 0x80, out=pixels)

    def _make_plan(self, frame: Frame) -> "_Plan":
        source, target = self._boxes(frame.width, frame.height)
        sides = self._height, self._width
        turns: list[_Turn] = []
        planes: Callable[[Frame], Sequence[Image]] = _only_plane
        order, reduced = frame.format, np.zeros((*sides, *frame.pixels.shape[2:]), np.uint8)
        if order is PixelFormat.YUV420 and self._channels == 1:
            planes, order = _luma, PixelFormat.GREY
        elif order is PixelFormat.YUV420:
            odd = any(side % 2 for side in (*sides, target.width, target.height))
            planes, order = _WholeRgb(frame) if odd else _planes, PixelFormat.RGB
            reduced = np.zeros((*sides, 3), np.uint8)
        picture: Image = reduced
        if planes is _planes:
            # Each plane is resized by itself: half the bytes of a frame turned to RGB first.
            reduced = np.zeros((self._height * 3 // 2, self._width), np.uint8)
            reduced[: self._height], reduced[self._height :] = 16, 128  # black
            luma, *chroma = _split(reduced)
            half = target.halved().slices
            reductions = [_reduction(source, luma[target.slices])]
            reductions += [_reduction(source.halved(), plane[half]) for plane in chroma]
            turns.append((cv2.cvtColor, cv2.COLOR_YUV2RGB_I420, picture))
        else:
            reductions = [_reduction(source, reduced[target.slices])]
        if self._settings.rotate:
            turned = picture if self._settings.rotate == 180 else picture.swapaxes(0, 1)
            picture = np.zeros(turned.shape, np.uint8)
            turns.append((cv2.rotate, _ROTATIONS[self._settings.rotate], picture))
        if self._settings.mirror:
            picture = np.zeros(picture.shape, np.uint8)
            turns.append((cv2.flip, 1, picture))
        colours = (_TO_GREY if self._channels == 1 else _TO_RGB).get(order)
        seen = Frame(picture, order, picture.shape[1], picture.shape[0], 0, 0.0)
        return _Plan(_kind(frame), planes, reductions, reduced, turns, colours, seen)

    def _boxes(self, width: int, height: int) -> tuple[_Box, _Box]:
        """Where in a frame of this size the model looks, and where on its input that goes."""
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
        return _Box(left, top, across, down), target


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done to every frame of one kind, decided once.

    An inference leaves nothing of this in the processor's caches, and each line of Python
    then costs ten times what it does in a loop; so a frame only walks down these lists.
    """

    kind: tuple[object, ...]
    planes: Callable[[Frame], Sequence[Image]]
    reductions: Sequence[Sequence[_Resize]]  # one for each plane
    reduced: Image  # what they fill
    turns: Sequence[_Turn]
    colours: int | None  # the conversion to the model's, None where it has them already
    picture: Frame  # what the last of them fills


def _kind(frame: Frame) -> tuple[object, ...]:
    return frame.width, frame.height, frame.format, frame.pixels.shape


def _reduction(source: _Box, target: Image) -> Sequence[_Resize]:
    """The resizes that fill ``target`` with ``source``, averaging over what is left out."""
    resizes: list[_Resize] = []
    height, width, *channels = target.shape
    across, down = source.width, source.height
    while across > _MAX_BILINEAR * width or down > _MAX_BILINEAR * height:
        # An odd last row or column is left out: only a whole ratio has the fast way.
        if across > _MAX_BILINEAR * width:
            across, even_x = across // 2, across // 2 * 2
        else:
            even_x = across
        if down > _MAX_BILINEAR * height:
            down, even_y = down // 2, down // 2 * 2
        else:
            even_y = down
        buffer: Image = np.zeros((down, across, *channels), np.uint8)
        taken = _Box(source.left, source.top, even_x, even_y)
        arguments = ((across, down), buffer, 0, 0, cv2.INTER_AREA)
        resizes.append((taken.slices, arguments, buffer))
        source = _Box(0, 0, across, down)
    resizes.append((source.slices, ((width, height), target), target))
    return resizes


def encoding(tensor: Tensor) -> NDArray[Any] | None:
    """The 256 numbers that stand for pixels 0 to 255 in a model's input.

    None where a pixel goes in as it is (uint8), or less 128 (int8), to within one step.
    A float32 input gets [-1, 1], unless the graph quantizes it to uint8 first thing: then
    ``scale`` and ``zero_point`` are of that, and tell its range. A quantized input that
    spans, to a tenth, one of the ranges that models are trained on gets that range by its
    own scale and zero point; one that spans another (the mean and deviation of a data set)
    gets all of its span.
    """
    pixels = np.arange(256, dtype=np.float64)
    is_float = tensor.dtype == "float32"
    limits = np.iinfo("uint8" if is_float else tensor.dtype)
    if tensor.scale == 0:
        return (pixels / 127.5 - 1.0).astype(np.float32) if is_float else None
    low = tensor.scale * (limits.min - tensor.zero_point)
    high = tensor.scale * (limits.max - tensor.zero_point)
    for black, white in _REAL_RANGES:
        if max(abs(low - black), abs(high - white)) <= 0.1 * (white - black):
            real = black + pixels / 255 * (white - black)
            if is_float:
                return real.astype(np.float32)
            codes = np.rint(real / tensor.scale + tensor.zero_point)
            codes = np.clip(codes, limits.min, limits.max)
            if np.abs(codes - (pixels + limits.min)).max() <= 1:
                return None
            # OpenCV looks up bytes: an int8 is the byte of the same bits.
            table: Image = codes.astype(tensor.dtype).view(np.uint8)
            return table
    return (low + pixels / 255 * (high - low)).astype(np.float32) if is_float else None


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


def _only_plane(frame: Frame) -> tuple[Image]:
    return (frame.pixels,)


def _luma(frame: Frame) -> tuple[Image]:
    """Y of a YUV420 frame as a view without the row padding."""
    return (_planes(frame)[0],)


class _WholeRgb:
    """YUV420 frames of one size turned to RGB as a whole."""

    def __init__(self, frame: Frame) -> None:
        self._packed: Image = np.zeros((frame.height * 3 // 2, frame.width), np.uint8)
        self._rgb: Image = np.zeros((frame.height, frame.width, 3), np.uint8)

    def __call__(self, frame: Frame) -> tuple[Image]:
        packed = frame.pixels
        if packed.shape != self._packed.shape:
            packed = self._packed
            for mine, theirs in zip(_split(packed), _planes(frame), strict=True):
                np.copyto(mine, theirs)
        cv2.cvtColor(packed, cv2.COLOR_YUV2RGB_I420, self._rgb)
        return (self._rgb,)


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
