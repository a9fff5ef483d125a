"""What several test files share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest

from device import config
from device.frames import Frame, PixelFormat, Pixels
from device.inference import choice, proof
from device.inference.edgetpu import device
from device.inference.edgetpu import proof as edgetpu_proof
from device.inference.edgetpu.owner import owner
from device.inference.pool import open_engine
from device.inference.runtimes import Choice
from device.library import catalog
from device.pipeline.classifier import Classifier
from tests.edgetpu.standin import PROVE, Standin, build
from tests.tiny import colour_model, edgetpu_model

FOOTAGE = Path(__file__).parent.parent / "models" / "footage"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of real models and pictures that the project does not ship."""
    folder = os.environ.get("LABELCAM_TESTDATA")
    if not folder:
        pytest.skip("LABELCAM_TESTDATA is not set: no real models to test with")
    return Path(folder)


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, nor what it starts, touches the user's state or measures the embedded model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("STATE_DIRECTORY", raising=False)
        # Whoever asked OpenCV to speak would hear it where the tests want silence.
        patch.delenv("OPENCV_LOG_LEVEL", raising=False)
        patch.setenv("LABELCAM_STATE", str(tmp_path_factory.mktemp("state")))
        settings = config.Model()
        model = catalog.find(settings.name).file
        default = choice.candidates(model, settings)[0]
        choice.remember(model, settings, Choice(default, "as the tests have it"))
        yield


@pytest.fixture(autouse=True)
def _nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, a model that is new to the state directory runs by default."""
    monkeypatch.setattr(choice, "candidates", lambda *_: ())


@pytest.fixture(autouse=True)
def _no_model_is_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, no child tries a model before it is loaded."""
    monkeypatch.setattr(proof, "prove", lambda *_: None)


@pytest.fixture
def colours(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model that tells red, green and blue pictures apart, with its label file."""

    def make(name: str = "colours.tflite", **options: object) -> Path:
        path = tmp_path / name
        path.write_bytes(colour_model(**options))  # type: ignore[arg-type]
        path.with_suffix(".txt").write_text("red\ngreen\nblue\n")
        return path

    return make


@pytest.fixture(scope="session")
def standin_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for libedgetpu, compiled."""
    return build(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(
    standin_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Standin]:
    """A stand-in for libedgetpu that works well, and one Edge TPU on PCIe to be found."""
    made = Standin(standin_library, tmp_path)
    (tmp_path / "root/dev").mkdir(parents=True)
    (tmp_path / "root/dev/apex_0").touch()
    monkeypatch.setattr(device, "ROOT", tmp_path / "root")
    # A process for each test that loads it takes its time; ``unproved`` has them back.
    monkeypatch.setattr(edgetpu_proof, "prove", lambda *_: None)
    monkeypatch.setenv("EDGETPU_STANDIN", str(made.control))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    # The thread that owns the Edge TPU is the process's; here each test has its own.
    owner.cache_clear()
    yield made
    made.tell()
    if owner.cache_info().currsize:
        assert owner().end(timeout_s=20)
        owner.cache_clear()


@pytest.fixture
def unproved(standin: Standin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in as a library that must be proved before it is loaded."""
    monkeypatch.setattr(edgetpu_proof, "prove", PROVE)
    monkeypatch.setattr(edgetpu_proof, "_proofs", set())


@pytest.fixture
def twins(colours: Callable[..., Path]) -> Callable[..., Path]:
    """Makes the model of ``colours`` with its twin for the Edge TPU beside it."""

    def make(**differences: Any) -> Path:
        path = colours()
        path.with_name("colours_edgetpu.tflite").write_bytes(edgetpu_model(**differences))
        return path

    return make


def classifier_of(name: str | Path, settings: config.Model | None = None) -> Classifier:
    """A classifier by the model's name or file, on an engine of its own."""
    model = catalog.find(str(name))
    return Classifier(model, open_engine(model, settings or config.Model()))


def frame_of(pixels: Pixels, layout: PixelFormat = PixelFormat.BGR, at: float = 0.0) -> Frame:
    """A frame of these pixels without row padding."""
    height = pixels.shape[0] * 2 // 3 if layout is PixelFormat.YUV420 else pixels.shape[0]
    return Frame(pixels, layout, pixels.shape[1], height, 0, at)


def footage(name: str) -> Frame:
    """One of the photographs that ship with the project: cat, coffee or rocket."""
    return frame_of(cv2.imread(str(FOOTAGE / f"{name}.jpg")).astype("uint8", copy=False))
