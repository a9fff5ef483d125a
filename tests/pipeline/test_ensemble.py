"""Several models on the same frames: whose labels, whose scores, and what one that fails costs."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device import config
from device.errors import InferenceError, InferenceHung, ModelError
from device.events import Accelerator, Description
from device.frames import Frame, PixelFormat
from device.inference.interpreter import Engine
from device.inference.pool import EnginePool, open_engine
from device.library import catalog
from device.pipeline.classifier import Classifier
from device.pipeline.ensemble import Ensemble
from tests.conftest import classifier_of, footage, frame_of

EMBEDDED = "efficientnet-lite0-224-int8"
SENSOR = "mobilenet-v1-person-96"
FAILED = "model colours.tflite: failed in invoke()"


class Fragile:
    """An engine that fails when a test says so."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.error: InferenceError | None = None
        self.calls = 0

    @property
    def description(self) -> Description:
        return self._engine.description

    @property
    def accelerator(self) -> Accelerator | None:
        return None

    def input(self) -> NDArray[Any]:
        return self._engine.input()

    def invoke(self) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self._engine.invoke()

    def output(self, number: int = 0) -> NDArray[Any]:
        return self._engine.output(number)

    def close(self) -> None:
        self._engine.close()


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def _engine(name: str | Path) -> tuple[catalog.Model, Engine]:
    model = catalog.find(str(name))
    return model, open_engine(model, config.Model(delegate="none", threads=1))


def _solid(colour: int) -> Frame:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 2 - colour] = 255
    return frame_of(pixels)


def test_it_has_the_labels_and_scores_of_all() -> None:
    beside = [catalog.find(SENSOR)]
    first = catalog.find(EMBEDDED)
    settings = config.Model()
    with (
        Ensemble(
            first,
            open_engine(first, settings),
            None,
            [(m, open_engine(m, settings)) for m in beside],
        ) as ensemble,
        classifier_of(EMBEDDED) as alone,
        classifier_of(SENSOR) as sensor,
    ):
        assert ensemble.labels == (*alone.labels, "person", "no person")
        for name in ("cat", "coffee", "rocket"):
            scores = ensemble.classify(footage(name))
            assert scores.dtype == np.float32
            assert np.array_equal(scores[:1000], alone.classify(footage(name)))
            # The sensor's picture is the first one's made smaller, and not the frame.
            np.testing.assert_allclose(scores[1000:], sensor.classify(footage(name)), atol=0.1)
            assert ensemble.top(1)[0].label == "no person"
            assert ensemble.features().shape == alone.features().shape
            assert ensemble.stages.invoke_ms > 0
        assert ensemble.description.model == EMBEDDED
        assert [other.interpreter.model for other in ensemble.beside] == [SENSOR]
        assert ensemble.accelerator is None


@pytest.mark.parametrize("layout", list(PixelFormat))
@pytest.mark.parametrize(
    "camera",
    [
        config.Camera(),
        config.Camera(region=(0.5, 0.0, 1.0, 1.0)),
        config.Camera(rotate=90, mirror=True),
        config.Camera(crop="letterbox", rotate=180),
        config.Camera(crop="stretch"),
    ],
)
def test_what_is_beside_sees_the_same_part_of_the_frame(
    colours: Callable[..., Path], camera: config.Camera, layout: PixelFormat
) -> None:
    halves = np.zeros((96, 128, 3), np.uint8)
    halves[:48, :64], halves[48:, 64:] = (0, 0, 255), (0, 255, 0)  # BGR
    conversions = {PixelFormat.GREY: cv2.COLOR_BGR2GRAY, PixelFormat.YUV420: cv2.COLOR_BGR2YUV_I420}
    pixels = halves[..., ::-1].copy() if layout is PixelFormat.RGB else halves
    if layout in conversions:
        pixels = cv2.cvtColor(halves, conversions[layout]).astype(np.uint8, copy=False)
    frame = frame_of(pixels, layout)
    large, small = colours("large.tflite", side=32), colours("small.tflite", side=16)
    with (
        Ensemble(*_engine(large), camera, [_engine(small)]) as ensemble,
        Ensemble(*_engine(small), None, [_engine(large)]) as other_way,
        Classifier(*_engine(small), camera) as alone,
    ):
        expected = alone.classify(frame)
        np.testing.assert_allclose(ensemble.classify(frame)[3:], expected, atol=0.03)
        # A large one beside a small one has more to see in the frame itself.
        other_way.look_at(camera)
        np.testing.assert_allclose(other_way.classify(frame)[3:], expected, atol=0.03)


def test_one_that_fails_scores_nothing_and_is_tried_again(
    colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "labelcam")
    model, engine = _engine(colours())
    fragile, clock = Fragile(engine), Clock()
    with Ensemble(*_engine(colours("first.tflite")), None, [(model, fragile)], clock) as ensemble:
        own = ensemble.classify(_solid(0)).copy()
        assert own[3:].tolist() == own[:3].tolist()
        fragile.error = InferenceError(FAILED)
        asked = []
        for _ in range(40):
            before = fragile.calls
            scores = ensemble.classify(_solid(0))
            assert scores[:3].tolist() == own[:3].tolist()
            assert scores[3:].tolist() == [0, 0, 0]
            assert ensemble.beside[0].problem == str(fragile.error)
            if fragile.calls > before:
                asked.append(clock.now_s - 1000.0)
            clock.now_s += 0.5
        # After a second, and then twice as late each time.
        assert asked == [0.0, 1.0, 3.0, 7.0, 15.0]
        fragile.error = None
        clock.now_s += 20
        assert ensemble.classify(_solid(0)).tolist() == own.tolist()
        assert ensemble.beside[0].problem == ""
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"{FAILED}; the camera goes on without it and tries it again",
        "model colours: works again",
    ]


def test_one_that_hangs_is_not_waited_out(colours: Callable[..., Path]) -> None:
    model, engine = _engine(colours())
    fragile = Fragile(engine)
    fragile.error = InferenceHung("it hangs")
    with (
        Ensemble(*_engine(colours("first.tflite")), None, [(model, fragile)]) as ensemble,
        pytest.raises(InferenceHung),
    ):
        ensemble.classify(_solid(0))


def test_alone_the_others_are_not_asked(colours: Callable[..., Path]) -> None:
    model, engine = _engine(colours())
    fragile = Fragile(engine)
    with Ensemble(*_engine(colours("first.tflite")), None, [(model, fragile)]) as ensemble:
        ensemble.alone = True
        ensemble.classify(_solid(0))
        assert (fragile.calls, ensemble.beside) == (0, ())
        ensemble.alone = False
        ensemble.classify(_solid(0))
        assert fragile.calls == 1


def test_all_engines_are_let_go(colours: Callable[..., Path]) -> None:
    broken = colours(channels=2)
    broken.with_suffix(".txt").write_text("red\ngreen\n")
    first, sensor = catalog.find(str(colours("first.tflite"))), catalog.find(SENSOR)
    engines, settings = EnginePool(), config.Model()

    def lease(model: catalog.Model) -> tuple[catalog.Model, Engine]:
        return model, engines.open(model, settings, wait=True)

    ensemble = Ensemble(*lease(first), None, [lease(sensor)])
    ensemble.close()
    ensemble.close()
    assert engines.share(sensor, settings) is None
    with pytest.raises(ModelError, match="3 or 1"):
        Ensemble(*lease(first), None, [lease(sensor), lease(catalog.find(str(broken)))])
    assert [engines.share(model, settings) for model in (first, sensor)] == [None, None]
