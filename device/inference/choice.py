"""Which runtime, delegate and number of threads run a model best here: measured, remembered.

What is fastest differs between machines in ways that nobody can tell from their names:
XNNPACK wins by a factor of ten on one processor and loses on another. so ``auto`` is decided
by the machine itself, in at most BUDGET_S seconds at the first start with a model: before
the first inference, which would compete with it, and while the cameras work, since threads
must do with the cores that those leave. Later starts read the choice back from the state
directory, until the model, a runtime, the processor or the settings are others.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from device import config
from device.inference.interpreter import RUNTIMES
from device.library.tflite_file import TfliteFile
from device.system.files import replace_file
from device.system.paths import state_directory

_log = logging.getLogger("labelcam.choice")

BUDGET_S = 3.0
THREADS = (1, 2, 4)
# What is found otherwise must be clearly faster than the default; and twice the processors
# that a camera, a broker and a display want too must bring more than a few per cent.
_WORTH_CHANGING = 0.95
_WORTH_MORE_THREADS = 0.8
# With a thread on every core, whatever else the machine does one day stops them all: 30 times
# slower was seen. So that must bring nearly all that it can.
_WORTH_ALL_CORES = 0.6
_REMEMBERED = 32
_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")
_BOARD = Path("/proc/device-tree/model")

Runtime = Literal["tflite-runtime", "ai-edge-litert"]
Delegate = Literal["xnnpack", "edgetpu", "none"]


class Candidate(msgspec.Struct, frozen=True):
    """One way to run a model."""

    runtime: Runtime
    delegate: Delegate
    threads: int

    def __str__(self) -> str:
        """As reasons and tables name it."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.runtime} {self.delegate} {threads}"

    def apply_to(self, settings: config.Model) -> config.Model:
        """``settings`` with this in place of what they have."""
        return msgspec.structs.replace(
            settings, runtime=self.runtime, delegate=self.delegate, threads=self.threads
        )


class Choice(msgspec.Struct, frozen=True):
    """What ``auto`` stands for here, and why."""

    best: Candidate
    reason: str

    def apply_to(self, settings: config.Model) -> config.Model:
        """``settings`` with the choice for what they leave open.

        A delegate that was chosen and not asked for may fail one day: ``auto`` stays, which
        then goes on without it, unless none was the better.
        """
        delegate = settings.delegate
        if delegate == "auto" and self.best.delegate == "none":
            delegate = "none"
        return msgspec.structs.replace(
            settings,
            runtime=self.best.runtime if settings.runtime == "auto" else settings.runtime,
            delegate=delegate,
            threads=settings.threads or self.best.threads,
        )


class _Key(msgspec.Struct, frozen=True):
    """What a measurement holds for."""

    model: str
    runtime: str
    delegate: str
    threads: int
    runtimes: dict[str, str]
    cpu: str
    cores: int


class _Saved(msgspec.Struct, frozen=True):
    """One line of the file in the state directory."""

    key: _Key
    choice: Choice


def choose(model: TfliteFile, settings: config.Model, *, may_measure: bool = True) -> Choice | None:
    """What ``auto`` stands for with this model on this machine.

    Remembered, or else measured where that is wanted, which takes up to BUDGET_S seconds.
    None where the settings leave nothing open or nothing could be measured: then the
    interpreter's own default holds, XNNPACK with one thread.
    """
    open_ways = candidates(model, settings)
    if len(open_ways) < 2:
        return None
    key = _key(model, settings)
    remembered = next((saved.choice for saved in _read() if saved.key == key), None)
    if remembered or not may_measure:
        return remembered
    # Only a first start needs what starts processes.
    from device.inference.race import measure

    name, start = model.path.stem, time.monotonic()
    _log.info("model %s: measuring what runs it fastest here, once, at most %g s", name, BUDGET_S)
    choice = judge(measure(model, settings, open_ways, BUDGET_S))
    if choice is None and time.monotonic() - start >= BUDGET_S:
        # Remembered too, or every start on so slow a machine would lose the time again.
        reason = f"nothing ran within {BUDGET_S:g} s; labelcam bench --write takes its time"
        choice = Choice(open_ways[0], reason)
    if choice is None:
        _log.warning("model %s: nothing could be measured; going on with the default", name)
        return None
    _log.info("model %s: %s", name, choice.reason)
    remember(model, settings, choice)
    return choice


def remember(model: TfliteFile, settings: config.Model, choice: Choice) -> None:
    """Keep the choice for later starts; where that cannot be, say so and go on."""
    key = _key(model, settings)
    saved = [_Saved(key, choice), *(other for other in _read() if other.key != key)]
    path = _path()
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(saved[:_REMEMBERED])))
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s): the next start measures again; "
            "name a directory that can in LABELCAM_STATE",
            path,
            error.strerror,
        )


