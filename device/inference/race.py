"""The ways to run a model tried against each other, in child processes, by turns.

At the pace of a camera: in a loop without pauses threads seem cheap that, at ten frames a
second, are woken too late to be of use. 5.2 ms in the loop and 15 ms at that pace were seen.
"""

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from device import config
from device.errors import TrialError
from device.inference.interpreter import Interpreter
from device.inference.ranking import Times, pick
from device.inference.runtimes import Candidate, Runtime
from device.inference.trial import Trial, serve, time_calls
from device.library import tflite_file
from device.library.tflite_file import TfliteFile

_log = logging.getLogger("labelcam.choice")

# Delegates differ by half, and a few calls tell it. What threads cost shows only when something
# else wants their core.
_SAMPLES = 12
_THREAD_SAMPLES = 48
_TURN = 3
_TURN_S = 0.2
# A pause of this much is as good as a longer one, and leaves time for twenty calls.
_LONGEST_INTERVAL_S = 0.1
# What takes this many times as long as the best after a turn is tried no more.
_HOPELESS = 2.0


def measure(
    model: TfliteFile,
    settings: config.Model,
    candidates: Sequence[Candidate],
    fps: float,
    budget_s: float,
) -> Mapping[Candidate, Times]:
    """Inferences of each candidate that ran, ``fps`` a second, within ``budget_s`` seconds.

    First each runtime and delegate with the fewest threads; then more threads for the best of
    them. What does not run, or not in time, is left out or has no times.
    """
    end = time.monotonic() + budget_s
    fewest = min((c.threads for c in candidates), default=1)
    with contextlib.ExitStack() as children:
        trials = {}
        for runtime in dict.fromkeys(c.runtime for c in candidates):
            with contextlib.suppress(TrialError):
                trials[runtime] = children.enter_context(
                    Trial("device.inference.race", name=runtime)
                )
        race = _Race(model, settings, trials, min(1 / fps, _LONGEST_INTERVAL_S), end)
        single = [c for c in candidates if c.threads == fewest]
        # Some of the time is for the threads, where there is a choice of them.
        share = 0.0 if len(single) == len(candidates) else 0.35
        race.run(single, _SAMPLES, end - share * budget_s)
        if leader := pick(race.samples):
            same = (leader.runtime, leader.delegate)
            more = [c for c in candidates if (c.runtime, c.delegate) == same]
            if len(more) > 1:
                race.run(more, _THREAD_SAMPLES, end)
    return race.samples


class _Race:
    """Candidates that run by turns, so that whatever else the machine does hits all alike."""

    def __init__(
        self,
        model: TfliteFile,
        settings: config.Model,
        trials: Mapping[Runtime, Trial],
        interval_s: float,
        end: float,
    ) -> None:
        self.samples: dict[Candidate, Times] = {}
        self._model = model
        self._settings = settings
        self._trials = trials
        self._interval_s = interval_s
        self._end = end
        self._numbers: dict[Candidate, int] = {}

    def run(self, candidates: Iterable[Candidate], count: int, deadline: float) -> None:
        """Add ``count`` samples of each that runs, or what there is time for."""
        running = [c for c in candidates if self._load(c, deadline)]
        enough = {c: len(self.samples[c].ms) + count for c in running}
        while running:
            running = [c for c in running if self._turn(c, deadline)]
            ran = {c: self.samples[c].median_ms for c in running}
            limit = _HOPELESS * min(ran.values(), default=0.0)
            running = [
                c for c in running if ran[c] <= limit and len(self.samples[c].ms) < enough[c]
            ]

    def _load(self, candidate: Candidate, deadline: float) -> bool:
        trial = self._trials.get(candidate.runtime)
        if candidate in self._numbers:
            return True
        if trial is None or time.monotonic() >= deadline:
            return False
        request = _Load(str(self._model.path), candidate.apply_to(self._settings))
        try:
            self._numbers[candidate] = trial.ask(request, int, self._end - time.monotonic())
        except TrialError as error:
            _log.debug("%s: %s", candidate, error)
            return False
        self.samples[candidate] = Times()
        return True

    def _turn(self, candidate: Candidate, deadline: float) -> bool:
        now = time.monotonic()
        # Too late a turn would be cut off, and its process lost for the threads.
        if deadline - now < _TURN_S:
            return False
        request = _Run(self._numbers[candidate], _TURN, _TURN_S, self._interval_s)
        try:
            reply = self._trials[candidate.runtime].ask(request, Times, self._end - now)
        except TrialError as error:
            _log.debug("%s: %s", candidate, error)
            return False
        self.samples[candidate] += reply
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
    interval_s: float


class _Child:
    """What runs in the child process: interpreters of one runtime, side by side."""

    def __init__(self) -> None:
        self._interpreters: list[Interpreter] = []

    def answer(self, request: bytes) -> object:
        """The reply to a _Load or _Run."""
        work = msgspec.json.decode(request, type=_Load | _Run)
        if isinstance(work, _Load):
            interpreter = Interpreter(tflite_file.read(Path(work.model)), work.settings)
            # The first inference packs weights, and is of no interest.
            interpreter.invoke()
            self._interpreters.append(interpreter)
            return len(self._interpreters) - 1
        invoke = self._interpreters[work.number].invoke
        return time_calls(invoke, work.count, work.limit_s, interval_s=work.interval_s)


if __name__ == "__main__":
    serve(_Child().answer)
