"""Which runtime, delegate and number of threads run a model best here: measured, remembered.

What is fastest differs between machines in ways that nobody can tell from their names:
XNNPACK wins by a factor of ten on one processor and loses on another. So ``auto`` is decided
by the machine itself, in at most BUDGET_S seconds at the first start with a model: before
the first inference, which would compete with it, and while the cameras work, since threads
must do with the cores that those leave. Later starts read the choice back from the state
directory, until the model, a runtime, the processor or the settings are others. The rate of the
frames is not among those: what moves before the camera changes it all day.
"""

import contextlib
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from device import config
from device.inference import proof, runtimes
from device.inference.ranking import judge
from device.inference.runtimes import Candidate, Choice, Delegate, Runtime
from device.library.tflite_file import TfliteFile
from device.system.files import replace_file
from device.system.paths import state_directory
from device.system.text import from_json

_log = logging.getLogger("labelcam.choice")

BUDGET_S = 3.0
THREADS = (1, 2, 4)
_REMEMBERED = 32
# Goes up with what is measured otherwise: what was remembered before is measured anew.
_METHOD = 2
_PROC = Path("/proc")
_BOARD = Path("/proc/device-tree/model")


class _Key(msgspec.Struct, frozen=True):
    """What a measurement holds for."""

    model: str
    runtime: str
    delegate: str
    threads: int
    runtimes: dict[Runtime, str]
    cpu: str
    cores: int
    method: int


class _Record(msgspec.Struct, frozen=True):
    """One line of the file in the state directory."""

    key: _Key
    choice: Choice


def choose(model: TfliteFile, settings: config.Model, *, fps: float = 0.0) -> Choice | None:
    """What ``auto`` stands for with this model on this machine.

    Remembered, or else measured at ``fps`` frames a second, which takes up to BUDGET_S seconds;
    with 0 nothing is measured.
    None where the settings leave nothing open or nothing could be measured: then the
    interpreter's own default holds, XNNPACK with one thread. Raises what ``proof.prove`` raises.
    """
    open_ways = candidates(model, settings)
    if len(open_ways) < 2:
        return None
    key = _key(model, settings)
    remembered = next((record.choice for record in _read() if record.key == key), None)
    if remembered or not fps:
        return remembered
    # One that crashes would be measured as one that does not run.
    proof.prove(model, settings)
    # Only a first start needs what starts processes.
    from device.inference.race import measure

    name, start = model.path.stem, time.monotonic()
    _log.info(
        "model %s: measuring what runs it best here at %g frames a second, once, at most %g s",
        name,
        fps,
        BUDGET_S,
    )
    samples = measure(model, settings, open_ways, fps, BUDGET_S)
    choice = judge(samples)
    if choice is None and (samples or time.monotonic() - start >= BUDGET_S):
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
    records = [_Record(key, choice), *(other for other in _read() if other.key != key)]
    path = _path()
    try:
        replace_file(path, msgspec.json.format(msgspec.json.encode(records[:_REMEMBERED])))
    except OSError as error:
        _log.warning(
            "%s cannot be written (%s): the next start measures again; "
            "name a directory that can in LABELCAM_STATE",
            path,
            error.strerror,
        )


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
    cores = runtimes.usable_cores()
    threads = (settings.threads,) if settings.threads else [n for n in THREADS if n <= cores]
    names = [name for name in runtimes.installed() if settings.runtime in ("auto", name)]
    return runtimes.combinations(names, delegates, threads)


def _key(model: TfliteFile, settings: config.Model) -> _Key:
    return _Key(
        model=model.sha256,
        runtime=settings.runtime,
        delegate=settings.delegate,
        threads=settings.threads,
        runtimes=runtimes.installed(),
        cpu=cpu_identity(),
        cores=runtimes.usable_cores(),
        method=_METHOD,
    )


def _path() -> Path:
    return state_directory() / "choices.json"


def _read() -> Sequence[_Record]:
    """What the state directory remembers; nothing where the file is absent or damaged."""
    try:
        return from_json(_path().read_bytes(), tuple[_Record, ...])
    except (OSError, msgspec.DecodeError):
        return ()
