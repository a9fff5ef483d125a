"""A picture to its features, on the CPU, for whoever teaches without a running device."""

from dataclasses import replace
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import TeachError
from device.frames import Frame
from device.inference.choice import choose
from device.inference.pool import open_engine
from device.inference.preprocess import Preprocessor
from device.library.catalog import Model
from device.teach.head import Features
from device.teach.lessons import Picture
from device.teach.teacher import picture_of


class Embedder:
    """Gives the features of pictures as ``camera`` shows them to the model; for one thread.

    It works on the CPU also where an Edge TPU is configured: the head is tied to the CPU's
    file, and a device that runs holds the Edge TPU.
    """

    def __init__(
        self, model: Model, settings: config.Model, camera: config.Camera | None = None
    ) -> None:
        """Load ``model.file``. Raises TeachError where it gives no features, and what
        open_engine and Preprocessor raise.
        """
        output = model.file.embedding
        if output is None:
            raise TeachError(
                f"model {model.file.path.name} gives no features to learn from; use "
                f"{config.Model().name}, or make one of yours with python -m models.quantize"
            )
        if settings.delegate == "edgetpu" and not model.file.compiled_for_edgetpu:
            settings = msgspec.structs.replace(settings, delegate="auto")
        self._output = output
        self._camera = camera or config.Camera()
        choice = choose(model.file, settings)
        self._engine = open_engine(replace(model, twin=None), settings, choice)
        try:
            description = self._engine.description
            self._tensor = description.outputs[output]
            self._preprocess = Preprocessor(description.inputs[0], self._camera)
        except BaseException:
            self.close()
            raise

    def picture(self, frame: Frame, *, mirror: bool, keep: bool) -> Picture:
        """The frame to be taught, with ``mirror`` as its mirror too, with ``keep`` as a JPEG.

        Raises InferenceError.
        """
        self._preprocess(frame, self._engine.input())
        seen = self._engine.input().copy()
        views = [seen, seen[:, :, ::-1]] if mirror else [seen]
        features = np.stack([self._features(view) for view in views])
        found = picture_of(frame, features[0], self._camera, keep=keep)
        return found._replace(features=features)

    def features(self, frame: Frame) -> Features:
        """The frame's features, float32 (features,). Raises InferenceError."""
        features: Features = self.picture(frame, mirror=False, keep=False).features[0]
        return features

    def _features(self, view: NDArray[np.generic]) -> Features:
        np.copyto(self._engine.input(), view)
        self._engine.invoke()
        values: Features = self._engine.output(self._output).reshape(-1).astype(np.float32)
        if self._tensor.scale:
            values -= np.float32(self._tensor.zero_point)
            values *= np.float32(self._tensor.scale)
        return values

    def close(self) -> None:
        """Free the model; may be called twice."""
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
