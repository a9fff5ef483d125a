"""What the motion gate spares and costs: `python -m tests.gate.figures [--json] [--png FILE]`.

Made clips, the shipped footage and `$LABELCAM_TESTDATA/videos` go through a channel that
classifies every frame and through one that is gated, by the times of their frames; OpenCV's MOG2,
used the usual way, looks on. Takes about six minutes. Exits with 1 where a goal is missed.
"""

import argparse
import dataclasses
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.events import LabelChange
from device.frames import Frame
from device.health.meters import CameraMeter
from device.library import catalog
from device.pipeline.channel import Channel
from device.pipeline.classifier import Classifier, Scores
from device.pipeline.motion import Area, MotionDetector
from device.pipeline.plan import configured_controls, shared_settings
from tests.conftest import FOOTAGE, classifier_of, footage
from tests.gate.clips import (
    EVENTS,
    HEIGHT,
    NUISANCES,
    STILL,
    WIDTH,
    Clip,
    Scene,
    frame_at,
    recorded,
)

_T = TypeVar("_T")
EVERYWHERE: Area = (0.0, 0.0, 1.0, 1.0)
# A detector may learn for so long before its wakes are counted.
LEARN_S = 10.0
OBJECTS = 200
FPS = 10.0
MODEL = config.Model(threads=1, delegate="xnnpack")


