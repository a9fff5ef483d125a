"""``labelcam bench``: every way that this machine has to run a model, measured by turns.

Each way is a process of its own (``rehearsal``), started one after the other and then asked
for short rounds in turn, so that heat, clocks and whatever else the machine does hit all
alike. ``--against`` adds other programs, in the same rounds.
"""

import logging
import os
import platform
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device import __version__, config
from device.bench.rehearsal import Begin, BeginPlain, Begun, Invoke, Label, Labelled, Picture
from device.cameras import open_camera
from device.errors import CameraError, DependencyError, TrialError, UsageError
from device.frames import PixelFormat
from device.inference import choice
from device.inference.choice import Candidate, Choice, Delegate, Runtime
from device.inference.edgetpu import delegate as edgetpu
from device.inference.interpreter import RUNTIMES
from device.inference.trial import Times, Trial
from device.library import catalog
from device.system.config_file import set_keys

_log = logging.getLogger("labelcam.bench")

DEFAULT_SECONDS = 30.0
# What a cooled board and a machine that does other things need to even out.
_ROUNDS = 10
# The sizes a camera is likely to be asked for, where no source is named.
_SIZES = ((640, 480), (1920, 1080))
_START_TIMEOUT_S = 60.0
_TURN_TIMEOUT_S = 60.0
# What a way takes while it waits for its turn, with the kernel's share.
_WAY_MB = 150
_PEERS = ("tflite-support", "mediapipe", "openvino")


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds of many calls."""

    min: float
    median: float
    p99: float


class Result(msgspec.Struct, frozen=True):
    """One way to run the model on pictures of one size.

    ``invoke_ms`` is the model alone, ``frame_ms`` from a camera's frame to its label,
    ``plain_invoke_ms`` the runtime used as tutorials use it, where that runs the model.
    ``first_label_s`` is from the start of the process.
    """

    runtime: Runtime
    delegate: Delegate
    threads: int
    model: str
    source_size: tuple[int, int]
    invoke_ms: Spread
    frame_ms: Spread
    plain_invoke_ms: Spread | None
    fps: float
    cpu_s_per_frame: float
    rss_mb: float
    first_label_s: float


class Peer(msgspec.Struct, frozen=True):
    """Another program's classifier on the same model and picture; its whole call."""

    name: str
    version: str
    model: str
    source_size: tuple[int, int]
    call_ms: Spread


class Recommended(msgspec.Struct, frozen=True):
    """Settings for [model], and why."""

    runtime: Runtime
    delegate: str
    threads: int
    reason: str


class Machine(msgspec.Struct, frozen=True):
    """What it was measured on; ``load`` is the kernel's one-minute average before."""

    cpu: str
    cores: int
    memory_mb: int
    system: str
    python: str
    labelcam: str
    load: float


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """What ``--json`` prints; ``against`` only where it was asked for."""

    machine: Machine
    results: tuple[Result, ...]
    recommended: Recommended | None
    against: tuple[Peer, ...] = ()


def bench(
    settings: config.Config,
    *,
    source: str | None = None,
    threads: Sequence[int] = (),
    runtime: Runtime | None = None,
    seconds: float = DEFAULT_SECONDS,
    against: str = "",
    as_json: bool = False,
    write: bool = False,
    config_file: Path | None = None,
) -> int:
    """Measure for about ``seconds``, print the figures, and with ``write`` use the best.

    Without ``source`` a synthetic picture stands in for a camera, in two sizes. ``against``
    is the Python of an environment with other programs. Returns the exit code, 1 where
    nothing ran. Raises UsageError for threads that cannot be, DependencyError for a runtime
    that is not installed, and what models, cameras and the configuration raise.
    """
    model = catalog.find(settings.model.name, settings.model.labels)
    ways = _candidates(model, threads, runtime)
    with tempfile.TemporaryDirectory(prefix="labelcam-bench-") as folder:
        camera = settings.camera[0]
        pictures = tuple(_pictures(camera, source, Path(folder)))
        entrants = [_Way(way, settings.model, camera, pictures) for way in ways]
        plains = [
            _Plain(name, model, pictures[0]) for name in dict.fromkeys(w.runtime for w in ways)
        ]
        rivals = [_Rival(name, against, model, pictures[0]) for name in _PEERS if against]
        machine = _machine()
        _run([*entrants, *plains, *rivals], seconds)
    ran = [way for way in entrants if way.invoke and all(way.frames)]
    report = Report(
        machine=machine,
        results=tuple(_results(ran, plains, model.name, pictures)),
        recommended=_recommend(ran),
        against=tuple(rival.result(model.name) for rival in rivals if rival.times),
    )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(_text(report, ran)))
    if report.recommended is None:
        return 1
    if write:
        _use(report.recommended, ran, model, settings.model, config_file)
    return 0


