"""Folders of labelled pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.dataset import MAX_BYTES, DatasetError, load_pictures, read_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 6, 4 and 2 pictures, each of one grey."""
    for label, count in (("b", 4), ("a", 6), ("c c", 2)):
        (tmp_path / label).mkdir()
        for number in range(count):
            grey = np.full((20, 30, 3), number * 10, np.uint8)
            cv2.imwrite(str(tmp_path / label / f"{number}.png"), grey)
    (tmp_path / ".git").mkdir()
    return tmp_path


def test_sub_folders_name_the_classes(folder: Path) -> None:
    data = read_dataset(folder)
    assert data.classes == ("a", "b", "c c")
    assert np.bincount(data.labels).tolist() == [6, 4, 2]
    assert all(
        data.classes[label] == f.parent.name
        for f, label in zip(data.files, data.labels, strict=True)
    )


def test_a_split_takes_a_share_of_each_class_and_one_at_least(folder: Path) -> None:
    data = read_dataset(folder)
    first, second = data.split(0.25, seed=1)
    assert np.bincount(second.labels).tolist() == [2, 1, 1]
    assert sorted(first.files + second.files) == sorted(data.files)
    assert data.split(0.25, seed=1)[1].files == second.files
    assert {data.split(0.25, seed=seed)[1].files for seed in range(5)} != {second.files}


def test_pictures_are_cropped_to_the_middle_in_rgb(folder: Path) -> None:
    picture = np.zeros((20, 40, 3), np.uint8)
    picture[:, 10:30] = (255, 0, 0)  # blue, as OpenCV has it
    cv2.imwrite(str(folder / "a" / "0.png"), picture)
    pictures = load_pictures([folder / "a" / "0.png", folder / "b" / "3.png"], 10)
    assert pictures.shape == (2, 10, 10, 3)
    assert (pictures[0] == (0, 0, 255)).all()
    assert (pictures[1] == 30).all()


def test_a_folder_without_classes(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has 0 sub-folders; expected one a class"):
        read_dataset(tmp_path)
    with pytest.raises(DatasetError, match="cannot be read: No such file"):
        read_dataset(tmp_path / "nowhere")


def test_a_class_without_pictures(folder: Path) -> None:
    (folder / "d").mkdir()
    with pytest.raises(DatasetError, match="the folder holds no picture"):
        read_dataset(folder)


def test_a_class_with_too_few(folder: Path) -> None:
    with pytest.raises(DatasetError, match="holds 2 pictures; put 3 or more into it"):
        read_dataset(folder, least=3)


def test_a_broken_picture_is_named(folder: Path) -> None:
    (folder / "a" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(DatasetError, match=r"a/0\.png"):
        load_pictures(read_dataset(folder).files, 8)


def test_more_pictures_than_memory(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"take .* MB, more than 4,096; use fewer"):
        load_pictures([folder / "a" / "0.png"] * (MAX_BYTES // 3_000_000 + 1), 1000)
