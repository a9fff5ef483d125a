"""Pictures to features: whose, how many, and of which models."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.errors import TeachError
from device.frames import PixelFormat
from device.library import catalog
from device.teach.embedder import Embedder
from tests.conftest import classifier_of, footage, frame_of

EXTRACTOR = "models/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
EMBEDDED = config.Model().name


def test_it_gives_what_the_running_classifier_learns_from() -> None:
    frame = footage("cat")
    with classifier_of(EMBEDDED) as classifier:
        classifier.classify(frame)
        expected = classifier.features()
    with Embedder(catalog.find(EMBEDDED), config.Model()) as embedder:
        np.testing.assert_array_equal(embedder.features(frame), expected)


def test_the_second_view_is_that_of_the_mirrored_picture() -> None:
    frame = footage("coffee")
    # Of the model's own size, so that no resizing weighs left and right differently.
    pixels = cv2.resize(frame.pixels, (224, 224)).astype(np.uint8)
    mirrored = np.ascontiguousarray(pixels[:, ::-1])
    with Embedder(catalog.find(EMBEDDED), config.Model()) as embedder:
        found = embedder.picture(frame_of(pixels), mirror=True, keep=True)
        alone = embedder.picture(frame_of(mirrored), mirror=False, keep=False)
    assert found.features.shape == (2, 1280)
    np.testing.assert_array_equal(found.features[1:], alone.features)
    assert found.digest != alone.digest
    assert (found.width, found.height) == (224, 224)
    assert found.jpeg is not None
    assert cv2.imdecode(np.frombuffer(found.jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (
        224,
        224,
        3,
    )
    assert alone.jpeg is None


def test_frames_of_a_pi_camera_and_grey_ones() -> None:
    pixels = cv2.resize(footage("cat").pixels, (320, 240))
    yuv = cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420).astype(np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY).astype(np.uint8)
    with Embedder(catalog.find(EMBEDDED), config.Model()) as embedder:
        for frame in (frame_of(yuv, PixelFormat.YUV420), frame_of(grey, PixelFormat.GREY)):
            picture = embedder.picture(frame, mirror=True, keep=True)
            assert picture.features.shape == (2, 1280)
            assert (picture.width, picture.height) == (320, 240)


def test_a_file_that_has_features_alone(testdata: Path) -> None:
    model = catalog.find(str(testdata / EXTRACTOR))
    assert model.labels == ()
    with Embedder(model, config.Model()) as embedder:
        features = embedder.features(footage("cat"))
    assert features.shape == (1024,)
    assert features.min() >= 0 < features.max()


def test_a_model_without_features_is_refused(colours: Callable[..., Path]) -> None:
    with pytest.raises(TeachError, match=r"colours.tflite gives no features .* use efficientnet"):
        Embedder(catalog.find(str(colours())), config.Model())


def test_it_works_on_the_cpu_where_an_edge_tpu_is_configured() -> None:
    settings = config.Model(delegate="edgetpu")
    with Embedder(catalog.find(EMBEDDED), settings) as embedder:
        assert embedder.features(footage("cat")).shape == (1280,)
