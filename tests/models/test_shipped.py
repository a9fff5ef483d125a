"""What ships agrees with its manifest, and says what it should of real photographs."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.agreement import main as agreement
from models.lite0 import MODELS
from models.pictures import centre_crop, read_pictures
from models.runtime import Model, interpreter_class

Classify = Callable[[NDArray[np.uint8]], tuple[str, float]]

CATS = {"Egyptian cat", "tabby", "tiger cat"}
FIELDS = ("summary", "task", "family", "licence", "output", "input", "labels", "cpu", "built_by")


@pytest.fixture(scope="module")
def entry() -> Any:
    """The manifest's entry of the embedded model."""
    text = (MODELS / "catalog.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["models"]["efficientnet-lite0-224-int8"]


@pytest.fixture(scope="module")
def classify(embedded_model: bytes, labels: list[str]) -> Classify:
    """Names the most probable class of an RGB picture's centre, with its probability."""
    model = Model(embedded_model)

    def top(picture: NDArray[np.uint8]) -> tuple[str, float]:
        probabilities = model.run(centre_crop(picture, 224))[0][0]
        return labels[int(probabilities.argmax())], float(probabilities.max())

    return top


def test_the_files_are_those_of_the_manifest(entry: Any) -> None:
    assert set(FIELDS) <= entry.keys()
    model = (MODELS / entry["cpu"]["file"]).read_bytes()
    assert len(model) == entry["cpu"]["bytes"]
    assert hashlib.sha256(model).hexdigest() == entry["cpu"]["sha256"]
    labels = (MODELS / entry["labels"]["file"]).read_bytes()
    assert hashlib.sha256(labels).hexdigest() == entry["labels"]["sha256"]
    assert labels.count(b"\n") == entry["labels"]["count"]


def test_input_and_output_are_those_of_the_manifest(entry: Any, embedded_model: bytes) -> None:
    interpreter = interpreter_class()(model_content=embedded_model, num_threads=1)
    (image,), (out, features) = interpreter.get_input_details(), interpreter.get_output_details()
    expected = entry["input"]
    assert image["shape"].tolist() == [1, expected["height"], expected["width"], 3]
    assert image["dtype"] is np.dtype(expected["type"]).type
    assert image["quantization"] == (expected["scale"], expected["zero_point"])
    assert entry["output"] == "probabilities"
    assert out["shape"].tolist() == [1, entry["labels"]["count"]]
    assert out["dtype"] is np.uint8
    assert out["quantization"] == (1 / 256, 0)
    # New labels are taught on these.
    assert features["shape"].tolist() == [1, 1280]


def test_labels_are_distinct_and_clean(labels: list[str]) -> None:
    assert len(labels) == 1000
    # Topics and dashboards fold case: "cardigan" must not be a dog there and a garment here.
    assert len({label.casefold() for label in labels}) == 1000
    for label in labels:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 '().-]*", label), label
        assert label == label.strip()


@pytest.mark.parametrize(
    ("index", "name"),
    [
        (0, "tench"),
        (88, "macaw"),
        (134, "crane (bird)"),
        (281, "tabby"),
        (285, "Egyptian cat"),
        (517, "crane (machine)"),
        (934, "hotdog"),
        (967, "espresso"),
        (999, "toilet tissue"),
    ],
)
def test_labels_stand_where_the_classes_are(labels: list[str], index: int, name: str) -> None:
    assert labels[index] == name


@pytest.mark.parametrize(
    ("still", "names", "floor"),
    [("coffee", {"espresso"}, 0.8), ("cat", CATS, 0.5), ("rocket", {"missile"}, 0.3)],
)
def test_stills(
    classify: Classify, footage: Path, still: str, names: set[str], floor: float
) -> None:
    _, picture = next(iter(read_pictures([footage / f"{still}.jpg"])))
    assert picture.shape == (480, 640, 3)
    label, probability = classify(picture)
    assert label in names
    assert probability > floor


@pytest.mark.slow
def test_clip(classify: Classify, footage: Path) -> None:
    path = footage / "demo.mp4"
    assert path.stat().st_size < 1_000_000
    frames = []
    video = cv2.VideoCapture(str(path))
    while (read := video.read())[0]:
        frames.append(np.asarray(read[1], np.uint8))
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    assert frames[0].shape == (480, 640, 3)
    assert 10 <= len(frames) / rate <= 12

    said = [classify(np.ascontiguousarray(frame[:, :, ::-1]))[0] for frame in frames[10::21]]
    assert len(said) == 6
    assert said[0] == said[1] == "espresso"
    assert {said[2], said[3]} <= CATS
    assert said[4] == said[5] == "missile"


def test_the_model_agrees_with_itself(footage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(MODELS / "efficientnet-lite0-224-int8.tflite")
    assert agreement([model, model, str(footage / "cat.jpg")]) == 0
    assert capsys.readouterr().out.startswith("1 crops: same top-1 100.0 % (1/1)")


def test_agreement_names_a_folder_without_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(MODELS / "efficientnet-lite0-224-int8.tflite")
    assert agreement([model, model, str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"agreement: {tmp_path}: no picture in it\n"
