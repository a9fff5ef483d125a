"""What was measured during a soak, its slopes, and whether they are what is promised."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

MEMORY_MB = 1.0
# The outbox's one megabyte; SQLite's log of it, which is written back once it has 1000 pages of
# 1 KB and a head of 24 bytes; and small files.
DISK_KB = 1024 + 1024 + 128
# How many descriptors or threads there may be more at the end than at first, and at any time more
# than mostly: a connection that is made, one that is let go, and somebody who looks at the page.
COUNT_GROWTH, COUNT_PEAK = 2, 6
# Until then caches fill, and the allocator finds its size.
_WARM_UP = 1 / 3


class Sample(NamedTuple):
    """One look at the process and its state directory; ``at_s`` is seconds since the begin."""

    at_s: float
    rss_mb: float
    descriptors: float
    threads: float
    disk_kb: float
    frames: float
    stored: float


def slope(samples: Sequence[Sample], field: str) -> float:
    """How much a figure grows in the length of the run: the line of least squares through it.

    The first third is left out.
    """
    length_s = samples[-1].at_s
    settled = [sample for sample in samples if sample.at_s >= _WARM_UP * length_s]
    at = np.array([sample.at_s for sample in settled]) / length_s
    return float(np.polyfit(at, [getattr(sample, field) for sample in settled], 1)[0])


def summarize(samples: Sequence[Sample]) -> dict[str, Any]:
    """The figures of a run."""
    found: dict[str, Any] = {
        "length_s": samples[-1].at_s,
        "samples_taken": len(samples),
        "frames": int(samples[-1].frames),
    }
    for field in ("rss_mb", "descriptors", "threads", "disk_kb"):
        values = [getattr(sample, field) for sample in samples]
        found[field] = {
            "first": round(values[0], 2),
            "last": round(values[-1], 2),
            "median": round(statistics.median(values), 2),
            "most": round(max(values), 2),
            "grows_by": round(slope(samples, field), 3),
        }
    return found


def _is_flat(counts: dict[str, float]) -> bool:
    peak = counts["most"] - counts["median"]
    return counts["grows_by"] <= COUNT_GROWTH and peak <= COUNT_PEAK


def judge(found: dict[str, Any]) -> list[str]:
    """What is not as it is promised, a line each."""
    faults = []
    for name, bad in {
        "memory grows": found["rss_mb"]["grows_by"] > MEMORY_MB,
        "descriptors grow": not _is_flat(found["descriptors"]),
        "threads grow": not _is_flat(found["threads"]),
        "the disk fills": found["disk_kb"]["most"] > DISK_KB,
        "the device failed": found["exit"] != 0 or "failed" in found,
        "no event came": not found["received"],
        "events are lost uncounted": found["lost"] != found["dropped"],
        "events are out of order": bool(found["out_of_order"]) or not found["ids_in_order"],
        "events have two ids": bool(found["duplicates_other_id"]),
        "hours are not kept": found["off_duty"] != found["off_duty_by_the_clock"],
        "rows are damaged": bool(found["damaged"]),
        "the page fails": bool(found["web_failures"]),
    }.items():
        if bad:
            faults.append(name)
    return faults
