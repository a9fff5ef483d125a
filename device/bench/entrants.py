"""What takes turns in ``labelcam bench``: a process for each way to run the model.

They are started one after the other and then asked for short rounds in turn, so that heat,
clocks and whatever else the machine does hit all alike.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.bench.rehearsal import (
    Begin,
    BeginPlain,
    FrameTimes,
    Invoke,
    Label,
    Picture,
    Startup,
)
from device.bench.report import Peer, Result, Spread, memory_mb, significant
from device.errors import TrialError
from device.frames import PixelFormat
from device.inference.ranking import Times, median
from device.inference.runtimes import RUNTIMES, Candidate, Runtime
from device.inference.trial import Trial
from device.library.catalog import Model

_log = logging.getLogger("labelcam.bench")

# What a cooled board and a machine that does other things need to even out; at a slow pace as
# many as there is time for, each with a call of the model alone and one of each of two pictures.
ROUNDS = 10
_LEAST_CALLS = 3
# For a start, and for a turn.
_TIMEOUT_S = 60.0
# What a process takes while it waits for its turn, with the kernel's share.
_PROCESS_MB = 150

Reply = TypeVar("Reply")


class Entrant:
    """A process that takes turns; ``times`` are of its calls."""

    def __init__(self, name: str, *command: str, python: str = "") -> None:
        self.name = name
        self.times = Times()
        self._command = command or ("device.bench.rehearsal",)
        self._python = python
        self._trial: Trial | None = None

    def start(self) -> None:
        """Start the process and have it ready. Raises TrialError."""
        self._trial = Trial(*self._command, python=self._python, name=self.name)

    def turn(self, limit_s: float, interval_s: float) -> None:
        """Measure for about so long, a call every ``interval_s``. Raises TrialError."""
        self.times += self._ask(Invoke(limit_s, interval_s), Times)

    def close(self) -> None:
        """End the process; may be called twice."""
        if self._trial:
            self._trial.close()

    def _ask(self, request: object, reply: type[Reply]) -> Reply:
        assert self._trial, "start() comes first"
        return self._trial.ask(request, reply, _TIMEOUT_S)


class CandidateEntrant(Entrant):
    """One way to run the model; ``frames`` are of each of the pictures."""

    def __init__(
        self,
        candidate: Candidate,
        settings: config.Model,
        camera: config.Camera,
        pictures: Sequence[Picture],
        beside: Sequence[Model] = (),
    ) -> None:
        super().__init__(str(candidate))
        self.candidate = candidate
        self.beside = beside
        self.startup = Startup("", {})
        self.frames = [Times() for _ in pictures]
        self._alone = [Times() for _ in pictures]
        self._rss_mb = [0.0 for _ in pictures]
        self._settings = candidate.apply_to(settings)
        self._camera = camera
        self._pictures = pictures

    def start(self) -> None:
        """Start the process, and measure the start."""
        super().start()
        assert self._trial
        picture, started_at = self._pictures[0], self._trial.started_at
        beside = tuple(str(model.file.path) for model in self.beside)
        begin = Begin(self._settings, self._camera, picture, started_at, beside)
        self.startup = self._ask(begin, Startup)

    def turn(self, limit_s: float, interval_s: float) -> None:
        """Measure the model alone, then frames of each picture."""
        share_s = limit_s / (1 + len(self._pictures))
        super().turn(share_s, interval_s)
        for number, picture in enumerate(self._pictures):
            reply = self._ask(Label(picture, share_s, interval_s), FrameTimes)
            self.frames[number] += reply.times
            self._alone[number] += reply.alone
            self._rss_mb[number] = reply.rss_mb

    def result(self, number: int, model: str, plain: Spread | None) -> Result:
        """The figures for picture ``number``."""
        frames, picture, alone = self.frames[number], self._pictures[number], self._alone[number]
        # Neighbours, since what else the machine does hits both alike.
        pairs = zip(frames.ms, alone.ms, strict=True) if alone.ms else ()
        more_ms = median([both - one for both, one in pairs] or [0.0])
        return Result(
            runtime=self.candidate.runtime,
            delegate=self.candidate.delegate,
            threads=self.candidate.threads,
            model=model,
            source_size=(picture.width, picture.height),
            invoke_ms=Spread.of(self.times.ms),
            frame_ms=Spread.of(frames.ms),
            plain_invoke_ms=plain,
            fps=significant(1e3 / frames.mean_ms),
            cpu_ms_per_frame=significant(frames.cpu_ms),
            rss_mb=significant(self._rss_mb[number]),
            first_label_s=significant(sum(self.startup.steps_s.values())),
            beside=tuple(model.name for model in self.beside),
            alone_ms=Spread.of(alone.ms) if alone.ms else None,
            beside_ms=significant(more_ms),
            beside_share=significant(more_ms / alone.median_ms) if alone.ms else 0.0,
        )


class PlainEntrant(Entrant):
    """A runtime used as tutorials use it: ``Interpreter(model)``, whatever that engages."""

    def __init__(self, runtime: Runtime, model: Model, picture: Picture) -> None:
        super().__init__(f"{runtime} Interpreter(model)")
        self.runtime = runtime
        self._request = BeginPlain(RUNTIMES[runtime], str(model.file.path), picture)

    def start(self) -> None:
        """Start the process and have it load the model."""
        super().start()
        self._ask(self._request, bool)


class PeerEntrant(Entrant):
    """Another program, in the environment of ``python``."""

    def __init__(self, name: str, python: str, model: Model, picture: Picture) -> None:
        super().__init__(name, str(Path(__file__).with_name("peers.py")), name, python=python)
        self._python = python
        self._version = ""
        self._picture = picture
        self._model = model

    def start(self) -> None:
        """Start the process and have it classify the picture once."""
        file = f"{self._picture.file}.rgb.npy"
        if not Path(file).exists():
            np.save(file, _rgb(self._picture))
        super().start()
        request = {"model": str(self._model.file.path), "picture": file}
        self._version = self._ask(request, dict[str, str])["version"]

    def turn(self, limit_s: float, interval_s: float) -> None:
        """Time its whole call."""
        self.times += self._ask({"limit_s": limit_s, "interval_s": interval_s}, Times)

    @property
    def peer(self) -> Peer:
        """What was measured."""
        size = (self._picture.width, self._picture.height)
        return Peer(
            name=self.name,
            version=self._version,
            python=self._python,
            model=self._model.name,
            source_size=size,
            call_ms=Spread.of(self.times.ms),
            cpu_ms_per_call=significant(self.times.cpu_ms),
        )


def take_turns(entrants: Sequence[Entrant], seconds: float, interval_s: float = 0.0) -> None:
    """Start all and let them take turns; who fails is named on stderr and drops out.

    A call comes every ``interval_s``, or with 0 as soon as the one before is done. Where memory
    does not hold them all at once, as many take turns as it does.
    """
    from rich.console import Console
    from rich.progress import Progress

    together = max(2, memory_mb("MemAvailable") // _PROCESS_MB)
    shortest_s = len(entrants) * _LEAST_CALLS * interval_s
    rounds = max(1, min(ROUNDS, int(seconds / shortest_s))) if interval_s else ROUNDS
    limit_s = seconds / len(entrants) / rounds
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task("Measuring", total=len(entrants) * (1 + rounds))
        for first in range(0, len(entrants), together):
            batch = list(entrants[first : first + together])
            try:
                for step in ("start", *["turn"] * rounds):
                    for entrant in tuple(batch):
                        progress.update(bar, advance=1, description=entrant.name)
                        try:
                            if step == "start":
                                entrant.start()
                            else:
                                entrant.turn(limit_s, interval_s)
                        except TrialError as error:
                            _log.warning("%s", error)
                            batch.remove(entrant)
            finally:
                for entrant in entrants[first : first + together]:
                    entrant.close()


def _rgb(picture: Picture) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.load(picture.file)
    codes = {
        PixelFormat.BGR: cv2.COLOR_BGR2RGB,
        PixelFormat.GREY: cv2.COLOR_GRAY2RGB,
        PixelFormat.YUV420: cv2.COLOR_YUV2RGB_I420,
    }
    if picture.format in codes:
        pixels = cv2.cvtColor(pixels, codes[picture.format]).astype(np.uint8, copy=False)
    return np.ascontiguousarray(pixels[:, : picture.width])
