"""A coarse picture for a terminal: each cell is an upper and a lower pixel, in half blocks."""

import os
import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.events import Observation
from device.recordings.rendering import Image, turned, upright

_RESET = "\x1b[0m"
# Between the levels of xterm's colour cube, which are 0, 95, 135, 175, 215 and 255.
_BETWEEN = (48, 115, 155, 195, 235)
_PICTURE_PX = 320


class BlockPicture:
    """Draws a camera's frames coarsely, three times a second: more is a burden over ssh."""

    _PERIOD_S = 0.3

    def __init__(self, cameras: Sequence[config.Camera]) -> None:
        self._cameras = {camera.name: camera for camera in cameras}
        self._true_colour = os.environ.get("COLORTERM", "") in {"truecolor", "24bit"}
        self._rows: list[str] = []
        self._key: tuple[str, int, int] | None = None
        self._made_at = 0.0

    def __call__(self, seen: Observation, columns: int, rows: int) -> list[str]:
        """The frame in lines of at most so many columns and rows."""
        key, now = (seen.camera, columns, rows), time.monotonic()
        if key == self._key and now < self._made_at + self._PERIOD_S:
            return self._rows
        camera = self._cameras.get(seen.camera, config.Camera())
        picture = upright(seen.frame, camera.rotate, camera.mirror, _PICTURE_PX)
        if seen.moved is not None and seen.moved.any():
            moved = turned(seen.moved.view(np.uint8), camera.rotate, camera.mirror)
            picture = _tinted(picture, moved)
        across, down = size(picture, columns, rows)
        self._rows = half_blocks(picture, across, down, true_colour=self._true_colour)
        self._key, self._made_at = key, now
        return self._rows


def _tinted(picture: Image, moved: Image) -> Image:
    """The picture with what moved in it half in yellow."""
    wide, high = picture.shape[1], picture.shape[0]
    where = np.asarray(cv2.resize(moved, (wide, high), None, 0, 0, cv2.INTER_NEAREST), np.bool_)
    tinted = picture.copy()
    tinted[where] = tinted[where] // 2 + np.array((0, 110, 127), np.uint8)
    return tinted


def size(picture: Image, columns: int, rows: int) -> tuple[int, int]:
    """The largest number of columns and rows, within these, that keeps the picture's shape."""
    height, width = picture.shape[:2]
    scale = min(columns / width, 2 * rows / height)
    return max(1, round(width * scale)), max(1, round(height * scale / 2))


def half_blocks(picture: Image, columns: int, rows: int, *, true_colour: bool) -> list[str]:
    """A BGR picture as ``rows`` lines of ``columns`` cells, with the escapes that colour them.

    In 24-bit colours, or in the 256 that nearly every terminal has. A colour is sent where
    it changes, which on a line over ssh is most of the bytes.
    """
    small = np.asarray(
        cv2.resize(picture, (columns, 2 * rows), interpolation=cv2.INTER_AREA), np.uint8
    )
    # Steps of eight: more the eye does not see in blocks, and equal neighbours cost nothing.
    colours = small & 0xF8 if true_colour else _cube(small)
    cells = colours.tolist()
    lines = []
    for upper, lower in zip(cells[::2], cells[1::2], strict=True):
        line, ink, ground = [], None, None
        for above, below in zip(upper, lower, strict=True):
            if above != ink:
                line.append(_escape(38, above))
                ink = above
            if below != ground:
                line.append(_escape(48, below))
                ground = below
            line.append("▀")
        lines.append("".join(line) + _RESET)
    return lines


def _escape(what: int, colour: int | list[int]) -> str:
    """Ink (38) or ground (48) in a colour of 256, or in one given as [blue, green, red]."""
    if isinstance(colour, int):
        return f"\x1b[{what};5;{colour}m"
    blue, green, red = colour
    return f"\x1b[{what};2;{red};{green};{blue}m"


def _cube(picture: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The nearest colours of xterm's 6 × 6 × 6 cube, which begins at number 16."""
    level = np.searchsorted(_BETWEEN, picture)
    cube: NDArray[np.intp] = 16 + 36 * level[..., 2] + 6 * level[..., 1] + level[..., 0]
    return cube
