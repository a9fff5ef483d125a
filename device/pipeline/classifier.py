"""Frame in, scores out."""

import time
from collections.abc import Sequence
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import ModelError
from device.events import Accelerator, Beside, Description, Prediction, StageTimes, Tensor
from device.frames import Frame
from device.inference.interpreter import Engine
from device.inference.preprocess import Preprocessor
from device.library.catalog import Model

Scores = NDArray[np.float32]


class Classifier:
    """Classifies frames of one camera; one thread makes it, uses it and closes it."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        camera: config.Camera | None = None,
        scores: Scores | None = None,
    ) -> None:
        """Take ``engine``, which runs ``model``, for pictures of ``camera``.

        The camera may rotate and crop them. ``scores``, float32 (classes,), is where the
        probabilities go, if not into an array of its own. The engine is closed with this, and
        where this cannot be made. Raises what Preprocessor raises.
        """
        self.labels = model.labels
        # Whether models beside it, where there are any, are left out.
        self.alone = False
        self._engine = engine
        try:
            self.look_at(camera or config.Camera())
        except BaseException:
            engine.close()
            raise
        self._output = self.description.outputs[0]
        self._has_scores = model.file.scores is not None
        self._is_logits = not model.file.gives_probabilities(model.file.outputs[0])
        self._scores = np.zeros(len(model.labels), np.float32) if scores is None else scores
        self._decoding = decoding(self._output)
        self._embedding = model.file.embedding
        self.stages = StageTimes(0.0, 0.0, 0.0)

    @property
    def description(self) -> Description:
        """What the model runs on."""
        return self._engine.description

    @property
    def beside(self) -> tuple[Beside, ...]:
        """How the models beside it are that are asked as well."""
        return ()

    def look_at(self, camera: config.Camera) -> None:
        """From the next frame on, take the region, turn and crop of this camera."""
        self._preprocess = Preprocessor(self.description.inputs[0], camera)

    def area(self, frame: Frame) -> tuple[float, float, float, float]:
        """The part of the frame that the model sees: left, top, right, bottom as shares of it."""
        return self._preprocess.area(frame.width, frame.height)

    @property
    def accelerator(self) -> Accelerator | None:
        """How the Edge TPU is, where the CPU may take over from it and back."""
        return self._engine.accelerator

    def classify(self, frame: Frame) -> Scores:
        """Probabilities, float32, shape (classes,), in the order of ``labels``.

        None of them where the model gives features alone. The array is written again by the next
        call. The time each stage took is in ``stages``. Raises InferenceError.
        """
        start = time.perf_counter()
        self._preprocess(frame, self._engine.input())
        prepared = time.perf_counter()
        self._engine.invoke()
        invoked = time.perf_counter()
        if self._has_scores:
            self._read_scores()
        done = time.perf_counter()
        self.stages = StageTimes(
            (prepared - start) * 1e3, (invoked - prepared) * 1e3, (done - invoked) * 1e3
        )
        return self._scores

    @property
    def can_be_taught(self) -> bool:
        """Whether the model gives the features that ``features`` needs."""
        return self._embedding is not None

    def features(self) -> Scores:
        """The features of the last frame, float32, shape (features,), never negative.

        An array of its own each time. Raises ModelError where the model gives none.
        """
        if self._embedding is None:
            raise ModelError(
                self.description.model,
                "gives no features, so that it cannot be taught; use efficientnet-lite0-224-int8",
            )
        tensor = self.description.outputs[self._embedding]
        values = self._engine.output(self._embedding).reshape(-1)
        features: Scores = values.astype(np.float32)
        if tensor.scale:
            features -= np.float32(tensor.zero_point)
            features *= np.float32(tensor.scale)
        return features

    def invoke(self) -> None:
        """Run the model alone, on whatever its input holds. Raises InferenceError."""
        self._engine.invoke()

    def top(self, count: int) -> tuple[Prediction, ...]:
        """The best ``count`` of the last frame, best first, ties in the order of the labels."""
        return predictions(self.labels, self._scores, count)

    def _read_scores(self) -> None:
        values = self._engine.output().reshape(-1)
        if self._decoding is not None:
            # One call in place of three: after an inference nothing is in the caches, and
            # what NumPy does here costs ten times its usual.
            cv2.LUT(values.view(np.uint8), self._decoding, self._scores)
        elif self._output.scale:
            # In float32 from the start: integers less their zero point would wrap.
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
        """Close its engine; may be called twice."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def decoding(tensor: Tensor) -> Scores | None:
    """The real numbers, float32, that the 256 bytes of an 8-bit output stand for.

    None where the output is not quantized to 8 bits.
    """
    if tensor.dtype not in ("uint8", "int8") or not tensor.scale:
        return None
    # The bytes in the order of their unsigned numbers: an int8 is looked up by its bits.
    codes = np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.float32)
    return (codes - np.float32(tensor.zero_point)) * np.float32(tensor.scale)


def predictions(
    names: Sequence[str], scores: Scores, count: int, least: float = 0.0
) -> tuple[Prediction, ...]:
    """The best ``count`` of scores by these names, best first, ties in the order of the names.

    Those under ``least`` are left out, but for the very best.
    """
    rows = top_rows(scores, count, least)
    return tuple(Prediction(names[row], row, float(scores[row])) for row in rows)


def top_rows(scores: Scores, count: int, least: float = 0.0) -> Sequence[int]:
    """Indices of the ``count`` greatest scores, greatest first, ties in index order.

    None after the first is under ``least``.
    """
    left = scores.copy()
    rows: list[int] = []
    for _ in range(min(count, scores.size)):
        row = int(left.argmax())
        if rows and scores[row] < least:
            break
        rows.append(row)
        left[row] = -np.inf
    return rows
