"""What a change costs the loop, what it takes of the card, and how long questions take.

usage: python -m tests.history.figures [--mb MB]

The first is of the loop's thread alone, while another writes; the last of a database that is as
large as it may become.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from device import config
from device.events import LabelChange
from device.history.reader import Reader, Selection
from device.sinks.history import HistorySink
from tests.history.story import WALL, Story, change

CHANGES = 20_000
YEAR = 200 * 365
DAY_S = 86_400.0
ASKED = 7


def alternating(count: int, distance_s: float, begin: float = 0.0) -> Iterator[LabelChange]:
    labels = ("cat", "dog", "person")
    for number in range(count):
        active = (labels[number // 2 % 3],) if number % 2 else ()
        yield change(begin + number * distance_s, *active)


def cost_of_a_change(folder: Path) -> None:
    sink = HistorySink(config.History(), folder / "cost.db", commit_s=0.05)
    took = []
    begin = time.monotonic()
    for one in alternating(CHANGES, 0.001, begin):
        before = time.perf_counter_ns()
        sink.change(one)
        took.append((time.perf_counter_ns() - before) / 1e3)
        # A change each millisecond: a thousand times as many as a device makes.
        time.sleep(0.001)
    sink.close()
    p50, p99 = (statistics.quantiles(took, n=100)[at] for at in (49, 98))
    print(f"change() on the loop's thread: p50 {p50:.1f} µs, p99 {p99:.1f} µs, lost {sink.lost}")


def size_of_changes(folder: Path) -> None:
    story = Story(folder / "size.db", config.History(mb=1000))
    story.start()
    assert story.writer is not None
    empty = story.writer.size_bytes
    happened = list(alternating(YEAR, DAY_S / 200))
    for begin in range(0, YEAR, 1000):
        portion = happened[begin : begin + 1000]
        story.tell(*portion, now=portion[-1].at)
    grown = story.writer.size_bytes - empty
    story.stop(YEAR * DAY_S / 200)
    print(
        f"size: {grown / YEAR:.0f} kB per 1000 changes, {grown / 1e6:.1f} MB in a year of 200 a day"
    )


def fill(path: Path, size_mb: float) -> float:
    """A database of this size, restarted each week; returns its last moment, monotonic."""
    story = Story(path, config.History(mb=size_mb, days=36_500))
    story.start()
    at, week = 0.0, 0.0
    while True:
        assert story.writer is not None
        if story.writer.size_bytes >= size_mb * 2**20:
            break
        portion = list(alternating(1000, 60.0, at))
        at = portion[-1].at + 60.0
        story.tell(*portion, now=at)
        if at - week > 7 * DAY_S:
            week = at
            story.stop(at)
            story.start(at)
    story.stop(at)
    return at


def time_of(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(ASKED):
        before = time.perf_counter()
        ask()
        took.append(1e3 * (time.perf_counter() - before))
    return statistics.median(took)


def questions(folder: Path, size_mb: float) -> None:
    path = folder / "full.db"
    end = WALL + fill(path, size_mb)
    year = Selection(end - 365 * DAY_S, end)
    week, day, old = (
        Selection(end - 7 * DAY_S, end),
        Selection(end - DAY_S, end),
        Selection(WALL + 7 * DAY_S, WALL + 8 * DAY_S),
    )
    with Reader(path) as reader:
        count = len(reader.intervals(Selection(0, end), -1))
        print(f"full: {path.stat().st_size / 2**20:.0f} MB, {count} intervals")
        asked: dict[str, Callable[[], object]] = {
            "intervals of the last day": lambda: reader.intervals(day, 2000),
            "intervals of a day long ago": lambda: reader.intervals(old, 2000),
            "the newest 1000 of all": lambda: reader.intervals(Selection(0, end), 1000),
            "totals of today": lambda: reader.totals(day, "day", end),
            "totals of a week by the hour": lambda: reader.totals(week, "hour", end),
            "totals of a year by the day": lambda: reader.totals(year, "day", end),
            "gaps of the last week": lambda: reader.gaps(week, 2000),
            "names": reader.names,
            "begun": reader.begun,
        }
        for what, ask in asked.items():
            print(f"{what}: {time_of(ask):.1f} ms")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=float, default=50.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        cost_of_a_change(Path(name))
        size_of_changes(Path(name))
        questions(Path(name), options.mb)
    return 0


if __name__ == "__main__":
    sys.exit(main())
