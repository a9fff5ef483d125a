"""Frames in, scores out; golden pictures; top-k."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from device import config
from device.errors import ModelError
from device.frames import Frame, PixelFormat
from device.inference.pool import EnginePool
from device.library import catalog
from device.pipeline.classifier import Classifier, Scores, top_rows
from tests.conftest import classifier_of, footage, frame_of

EMBEDDED = "efficientnet-lite0-224-int8"


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return classifier_of(EMBEDDED)


@pytest.mark.parametrize(
    ("picture", "labels", "floor"),
    [("coffee", {"espresso"}, 0.8), ("cat", {"Egyptian cat", "tiger cat", "tabby"}, 0.4)],
)
def test_the_embedded_model_knows_its_pictures(
    classifier: Classifier, picture: str, labels: set[str], floor: float
) -> None:
    scores = classifier.classify(footage(picture))
    best = classifier.top(1)[0]
    assert best.label in labels
    assert best.score >= floor
    assert best.score == scores[best.index]
    assert classifier.labels[best.index] == best.label
    # 8-bit probabilities: each is right to half a step of 1/256, of which few are not 0.
    assert scores.sum() == pytest.approx(1, abs=0.05)


def test_the_same_picture_in_every_pixel_format(classifier: Classifier) -> None:
    frame = footage("coffee")
    bgr = frame.pixels
    layouts = {
        PixelFormat.BGR: bgr,
        PixelFormat.RGB: bgr[..., ::-1].copy(),
        PixelFormat.YUV420: cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False),
    }
    for layout, pixels in layouts.items():
        classifier.classify(frame_of(pixels, layout))
        assert classifier.top(1)[0].label == "espresso"
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
    classifier.classify(frame_of(grey, PixelFormat.GREY))
    assert "espresso" in {p.label for p in classifier.top(5)}


@pytest.mark.parametrize(
    ("picture", "labels"),
    [
        ("parrot.jpg", {"macaw"}),
        ("hot_dog.jpg", {"hotdog"}),
        ("cat_720p.jpg", {"Egyptian cat", "tabby", "tiger cat"}),
    ],
)
def test_a_true_mobilenet_of_the_test_data(testdata: Path, picture: str, labels: set[str]) -> None:
    path = testdata / "models" / "mobilenet_v2_1.0_224_quant.tflite"
    pixels = cv2.imread(str(testdata / "images" / picture)).astype(np.uint8, copy=False)
    # No label file is given: the catalogue knows the model by its hash.
    with classifier_of(path) as classifier:
        classifier.classify(frame_of(pixels))
        assert classifier.top(1)[0].label in labels
        assert classifier.labels[0] == "background"


def _solid(colour: int) -> Frame:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 2 - colour] = 255
    return frame_of(pixels)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [("uint8", 1 / 128, 128), ("int8", 1 / 127.5, -1), ("float32", 0.0, 0), ("int8", 0.0082, 0)],
)
@pytest.mark.parametrize("colour", [0, 1, 2])
def test_any_number_format_gives_the_same_probabilities(
    colours: Callable[..., Path],
    dtype: str,
    scale: float,
    zero_point: int,
    softmax: bool,
    colour: int,
) -> None:
    path = colours(dtype=dtype, scale=scale, zero_point=zero_point, softmax=softmax)
    with classifier_of(path) as classifier:
        scores = classifier.classify(_solid(colour))
        assert classifier.top(1)[0].label == ("red", "green", "blue")[colour]
        # The means are 1 and twice -1, so the softmax is e^1 / (e^1 + 2 e^-1).
        assert scores[colour] == pytest.approx(0.787, abs=0.01)
        assert scores.sum() == pytest.approx(1, abs=0.01)


def test_the_time_of_each_stage_is_told(classifier: Classifier) -> None:
    classifier.classify(footage("cat"))
    stages = classifier.stages
    assert stages.invoke_ms > stages.preprocess_ms > 0
    assert stages.postprocess_ms > 0


@given(
    scores=arrays.arrays(np.float32, st.integers(1, 60), elements=st.integers(0, 9).map(float)),
    count=st.integers(0, 70),
)
def test_top_rows_is_the_head_of_a_stable_sort(scores: Scores, count: int) -> None:
    expected = sorted(range(scores.size), key=lambda row: (-scores[row], row))[:count]
    assert list(top_rows(scores, count)) == expected


def test_it_looks_at_another_region_from_the_next_frame_on(colours: Callable[..., Path]) -> None:
    halves = np.zeros((64, 64, 3), np.uint8)
    halves[:, :32, 2], halves[:, 32:, 1] = 255, 255  # BGR: red left, green right
    with classifier_of(colours()) as classifier:
        for region, label in (((0.0, 0.0, 0.5, 1.0), "red"), ((0.5, 0.0, 1.0, 1.0), "green")):
            classifier.look_at(config.Camera(region=region, crop="stretch"))
            classifier.classify(frame_of(halves))
            assert classifier.top(1)[0].label == label


def test_two_cameras_use_one_engine_by_turns(classifier: Classifier) -> None:
    model, settings, engines = catalog.find(EMBEDDED), config.Model(), EnginePool()
    first = Classifier(model, engines.open(model, settings, wait=True))
    region = config.Camera(region=(0.0, 0.0, 0.5, 0.5))
    second = Classifier(model, engines.open(model, settings, wait=True), region)
    alone = classifier.classify(footage("coffee")).copy()
    assert (first.classify(footage("coffee")) == alone).all()
    other = second.classify(footage("coffee")).copy()
    assert not np.array_equal(other, alone)
    assert (first.classify(footage("coffee")) == alone).all()
    first.close()
    first.close()
    assert (second.classify(footage("coffee")) == other).all()
    second.close()


def test_a_classifier_that_cannot_be_made_lets_its_engine_go(colours: Callable[..., Path]) -> None:
    path = colours(channels=2)
    path.with_suffix(".txt").write_text("red\ngreen\n")
    model, engines = catalog.find(str(path)), EnginePool()
    with pytest.raises(ModelError, match="3 or 1"):
        Classifier(model, engines.open(model, config.Model(), wait=True))
    assert engines.share(model, config.Model()) is None
