"""Label files, and whether they belong to the model."""

import os
import zipfile
from pathlib import Path

import pytest

from device.errors import LabelsError
from device.library.labels import check_labels, embedded_labels, read_labels


def _file(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\n",
        "cat\r\ndog\r\n\r\n",
        "\ufeffcat\ndog",
        "0 cat\n1 dog\n",
        "0: cat\n1:  dog\n",
        " cat \n\tdog\n",
    ],
)
def test_forms_of_the_same_labels(tmp_path: Path, text: str) -> None:
    assert read_labels(_file(tmp_path, text)) == ("cat", "dog")


def test_numbers_that_are_not_the_rows_belong_to_the_names(tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, "7 up\n1 dog\n")) == ("7 up", "1 dog")


def test_a_repeated_name_gets_its_row(tmp_path: Path) -> None:
    assert read_labels(_file(tmp_path, "crane\ncat\ncrane\n")) == ("crane (0)", "cat", "crane (2)")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("cat\n\ndog\n", "line 2 is blank"),
        (b"cat\n\xff\n", r"not UTF-8 text \(byte 4\)"),
        (b"x" * (5 << 20), "over 4,194,304 bytes"),
    ],
)
def test_what_is_no_label_file(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(LabelsError, match=message):
        read_labels(_file(tmp_path, content))


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="no such label file"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(LabelsError, match="Is a directory"):
        read_labels(tmp_path)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("a", "b"), 'has a "background" class: add it as the first line'),
        (("background", "a", "b", "c"), 'no "background" class: remove the first line'),
        (("a", "b", "c", "d"), "one line too long"),
        (("background", "a"), "one line too short"),
        (("a",) * 9, "the label file that came with the model"),
    ],
)
def test_a_count_that_does_not_fit_is_told_with_its_likely_cause(
    names: tuple[str, ...], remedy: str
) -> None:
    with pytest.raises(LabelsError) as caught:
        check_labels(names, 3, "labels.txt", "net.tflite")
    assert f"has {len(names)} names for the 3 outputs of net.tflite" in str(caught.value)
    assert remedy in str(caught.value)


def test_a_count_that_fits() -> None:
    check_labels(("a", "b", "c"), 3, "labels.txt", "net.tflite")


def _packed(tmp_path: Path, **files: str | bytes) -> Path:
    """A model with files packed behind it, as TFLite metadata does."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(500))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return path


def test_labels_that_a_model_carries(tmp_path: Path) -> None:
    path = _packed(tmp_path, readme__txt="no\n", labels__txt="cat\ndog\n", picture__png=b"")
    assert embedded_labels(path) == ("cat", "dog")


def test_the_only_text_file_counts_whatever_its_name(tmp_path: Path) -> None:
    assert embedded_labels(_packed(tmp_path, probability__txt="0 cat\n1 dog\n")) == ("cat", "dog")


def test_a_model_that_carries_no_labels(tmp_path: Path) -> None:
    assert embedded_labels(_packed(tmp_path, anchors__csv="1")) is None
    path = tmp_path / "plain.tflite"
    path.write_bytes(b"\x1c\x00\x00\x00TFL3" + bytes(500))
    assert embedded_labels(path) is None


def test_labels_inside_are_checked_like_others(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"model.tflite:labels.txt: .*not UTF-8"):
        embedded_labels(_packed(tmp_path, labels__txt=b"\xff\xfe"))


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="is over 4 MB"):
        embedded_labels(_packed(tmp_path, labels__txt=b"a\n" * (3 << 20)))


def test_damaged_labels_inside(tmp_path: Path) -> None:
    path = _packed(tmp_path, labels__txt="cat\ndog\n" * 100)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x03\x04") + 30 + len("labels.txt")
    data[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with pytest.raises(LabelsError, match="carries labels that cannot be unpacked"):
        embedded_labels(path)


@pytest.mark.parametrize("name", ["/dev/zero", "pipe"])
def test_what_may_never_end_is_no_label_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LabelsError, match="is no regular file; expected a text file with"):
        read_labels(tmp_path / name)
