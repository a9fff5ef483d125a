"""Frame in, scores out."""

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import ModelError
from device.events import Accelerator, Description, Prediction, StageTimes, Tensor
from device.frames import Frame
from device.inference.choice import Choice
from device.inference.interpreter import Engine, Interpreter
from device.inference.preprocess import Preprocessor
from device.library.catalog import Model

_log = logging.getLogger("labelcam.classifier")

Scores = NDArray[np.float32]


class Classifier:
    """Classifies frames of one camera; one thread makes it, uses it and closes it."""

    def __init__(
        self,
        model: Model,
        settings: config.Model,
        camera: config.Camera | None = None,
        beside: "Classifier | None" = None,
        *,
        choice: Choice | None = None,
        wait: bool = True,
    ) -> None:
        """Load the model for pictures of ``camera``, which may rotate and crop them.

        ``beside`` is one of the same model, whose interpreter both then use by turns: a
        second would take as much memory again and be no faster. ``choice`` is what ``auto``
        stands for on the CPU, where it was measured. Without ``wait`` an Edge TPU is opened
        meanwhile, which takes seconds, and the CPU classifies until it is.

        Raises what Interpreter and Preprocessor raise.
        """
        self.labels = model.labels
        self._interpreter: Engine = (
            beside._interpreter if beside else open_engine(model, settings, choice, wait=wait)
        )
        self._users: list[Classifier] = beside._users if beside else []
        self._users.append(self)
        try:
            self.look_at(camera or config.Camera())
        except BaseException:
            self.close()
            raise
        self._output = self.description.outputs[0]
        self._is_logits = not model.file.gives_probabilities(model.file.outputs[0])
        self._scores: Scores = np.zeros(len(model.labels), np.float32)
        self._decoding = decoding(self._output)
        self.stages = StageTimes(0.0, 0.0, 0.0)

    @property
    def description(self) -> Description:
        """What the model runs on."""
        return self._interpreter.description

    def look_at(self, camera: config.Camera) -> None:
        """From the next frame on, take the region, turn and crop of this camera."""
        self._preprocess = Preprocessor(self.description.inputs[0], camera)

    @property
    def accelerator(self) -> Accelerator | None:
        """How the Edge TPU is, where the CPU may take over from it and back."""
        return self._interpreter.accelerator

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

    def invoke(self) -> None:
        """Run the model alone, on whatever its input holds. Raises InferenceError."""
        self._interpreter.invoke()

    def top(self, count: int) -> tuple[Prediction, ...]:
        """The best ``count`` of the last frame, best first, ties in the order of the labels."""
        return tuple(
            Prediction(self.labels[row], row, float(self._scores[row]))
            for row in top_rows(self._scores, count)
        )

    def _read_scores(self) -> None:
        values = self._interpreter.output().reshape(-1)
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
        """Free the model, once nobody beside it uses it."""
        if self in self._users:
            self._users.remove(self)
            if not self._users:
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


def open_engine(
    model: Model, settings: config.Model, choice: Choice | None, *, wait: bool
) -> Engine:
    """What runs the model: the CPU, the Edge TPU, or one beside the other.

    With ``delegate = "auto"`` and a twin it is a Failover, which takes an Edge TPU also when
    it is plugged in later; with ``wait`` it has already tried the one that is there. A twin
    that does not fit is refused: then the CPU works alone, and with ``delegate = "edgetpu"``
    it is a ModelError.
    """
    if settings.delegate not in ("auto", "edgetpu") or not (
        model.twin or model.file.compiled_for_edgetpu
    ):
        return Interpreter(model.file, settings, choice)
    # Imported here: most devices have no Edge TPU.
    from device.inference.edgetpu import delegate as edgetpu
    from device.inference.edgetpu import failover

    if model.twin is None:
        return failover.open_on_edgetpu(model.file, settings)
    try:
        failover.check_twin(model.file, model.twin)
    except ModelError as error:
        if settings.delegate == "edgetpu":
            raise
        _log.warning("the Edge TPU is not used: %s", error)
        return Interpreter(model.file, settings, choice)
    if settings.delegate == "edgetpu":
        return failover.open_on_edgetpu(model.twin, settings)
    cpu = Interpreter(model.file, settings, choice)
    if wait and not edgetpu.find_devices():
        return cpu
    try:
        both = failover.Failover(model, settings, cpu)
    except BaseException:
        cpu.close()
        raise
    if wait:
        both.wait_until_opened()
    return both


def decoding(tensor: Tensor) -> Scores | None:
    """The real numbers, float32, that the 256 bytes of an 8-bit output stand for.

    None where the output is not quantized to 8 bits.
    """
    if tensor.dtype not in ("uint8", "int8") or not tensor.scale:
        return None
    # The bytes in the order of their unsigned numbers: an int8 is looked up by its bits.
    codes = np.arange(256, dtype=np.uint8).view(tensor.dtype).astype(np.float32)
    return (codes - np.float32(tensor.zero_point)) * np.float32(tensor.scale)


def top_rows(scores: Scores, count: int) -> Sequence[int]:
    """Indices of the ``count`` greatest scores, greatest first, ties in index order."""
    left = scores.copy()
    rows = []
    for _ in range(min(count, scores.size)):
        rows.append(int(left.argmax()))
        left[rows[-1]] = -np.inf
    return rows