def judge(samples: Mapping[Candidate, Sequence[float]]) -> Choice | None:
    """The best of the candidates with samples in ms, listed by preference; None of none."""
    best = pick(samples)
    if best is None:
        return None
    reason = f"best measured here: {best} {median(samples[best]):.3g} ms"
    others = [
        f"{candidate} {median(times):.3g} ms"
        for candidate, times in samples.items()
        if times and candidate != best
    ]
    return Choice(best, f"{reason}; others: {', '.join(others)}" if others else reason)


def pick(samples: Mapping[Candidate, Sequence[float]]) -> Candidate | None:
    """The candidate to run with, of those with samples in ms, listed by preference."""
    ran = {candidate: times for candidate, times in samples.items() if times}
    if not ran:
        return None
    fewest = min(candidate.threads for candidate in ran)
    best, *others = (candidate for candidate in ran if candidate.threads == fewest)
    for candidate in others:
        if median(ran[candidate]) < _WORTH_CHANGING * median(ran[best]):
            best = candidate
    same = [c for c in ran if (c.runtime, c.delegate) == (best.runtime, best.delegate)]
    cores = usable_cores()
    for candidate in sorted(same, key=lambda c: c.threads):
        worth = _WORTH_ALL_CORES if candidate.threads >= cores else _WORTH_MORE_THREADS
        # By the mean: where threads wait for a core that others want, one call in fifty takes
        # a hundred times as long, and a median hides it.
        if _mean(ran[candidate]) < worth * _mean(ran[best]):
            best = candidate
    return best


def median(times: Sequence[float]) -> float:
    """The 50th percentile by nearest rank; the statistics module costs 30 ms to import."""
    return sorted(times)[(len(times) - 1) // 2]


def _mean(times: Sequence[float]) -> float:
    return sum(times) / len(times)


def installed() -> dict[Runtime, str]:
    """The runtimes that can be imported and their versions, by preference; imports none."""
    found: dict[Runtime, str] = {}
    for runtime, module in RUNTIMES.items():
        spec = find_spec(module.partition(".")[0])
        if spec and spec.origin:
            # Their metadata would tell too, for 50 ms of imports that nothing else needs.
            text = Path(spec.origin).read_text(encoding="utf-8", errors="replace")
            version = re.search(r"""^__version__ = ["'](.+?)["']""", text, re.MULTILINE)
            found[runtime] = version[1] if version else "?"  # type: ignore[index]
    return found


def usable_cores() -> int:
    """How many cores this process may keep busy: of its affinity and its control group's."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        own = (_PROC / "self/cgroup").read_text().partition("0::/")[2].strip()
        for group in (_CGROUPS / own, *(_CGROUPS / own).parents):
            with contextlib.suppress(FileNotFoundError):
                quota, period = (group / "cpu.max").read_text().split()
                if quota != "max":
                    cores = min(cores, int(quota) // int(period))
    return max(1, cores)


def cpu_identity() -> str:
    """The processor, and the board where it says its name; one line."""
    try:
        text = (_PROC / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    # ARM cores name their maker, part and revision as numbers, and a board may have two kinds.
    names = re.findall(r"^model name\s*: (.+)$", text, re.MULTILINE)
    names += re.findall(r"^CPU (?:implementer|variant|part|revision)\s*: (.+)$", text, re.MULTILINE)
    with contextlib.suppress(OSError):
        names.insert(0, _BOARD.read_text().rstrip("\0"))
    return ", ".join((os.uname().machine, *dict.fromkeys(names)))


def candidates(model: TfliteFile, settings: config.Model) -> Sequence[Candidate]:
    """The ways that the settings leave open, by preference: the default first."""
    if model.compiled_for_edgetpu or settings.delegate == "edgetpu":
        return ()
    delegates: Sequence[Delegate] = ("xnnpack", "none")
    if settings.delegate != "auto":
        delegates = (settings.delegate,)
    cores = usable_cores()
    threads = (settings.threads,) if settings.threads else [n for n in THREADS if n <= cores]
    return tuple(
        Candidate(runtime, delegate, number)
        for number in threads
        for runtime in installed()
        if settings.runtime in ("auto", runtime)
        for delegate in delegates
    )


def _key(model: TfliteFile, settings: config.Model) -> _Key:
    return _Key(
        model=model.sha256,
        runtime=settings.runtime,
        delegate=settings.delegate,
        threads=settings.threads,
        runtimes={str(runtime): version for runtime, version in installed().items()},
        cpu=cpu_identity(),
        cores=usable_cores(),
    )


def _path() -> Path:
    return state_directory() / "choices.json"


def _read() -> Sequence[_Saved]:
    """What the state directory remembers; nothing where the file is absent or damaged."""
    try:
        return msgspec.json.decode(_path().read_bytes(), type=tuple[_Saved, ...])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return ()
