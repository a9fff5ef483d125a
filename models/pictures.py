"""Pictures for calibration and measurement, cropped the way the device crops its frames."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

SUFFIXES: Final = (".jpg", ".jpeg", ".png", ".bmp")


class PictureError(ValueError):
    """A file or folder that should hold pictures does not."""


def read_pictures(sources: Sequence[Path]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yields name and RGB picture (height, width, 3), uint8, in sorted order.

    A source is a picture, a folder of them, or a zip file (a wheel is one); folders and archives
    are searched in depth. Raises PictureError for a source without a readable picture.
    """
    for source in sources:
        found = False
        for name, data in _files(source):
            picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            if picture is None:
                raise PictureError(f"{source}: {name} is not a picture")
            found = True
            yield name, _uint8(picture[:, :, ::-1])  # OpenCV decodes to BGR
        if not found:
            raise PictureError(f"{source}: no picture in it")


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    try:
        if source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    yield str(path.relative_to(source)), path.read_bytes()
        elif source.suffix.lower() in SUFFIXES:
            yield source.name, source.read_bytes()
        else:
            with zipfile.ZipFile(source) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(SUFFIXES):
                        yield name, archive.read(name)
    except (OSError, zipfile.BadZipFile) as error:
        raise PictureError(f"{source}: cannot be read ({error})") from error


def centre_crop(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns the largest centred square of an RGB picture, resized to (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(picture[top : top + side, left : left + side], size)


def corner_crops(picture: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    """Returns the four corner squares of two thirds of the shorter side, each (size, size, 3)."""
    height, width = picture.shape[:2]
    side = min(height, width) * 2 // 3
    return [
        resize(picture[top : top + side, left : left + side], size)
        for top in (0, height - side)
        for left in (0, width - side)
    ]


def resize(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns a square picture as (size, size, 3)."""
    # Area averaging aliases least when shrinking; when growing it would repeat pixels.
    shrinks = min(picture.shape[:2]) >= size
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return _uint8(cv2.resize(np.ascontiguousarray(picture), (size, size), interpolation=method))


def _uint8(picture: Any) -> NDArray[np.uint8]:
    return np.ascontiguousarray(picture, dtype=np.uint8)