class Remembering:
    """A classifier that runs once a frame, however many channels ask."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self._number, self._scores = -1, np.zeros(0, np.float32)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._classifier, name)

    def classify(self, frame: Frame) -> Scores:
        if frame.number != self._number:
            self._number, self._scores = frame.number, self._classifier.classify(frame).copy()
        return self._scores


def channel_of(classifier: Classifier, motion: str) -> tuple[Channel, CameraMeter]:
    """A channel of the embedded model, and its meter."""
    settings = config.Config(gate=config.Gate(motion=cast("Any", motion)), model=MODEL)
    camera = settings.camera[0]
    meter = CameraMeter(camera.name, camera.source, classifier.description)
    supervisor = cast("CameraSupervisor", SimpleNamespace(live=False))
    shared, controls = shared_settings(settings), configured_controls(settings, camera)
    model = catalog.find(MODEL.name)
    args = camera, shared, controls, model, classifier, supervisor, meter, MotionDetector()
    return Channel(*args), meter


class Mog:
    """MOG2 as tutorials have it: without shadows, 0.4 % of the picture is motion."""

    def __init__(self) -> None:
        self._subtractor = cv2.createBackgroundSubtractorMOG2(detectShadows=True)

    def sees(self, frame: Frame) -> bool:
        return float((self._subtractor.apply(frame.pixels) == 255).mean()) > 0.004


def wakes(awake: Sequence[bool], fps: float) -> int:
    """How often it woke once it had learned."""
    learned = awake[round(LEARN_S * fps) :]
    return sum(after and not before for before, after in itertools.pairwise(learned))


def labels(clip: Clip, classifier: Classifier, seconds: float) -> dict[str, Any]:
    """The changes of label of both channels, and how much MOG2 was awake."""
    shared = cast("Classifier", Remembering(classifier))
    (always, _), (gated, meter), mog = channel_of(shared, "off"), channel_of(shared, "on"), Mog()
    changes: tuple[list[tuple[str, int]], ...] = ([], [])
    looks: Counter[str] = Counter()
    mog_awake = []
    for frame in clip.frames(FPS, seconds):
        for channel, told in zip((always, gated), changes, strict=True):
            observation = channel.process(frame)
            change: LabelChange | None = (
                observation.changes[0] if observation and observation.changes else None
            )
            if change:
                told.append((change.label, frame.number))
        looks[meter.look] += 1
        mog_awake.append(mog.sees(frame))
    missing, extra = (Counter(label for label, _ in told) for told in changes)
    late = [after - before for (_, before), (_, after) in zip(*changes, strict=False)]
    return {
        "clip": clip.name,
        "frames": looks.total(),
        "changes": len(changes[0]),
        "missing": (missing - extra).total(),
        "extra": (extra - missing).total(),
        "latest_frames": max(late, default=0),
        "classified_share": 1 - looks["settled"] / looks.total(),
        "moving_share": looks["moving"] / looks.total(),
        "mog2_moving_share": float(np.mean(mog_awake)),
        "mog2_wakes_per_hour": wakes(mog_awake, FPS) * 3600 / max(1.0, seconds - LEARN_S),
    }


def false_wakes(clip: Clip, minutes: float) -> float:
    """Of the detector alone, an hour."""
    detector = MotionDetector()
    frames = clip.frames(FPS, LEARN_S + 60 * minutes)
    awake = [detector.update(frame).within(EVERYWHERE) for frame in frames]
    return wakes(awake, FPS) * 60 / minutes


def processor_time(clip: Clip, classifier: Classifier, fps: float, seconds: float) -> float:
    """Processor time of the gated channel as a share of that of one that classifies each frame."""
    used = {}
    for motion, length in (("off", min(seconds, 10.0)), ("on", seconds)):
        channel, _ = channel_of(classifier, motion)
        spent = 0.0
        for frame in clip.frames(fps, length):
            begun = time.process_time()
            channel.process(frame)
            spent += time.process_time() - begun
        used[motion] = spent / length
    return used["on"] / used["off"]


def gate_ms(classifier: Classifier) -> dict[str, float]:
    """Milliseconds a frame at 640x480, in a loop that classifies each frame, as medians.

    ``stage`` is the gate's own, ``loop`` how much longer a gated channel takes for a frame than one
    that classifies every frame: what the gate has read, the preprocessor finds in the caches. Both
    take the frames by turns.
    """
    channels = {motion: channel_of(classifier, motion) for motion in ("off", "on")}
    times: dict[str, list[float]] = {motion: [] for motion in channels}
    # Something passes: the gate has the most to do, and an inference lies between two frames.
    moving = next(clip for clip in EVENTS if clip.name == "object of 5 %, slow")
    for frame in moving.frames(30.0, 26.0):
        if frame.number < 330:
            continue
        order = ("off", "on") if frame.number % 2 else ("on", "off")
        for motion in order:
            arrived = dataclasses.replace(frame, pixels=frame.pixels.copy())
            begun = time.perf_counter()
            channels[motion][0].process(arrived)
            times[motion].append((time.perf_counter() - begun) * 1e3)
    stage = channels["on"][1].health(0.0).stages["gate"].p50_ms
    more = float(np.median(times["on"]) - np.median(times["off"]))
    return {"stage": stage, "loop": more, "share": more / float(np.median(times["off"]))}


def objects_seen() -> int:
    """How many of OBJECTS, of 2 to 5 % of a region by day and night, are seen within a frame."""
    chance, seen = np.random.default_rng(5), 0
    photograph = footage("cat").pixels
    regions: tuple[Area, ...] = (EVERYWHERE, (0.25, 0.25, 0.75, 0.75), (0.5, 0.0, 1.0, 0.5))
    for noise, level in ((3.0, 1.0), (12.0, 0.3)):
        scene, detector = Scene(noise=noise, level=level), MotionDetector()
        numbers = itertools.count()

        def look(pixels: NDArray[np.uint8], region: Area) -> bool:
            frame = frame_at(scene.shot(pixels), next(numbers), FPS)  # noqa: B023
            return detector.update(frame).within(region)  # noqa: B023

        for _ in range(100):
            look(scene.base, EVERYWHERE)
        for number in range(OBJECTS // 2):
            region = regions[number % len(regions)]
            left, top, right, bottom = region
            side = chance.uniform(0.02, 0.05) ** 0.5
            width = round(side * (right - left) * WIDTH)
            height = round(side * (bottom - top) * HEIGHT)
            x = int(chance.integers(round(left * WIDTH), round(right * WIDTH) - width + 1))
            y = int(chance.integers(round(top * HEIGHT), round(bottom * HEIGHT) - height + 1))
            what = cv2.resize(photograph, (width, height), interpolation=cv2.INTER_AREA)
            pixels = scene.base.copy()
            pixels[y : y + height, x : x + width] = cv2.convertScaleAbs(what, alpha=level)
            seen += look(pixels, region) or look(pixels, region)
            for _ in range(10):
                look(scene.base, region)
    return seen


def measure(minutes: float, seconds: float) -> dict[str, Any]:
    """Every figure."""
    videos = sorted((Path(os.environ["LABELCAM_TESTDATA"]) / "videos").iterdir())
    footages = [recorded(path) for path in (*videos, FOOTAGE / "demo.mp4")]
    with classifier_of(MODEL.name, MODEL) as classifier:
        told = [
            labels(clip, classifier, seconds)
            for clip in _progress((*NUISANCES, *EVENTS), "labels, made clips")
        ]
        told += [labels(clip, classifier, 1e3) for clip in _progress(footages, "labels, footage")]
        still = {
            f"{clip.name}, {fps:.0f} frames a second": processor_time(
                clip, classifier, fps, seconds
            )
            for clip, fps in _progress(tuple(itertools.product(STILL, (10.0, 30.0))), "time")
        }
        milliseconds = gate_ms(classifier)
    return {
        "labels": told,
        "processor_time_share": still,
        "false_wakes_per_hour": {
            clip.name: false_wakes(clip, minutes) for clip in _progress(NUISANCES, "false wakes")
        },
        "objects_seen": objects_seen(),
        "gate_ms": milliseconds,
    }


def reached(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The goals, what was measured, and whether it is enough."""
    told = result["labels"]
    most = max(result["processor_time_share"].values())
    wakes_per_hour = float(np.mean(list(result["false_wakes_per_hour"].values())))
    goals = (
        ("label changes missing", sum(row["missing"] for row in told), 0),
        ("label changes too many", sum(row["extra"] for row in told), 0),
        ("latest change, in frames", max(row["latest_frames"] for row in told), 1),
        ("share of the processor time, still scenes", most, 0.1),
        (f"objects not seen, of {OBJECTS}", OBJECTS - result["objects_seen"], 0),
        ("false wakes an hour", wakes_per_hour, 1),
        ("gate, ms a frame more in the loop", result["gate_ms"]["loop"], 0.25),
    )
    return [
        {"goal": goal, "measured": value, "limit": limit, "met": bool(value <= limit)}
        for goal, value, limit in goals
    ]


