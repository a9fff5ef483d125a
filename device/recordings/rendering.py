"""A frame as a person should see it: upright, in colour, no larger than it is shown."""

import cv2
import numpy as np
from numpy.typing import NDArray

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
