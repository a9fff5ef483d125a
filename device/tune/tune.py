"""``labelcam tune``: settings tried on recordings, the best of them shown, kept and written."""

import logging
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from device import config
from device.config import Decide
from device.errors import UsageError
from device.system.config_file import set_keys
from device.system.text import json_line, printable
from device.tune.judge import Verdict
from device.tune.page import Shown, write_page
from device.tune.recordings import Bench, Stream, read_streams
from device.tune.report import Figures, Report, figures, print_report
from device.tune.search import Tried, key_of, search

_log = logging.getLogger("labelcam.tune")

# What ``--write`` sets: the keys that are tried.
KEYS = ("enter", "exit", "smoothing_s", "min_frames", "min_hold_s", "margin")
# What a reader of a table or a page takes in.
_SHOWN = 10
# Of top-1, what most programs take for sure.
_SURE = 0.5


class Request(NamedTuple):
    """What the command line asks for."""

    folders: Sequence[Path]
    truth: Path | None = None
    labels: Collection[str] = ()
    check: Path | None = None
    html: Path | None = None
    as_json: bool = False
    write: bool = False
    config_file: Path | None = None


def tune(request: Request, settings: config.Config) -> int:
    """Try settings, and show how they do. Returns the exit code; raises LabelcamError."""
    streams = read_streams(request.folders, settings, request.truth, request.labels)
    without = [stream for stream in streams if stream.truth is None]
    if without:
        if request.html is None:
            raise UsageError(_no_truth(without[0].folder))
        write_page(request.html, without, [], settings.decide)
        _log.info("%s: has the scores; mark there what was to be seen, and save it", request.html)
        return 0
    decide = settings.decide
    bench = Bench(streams, decide, request.labels)
    frames = sum(len(stream.series.at_s) for stream in streams)
    begun_at = time.monotonic()
    ranked = search(decide, bench.judge)
    _log.info(
        "%d settings on %d frames, %.0f s of recordings, in %.1f s",
        len(ranked),
        frames,
        sum(stream.length_s for stream in streams),
        time.monotonic() - begun_at,
    )
    report = Report(
        changes=bench.changes,
        best=tuple(figures("", one.settings, one.verdict) for one in ranked[:_SHOWN]),
        current=figures("as configured", decide, _of(ranked, decide).verdict),
        naive=tuple(
            figures(name, None, bench.verdict(dict(bench.naive(least))))
            for name, least in (("naive top-1", 0.0), (f"top-1 from {_SURE:g}", _SURE))
        ),
        checked=_checked(request, settings, ranked[0].settings),
        elsewhere=_elsewhere(streams, ranked[0].verdict),
    )
    if request.as_json:
        print(json_line(report))
    else:
        print_report(report)
    if request.html is not None:
        write_page(request.html, streams, _shown(bench, ranked, decide), decide)
        _log.info("%s: written", request.html)
    if request.write:
        _write(request.config_file, decide, ranked[0])
    return 0


def _no_truth(folder: Path) -> str:
    return (
        f"tune: {folder} has no truth, which says what was there and when; mark it in the terminal "
        f"with `labelcam tune {folder} --mark`, or on the page of `--html FILE`, or give --truth"
    )


def _of(ranked: Sequence[Tried], decide: Decide) -> Tried:
    return next(one for one in ranked if key_of(one.settings) == key_of(decide))


def _checked(
    request: Request, settings: config.Config, best: Decide
) -> tuple[Figures, Figures] | None:
    """How the best and the present settings do on a recording that was not tuned on."""
    if request.check is None:
        return None
    streams = read_streams([request.check], settings)
    if any(stream.truth is None for stream in streams):
        raise UsageError(_no_truth(request.check))
    bench = Bench(streams, settings.decide, request.labels)
    tuned, current = bench.judge([best, settings.decide])
    name = printable(request.check.name)
    return (
        figures(f"1 on {name}", best, tuned),
        figures(f"as configured on {name}", settings.decide, current),
    )


def _elsewhere(streams: Sequence[Stream], verdict: Verdict) -> dict[str, int]:
    """Labels that the truth does not know, and how often the best says them."""
    known = {one.label for stream in streams for one in stream.truth or ()}
    said = [m.label for marks in verdict.marks.values() for m in marks if m.kind == "false"]
    return {label: said.count(label) for label in sorted(set(said) - known)}


def _shown(bench: Bench, ranked: Sequence[Tried], decide: Decide) -> list[Shown]:
    """What the page shows: the best, the present settings, and top-1."""
    shown = [
        Shown(f"best {number}", one.settings, one.verdict, bench.said(one.settings))
        for number, one in enumerate(ranked[:_SHOWN], 1)
    ]
    current = _of(ranked, decide)
    shown.append(Shown("as configured", decide, current.verdict, bench.said(decide)))
    said = bench.naive()
    shown.append(Shown("naive top-1", None, bench.verdict(dict(said)), said))
    return shown


def _write(file: Path | None, decide: Decide, best: Tried) -> None:
    """Put what is better into the configuration file, where one is named."""
    if file is None:
        _log.info("with --config FILE the best is written there")
        return
    new = {key: getattr(best.settings, key) for key in KEYS}
    changed = {key: value for key, value in new.items() if value != getattr(decide, key)}
    if not changed:
        _log.info("%s: has the best settings already; nothing is changed", file)
        return
    set_keys(file, "decide", changed)
    told = ", ".join(f"{k} {getattr(decide, k):g} → {v:g}" for k, v in changed.items())
    _log.info("%s: [decide] has now: %s", file, told)
