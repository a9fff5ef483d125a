"""The ways to run a model tried against each other, in child processes, by turns."""

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from device import config
from device.errors import TrialError
from device.inference.interpreter import Interpreter
from device.inference.ranking import median, pick
from device.inference.runtimes import Candidate, Runtime
from device.inference.trial import Times, Trial, serve, time_calls
from device.library import tflite_file
from device.library.tflite_file import TfliteFile

_log = logging.getLogger("labelcam.choice")

# Delegates differ by half, and 0.1 s of a fast model tells it. What threads cost shows only
# when something else wants their core.
_SAMPLES = 24
_THREAD_SAMPLES = 120
_BURST = 6
_BURST_S = 0.15
# What takes this many times as long as the best after a burst is tried no more.
_HOPELESS = 2.0


def measure(
    model: TfliteFile, settings: config.Model, candidates: Sequence[Candidate], budget_s: float
) -> Mapping[Candidate, Sequence[float]]:
    """Milliseconds of an inference of each candidate that ran, within ``budget_s`` seconds.

    First each runtime and delegate with the fewest threads; then more threads for the best of
    them. What does not run, or not in time, is left out or has no times.
    """
    start = time.monotonic()
    fewest = min((c.threads for c in candidates), default=1)
    with contextlib.ExitStack() as children:
        trials = {}
        for runtime in dict.fromkeys(c.runtime for c in candidates):
            with contextlib.suppress(TrialError):
                trials[runtime] = children.enter_context(
                    Trial("device.inference.race", name=runtime)
                )
        race = _Race(model, settings, trials)
        single = [c for c in candidates if c.threads == fewest]
        # Some of the time is for the threads, where there is a choice of them.
        share = 1.0 if len(single) == len(candidates) else 0.65
        race.run(single, _SAMPLES, start + share * budget_s)
        if leader := pick(race.samples):
            same = (leader.runtime, leader.delegate)
            more = [c for c in candidates if (c.runtime, c.delegate) == same]
            if len(more) > 1:
                race.run(more, _THREAD_SAMPLES, start + budget_s)
    return race.samples


class _Race:
    """Candidates that run by turns, so that whatever else the machine does hits all alike."""

    def __init__(
        self, model: TfliteFile, settings: config.Model, trials: Mapping[Runtime, Trial]
    ) -> None:
        self.samples: dict[Candidate, list[float]] = {}
        self._model = model
        self._settings = settings
        self._trials = trials
        self._numbers: dict[Candidate, int] = {}

    def run(self, candidates: Iterable[Candidate], count: int, deadline: float) -> None:
        """Add ``count`` samples of each that runs, or what there is time for."""
        running = [c for c in candidates if self._load(c, deadline)]
        enough = {c: len(self.samples[c]) + count for c in running}
        while running:
            running = [c for c in running if self._burst(c, deadline)]
            ran = {c: median(self.samples[c]) for c in running}
            limit = _HOPELESS * min(ran.values(), default=0.0)
            running = [c for c in running if ran[c] <= limit and len(self.samples[c]) < enough[c]]

    def _load(self, candidate: Candidate, deadline: float) -> bool:
        trial = self._trials.get(candidate.runtime)
        left_s = deadline - time.monotonic()
        if candidate in self._numbers:
            return True
        if trial is None or left_s <= 0:
            return False
        request = _Load(str(self._model.path), candidate.apply_to(self._settings))
        try:
            self._numbers[candidate] = trial.ask(request, int, left_s)
        except TrialError as error:
            _log.debug("%s: %s", candidate, error)
            return False
        self.samples[candidate] = []
        return True

    def _burst(self, candidate: Candidate, deadline: float) -> bool:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        request = _Run(self._numbers[candidate], _BURST, min(_BURST_S, left_s))
        try:
            reply = self._trials[candidate.runtime].ask(request, Times, left_s)
        except TrialError as error:
            _log.debug("%s: %s", candidate, error)
            return False
        self.samples[candidate] += reply.ms
        return True


class _Load(msgspec.Struct, frozen=True, tag=True):
    """Asks a child to load the model in one more way; replied to with its number."""

    model: str
    settings: config.Model


class _Run(msgspec.Struct, frozen=True, tag=True):
    """Asks a child to run what it loaded under ``number``; replied to with Times."""

    number: int
    count: int
    limit_s: float


class _Child:
    """What runs in the child process: interpreters of one runtime, side by side."""

    def __init__(self) -> None:
        self._interpreters: list[Interpreter] = []

    def answer(self, request: bytes) -> object:
        """The reply to a _Load or _Run."""
        work = msgspec.json.decode(request, type=_Load | _Run)
        if isinstance(work, _Load):
            model = tflite_file.read(Path(work.model))
            self._interpreters.append(Interpreter(model, work.settings))
            return len(self._interpreters) - 1
        return time_calls(self._interpreters[work.number].invoke, work.count, work.limit_s)


if __name__ == "__main__":
    serve(_Child().answer)
