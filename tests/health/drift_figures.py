"""How soon a change is told, and how often there is none: `python -m tests.health.drift_figures`.

Made weeks of each kind of camera of drift_world, `--seeds` of each. Prints tables for the docs,
and draws `--png FILE`. Takes some minutes of a core.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device import config
from device.health import drift
from device.health.drift import Detector, Hour
from device.health.drift_watch import DriftWatch
from device.system.paths import state_directory
from tests.health.drift_world import (
    PLACES,
    START,
    Camera,
    Change,
    Place,
    calendar,
    fogged,
    knocked,
    lit,
    stuck,
    turned,
    worse,
)
from tests.sinks.examples import device_health, observation

DAYS, LEARN, CHANGED_ON, WATCHED = 100, 7, 30.3, 15
THRESHOLDS = (3.0, 4.0, 5.0, 6.0, 7.0)
IN_FORCE = drift._ALARM
POINTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
CHANGES: dict[str, Change] = {
    "knocked: 30 points less, another view": turned,
    "only 30 points less recognised": knocked(0.3),
    "only 50 points less recognised": knocked(0.5),
    "stuck: always something": stuck,
    "fogged, over two days": fogged(0.7),
    "half the light": lit(0.5),
    "model worse by half a bit": worse(0.5),
}


def _set_threshold(threshold: float) -> None:
    drift._ALARM, drift._MOST, drift._OVER = threshold, threshold + 1, threshold / 2


def alarms(place: Place, seed: int, threshold: float) -> list[str]:
    """What each alarm of a hundred stationary days was about."""
    _set_threshold(threshold)
    detector = Detector(calendar)
    return [
        detector.changes()[0][0].name if detector.changes() else "?"
        for hour in Camera(place, seed).hours(DAYS + LEARN)
        if detector.add(hour) == "began"
    ]


def delay_days(place: Place, seed: int, change: Change) -> float | None:
    """Days from a change to the alarm; infinite over two weeks, None after a false one."""
    _set_threshold(IN_FORCE)
    detector = Detector(calendar)
    for hour in Camera(place, seed).hours(round(CHANGED_ON) + WATCHED, change, CHANGED_ON):
        if detector.add(hour) == "began":
            delay = (hour.number - START) / 24 - CHANGED_ON
            return delay if delay >= 0 else None
    return float("inf")


def _alarms(job: tuple[int, int, float]) -> list[str]:
    return alarms(PLACES[job[0]], job[1], job[2])


def _delay(job: tuple[int, int, str]) -> float | None:
    place, seed, name = job
    change = CHANGES.get(name) or knocked(float(name))
    return delay_days(PLACES[place], seed, change)


def _spread(delays: list[float | None]) -> str:
    known = [delay for delay in delays if delay is not None]
    middle, most = np.quantile(known, (0.5, 0.9), method="higher")
    found = [f"{value:.1f}" if np.isfinite(value) else "–" for value in (middle, most)]
    return " / ".join(found)


def figures(seeds: int) -> tuple[list[tuple[float, float]], dict[str, list[tuple[float, float]]]]:
    """Print the tables; false alarms by threshold, and shares found in a week and delays."""
    places = range(len(PLACES))
    false = []
    with Pool() as pool:
        print(
            "| threshold | false alarms in 100 days of one camera | of a device with six | about |"
        )
        print("|---|---|---|---|")
        for threshold in THRESHOLDS:
            jobs = [(place, 10_000 + seed, threshold) for place in places for seed in range(seeds)]
            told = pool.map(_alarms, jobs, chunksize=4)
            about = Counter(name for one in told for name in one)
            rate = about.total() / len(jobs)
            false.append((threshold, rate * len(PLACES)))
            kinds = ", ".join(f"{name} {count}" for name, count in about.most_common())
            print(f"| {threshold:g} | {rate:.3f} | {rate * len(PLACES):.2f} | {kinds} |")
        print(f"\n{len(jobs)} cameras of {DAYS} days each.\n")
        print(f"| days to the alarm, median / 9 of 10 | {' | '.join(p.name for p in PLACES)} |")
        print("|---" * (1 + len(PLACES)) + "|")
        few = max(5, seeds // 2)
        for name in CHANGES:
            cells = [
                _spread(pool.map(_delay, [(p, 20_000 + s, name) for s in range(few)]))
                for p in places
            ]
            print(f"| {name} | {' | '.join(cells)} |")
        curves: dict[str, list[tuple[float, float]]] = {}
        for place in places:
            curve = []
            for points in POINTS:
                jobs_ = [(place, 20_000 + seed, str(points)) for seed in range(few)]
                known = [one for one in pool.map(_delay, jobs_) if one is not None]
                curve.append((points, float(np.quantile(known, 0.5, method="higher"))))
            curves[PLACES[place].name] = curve
    return false, curves


def cost() -> Iterator[str]:
    """What a report costs, and an hour of it."""
    watch = DriftWatch(config.Drift(), state_directory())
    watch.add(config.Camera(name="camera"), "", "unknown")
    vitals = msgspec.structs.replace(device_health().vitals, clock_synced=True)
    health = msgspec.structs.replace(device_health(), vitals=vitals)
    count = 20_000
    begun = time.perf_counter()
    for _ in range(count):
        watch.observe(observation())
    observed = time.perf_counter()
    for step in range(count):
        watch.observe(observation())
        watch.update(health, float(step))
    both = time.perf_counter()
    yield f"{(observed - begun) / count * 1e6:.1f} µs a frame, with making it"
    yield f"{(both - observed - (observed - begun)) / count * 1e6:.1f} µs a report, once a second"
    hours = [Hour(n, 0.5, 1.0, 0.0, 99.0, -1.0) for n in range(START, START + 28 * 24)]
    detector = Detector(calendar)
    detector.memory.hours = hours
    begun = time.perf_counter()
    detector.add(Hour(START + 28 * 24, 0.5, 1.0))
    yield f"{(time.perf_counter() - begun) * 1e3:.2f} ms once a day, for the baseline"


def draw(false: list[tuple[float, float]], curves: dict[str, list[tuple[float, float]]]) -> bytes:
    """Both curves side by side, as a PNG."""
    left = _plot(
        "false alarms in 100 days of a device with six cameras",
        {"": false},
        [(t, f"{t:g}") for t in THRESHOLDS],
        max(1.5, *(rate for _, rate in false)),
        "threshold (6 is in force)",
    )
    right = _plot(
        "days until it is told, by how much less is recognised",
        {name: [(x, y) for x, y in curve if np.isfinite(y)] for name, curve in curves.items()},
        [(points, f"{points:.0%}") for points in POINTS],
        15.0,
        "points less; a curve begins where half are found in 15 days",
    )
    return cv2.imencode(".png", np.hstack([left, right]))[1].tobytes()


_INKS = ((160, 110, 30), (60, 60, 190), (70, 140, 30), (160, 40, 140), (20, 130, 200), (90, 90, 90))


def _plot(
    title: str,
    lines: dict[str, list[tuple[float, float]]],
    marks: list[tuple[float, str]],
    top: float,
    below: str,
) -> NDArray[np.uint8]:
    width, height, x0, y0, x1, y1 = 560, 330, 50, 40, 460, 270
    picture: NDArray[np.uint8] = np.full((height, width, 3), 255, np.uint8)
    first, last = marks[0][0], marks[-1][0]

    def at(x: float, y: float) -> tuple[int, int]:
        return (
            round(x0 + (x - first) / (last - first) * (x1 - x0)),
            round(y1 - y / top * (y1 - y0)),
        )

    _write(picture, title, (8, 22), 0.45)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        cv2.line(picture, at(first, share * top), at(last, share * top), (220, 220, 220), 1)
        _write(picture, f"{share * top:.3g}", (8, at(first, share * top)[1] + 4), 0.4)
    for x, name in marks:
        _write(picture, name, (at(x, 0)[0] - 10, y1 + 18), 0.4)
    _write(picture, below, (x0, y1 + 42), 0.4)
    for row, (name, points) in enumerate(lines.items()):
        ink = _INKS[row % len(_INKS)]
        corners = np.array([at(x, y) for x, y in points], np.int32).reshape(-1, 1, 2)
        cv2.polylines(picture, [corners], False, ink, 2, cv2.LINE_AA)
        for x, y in points:
            cv2.circle(picture, at(x, y), 3, ink, -1, cv2.LINE_AA)
        _write(picture, name, (x1 + 12, y0 + 6 + 20 * row), 0.4, ink)
    return picture


def _write(
    picture: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    scale: float,
    ink: tuple[int, int, int] = (0, 0, 0),
) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, 1, cv2.LINE_AA)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seeds", type=int, default=50, help="devices of each kind")
    arguments.add_argument("--png", type=Path)
    options = arguments.parse_args()
    for line in cost():
        print(line)
    print()
    found = figures(options.seeds)
    if options.png:
        options.png.write_bytes(draw(*found))
