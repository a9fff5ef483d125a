"""``labelcam bench``: every way that this machine has to run a model, measured by turns.

Each way is a process of its own (``rehearsal``), started one after the other and then asked
for short rounds in turn, so that heat, clocks and whatever else the machine does hit all
alike. ``--against`` adds other programs, in the same rounds.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from device import config
from device.bench.entrants import CandidateEntrant, PeerEntrant, PlainEntrant, take_turns
from device.bench.rehearsal import Picture
from device.bench.report import Recommendation, Report, Spread, machine, text
from device.cameras import open_camera
from device.errors import CameraError, DependencyError, UsageError
from device.inference import choice, runtimes
from device.inference.edgetpu.device import find_devices
from device.inference.ranking import Times, judge
from device.inference.runtimes import RUNTIMES, Candidate, Choice, Delegate, Runtime
from device.library import catalog
from device.pipeline.plan import find_model
from device.system.config_file import set_keys

_log = logging.getLogger("labelcam.bench")

DEFAULT_SECONDS = 30.0
# The sizes a camera is likely to be asked for, where no source is named.
_SIZES = ((640, 480), (1920, 1080))
_PEERS = ("tflite-support", "mediapipe", "openvino")


def bench(
    settings: config.Config,
    *,
    source: str | None = None,
    threads: Sequence[int] = (),
    runtime: Runtime | None = None,
    seconds: float = DEFAULT_SECONDS,
    pace_fps: float | None = None,
    against: Sequence[str] = (),
    as_json: bool = False,
    write: bool = False,
    config_file: Path | None = None,
) -> int:
    """Measure for about ``seconds``, print the figures, and with ``write`` use the best.

    Without ``source`` a synthetic picture stands in for a camera, in two sizes. With
    ``pace_fps`` so many frames come a second, as from a camera. ``against`` are the Pythons of
    environments with other programs. Returns the exit code, 1 where
    nothing ran. Raises UsageError for threads that cannot be, DependencyError for a runtime
    that is not installed, and what models, cameras and the configuration raise.
    """
    model = find_model(settings, settings.model.name, settings.model.labels)
    candidates = _candidates(model, threads, runtime)
    with tempfile.TemporaryDirectory(prefix="labelcam-bench-") as folder:
        camera = settings.camera[0]
        pictures = tuple(_pictures(camera, source, Path(folder)))
        asked = settings.model, camera, pictures, model.beside
        entrants = [CandidateEntrant(candidate, *asked) for candidate in candidates]
        names = dict.fromkeys(candidate.runtime for candidate in candidates)
        plains = [PlainEntrant(name, model, pictures[0]) for name in names]
        peers = [PeerEntrant(n, python, model, pictures[0]) for python in against for n in _PEERS]
        before = machine()
        take_turns([*entrants, *plains, *peers], seconds, 1 / pace_fps if pace_fps else 0.0)
    ran = [e for e in entrants if e.times.ms and all(frames.ms for frames in e.frames)]
    samples = {entrant.candidate: entrant.times for entrant in ran}
    on_cpu = judge({c: times for c, times in samples.items() if c.delegate != "edgetpu"})
    plain_ms = {plain.runtime: Spread.of(plain.times.ms) for plain in plains if plain.times.ms}
    report = Report(
        machine=before,
        results=tuple(
            entrant.result(number, model.name, plain_ms.get(entrant.candidate.runtime))
            for number in range(len(pictures))
            for entrant in ran
        ),
        recommended=_recommend(on_cpu, samples),
        pace_fps=pace_fps,
        against=tuple(entrant.peer for entrant in peers if entrant.times.ms),
    )
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(text(report, {e.name: e.startup.steps_s for e in ran})))
    if report.recommended is None:
        return 1
    if write:
        if on_cpu:
            auto = config.Model(runtime="auto", delegate="auto", threads=0)
            choice.remember(model.file, auto, on_cpu)
        _write(report.recommended, config_file)
    return 0


def _candidates(
    model: catalog.Model, threads: Sequence[int], runtime: Runtime | None
) -> Sequence[Candidate]:
    """What to sweep; raises UsageError and DependencyError for what cannot be."""
    installed = runtimes.installed()
    if runtime and runtime not in installed:
        raise DependencyError(f"runtime: {runtime} is not installed; pip install {runtime}")
    if not installed:
        raise DependencyError(f"runtime: none is installed; pip install {list(RUNTIMES)[-1]}")
    cores = runtimes.usable_cores()
    numbers = [n for n in threads or choice.THREADS if n <= cores]
    if left_out := [str(n) for n in threads if n > cores]:
        _log.warning(
            "threads %s: more than the %d cores that may be used here; left out",
            ", ".join(left_out),
            cores,
        )
    if not numbers:
        raise UsageError(f"--threads: none is left; give numbers up to {cores}")
    names = [runtime] if runtime else list(installed)
    delegates: Sequence[Delegate] = () if model.file.compiled_for_edgetpu else ("xnnpack", "none")
    candidates = runtimes.combinations(names, delegates, numbers)
    if (model.twin or model.file.compiled_for_edgetpu) and find_devices():
        candidates += runtimes.combinations(names, ("edgetpu",), (1,))
    if not candidates:
        raise UsageError(
            f"model {model.name}: is compiled for the Edge TPU and none is found; plug one in, "
            "or give the model's CPU twin"
        )
    return candidates


def _pictures(camera: config.Camera, source: str | None, folder: Path) -> Iterator[Picture]:
    """The frames to classify, saved in ``folder``: the source's first, or synthetic ones."""
    settings = [msgspec.structs.replace(camera, source=source)] if source else []
    for width, height in _SIZES if not source else ():
        settings.append(
            msgspec.structs.replace(camera, source="synthetic", width=width, height=height)
        )
    for number, one in enumerate(settings):
        with open_camera(one) as opened:
            frame = opened.read()
        if frame is None:
            raise CameraError(opened.source, "gave no frame; give another --source")
        file = folder / f"{number}.npy"
        np.save(file, frame.pixels)
        yield Picture(str(file), frame.format, frame.width, frame.height)


def _recommend(on_cpu: Choice | None, samples: Mapping[Candidate, Times]) -> Recommendation | None:
    """The best on the CPU, beside the Edge TPU where that is faster; None of nothing.

    For the Edge TPU it is ``auto``: a delegate that is named never falls back to the CPU.
    """
    edgetpus = [c for c in samples if c.delegate == "edgetpu"]
    edgetpu = min(edgetpus, key=lambda c: samples[c].median_ms, default=None)
    if on_cpu is None:
        if edgetpu is None:
            return None
        return Recommendation(edgetpu.runtime, "auto", 1, "only the Edge TPU runs it")
    best = on_cpu.best
    if edgetpu and samples[edgetpu].median_ms < samples[best].median_ms:
        reason = f"the Edge TPU in {samples[edgetpu].median_ms:.3g} ms; else {on_cpu.reason}"
        return Recommendation(best.runtime, "auto", best.threads, reason)
    return Recommendation(best.runtime, best.delegate, best.threads, on_cpu.reason)


def _write(recommended: Recommendation, file: Path | None) -> None:
    """Put the settings into the configuration file, where one is named."""
    if file is None:
        _log.info('remembered for "auto"; with --config FILE it is written there as well')
        return
    fields = msgspec.structs.asdict(recommended)
    set_keys(file, "model", {key: fields[key] for key in ("runtime", "delegate", "threads")})
    _log.info(
        "%s: [model] has runtime %s, delegate %s, threads %d now",
        file,
        recommended.runtime,
        recommended.delegate,
        recommended.threads,
    )
