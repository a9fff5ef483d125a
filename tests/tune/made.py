"""Recordings of scores for tests, with their truth, in no time and without a model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from device.recordings.format import INDEX, SCORES, Header
from device.recordings.scores import ScoresWriter, Source
from device.system.text import json_line
from device.tune.truth import TRUTH, Interval, write_truth

NAMES = ("cat", "cup", "wall")


def intervals(count: int, seed: int = 1) -> list[Interval]:
    """So many times that something was there, each on its own."""
    chance = np.random.default_rng(seed)
    at_s, found = 0.0, []
    for _ in range(count):
        at_s += float(chance.uniform(4, 8))
        end_s = at_s + float(chance.uniform(4, 8))
        found.append(Interval(round(at_s, 1), round(end_s, 1), str(chance.choice(NAMES[:2]))))
        at_s = end_s
    return found


def make(
    folder: Path,
    truth: Sequence[Interval],
    *,
    seed: int = 1,
    names: Sequence[str] = NAMES,
    cameras: Sequence[str] = ("camera",),
    fps: float = 10.0,
    length_s: float = 0.0,
    flicker: float = 0.25,
) -> Path:
    """A recording whose scores flicker: a share of the frames shows something else."""
    chance = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    header = json_line(Header(SCORES, "made", "made"))
    (folder / INDEX).write_text(header + "\n")
    end_s = length_s or max((one.to_s for one in truth), default=0.0) + 4
    writer = ScoresWriter(folder / "recorded.scores")
    for number in range(round(end_s * fps)):
        at_s = number / fps
        for camera in cameras:
            scores = chance.integers(0, 20, len(names)).astype(np.float32) / 256
            there = next((one.label for one in truth if one.from_s <= at_s < one.to_s), "")
            if chance.random() < flicker:
                there = str(chance.choice(["", *NAMES]))
            if there:
                scores[list(names).index(there)] = float(chance.uniform(0.5, 1))
            writer.add(Source(camera, "made", "0" * 64, tuple(names)), at_s, scores)
    writer.close()
    write_truth(folder / TRUTH, truth)
    return folder
