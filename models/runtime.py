"""Runs a classifier file on one thread, for the tools here; a device uses `device.inference`."""

from __future__ import annotations

import importlib
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.lite0 import PIXEL_SCALE, PIXEL_ZERO_POINT

RUNTIMES: Final = ("tflite_runtime.interpreter", "ai_edge_litert.interpreter")


class RuntimeMissingError(ImportError):
    """Neither of the two runtimes is installed."""


class Model:
    """A `.tflite` classifier: RGB picture in, real values out."""

    def __init__(self, data: bytes) -> None:
        """Takes the file's bytes. Raises RuntimeMissingError, or ValueError for a broken file."""
        self._interpreter = interpreter_class()(model_content=data, num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    @property
    def size(self) -> int:
        """The side of the square picture that it takes, in pixels."""
        return int(self._input["shape"][1])

    def run(self, picture: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Returns every output, dequantized, for an RGB picture (size, size, 3)."""
        feed: NDArray[Any] = picture
        if self._input["dtype"] == np.float32:
            feed = (picture.astype(np.float32) - PIXEL_ZERO_POINT) * np.float32(PIXEL_SCALE)
        self._interpreter.set_tensor(self._input["index"], feed[np.newaxis])
        self._interpreter.invoke()
        return [self._dequantized(output) for output in self._outputs]

    def _dequantized(self, output: dict[str, Any]) -> NDArray[np.float32]:
        values: NDArray[Any] = self._interpreter.get_tensor(output["index"])
        scale, zero_point = output["quantization"]
        if not scale:
            return values.astype(np.float32)
        real: NDArray[np.float32] = (values.astype(np.float32) - zero_point) * np.float32(scale)
        return real


def interpreter_class() -> Any:
    """Returns the ``Interpreter`` of the first runtime that is installed.

    Raises RuntimeMissingError if there is none.
    """
    for name in RUNTIMES:
        try:
            return importlib.import_module(name).Interpreter
        except ModuleNotFoundError:
            continue
    raise RuntimeMissingError(
        "no TensorFlow Lite runtime; install tflite-runtime (Python 3.11) or ai-edge-litert"
    )
