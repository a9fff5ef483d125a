"""One way to run a model, from the start of its process to frame after frame: for bench.

Run as a process of its own and asked through its standard input; see ``trial``. What
``labelcam run`` imports is imported here too, and each step of the start is timed.
"""

import time

_UP_AT = time.monotonic()

# The time before any import is wanted.
import importlib  # noqa: E402
import os  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import msgspec  # noqa: E402

from device import config  # noqa: E402
from device.frames import Frame, PixelFormat  # noqa: E402
from device.inference.ranking import Times  # noqa: E402
from device.inference.trial import serve, time_calls  # noqa: E402

if TYPE_CHECKING:
    from device.pipeline.classifier import Classifier


class Picture(msgspec.Struct, frozen=True):
    """A camera's frame on disk: ``file`` is what NumPy saved of its pixels."""

    file: str
    format: PixelFormat
    width: int
    height: int


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Asks to load the model and label the picture; replied to with Startup.

    ``started_at`` is when the process was started, in monotonic seconds; ``beside`` are the names
    or files of the models that look as well.
    """

    settings: config.Model
    camera: config.Camera
    picture: Picture
    started_at: float
    beside: tuple[str, ...] = ()


class Startup(msgspec.Struct, frozen=True):
    """The first label, and the seconds of each step on the way to it, in their order."""

    label: str
    steps_s: dict[str, float]


class BeginPlain(msgspec.Struct, frozen=True, tag=True):
    """Asks for ``Interpreter(model)`` as tutorials have it; replied to with true.

    It gets the picture resized.
    """

    module: str
    model: str
    picture: Picture


class Invoke(msgspec.Struct, frozen=True, tag=True):
    """Asks to run the model alone for ``limit_s`` seconds, every ``interval_s``.

    0 is without a pause. Replied to with Times.
    """

    limit_s: float
    interval_s: float


class Label(msgspec.Struct, frozen=True, tag=True):
    """Asks to label frames of this picture in the same way; replied to with FrameTimes."""

    picture: Picture
    limit_s: float
    interval_s: float


class FrameTimes(msgspec.Struct, frozen=True):
    """The time from a frame to its label, and the process's resident memory meanwhile.

    ``alone`` is of every other frame, without the models beside; none where there are none.
    """

    times: Times
    rss_mb: float
    alone: Times = Times()


class _Child:
    """The process's one way to run the model."""

    def __init__(self) -> None:
        self._invoke: Callable[[], object]
        self._classifier: Classifier

    def answer(self, request: bytes) -> object:
        """The reply to one of the requests above."""
        asked = msgspec.json.decode(request, type=Begin | BeginPlain | Invoke | Label)
        if isinstance(asked, Begin):
            return self._begin(asked)
        if isinstance(asked, BeginPlain):
            return self._begin_plain(asked)
        if isinstance(asked, Invoke):
            return time_calls(self._invoke, _MANY, asked.limit_s, interval_s=asked.interval_s)
        times, alone = self._label(asked)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return FrameTimes(times, pages * os.sysconf("SC_PAGE_SIZE") / 1e6, alone)

    def _label(self, asked: Label) -> tuple[Times, Times]:
        """With all models; and without those beside the first, frame by frame in turn."""
        arrive, label = self._frame(asked.picture)
        if not self._classifier.beside:
            interval_s = asked.interval_s
            return time_calls(
                label, _MANY, asked.limit_s, prepare=arrive, interval_s=interval_s
            ), Times()
        times = {False: Times(), True: Times()}
        end = time.monotonic() + asked.limit_s
        # The first two find the caches as another process left them.
        for number in range(_MANY):
            for alone in (True, False) if number % 2 else (False, True):
                self._classifier.alone = alone
                one = time_calls(label, 1, 0.0, prepare=arrive, interval_s=asked.interval_s)
                if number:
                    times[alone] += one
            if number and time.monotonic() >= end:
                break
        self._classifier.alone = False
        return times[False], times[True]

    def _begin(self, begin: Begin) -> Startup:
        steps = {"Python": _UP_AT - begin.started_at}
        mark = _UP_AT

        def done(step: str) -> None:
            nonlocal mark
            now = time.monotonic()
            steps[step], mark = now - mark, now

        importlib.import_module("device.node")  # with all that a run imports
        from device.inference.pool import open_engine, settings_beside
        from device.inference.runtimes import import_runtime
        from device.library import catalog
        from device.pipeline.ensemble import Ensemble

        import_runtime(begin.settings.runtime)
        done("imports")
        model = catalog.find(begin.settings.name, begin.settings.labels)
        others = [catalog.find(name) for name in begin.beside]
        done("model")
        engine = open_engine(model, begin.settings)
        settings = settings_beside(begin.settings, engine.description.runtime)
        beside = [(other, open_engine(other, settings)) for other in others]
        self._classifier = Ensemble(model, engine, begin.camera, beside)
        self._invoke = self._classifier.invoke
        done("delegate")
        arrive, label = self._frame(begin.picture)
        arrive()
        label()
        best = self._classifier.top(1)[0].label
        done("first frame")
        return Startup(best, steps)

    def _frame(self, picture: Picture) -> tuple[Callable[[], object], Callable[[], object]]:
        """Two calls: the frame arrives from its camera; its best label is found."""
        import numpy as np

        original = np.load(picture.file)
        # A camera's frame was written a moment ago and is in the cache; one that has lain
        # there through an inference is not.
        pixels = np.empty_like(original)
        frame = _as_frame(picture, pixels)

        def arrive() -> None:
            np.copyto(pixels, original)

        def label() -> None:
            self._classifier.classify(frame)
            self._classifier.top(1)

        return arrive, label

    def _begin_plain(self, begin: BeginPlain) -> bool:
        import numpy as np

        from device.inference.preprocess import Preprocessor
        from device.library import tflite_file

        interpreter: Any = importlib.import_module(begin.module).Interpreter(begin.model)
        interpreter.allocate_tensors()
        model = tflite_file.read(Path(begin.model))
        spec = model.tensors[model.inputs[0]]
        resized = np.zeros(spec.shape, spec.dtype)
        picture = begin.picture
        frame = _as_frame(picture, np.load(picture.file))
        Preprocessor(spec, config.Camera())(frame, resized)
        source = interpreter.get_input_details()[0]["index"]
        output = interpreter.get_output_details()[0]["index"]

        def invoke() -> None:
            interpreter.set_tensor(source, resized)
            interpreter.invoke()
            interpreter.get_tensor(output)

        self._invoke = invoke
        return True


# A round is bounded by its time.
_MANY = 1_000_000


def _as_frame(picture: Picture, pixels: Any) -> Frame:
    return Frame(pixels, picture.format, picture.width, picture.height, 0, 0.0)


if __name__ == "__main__":
    serve(_Child().answer)