class _Entrant(Protocol):
    """What takes turns."""

    name: str

    def start(self) -> None:
        """Start the process and have it ready. Raises TrialError."""

    def turn(self, limit_s: float) -> None:
        """Measure for about so long. Raises TrialError."""

    def close(self) -> None:
        """End the process; may be called twice."""


class _Way:
    """One way to run the model, and what was measured of it; times in ms."""

    def __init__(
        self,
        candidate: Candidate,
        settings: config.Model,
        camera: config.Camera,
        pictures: tuple[Picture, ...],
    ) -> None:
        self.name = str(candidate)
        self.candidate = candidate
        self.begun = Begun("", {})
        self.invoke: list[float] = []
        self.frames: list[list[float]] = [[] for _ in pictures]
        self.cpu_s = [0.0 for _ in pictures]
        self.rss_mb = [0.0 for _ in pictures]
        self._settings = candidate.apply_to(settings)
        self._camera = camera
        self._pictures = pictures
        self._trial: Trial | None = None

    def start(self) -> None:
        self._trial = Trial("device.bench.rehearsal", name=self.name)
        begin = Begin(self._settings, self._camera, self._pictures[0], self._trial.started_at)
        self.begun = self._trial.ask(begin, Begun, _START_TIMEOUT_S)

    def turn(self, limit_s: float) -> None:
        assert self._trial
        share_s = limit_s / (1 + len(self._pictures))
        self.invoke += self._trial.ask(Invoke(share_s), Times, _TURN_TIMEOUT_S).ms
        for number, picture in enumerate(self._pictures):
            reply = self._trial.ask(Label(picture, share_s), Labelled, _TURN_TIMEOUT_S)
            self.frames[number] += reply.times.ms
            self.cpu_s[number] += reply.times.cpu_s
            self.rss_mb[number] = reply.rss_mb

    def close(self) -> None:
        if self._trial:
            self._trial.close()


class _Plain:
    """A runtime used as tutorials use it: ``Interpreter(model)``, whatever that engages."""

    def __init__(self, runtime: Runtime, model: catalog.Model, picture: Picture) -> None:
        self.name = f"{runtime} Interpreter(model)"
        self.runtime = runtime
        self.times: list[float] = []
        self._request = BeginPlain(RUNTIMES[runtime], str(model.file.path), picture)
        self._trial: Trial | None = None

    def start(self) -> None:
        self._trial = Trial("device.bench.rehearsal", name=self.name)
        self._trial.ask(self._request, bool, _START_TIMEOUT_S)

    def turn(self, limit_s: float) -> None:
        assert self._trial
        self.times += self._trial.ask(Invoke(limit_s), Times, _TURN_TIMEOUT_S).ms

    def close(self) -> None:
        if self._trial:
            self._trial.close()


class _Rival:
    """Another program, in its own environment."""

    def __init__(self, name: str, python: str, model: catalog.Model, picture: Picture) -> None:
        self.name = name
        self.times: list[float] = []
        self._python = python
        self._version = ""
        self._picture = picture
        self._model = str(model.file.path)
        self._trial: Trial | None = None

    def start(self) -> None:
        file = f"{self._picture.file}.rgb.npy"
        if not Path(file).exists():
            np.save(file, _rgb(self._picture))
        script = str(Path(__file__).with_name("peers.py"))
        self._trial = Trial(script, self.name, python=self._python, name=self.name)
        request = {"model": self._model, "picture": file}
        self._version = self._trial.ask(request, dict[str, str], _START_TIMEOUT_S)["version"]

    def turn(self, limit_s: float) -> None:
        assert self._trial
        request = {"limit_s": limit_s}
        self.times += self._trial.ask(request, dict[str, list[float]], _TURN_TIMEOUT_S)["ms"]

    def close(self) -> None:
        if self._trial:
            self._trial.close()

    def result(self, model: str) -> Peer:
        """What was measured."""
        size = (self._picture.width, self._picture.height)
        return Peer(self.name, self._version, model, size, _spread(self.times))


