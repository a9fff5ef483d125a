"""``labelcam history``: what was seen, when and how long, and what was done about it."""

import argparse
import csv
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from device.cli.arguments import VERBOSE, Commands, as_json, count
from device.cli.service import OWN
from device.errors import UsageError
from device.system.text import json_line, printable

if TYPE_CHECKING:
    from device.history.reader import Reader, Selection

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIMES = "today, yesterday, 90m, 12h, 7d, 2w, 2026-11-24 or 2026-11-24T18:30"
# Columns of a table for a program.
_WIDE = 2000
_ROWS = 100_000


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "history",
        parents=[VERBOSE, OWN, as_json("one JSON object a line; times in seconds since 1970")],
        help="what was seen, when and how long, and what was done about it",
        epilog=f"Times are {_TIMES}; a length is so long ago.",
    )
    parser.add_argument("--since", metavar="TIME", default="today", help="from then on (today)")
    parser.add_argument("--until", metavar="TIME", default="", help="until then (now)")
    parser.add_argument("--label", metavar="LABEL", help="of this label alone")
    parser.add_argument("--camera", metavar="NAME", help="of this camera alone")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--by", choices=("hour", "day"), help="how long and how often in each")
    what.add_argument("--actions", action="store_true", help="what actions did")
    what.add_argument("--gaps", action="store_true", help="when nothing was looked at, and why")
    parser.add_argument("--csv", action="store_true", help="comma-separated, times in ISO 8601")
    parser.add_argument(
        "--limit", metavar="N", type=count, default=1000, help="the newest N at most (1000)"
    )
    parser.set_defaults(command=_history)


def _history(options: argparse.Namespace) -> int:
    from device.history import history_file
    from device.history.reader import Reader, Selection

    if options.json and options.csv:
        raise UsageError("history: --json or --csv, not both")
    now = time.time()
    since = moment("--since", options.since, now)
    until = moment("--until", options.until, now) if options.until else now
    if not since < until:
        raise UsageError(f"history: --since {options.since} is not before --until {options.until}")
    wanted = Selection(since, until, options.camera, options.label)
    with Reader(history_file()) as reader:
        _check_names(reader, wanted)
        rows = _rows(reader, wanted, options, now)
        if options.json:
            for row in rows:
                print(json_line(row))
        elif options.csv:
            _print_csv(rows)
        else:
            _print_tables(reader, wanted, rows, options, now)
    return 0


def moment(option: str, text: str, now: float) -> float:
    """Seconds since 1970 of a time as somebody types it. Raises UsageError."""
    from device.history.hours import day_of

    if text in ("today", "yesterday"):
        today = day_of(now)
        return today if text == "today" else day_of(today - 1)
    if found := re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([mhdw])", text):
        return now - float(found[1]) * _UNITS_S[found[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"history: {option} {text!r} is no time; give {_TIMES}") from None


def _check_names(reader: "Reader", wanted: "Selection") -> None:
    """Raise UsageError for a camera or label that the history has never had."""
    from device.pipeline.words import nearest

    cameras, labels = reader.names()
    for option, name, known in (
        ("--camera", wanted.camera, cameras),
        ("--label", wanted.label, labels),
    ):
        if name is not None and known and name not in known:
            raise UsageError(f"history: {option} {name!r} was never there{nearest(name, known)}")


def _rows(
    reader: "Reader", wanted: "Selection", options: argparse.Namespace, now: float
) -> Sequence[msgspec.Struct]:
    """What is asked for, the earliest first."""
    found: Sequence[msgspec.Struct]
    if options.by:
        return reader.totals(wanted, options.by, now)[-options.limit :]
    if options.actions:
        found = reader.actions(wanted, options.limit)
    elif options.gaps:
        found = reader.gaps(wanted, options.limit)
    else:
        found = reader.intervals(wanted, options.limit)
    return found[::-1]


def _print_csv(rows: Iterable[msgspec.Struct]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for number, row in enumerate(rows):
        fields = msgspec.structs.asdict(row)
        if not number:
            writer.writerow(fields)
        writer.writerow(_cell(name, value) for name, value in fields.items())


def _cell(name: str, value: Any) -> Any:
    if name in ("at", "begin", "end") and value is not None:
        return datetime.fromtimestamp(value).astimezone().isoformat(timespec="milliseconds")
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        # A spreadsheet would calculate it, and a label is whatever a model calls it.
        return f"'{value}"
    return value


def _print_tables(
    reader: "Reader",
    wanted: "Selection",
    rows: Sequence[msgspec.Struct],
    options: argparse.Namespace,
    now: float,
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDE
    if not rows:
        begun = reader.begun()
        since = "it is empty" if begun is None else f"it begins {_at(begun, now)}"
        console.print(f"history: nothing of that since {_at(wanted.since, now)}; {since}")
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in _HEADINGS[type(rows[0]).__name__]:
        right = heading in ("for", "times", "score")
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "why")
    for row in rows:
        table.add_row(*map(printable, _line(row, now)))
    console.print(table)
    if not (options.by or options.actions or options.gaps):
        for total in reader.totals(wanted, "all", now):
            times = "once" if total.times == 1 else f"{total.times} times"
            console.print(
                printable(f"{total.camera}: {total.label} {times}, {length(total.seconds)} in all")
            )
    if len(rows) == options.limit:
        console.print(f"history: only the newest {options.limit}; --limit shows more")


_HEADINGS = {
    "Interval": ("from", "to", "for", "camera", "label", "score"),
    "Gap": ("from", "to", "for", "camera", "why"),
    "Deed": ("at", "action", "camera", "label", "", "why"),
    "Total": ("from", "camera", "label", "for", "times"),
}


def _line(row: Any, now: float) -> tuple[str, ...]:
    kind = type(row).__name__
    if kind == "Total":
        return _at(row.at, now), row.camera, row.label, length(row.seconds), str(row.times)
    if kind == "Deed":
        what = "on" if row.on else "off"
        why = row.detail or ("" if row.done else "not done")
        return _at(row.at, now), row.action, row.camera, row.label, what, why
    end = "…" if row.end is None else _at(row.end, now)
    spent = length((now if row.end is None else row.end) - row.begin)
    if kind == "Gap":
        return _at(row.begin, now), end, spent, row.camera or "all", row.reason
    unset = "" if row.clock_set else " ?"
    return _at(row.begin, now) + unset, end, spent, row.camera, row.label, f"{row.score:.2f}"


def _at(wall: float, now: float) -> str:
    """Local time, with its day where that is not today."""
    local = datetime.fromtimestamp(wall)
    today = local.date() == datetime.fromtimestamp(now).date()
    return local.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S")


def length(seconds: float) -> str:
    """As ``3 s``, ``4 min``, ``2 h 05`` or ``3 d 04 h``."""
    whole = round(max(0.0, seconds))
    if whole < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    if minutes < 2880:
        return f"{minutes // 60} h {minutes % 60:02d}"
    return f"{minutes // 1440} d {minutes % 1440 // 60:02d} h"
