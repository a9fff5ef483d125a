"""What tuning comes to, as a table or as JSON."""

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from device.config import Decide
from device.system.text import printable
from device.tune.judge import LATE_S, Verdict


class Figures(msgspec.Struct, frozen=True, omit_defaults=True):
    """A setting and how it did; without thresholds it is the best label of each frame alone."""

    name: str
    true: int
    found: int
    missed: int
    false: int
    late: int
    median_s: float
    p95_s: float
    enter: float | None = None
    exit: float | None = None
    smoothing_s: float | None = None
    min_frames: int | None = None
    min_hold_s: float | None = None
    margin: float | None = None


class Report(msgspec.Struct, frozen=True):
    """All that is told; ``best`` comes first to last.

    ``checked`` are the best and the present settings on a recording that was not tuned on,
    ``elsewhere`` counts labels that the best says and the truth does not know.
    """

    changes: int
    best: tuple[Figures, ...]
    current: Figures
    naive: tuple[Figures, ...]
    checked: tuple[Figures, Figures] | None
    elsewhere: dict[str, int]


def figures(name: str, settings: Decide | None, verdict: Verdict) -> Figures:
    """The figures of a verdict."""
    counts = verdict.true, verdict.found, verdict.missed, verdict.false, verdict.late
    found = Figures(name, *counts, round(verdict.median_s, 3), round(verdict.p95_s, 3))
    if settings is None:
        return found
    return msgspec.structs.replace(
        found,
        enter=settings.enter,
        exit=settings.exit,
        smoothing_s=settings.smoothing_s,
        min_frames=settings.min_frames,
        min_hold_s=settings.min_hold_s,
        margin=settings.margin,
    )


def print_report(report: Report) -> None:
    """Print the table on stdout, and what to do with it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for head in ("enter", "exit", "smooth", "frames", "hold", "margin"):
        table.add_column(head, justify="right", no_wrap=True)
    for head in ("found", "missed", "false", "late", "median", "95 %"):
        table.add_column(head, justify="right", no_wrap=True)
    for number, one in enumerate(report.best, 1):
        _add(table, msgspec.structs.replace(one, name=str(number)), bold=number == 1)
    table.add_section()
    for one in (report.current, *report.naive, *(report.checked or ())):
        _add(table, one)
    console.print(table)
    console.print(
        f"{report.changes} true changes. Late: over {LATE_S:g} s. Median and 95 % of the delays.",
        style="dim",
    )
    if report.elsewhere:
        labels = ", ".join(f"{printable(k)} ({n})" for k, n in report.elsewhere.items())
        console.print(
            Text(
                f"False, and not in the truth at all: {labels}. If they do not matter, name those "
                "that do: --labels"
            )
        )


def _add(table: Table, one: Figures, *, bold: bool = False) -> None:
    settings = (one.enter, one.exit, one.smoothing_s, one.min_frames, one.min_hold_s, one.margin)
    units = ("", "", " s", "", " s", "")
    cells = ["" if v is None else f"{v:g}{u}" for v, u in zip(settings, units, strict=True)]
    # A zero of either sign is a zero.
    delays = [f"{s:.2f} s".replace("-0.00", "0.00") for s in (one.median_s, one.p95_s)]
    delays = delays if one.found else ["", ""]
    counts = [f"{one.found}/{one.true}", str(one.missed), str(one.false), str(one.late)]
    table.add_row(one.name, *cells, *counts, *delays, style="bold" if bold else None)
