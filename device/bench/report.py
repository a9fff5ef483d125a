"""What ``labelcam bench`` reports, as JSON and for people."""

import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from device import __version__
from device.inference.choice import cpu_identity
from device.inference.ranking import median
from device.inference.runtimes import Candidate, Delegate, Runtime, usable_cores


class Spread(msgspec.Struct, frozen=True):
    """Milliseconds of many calls; percentiles are by nearest rank."""

    min: float
    median: float
    p99: float

    @classmethod
    def of(cls, times: Sequence[float]) -> Self:
        """That of ``times``, of which there is at least one."""
        ordered = sorted(times)
        p99 = ordered[-(-99 * len(ordered) // 100) - 1]
        return cls(*map(significant, (ordered[0], median(ordered), p99)))

    def __str__(self) -> str:
        """As tables show it."""
        return f"{self.min:.2f} / {self.median:.2f} / {self.p99:.2f}"


class Result(msgspec.Struct, frozen=True):
    """One way to run the model on pictures of one size.

    ``invoke_ms`` is the model alone, ``frame_ms`` from a camera's frame to its label,
    ``plain_invoke_ms`` the runtime used as tutorials use it, where that runs the model.
    ``fps`` is how many frames there would be without pauses, ``cpu_ms_per_frame`` processor
    milliseconds of all threads, pauses included. ``first_label_s`` is from the start of the
    process.

    Where models look ``beside`` this one, they are in all but ``invoke_ms`` and
    ``plain_invoke_ms``; ``alone_ms`` is every other frame without them, ``beside_ms`` how much
    longer a frame takes with them than the one next to it without, in the median, and
    ``beside_share`` the same as a share of the time without, 0.05 being 5 %.
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
    cpu_ms_per_frame: float
    rss_mb: float
    first_label_s: float
    beside: tuple[str, ...] = ()
    alone_ms: Spread | None = None
    beside_ms: float = 0.0
    beside_share: float = 0.0


class Peer(msgspec.Struct, frozen=True):
    """Another program's classifier on the same model and picture; its whole call.

    ``python`` is the environment that it is of.
    """

    name: str
    version: str
    python: str
    model: str
    source_size: tuple[int, int]
    call_ms: Spread
    cpu_ms_per_call: float


class Recommendation(msgspec.Struct, frozen=True):
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
    """What ``--json`` prints; ``against`` and ``pace_fps`` only where they were asked for.

    ``pace_fps`` is how many frames a second there were; without it, as many as there can be.
    """

    machine: Machine
    results: tuple[Result, ...]
    recommended: Recommendation | None
    pace_fps: float | None = None
    against: tuple[Peer, ...] = ()


def machine() -> Machine:
    """This one, as it is now."""
    return Machine(
        cpu=cpu_identity(),
        cores=usable_cores(),
        memory_mb=memory_mb("MemTotal"),
        system=platform.platform(),
        python=platform.python_version(),
        labelcam=__version__,
        load=round(os.getloadavg()[0], 2),
    )


def memory_mb(key: str) -> int:
    """A figure of /proc/meminfo by its name; 0 where that is not there."""
    line = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(line[1]) // 1024 if line else 0


def significant(value: float) -> float:
    """Four significant digits: more is noise."""
    return float(f"{value:.4g}")


def text(report: Report, startups: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """The report for people, line by line: milliseconds as min / median / p99.

    ``startups`` has the seconds of each step of a start, by step, for each candidate's name.
    """
    machine = report.machine
    yield (
        f"{machine.cpu}; {machine.cores} cores to use, {machine.memory_mb} MB; "
        f"{machine.system}; Python {machine.python}; load {machine.load:.2f}"
    )
    if not report.results:
        return
    if report.pace_fps:
        yield f"At {report.pace_fps:g} frames a second:"
    beside = report.results[0].beside
    head = ["", "picture", "model alone, ms", "frame to label, ms"]
    head += ["of that beside"] if beside else []
    rows = [(*head, "plain, ms", "fps", "CPU ms", "MB", "start, s")]
    for result in report.results:
        candidate = Candidate(result.runtime, result.delegate, result.threads)
        size = f"{result.source_size[0]}×{result.source_size[1]}"
        plain = f"{result.plain_invoke_ms.median:.2f}" if result.plain_invoke_ms else "-"
        rows.append(
            (
                str(candidate),
                size,
                str(result.invoke_ms),
                str(result.frame_ms),
                *_beside(result),
                plain,
                f"{result.fps:.1f}",
                f"{result.cpu_ms_per_frame:.2f}",
                f"{result.rss_mb:.0f}",
                f"{result.first_label_s:.2f}",
            )
        )
    yield from ("", *_columns(rows))
    if beside:
        yield f"Beside {report.results[0].model}: {', '.join(beside)}"
    yield from ("", "Start to first label, in seconds:")
    yield from _columns(
        [("", *next(iter(startups.values())))]
        + [(name, *(f"{s:.3f}" for s in steps.values())) for name, steps in startups.items()]
    )
    if report.against:
        yield ""
        yield from _columns(
            [("Other programs", "whole call, ms", "CPU ms", "environment")]
            + [
                (
                    f"{peer.name} {peer.version}",
                    str(peer.call_ms),
                    f"{peer.cpu_ms_per_call:.2f}",
                    peer.python,
                )
                for peer in report.against
            ]
        )
    if best := report.recommended:
        settings = f'runtime = "{best.runtime}", delegate = "{best.delegate}"'
        yield from ("", f"Best here: {settings}, threads = {best.threads}", best.reason)


def _beside(result: Result) -> Iterator[str]:
    """What the models beside take of a median frame, where there are any."""
    if result.beside:
        yield f"{result.beside_ms:.2f} ({100 * result.beside_share:.1f} %)"


def _columns(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join((first.ljust(widths[0]), *cells))
