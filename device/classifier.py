"""Frame in, scores out."""

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from device import config
from device.catalog import Model
from device.events import Description, Prediction, StageTimes
from device.frames import Frame
from device.interpreter import Interpreter
from device.preprocess import Preprocessor

Scores = NDArray[np.float32]


class Classifier:
    """Classifies frames of one camera; one thread makes it, uses it and closes it."""

    def __init__(
        self, model: Model, settings: config.Model, camera: config.Camera | None = None
    ) -> None:
        """Load the model for pictures of ``camera``, which may rotate and crop them.

        Raises what Interpreter and Preprocessor raise.
        """
        self.labels = model.labels
        self._interpreter = Interpreter(model.file, settings)
        try:
            tensor = self.description.inputs[0]
            self._preprocess = Preprocessor(tensor, camera or config.Camera())
        except BaseException:
            self._interpreter.close()
            raise
        self._output = self.description.outputs[0]
        self._is_logits = not model.file.gives_probabilities(model.file.outputs[0])
        self._scores: Scores = np.zeros(len(model.labels), np.float32)
        self.stages = StageTimes(0.0, 0.0, 0.0)

    @property
    def description(self) -> Description:
        """What the model runs on."""
        return self._interpreter.description

    def classify(self, frame: Frame) -> Scores:
        """Probabilities, float32, shape (classes,), in the order of ``labels``.

        The array is written again by the next call. The time each stage took is in
        ``stages``. Raises InferenceError.
        """
        start = time.perf_counter()
        self._preprocess(frame, self._interpreter.input())
        prepared = time.perf_counter()
        self._interpreter.invoke()
        invoked = time.perf_counter()
        self._read_scores()
        done = time.perf_counter()
        self.stages = StageTimes(
            (prepared - start) * 1e3, (invoked - prepared) * 1e3, (done - invoked) * 1e3
        )
        return self._scores

    def top(self, count: int) -> tuple[Prediction, ...]:
        """The best ``count`` of the last frame, best first, ties in the order of the labels."""
        return tuple(
            Prediction(self.labels[row], row, float(self._scores[row]))
            for row in top_rows(self._scores, count)
        )

    def _read_scores(self) -> None:
        values = self._interpreter.output().reshape(-1)
        if self._output.scale:
            # In float32 from the start: 8-bit numbers less their zero point would wrap.
            np.subtract(values, self._output.zero_point, out=self._scores, dtype=np.float32)
            self._scores *= np.float32(self._output.scale)
        else:
            np.copyto(self._scores, values)
        if self._is_logits:
            # Softmax; less the greatest first, since exp() of a large logit overflows.
            self._scores -= self._scores.max()
            np.exp(self._scores, out=self._scores)
            self._scores /= self._scores.sum()

    def close(self) -> None:
        """Free the model."""
        self._interpreter.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()


def top_rows(scores: Scores, count: int) -> Sequence[int]:
    """Indices of the ``count`` greatest scores, greatest first, ties in index order.

    A partial sort finds the least score that is in; only those at or over it are sorted.
    """
    count = min(count, scores.size)
    if count < 1:
        return []
    least = np.partition(scores, scores.size - count)[scores.size - count]
    rows = np.flatnonzero(scores >= least)
    order = np.argsort(-scores[rows], kind="stable")[:count]
    chosen: list[int] = rows[order].tolist()
    return chosen
