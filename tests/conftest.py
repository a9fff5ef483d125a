"""What several test files share."""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from device.frames import Frame, PixelFormat, Pixels
from tests.tiny import colour_model

FOOTAGE = Path(__file__).parent.parent / "models" / "footage"


@pytest.fixture(scope="session")
def testdata() -> Path:
    """The folder of real models and pictures that the project does not ship."""
    folder = os.environ.get("LABELCAM_TESTDATA")
    if not folder:
        pytest.skip("LABELCAM_TESTDATA is not set: no real models to test with")
    return Path(folder)


@pytest.fixture
def colours(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model that tells red, green and blue pictures apart, with its label file."""

    def make(name: str = "colours.tflite", **options: object) -> Path:
        path = tmp_path / name
        path.write_bytes(colour_model(**options))  # type: ignore[arg-type]
        path.with_suffix(".txt").write_text("red\ngreen\nblue\n")
        return path

    return make


def frame_of(pixels: Pixels, layout: PixelFormat = PixelFormat.BGR, at: float = 0.0) -> Frame:
    """A frame of these pixels without row padding."""
    height = pixels.shape[0] * 2 // 3 if layout is PixelFormat.YUV420 else pixels.shape[0]
    return Frame(pixels, layout, pixels.shape[1], height, 0, at)


def footage(name: str) -> Frame:
    """One of the photographs that ship with the project: cat, coffee or rocket."""
    return frame_of(cv2.imread(str(FOOTAGE / f"{name}.jpg")).astype("uint8", copy=False))
