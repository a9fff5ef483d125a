"""Measuring a model: the figures, the report, and that they are the device's."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from device.library import catalog
from models import evaluate
from models.dataset import load_pictures, read_dataset
from models.runtime import Model

# Folders of the thumbnails, and a class of ImageNet that they come near.
NEAR = {
    "airplane": "airliner",
    "automobile": "sports car",
    "bird": "goldfinch",
    "cat": "tabby",
    "deer": "impala",
    "dog": "Japanese spaniel",
    "frog": "bullfrog",
    "horse": "sorrel",
    "ship": "container ship",
    "truck": "moving van",
}


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Six pictures in three classes; one red one lies in the green folder."""
    colours = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}
    shown = {"red": ["red"], "green": ["green", "green", "red"], "blue": ["blue", "blue"]}
    for label, names in shown.items():
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for number, name in enumerate(names):
            picture = np.full((16, 16, 3), colours[name], np.uint8)
            cv2.imwrite(str(tmp_path / "pictures" / label / f"{number}.png"), picture)
    return tmp_path / "pictures"


def test_figures_of_a_small_folder(
    coloured: Path, colours: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = colours(softmax=True)
    out = tmp_path / "report"
    assert evaluate.main([str(coloured), "--model", str(model), "--out", str(out)]) == 0
    assert "colours: top-1 83.3%, top-5 100.0% of 6 pictures" in capsys.readouterr().out
    result = json.loads((out / "colours.json").read_text())
    assert result["top1"] == pytest.approx(5 / 6)
    # Every score is 0.787 (see test_classifier): all are in one bin.
    assert result["calibration_error"] == pytest.approx(5 / 6 - 0.787, abs=0.01)
    assert result["latency_p50_ms"] > 0
    green = next(one for one in result["classes"] if one["label"] == "green")
    assert green["pictures"] == 3
    assert green["recall"] == pytest.approx(2 / 3)
    assert green["precision"] == 1
    assert green["most_taken_for"] == "red"
    red = next(one for one in result["classes"] if one["label"] == "red")
    assert (red["recall"], red["precision"]) == (1, 0.5)
    page = (out / "colours.md").read_text()
    assert "| green | 3 | 66.7% | 100.0% | red |" in page
    assert "](colours.png)" in page
    picture = cv2.imread(str(out / "colours.png"))
    assert picture.shape[0] == picture.shape[1] == 150 + 3 * 36


def test_a_folder_that_is_no_label(
    coloured: Path, colours: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (coloured / "red").rename(coloured / "mauve")
    assert evaluate.main([str(coloured), "--model", str(colours())]) == 1
    said = capsys.readouterr().err
    assert said.startswith("evaluate: the sub-folder 'mauve' is no label of the model (red,")


def test_a_model_that_is_not_there(coloured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([str(coloured), "--model", "none.tflite"]) == 1
    assert capsys.readouterr().err == "evaluate: model none.tflite: no such file\n"


def test_calibration_error_by_hand() -> None:
    # Bin 1/15 … of 0.95 holds three, two of them right; that of 0.45 holds one, wrong.
    confidence = np.array([0.95, 0.95, 0.95, 0.45], np.float32)
    right = np.array([True, True, False, False])
    expected = 0.75 * (0.95 - 2 / 3) + 0.25 * 0.45
    assert evaluate.calibration_error(confidence, right) == pytest.approx(expected, abs=1e-6)
    assert evaluate.calibration_error(np.ones(3, np.float32), np.ones(3, bool)) == 0


def test_a_confusion_picture_has_a_column_for_labels_outside_the_folder() -> None:
    scored = evaluate.Scored(
        labels=("a", "b", "c"),
        scores=np.array([[0.9, 0.1, 0], [0, 0.2, 0.8]], np.float32),
        truth=np.array([0, 1]),
        latency_ms=np.ones(2),
    )
    picture = evaluate.confusion_picture(scored)
    height, width = picture.shape[:2]
    assert width == height + 36
    dark = picture[..., 0] < 100
    # What is there as "b" was said to be "c": the dark cell of its row is the last.
    assert dark[150 + 3, 150 + 3]
    assert dark[150 + 36 + 3, 150 + 72 + 3]
    assert not dark[150 + 36 + 3, 150 + 36 + 3]


@pytest.mark.slow
def test_top1_is_that_of_a_bare_interpreter_on_the_same_crops(
    testdata: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(testdata / "cifar10-small.zip") as archive:
        for name in archive.namelist():
            split, _, rest = name.partition("/")
            label, _, file = rest.partition("/")
            # Every third of a hundred a class: 340 in all.
            if split == "test" and file and int(Path(file).stem) % 3 == 0:
                folder = tmp_path / "pictures" / NEAR[label]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(archive.read(name))
    path = testdata / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    folder = tmp_path / "pictures"
    assert evaluate.main([str(folder), "--model", str(path), "--out", str(tmp_path)]) == 0
    measured = json.loads((tmp_path / f"{path.stem}.json").read_text())

    data = read_dataset(folder)
    labels = catalog.find(str(path)).labels
    bare = Model(path.read_bytes())
    found = [labels[int(bare.run(p)[0][0].argmax())] for p in load_pictures(data.files, 128)]
    right = [name == data.classes[row] for name, row in zip(found, data.labels, strict=True)]
    assert measured["pictures"] == len(right) == 340
    # Few of them are told from thumbnails, but not none: else anything would agree.
    assert 0.03 < measured["top1"] < 0.9
    assert measured["top1"] == pytest.approx(np.mean(right), abs=0.003)