def print_tables(result: dict[str, Any], goals: list[dict[str, Any]]) -> None:
    """Everything as Markdown."""
    print(
        "| clip | changes | missing, extra | latest, frames | classified | wakes an hour |", end=""
    )
    print(" MOG2 moving | MOG2 wakes an hour |\n|---|---|---|---|---|---|---|---|")
    for row in result["labels"]:
        woken = result["false_wakes_per_hour"].get(row["clip"])
        print(
            f"| {row['clip']} | {row['changes']} | {row['missing']}, {row['extra']} "
            f"| {row['latest_frames']} | {row['classified_share']:.1%} "
            f"| {'' if woken is None else f'{woken:.1f}'} | {row['mog2_moving_share']:.1%} "
            f"| {'' if woken is None else round(row['mog2_wakes_per_hour'])} |"
        )
    print("\n| still scene | processor time, of always-on |\n|---|---|")
    for name, share in result["processor_time_share"].items():
        print(f"| {name} | {share:.1%} |")
    print(f"\nObjects seen: {result['objects_seen']} of {OBJECTS}")
    gate = result["gate_ms"]
    print(
        f"The gate's stage takes {gate['stage']:.2f} ms a frame, and the loop {gate['loop']:.2f}",
        end="",
    )
    print(f" ms more with it, {gate['share']:.1%}\n")
    for goal in goals:
        mark = "met" if goal["met"] else "MISSED"
        print(f"{mark}: {goal['goal']}: {goal['measured']:.3g} ({goal['limit']:g})")


def drawn(rows: Sequence[dict[str, Any]]) -> NDArray[np.uint8]:
    """The shares of frames of each clip as bars, BGR."""
    left, wide, tall = 290, 560, 30
    height = tall * len(rows) + 60
    panel = np.full((height, left + wide + 60, 3), 255, np.uint8)
    colours = {"classified_share": (170, 90, 20), "mog2_moving_share": (60, 140, 230)}

    def text(what: str, x: int, y: int, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
        cv2.putText(panel, what, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)

    text("labelcam: frames classified", left, 25, colours["classified_share"])
    text("MOG2: frames with motion", left + 260, 25, colours["mog2_moving_share"])
    for percent in range(0, 101, 20):
        x = left + wide * percent // 100
        cv2.line(panel, (x, 38), (x, height - 22), (225, 225, 225), 1)
        text(f"{percent} %", x - 12, height - 6)
    for number, row in enumerate(rows):
        y = 42 + tall * number
        text(row["clip"][:34], 10, y + 16)
        for offset, (key, colour) in zip((0, 12), colours.items(), strict=True):
            end = left + max(1, round(wide * row[key]))
            cv2.rectangle(panel, (left, y + offset), (end, y + offset + 9), colour, cv2.FILLED)
    return panel


def _progress(what: Iterable[_T], words: str) -> Iterator[_T]:
    shown = sys.stderr.isatty()
    yield from track(tuple(what), words, console=Console(stderr=True), disable=not shown)


def main() -> int:
    """Measure, print and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw the shares of frames")
    parser.add_argument("--minutes", type=float, default=6.0, help="of each nuisance (6)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each made clip (60)")
    options = parser.parse_args()
    if "LABELCAM_TESTDATA" not in os.environ:
        parser.error("LABELCAM_TESTDATA is not set: no footage of streets and rooms")
    cv2.setNumThreads(1)
    result = measure(options.minutes, options.seconds)
    goals = reached(result)
    if options.png:
        cv2.imwrite(str(options.png), drawn(result["labels"]))
    if options.json:
        print(json.dumps({**result, "goals": goals}))
    else:
        print_tables(result, goals)
    return 0 if all(goal["met"] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
