"""Several models that look at the same frames, as one classifier: what it is, and who is there."""

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np

from device import config
from device.errors import InferenceError, InferenceHung
from device.events import Beside, Prediction, StageTimes, Tensor
from device.frames import Frame
from device.inference.choice import choose
from device.inference.interpreter import Engine
from device.inference.pool import EnginePool, settings_beside
from device.library.catalog import Model
from device.pipeline.classifier import Classifier, Scores, predictions

_log = logging.getLogger("labelcam.classifier")

# The runtime keeps the text of every error for as long as it has the model loaded.
_RETRY_MIN_S = 1.0
_RETRY_MAX_S = 300.0
_NONE = StageTimes(0.0, 0.0, 0.0)


def open_ensemble(
    engines: EnginePool,
    model: Model,
    settings: config.Model,
    camera: config.Camera,
    fps: float = 0.0,
) -> "Ensemble":
    """A classifier of the model and of those beside it, on engines that others may use as well.

    What runs the first best is measured at ``fps`` frames a second, with 0 not at all. Raises what
    ``choose``, ``EnginePool.open`` and Preprocessor raise.
    """
    with contextlib.ExitStack() as opened:
        first = engines.share(model, settings)
        if first is None:
            choice = choose(model.file, settings, fps=fps)
            first = engines.open(model, settings, choice, wait=False)
        opened.callback(first.close)
        its_settings = settings_beside(settings, first.description.runtime)
        others = []
        for other in model.beside:
            lease = engines.open(other, its_settings, wait=False)
            opened.callback(lease.close)
            others.append((other, lease))
        ensemble = Ensemble(model, first, camera, others)
        ensemble.shared = first.shared
        # They are another thread's to run.
        ensemble.alone = any(lease.shared for _, lease in others)
        opened.pop_all()
        return ensemble


class Ensemble(Classifier):
    """A first model and others beside it: labels and scores are the first's, and then theirs.

    All else is as of the first. Where one of the others fails, its scores are 0 until it works
    again. With ``alone`` they are not asked, and their scores mean nothing. ``shared`` where the
    first's engine was in use before.
    """

    shared = False

    def __init__(
        self,
        model: Model,
        engine: Engine,
        camera: config.Camera | None = None,
        beside: Sequence[tuple[Model, Engine]] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take ``engine`` for the first model, and those of the models ``beside`` it.

        All are closed with this, and where this cannot be made. ``clock`` gives monotonic
        seconds. Raises what Preprocessor raises.
        """
        self._others: list[_Other] = []
        # One array, of which each model writes its part.
        ends = np.cumsum([len(m.labels) for m in (model, *(other for other, _ in beside))])
        self._all: Scores = np.zeros(ends[-1], np.float32)
        own, *parts = np.split(self._all, ends[:-1])
        try:
            super().__init__(model, engine, camera, own)
            picture = self.description.inputs[0]
            for (other, its_engine), part in zip(beside, parts, strict=True):
                self._others.append(_Other(other, its_engine, camera, part, picture, clock))
        except BaseException:
            for one in (engine, *(other for _, other in beside)):
                one.close()
            raise
        self.labels += tuple(label for other, _ in beside for label in other.labels)

    def look_at(self, camera: config.Camera) -> None:
        """From the next frame on, take the region, turn and crop of this camera."""
        super().look_at(camera)
        for other in self._others:
            other.look_at(camera)

    @property
    def beside(self) -> tuple[Beside, ...]:
        """How the others are; nothing while they are not asked."""
        return () if self.alone else tuple(other.state for other in self._others)

    def classify(self, frame: Frame) -> Scores:
        """As the Classifier's; a stage took the time that it took for all of them."""
        super().classify(frame)
        if not self.alone:
            for other in self._others:
                times = other.classify(frame, self._preprocess.picture)
                self.stages = StageTimes(
                    self.stages.preprocess_ms + times.preprocess_ms,
                    self.stages.invoke_ms + times.invoke_ms,
                    self.stages.postprocess_ms + times.postprocess_ms,
                )
        return self._all

    def top(self, count: int) -> tuple[Prediction, ...]:
        """The best ``count`` of the last frame, of all of them."""
        return predictions(self.labels, self._all, count)

    def close(self) -> None:
        """Close all engines; may be called twice."""
        super().close()
        for other in self._others:
            other.close()


class _Other:
    """A model beside the first, and when it is tried again where it failed."""

    def __init__(
        self,
        model: Model,
        engine: Engine,
        camera: config.Camera | None,
        scores: Scores,
        first: Tensor,
        clock: Callable[[], float],
    ) -> None:
        """``first`` is the input of the first model."""
        # Of a picture that another has made small already, the rest is quickly done: 0.05 ms
        # where a frame of 1080p took 0.9.
        self._reuses = _fits(first, model.file.tensors[model.file.inputs[0]])
        self._classifier = Classifier(model, engine, None if self._reuses else camera, scores)
        self._scores = scores
        self._clock = clock
        self._problem = ""
        self._retry_s = _RETRY_MIN_S
        self._retry_at = clock()

    def look_at(self, camera: config.Camera) -> None:
        if not self._reuses:
            self._classifier.look_at(camera)

    @property
    def state(self) -> Beside:
        classifier = self._classifier
        return Beside(classifier.description, classifier.accelerator, self._problem)

    def classify(self, frame: Frame, picture: Frame) -> StageTimes:
        """The time it took; ``picture`` is what the first model has seen of the frame."""
        if self._problem and self._clock() < self._retry_at:
            return _NONE
        try:
            self._classifier.classify(picture if self._reuses else frame)
        except InferenceHung:
            raise
        except InferenceError as error:
            self._put_off(error)
            return _NONE
        if self._problem:
            self._problem, self._retry_s = "", _RETRY_MIN_S
            _log.info("model %s: works again", self._classifier.description.model)
        return self._classifier.stages

    def _put_off(self, error: InferenceError) -> None:
        self._scores.fill(0)
        if str(error) != self._problem:
            _log.warning("%s; the camera goes on without it and tries it again", error)
        self._problem = str(error)
        self._retry_at = self._clock() + self._retry_s
        self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    def close(self) -> None:
        self._classifier.close()


def _fits(first: Tensor, other: Tensor) -> bool:
    """Whether a picture made for the input ``first`` has all that ``other`` takes."""
    if len(other.shape) != 4:
        return False
    _, height, width, channels = first.shape
    _, its_height, its_width, its_channels = other.shape
    same_shape = height * its_width == width * its_height
    return same_shape and height >= its_height and channels >= its_channels
