"""One page with the timeline of scores, thresholds, truth and changes; it needs nothing else."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from device.config import Decide
from device.errors import UsageError
from device.system.files import replace_file
from device.tune.judge import Said, Verdict
from device.tune.recordings import Stream

_TEMPLATE = Path(__file__).with_name("page.html")
_PLACE = "{{data}}"
# More points than any screen has; of more, the greatest of several counts.
_POINTS = 40_000
# Lanes at most, and how many there are where nothing was said that needs one.
_LANES, _FEW = 10, 5


class Shown(NamedTuple):
    """A setting on the page, None for top-1, what it says of each stream, and the verdict."""

    name: str
    settings: Decide | None
    verdict: Verdict
    said: Mapping[str, Sequence[Said]]


def write_page(file: Path, streams: Sequence[Stream], shown: Sequence[Shown], now: Decide) -> None:
    """Write the page. Raises UsageError where that cannot be."""
    cameras = [stream.folder for stream in streams]
    data = {
        "streams": [_stream(one, shown, cameras.count(one.folder) > 1) for one in streams],
        "settings": [_settings(one, streams) for one in shown],
        "one": now.mode == "one",
        "now": _thresholds(now),
    }
    # What ends a script in HTML must not be in it, whatever labels are called.
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    page = _TEMPLATE.read_text(encoding="utf-8").replace(_PLACE, text)
    try:
        replace_file(file, page.encode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from None


def _stream(stream: Stream, shown: Sequence[Shown], has_others: bool) -> dict[str, Any]:
    series = stream.series
    rows = _lanes(stream, shown)
    every = -(-len(series.at_s) // _POINTS)
    starts = np.arange(0, len(series.at_s), every)
    scores = np.maximum.reduceat(series.scores[:, rows], starts, axis=0)
    codes = np.rint(np.clip(scores, 0, 1) * 255).astype(np.uint8)
    return {
        "name": stream.name,
        "camera": series.camera if has_others else "",
        "folder": str(stream.folder).encode("utf-8", "replace").decode(),
        "length": round(stream.length_s, 3),
        "t": np.round(series.at_s[starts] * 1e3).astype(np.int64).tolist(),
        "lanes": [
            {
                "label": series.names[row],
                "scores": base64.b64encode(codes[:, n].tobytes()).decode(),
            }
            for n, row in enumerate(rows)
        ],
        "labels": sorted(set(series.names)),
        "truth": [
            {"from_s": one.from_s, "to_s": one.to_s, "label": one.label}
            for one in stream.truth or ()
        ],
    }


def _lanes(stream: Stream, shown: Sequence[Shown]) -> list[int]:
    """Columns of the labels that matter: true ones, those that the best says, and high ones."""
    names = stream.series.names
    wanted = [one.label for one in stream.truth or ()]
    for one in shown[:1]:
        wanted += [label for said in one.said.get(stream.name, ()) for label in said.active]
    for one in shown:
        if one.settings is not None:
            marks = one.verdict.marks.get(stream.name, ())
            wanted += [mark.label for mark in marks if mark.kind == "false"]
    highest = np.argsort(-stream.series.scores.max(axis=0), kind="stable")
    lanes = list(dict.fromkeys(wanted))[:_LANES]
    others = [names[row] for row in highest.tolist() if names[row] not in lanes]
    return [names.index(label) for label in lanes + others[: max(0, _FEW - len(lanes))]]


def _settings(one: Shown, streams: Sequence[Stream]) -> dict[str, Any]:
    verdict = one.verdict
    return {
        "name": one.name,
        "thresholds": _thresholds(one.settings) if one.settings else None,
        "true": verdict.true,
        "found": verdict.found,
        "missed": verdict.missed,
        "false": verdict.false,
        "late": verdict.late,
        "median": round(verdict.median_s, 3),
        "p95": round(verdict.p95_s, 3),
        "said": [
            [[round(said.at_s, 3), said.active] for said in one.said.get(stream.name, ())]
            for stream in streams
        ],
        "marks": [
            [
                [mark.kind, round(mark.at_s, 3), mark.label, mark.on, round(mark.delay_s, 3)]
                for mark in verdict.marks.get(stream.name, ())
            ]
            for stream in streams
        ],
    }


def _thresholds(decide: Decide) -> dict[str, Any]:
    keys = ("enter", "exit", "smoothing_s", "min_frames", "min_hold_s", "margin")
    return {key: getattr(decide, key) for key in keys}
