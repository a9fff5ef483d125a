"""A folder of labelled pictures: one sub-folder a class, cropped by the device's own code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device.config import Camera
from device.errors import PictureError
from device.events import Tensor
from device.inference.preprocess import Preprocessor
from device.recordings.pictures import find_pictures, read_picture

# What pictures may take in memory, all together.
MAX_BYTES: Final = 4 << 30


class DatasetError(ValueError):
    """A folder that does not hold labelled pictures as it should."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """Picture files and the row in `classes` of each."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, rows: NDArray[np.int64]) -> Dataset:
        """The part of it with these rows, in their order."""
        return Dataset(self.classes, tuple(self.files[row] for row in rows), self.labels[rows])

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """Two parts, the second with `share` of each class, but at least one picture of it."""
        chance = np.random.default_rng(seed)
        second = np.zeros(len(self), bool)
        for row in range(len(self.classes)):
            mine = chance.permutation(np.flatnonzero(self.labels == row))
            second[mine[: max(1, round(len(mine) * share))]] = True
        return self.take(np.flatnonzero(~second)), self.take(np.flatnonzero(second))


def read_dataset(folder: Path, least: int = 1) -> Dataset:
    """The pictures in the sub-folders of `folder`, whose names are the classes, sorted.

    Raises DatasetError for less than two classes or less than `least` pictures of one.
    """
    try:
        folders = sorted(p for p in folder.iterdir() if p.is_dir() and p.name[0] != ".")
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be read: {error.strerror}") from None
    if len(folders) < 2:
        raise DatasetError(
            f"{folder}: has {len(folders)} sub-folders; expected one a class, two at the least"
        )
    files: list[Path] = []
    labels: list[int] = []
    for row, one in enumerate(folders):
        try:
            mine = find_pictures(one)
        except PictureError as error:
            raise DatasetError(str(error)) from None
        if len(mine) < least:
            raise DatasetError(f"{one}: holds {len(mine)} pictures; put {least} or more into it")
        files += mine
        labels += [row] * len(mine)
    return Dataset(tuple(p.name for p in folders), tuple(files), np.array(labels, np.int64))


def load_pictures(files: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """The central square of each picture: RGB, shape (files, size, size, 3).

    Made by the device's own preprocessing, so that a model learns from what it will be shown.
    Raises DatasetError for a picture that cannot be read, or more than MAX_BYTES of them.
    """
    if (needed := len(files) * size * size * 3) > MAX_BYTES:
        raise DatasetError(
            f"{len(files):,} pictures of {size} x {size} take {needed >> 20:,} MB, "
            f"more than {MAX_BYTES >> 20:,}; use fewer or smaller ones"
        )
    pictures = np.empty((len(files), size, size, 3), np.uint8)
    # Without a scale of its own a uint8 tensor takes the pixels as they are.
    preprocess = Preprocessor(Tensor("picture", (1, size, size, 3), "uint8", 0.0, 0), Camera())
    for row, path in enumerate(files):
        try:
            preprocess(read_picture(path), pictures[row : row + 1])
        except PictureError as error:
            raise DatasetError(str(error)) from None
    return pictures
