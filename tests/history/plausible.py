"""Weeks of a kitchen as a camera sees it, made up, through the real store.

usage: python -m tests.history.plausible FILE [--days N] [--seed N]

A person in the morning, at noon and in the evening, with cups at breakfast; a cat whenever it
likes; a camera that is unplugged now and then, and a power cut.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device.events import UNAVAILABLE, LabelChange
from device.history.hours import day_of
from tests.history.story import Story, change, result

DAY_S = 86_400.0


class Visit(NamedTuple):
    """A label that is there from ``begin`` to ``end``, seconds since the first midnight."""

    begin: float
    end: float
    label: str


def visits(days: int, chance: np.random.Generator) -> Iterator[Visit]:
    for day in range(days):
        weekend = day % 7 in (5, 6)
        for hour, count in ((7.2 + 1.6 * weekend, 5), (12.5, 2 + 2 * weekend), (18.6, 7)):
            for _ in range(chance.poisson(count)):
                begin = (day * 24 + chance.normal(hour, 0.6)) * 3600
                length = 60 * chance.gamma(2.0, 3.0)
                yield Visit(begin, begin + length, "person")
                if hour < 10 and chance.random() < 0.6:
                    yield Visit(begin + 40, begin + 40 + 60 * chance.gamma(2.0, 6.0), "cup")
        for _ in range(chance.poisson(6)):
            begin = (day * 24 + chance.uniform(5, 23)) * 3600
            yield Visit(begin, begin + 60 * chance.gamma(1.5, 8.0), "cat")


def changes(seen: list[Visit], end: float) -> Iterator[LabelChange]:
    """What is in force, from change to change."""
    moments = sorted({m for one in seen for m in one[:2] if 0 <= m < end})
    before: set[str] = set()
    for at in moments:
        active = {one.label for one in seen if one.begin <= at < one.end}
        if active != before:
            yield change(at, *sorted(active), camera="camera")
        before = active


def write(path: Path, days: int, seed: int, until: float) -> int:
    """Write the days before ``until``, seconds since 1970; returns how many changes those are."""
    chance = np.random.default_rng(seed)
    story = Story(path)
    story.wall_offset = day_of(until) - (days - 1) * DAY_S
    end = until - story.wall_offset
    story.start()
    seen = list(visits(days, chance))
    happened = list(changes(seen, end))
    cut = (days - 2) * DAY_S + 2.2 * 3600
    story.tell(*(one for one in happened if one.at < cut), now=cut)
    story.lose_power()
    story.start(cut + 2400)
    lost = (days - 1) * DAY_S + 9.1 * 3600
    rest = [one for one in happened if one.at > cut + 2400 and not lost <= one.at < lost + 1500]
    story.tell(*(one for one in rest if one.at < lost), now=min(lost, end))
    if lost + 1500 < end:
        story.tell(change(lost, label=UNAVAILABLE, camera="camera"), now=lost)
        story.tell(change(lost + 1500, camera="camera"), now=lost + 1500)
    acts = [
        result(at, action="lamp", camera="camera", label="person", on=on)
        for one in seen
        if one.label == "person" and (days - 3) * DAY_S < one.begin < end
        for at, on in ((one.begin, True), (min(one.end, end), False))
    ]
    story.tell(*(one for one in rest if one.at >= lost), *acts, now=end)
    story.lose_power()
    return len(happened)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--days", type=int, default=14)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{write(options.file, options.days, options.seed, time.time())} changes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