def _run(entrants: Sequence[_Entrant], seconds: float) -> None:
    """Start all and let them take turns; who fails is named on stderr and drops out.

    Where memory does not hold them all at once, as many take turns as it does.
    """
    from rich.console import Console
    from rich.progress import Progress

    together = max(2, _memory_mb("MemAvailable") // _WAY_MB)
    limit_s = seconds / len(entrants) / _ROUNDS
    screen = Console(stderr=True)
    with Progress(console=screen, transient=True, disable=not screen.is_terminal) as progress:
        bar = progress.add_task("Measuring", total=len(entrants) * (1 + _ROUNDS))
        for first in range(0, len(entrants), together):
            batch = list(entrants[first : first + together])
            try:
                for step in ("start", *["turn"] * _ROUNDS):
                    for entrant in tuple(batch):
                        progress.update(bar, advance=1, description=entrant.name)
                        try:
                            entrant.start() if step == "start" else entrant.turn(limit_s)
                        except TrialError as error:
                            _log.warning("%s", error)
                            batch.remove(entrant)
            finally:
                for entrant in entrants[first : first + together]:
                    entrant.close()


def _candidates(
    model: catalog.Model, threads: Sequence[int], runtime: Runtime | None
) -> Sequence[Candidate]:
    """What to sweep; raises UsageError and DependencyError for what cannot be."""
    found = choice.installed()
    if runtime and runtime not in found:
        raise DependencyError(f"runtime: {runtime} is not installed; pip install {runtime}")
    if not found:
        raise DependencyError(f"runtime: none is installed; pip install {list(RUNTIMES)[-1]}")
    cores = choice.usable_cores()
    numbers = [n for n in threads or choice.THREADS if n <= cores]
    if left_out := [str(n) for n in threads if n > cores]:
        _log.warning(
            "threads %s: more than the %d cores that may be used here; left out",
            ", ".join(left_out),
            cores,
        )
    if not numbers:
        raise UsageError(f"--threads: none is left; give numbers up to {cores}")
    runtimes = [runtime] if runtime else list(found)
    delegates: Sequence[Delegate] = () if model.file.compiled_for_edgetpu else ("xnnpack", "none")
    ways = [
        Candidate(name, delegate, number)
        for number in numbers
        for name in runtimes
        for delegate in delegates
    ]
    if (model.twin or model.file.compiled_for_edgetpu) and edgetpu.find_devices():
        ways += [Candidate(name, "edgetpu", 1) for name in runtimes]
    if not ways:
        raise UsageError(
            f"model {model.name}: is compiled for the Edge TPU and none is found; plug one in, "
            "or give the model's CPU twin"
        )
    return ways


def _pictures(camera: config.Camera, source: str | None, folder: Path) -> Iterator[Picture]:
    """The frames to classify, saved in ``folder``: the source's first, or synthetic ones."""
    settings = [msgspec.structs.replace(camera, source=source)] if source else []
    for width, height in _SIZES if not source else ():
        settings.append(
            msgspec.structs.replace(camera, source="synthetic", width=width, height=height)
        )
    for number, asked in enumerate(settings):
        with open_camera(asked) as opened:
            frame = opened.read()
        if frame is None:
            raise CameraError(opened.source, "gave no frame; give another --source")
        file = folder / f"{number}.npy"
        np.save(file, frame.pixels)
        yield Picture(str(file), frame.format, frame.width, frame.height)


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


def _results(
    ways: Sequence[_Way], plains: Sequence[_Plain], model: str, pictures: Sequence[Picture]
) -> Iterator[Result]:
    plain = {p.runtime: _spread(p.times) for p in plains if p.times}
    for number, picture in enumerate(pictures):
        for way in ways:
            frames = way.frames[number]
            yield Result(
                runtime=way.candidate.runtime,
                delegate=way.candidate.delegate,
                threads=way.candidate.threads,
                model=model,
                source_size=(picture.width, picture.height),
                invoke_ms=_spread(way.invoke),
                frame_ms=_spread(frames),
                plain_invoke_ms=plain.get(way.candidate.runtime),
                fps=_round(1e3 * len(frames) / sum(frames)),
                cpu_s_per_frame=_round(way.cpu_s[number] / len(frames)),
                rss_mb=_round(way.rss_mb[number]),
                first_label_s=_round(sum(way.begun.steps_s.values())),
            )


def _recommend(ways: Sequence[_Way]) -> Recommended | None:
    """The best on the CPU, beside the Edge TPU where that is faster; None of nothing.

    For the Edge TPU it is ``auto``: a delegate that is named never falls back to the CPU.
    """
    on_cpu = _judge(ways)
    tpus = [way for way in ways if way.candidate.delegate == "edgetpu"]
    tpu = min(tpus, key=lambda way: choice.median(way.invoke), default=None)
    if on_cpu is None:
        if tpu is None:
            return None
        return Recommended(tpu.candidate.runtime, "auto", 1, "only the Edge TPU runs it")
    best = on_cpu.best
    if tpu and choice.median(tpu.invoke) < next(
        choice.median(way.invoke) for way in ways if way.candidate == best
    ):
        reason = f"the Edge TPU in {choice.median(tpu.invoke):.3g} ms; else {on_cpu.reason}"
        return Recommended(best.runtime, "auto", best.threads, reason)
    return Recommended(best.runtime, best.delegate, best.threads, on_cpu.reason)


def _judge(ways: Sequence[_Way]) -> Choice | None:
    """What ``auto`` stands for on the CPU, by these figures."""
    return choice.judge(
        {way.candidate: way.invoke for way in ways if way.candidate.delegate != "edgetpu"}
    )


def _use(
    recommended: Recommended,
    ways: Sequence[_Way],
    model: catalog.Model,
    settings: config.Model,
    file: Path | None,
) -> None:
    """Remember the choice, and put it into the configuration file where one is named."""
    if on_cpu := _judge(ways):
        left_open = msgspec.structs.replace(settings, runtime="auto", delegate="auto", threads=0)
        choice.remember(model.file, left_open, on_cpu)
    if file is None:
        _log.info('remembered for "auto"; with --config FILE it is written there as well')
        return
    found = msgspec.structs.asdict(recommended)
    set_keys(file, "model", {key: found[key] for key in ("runtime", "delegate", "threads")})
    _log.info(
        "%s: [model] has runtime %s, delegate %s, threads %d now",
        file,
        recommended.runtime,
        recommended.delegate,
        recommended.threads,
    )


def _text(report: Report, ways: Sequence[_Way]) -> Iterator[str]:
    """The report for people: milliseconds as min / median / p99."""
    machine = report.machine
    yield (
        f"{machine.cpu}; {machine.cores} cores to use, {machine.memory_mb} MB; "
        f"{machine.system}; Python {machine.python}; load {machine.load:.2f}"
    )
    if not ways:
        return
    head = ("", "picture", "model alone, ms", "frame to label, ms", "plain, ms", "fps")
    rows = [(*head, "CPU s", "MB", "start, s")]
    for result in report.results:
        way = Candidate(result.runtime, result.delegate, result.threads)
        size = f"{result.source_size[0]}×{result.source_size[1]}"
        plain = f"{result.plain_invoke_ms.median:.2f}" if result.plain_invoke_ms else "-"
        rows.append(
            (
                str(way),
                size,
                _shown(result.invoke_ms),
                _shown(result.frame_ms),
                plain,
                f"{result.fps:.1f}",
                f"{result.cpu_s_per_frame:.4f}",
                f"{result.rss_mb:.0f}",
                f"{result.first_label_s:.2f}",
            )
        )
    yield from ("", *_columns(rows))
    yield from ("", "Start to first label, in seconds:")
    yield from _columns(
        [("", *ways[0].begun.steps_s)]
        + [(way.name, *(f"{s:.3f}" for s in way.begun.steps_s.values())) for way in ways]
    )
    if report.against:
        yield from ("", "Other programs, their whole call, ms:")
        yield from _columns(
            [(f"{peer.name} {peer.version}", _shown(peer.call_ms)) for peer in report.against]
        )
    if best := report.recommended:
        settings = f'runtime = "{best.runtime}", delegate = "{best.delegate}"'
        yield from ("", f"Best here: {settings}, threads = {best.threads}", best.reason)


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells))


def _shown(spread: Spread) -> str:
    return f"{spread.min:.2f} / {spread.median:.2f} / {spread.p99:.2f}"


def _spread(times: Sequence[float]) -> Spread:
    """Percentiles by nearest rank."""
    ordered = sorted(times)
    p99 = ordered[-(-99 * len(ordered) // 100) - 1]
    return Spread(_round(ordered[0]), _round(choice.median(ordered)), _round(p99))


def _round(value: float) -> float:
    """Four significant digits: more is noise."""
    return float(f"{value:.4g}")


def _machine() -> Machine:
    return Machine(
        cpu=choice.cpu_identity(),
        cores=choice.usable_cores(),
        memory_mb=_memory_mb("MemTotal"),
        system=platform.platform(),
        python=platform.python_version(),
        labelcam=__version__,
        load=round(os.getloadavg()[0], 2),
    )


def _memory_mb(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found[1]) // 1024 if found else 0
