"""A frame as a person should see it: upright, in colour, no larger than it is shown."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from device.config.values import Box
from device.frames import Frame, PixelFormat

Image = NDArray[np.uint8]

_TO_BGR = {
    PixelFormat.RGB: cv2.COLOR_RGB2BGR,
    PixelFormat.GREY: cv2.COLOR_GRAY2BGR,
    PixelFormat.YUV420: cv2.COLOR_YUV2BGR_I420,
}
ROTATIONS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}
PHOTO_QUALITY = 85
# What is blurred keeps so many cells along its longer side. People tell faces they know from 7 × 10
# pixels on (Sinha et al. 2006, https://doi.org/10.1109/JPROC.2006.884093); a face as high as half
# the picture has 5 of these.
_BLUR_CELLS = 12
# Of a pixel: 0.29 * 100 is 28.999999999999996, and means 29.
_SLACK = 1e-6


def photo(
    frame: Frame,
    rotate: int,
    mirror: bool,
    clear: Box | None = None,
    quality: int = PHOTO_QUALITY,
) -> bytes:
    """What is kept or sent of the frame that made a change: a JPEG file, upright, without EXIF.

    ``clear`` is the part that stays as it is, as shares of the upright picture; all else is blurred
    so that nobody is known by it. None blurs nothing.
    """
    picture = upright(frame, rotate, mirror)
    return jpeg(picture if clear is None else blurred(picture, clear), quality)


def blurred(picture: Image, clear: Box) -> Image:
    """A copy of the picture, BGR, of which only the part ``clear`` still shows who is there.

    That part's own pixels are as they were. Its edges are rounded inwards: what was left out
    of the region by a pixel is blurred.
    """
    height, width = picture.shape[:2]
    longest = max(height, width)
    cells = tuple(max(1, round(side * _BLUR_CELLS / longest)) for side in (width, height))
    # The mean of a cell is all that is left of it: no sharpening brings back what it was made of.
    coarse = cv2.resize(picture, cells, interpolation=cv2.INTER_AREA)
    blur = _array(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    left, top = math.ceil(clear[0] * width - _SLACK), math.ceil(clear[1] * height - _SLACK)
    right, bottom = int(clear[2] * width + _SLACK), int(clear[3] * height + _SLACK)
    blur[top:bottom, left:right] = picture[top:bottom, left:right]
    return blur


def upright(frame: Frame, rotate: int, mirror: bool, longest_px: int = 0) -> Image:
    """The frame as BGR, uint8, (height, width, 3), rotated clockwise and then mirrored.

    It is shrunk, never enlarged, until neither side is over ``longest_px``; 0 keeps its size.
    The array may be the frame's own memory: read it, do not write. OpenCV lets go of Python's
    lock in every step.
    """
    pixels = frame.pixels
    if frame.format is not PixelFormat.BGR:
        pixels = _array(cv2.cvtColor(pixels, _TO_BGR[frame.format]))
    # The padding of a YUV frame's rows is only now a part of the width.
    pixels = pixels[:, : frame.width]
    longest = max(frame.width, frame.height)
    if longest_px and longest > longest_px:
        size = (
            max(1, round(frame.width * longest_px / longest)),
            max(1, round(frame.height * longest_px / longest)),
        )
        pixels = _array(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    return turned(pixels, rotate, mirror)


def turned(picture: Image, rotate: int, mirror: bool) -> Image:
    """The picture, uint8, of any number of channels, rotated clockwise and then mirrored."""
    if rotate:
        picture = _array(cv2.rotate(picture, ROTATIONS[rotate]))
    if mirror:
        picture = _array(cv2.flip(picture, 1))
    return picture


def jpeg(picture: Image, quality: int) -> bytes:
    """A BGR picture as a JPEG file; ``quality`` is 1 to 100."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _array(picture: object) -> Image:
    """OpenCV's result by its real type, which its stubs leave open."""
    assert isinstance(picture, np.ndarray)
    return picture
