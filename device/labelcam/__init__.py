"""labelcam for other programs: cameras, a classifier and a decider. ``import labelcam``.

    import labelcam

    with labelcam.Camera("auto") as camera, labelcam.Classifier() as classifier:
        decider = labelcam.Decider(classifier.labels)
        for picture in camera:
            for change in decider.update(classifier.scores(picture)):
                print(change.label, change.score)

Pictures are NumPy arrays, uint8, shape (height, width, 3), in the order red, green, blue. What
goes wrong is a ``LabelcamError``, whose text says what to do.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device import __version__, config
from device.cameras import open_camera
from device.errors import ConfigError, LabelcamError, ModelError
from device.events import Prediction
from device.frames import Frame, PixelFormat
from device.inference.choice import choose
from device.inference.pool import open_engine
from device.pipeline import decider
from device.pipeline.classifier import predictions
from device.pipeline.ensemble import Ensemble
from device.pipeline.groups import groups_for
from device.pipeline.plan import find_model
from device.pipeline.rules import Decision as Change
from device.pipeline.words import Words
from device.recordings.rendering import upright

__all__ = [
    "Camera",
    "Change",
    "Classifier",
    "Decider",
    "LabelcamError",
    "Prediction",
    "__version__",
]

Picture = NDArray[np.uint8]
Scores = NDArray[np.float32]


class Classifier:
    """Says what is in a picture; one thread makes it, uses it and closes it."""

    def __init__(self, model: str = "", labels: str = "", groups: str = "auto") -> None:
        """Load a model of the catalogue or a .tflite file; the embedded one where none is named.

        ``labels`` is its label file, where the model brings none. ``groups`` is as the key
        ``decide.groups`` of the configuration: "auto" gives everyday words for the embedded
        model, with the sensor of persons beside it, and "" the model's own labels.
        Raises LabelcamError.
        """
        decide = config.Decide(groups=groups)
        model_settings = config.Model(name=model or config.Model().name, labels=labels)
        settings = config.Config(model=model_settings, decide=decide)
        found = find_model(settings, model_settings.name, labels)
        if not found.labels:
            raise ModelError(found.name, "gives features alone, not labels; name another model")
        with contextlib.ExitStack() as opened:
            engines = [
                opened.enter_context(
                    contextlib.closing(
                        open_engine(one, model_settings, choose(one.file, model_settings))
                    )
                )
                for one in (found, *found.beside)
            ]
            beside = tuple(zip(found.beside, engines[1:], strict=True))
            self._classifier = Ensemble(found, engines[0], None, beside)
            self._words = Words(decide, self._classifier.labels, groups_for(decide, found.name))
            # Only what was made as a whole is left open.
            opened.pop_all()
        self.labels: tuple[str, ...] = self._words.names

    def scores(self, picture: Picture) -> Scores:
        """The score of each of ``labels``, from 0 to 1: float32, shape (labels,), the caller's own.

        Raises ValueError for what is no picture, LabelcamError where the model fails.
        """
        frame = _frame(picture)
        return self._words(self._classifier.classify(frame)).copy()

    def classify(self, picture: Picture, top: int = 5) -> tuple[Prediction, ...]:
        """The best ``top`` labels, best first, each with ``label`` and ``score``.

        Raises what ``scores`` raises.
        """
        return predictions(self.labels, self.scores(picture), top)

    def close(self) -> None:
        """Let the model go; may be called twice."""
        self._classifier.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Camera:
    """The pictures of a camera, one after the other; one thread reads and closes it."""

    def __init__(self, source: str = "auto", **settings: Any) -> None:
        """Open what ``source`` names, as ``--source`` does; ``settings`` are keys of ``[camera]``.

        Raises LabelcamError where it cannot be opened, or for a setting that does not hold.
        """
        given = _converted(config.Camera, source=source, **settings)
        self._settings = given
        self._stop = threading.Event()
        self._camera = open_camera(given, self._stop)

    def __iter__(self) -> Iterator[Picture]:
        """Each picture as it comes, upright; recordings end, cameras do not.

        Raises LabelcamError when the camera fails.
        """
        while (frame := self._camera.read()) is not None:
            picture = upright(frame, self._settings.rotate, self._settings.mirror)
            yield np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """Let the camera go, and end whoever waits for a picture; may be called twice."""
        self._stop.set()
        self._camera.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Decider:
    """Turns the scores of one picture after another into changes of label."""

    def __init__(self, labels: Sequence[str], **settings: Any) -> None:
        """Decide on ``labels``, those of a Classifier; ``settings`` are keys of ``[decide]``.

        Raises LabelcamError for settings that do not hold.
        """
        made = _converted(config.Decide, **{"groups": "", **settings})
        self._decider = decider.Decider(made, labels)

    @property
    def label(self) -> str | None:
        """The label in force, or the word for nothing; None before the first decision."""
        return self._decider.label

    @property
    def active(self) -> tuple[str, ...]:
        """The labels in force, best first; several with ``mode="any"``."""
        return self._decider.active

    def update(self, scores: Scores, at: float | None = None) -> tuple[Change, ...]:
        """What the scores of a picture, taken ``at`` seconds, change; by default it is of now."""
        return self._decider.update(scores, time.monotonic() if at is None else at)


def _frame(picture: Picture) -> Frame:
    pixels = np.asarray(picture)
    height, width = pixels.shape[:2] if pixels.ndim == 3 else (0, 0)
    frame = Frame(pixels, PixelFormat.RGB, width, height, 0, time.monotonic())
    if pixels.ndim != 3 or frame.fault():
        raise ValueError(
            "a picture is a uint8 array of shape (height, width, 3), "
            f"met {pixels.dtype} of shape {pixels.shape}"
        )
    return dataclasses.replace(frame, pixels=np.ascontiguousarray(pixels))


def _converted(kind: type[Any], **settings: Any) -> Any:
    try:
        return msgspec.convert(settings, kind, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(kind.__name__.lower(), str(error)) from None
