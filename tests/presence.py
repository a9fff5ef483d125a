"""Is somebody there? `python -m tests.presence [--json] [VIDEO[=FROM-TO,FROM-TO…] …]`.

Plays clips through a channel as the default configuration makes it, as fast as it can and by the
times of their frames, and prints how many people were found, and when `person` was said of nobody:
with the sensor beside the embedded model, with that model alone, and with the sensor alone. Without
arguments the clips are the office of `$LABELCAM_TESTDATA`, which takes a minute, and what shows
nobody: the footage that ships and the pictures. Exits with 1 where somebody was missed or invented.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import msgspec
from rich.console import Console
from rich.table import Table

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.frames import Frame
from device.health.meters import CameraMeter
from device.inference.pool import EnginePool
from device.pipeline.channel import Channel
from device.pipeline.ensemble import open_ensemble
from device.pipeline.motion import MotionDetector
from device.pipeline.plan import configured_controls, find_model, shared_settings
from device.recordings.pictures import find_pictures, read_picture
from tests.conftest import FOOTAGE
from tests.gate.clips import frame_at, recorded

WORD = "person"
OFFICE = "videos/one-by-one-person-detection.mp4"
# Seconds at which somebody is in the office, by eye and to within a second or two.
IN_THE_OFFICE = ((9, 20), (23, 45), (52, 69), (76, 87), (94, 119), (122, 136))
SLACK_S = 3.0
# How long a picture is looked at, at 10 frames a second.
_PICTURE_S, _FPS = 5.0, 10.0

WAYS: dict[str, dict[str, Any]] = {
    "both": {},
    "embedded model alone": {"beside": ()},
    "sensor alone": {"name": "mobilenet-v1-person-96"},
}

Span = tuple[float, float]


class Clip(NamedTuple):
    """Frames in time, and when somebody is there."""

    name: str
    frames: Iterator[Frame]
    people: Sequence[Span] = ()


class Result(msgspec.Struct, frozen=True):
    """When ``person`` was said of a clip, and of what."""

    clip: str
    way: str
    people: int
    found: int
    false: tuple[Span, ...]
    said: tuple[Span, ...]


def look(clip: Clip, way: str) -> Result:
    """The clip as the default configuration sees it, ``way`` being which models look."""
    model = msgspec.structs.replace(config.Model(threads=1, delegate="xnnpack"), **WAYS[way])
    decide = config.Decide(groups="everyday")
    settings = config.Config(
        model=model, decide=decide if way == "sensor alone" else config.Decide()
    )
    channel = _channel(settings)
    said: list[list[float]] = []
    began: float | None = None
    at = 0.0
    for frame in clip.frames:
        began = frame.captured_at if began is None else began
        at = frame.captured_at - began
        observation = channel.process(frame)
        for change in observation.changes if observation else ():
            there = WORD in change.active
            if there and (not said or len(said[-1]) == 2):
                said.append([at])
            elif not there and said and len(said[-1]) == 1:
                said[-1].append(at)
    channel.close()
    spans = tuple((span[0], span[1] if len(span) == 2 else at) for span in said)
    return Result(
        clip=clip.name,
        way=way,
        people=len(clip.people),
        found=sum(any(_meet(span, one) for span in spans) for one in clip.people),
        false=tuple(s for s in spans if not any(_meet(s, one) for one in clip.people)),
        said=spans,
    )


def _meet(said: Span, there: tuple[float, float]) -> bool:
    return said[0] < there[1] + SLACK_S and said[1] > there[0] - SLACK_S


def _channel(settings: config.Config) -> Channel:
    camera, model = settings.camera[0], find_model(settings, settings.model.name)
    classifier = open_ensemble(EnginePool(), model, settings.model, camera)
    meter = CameraMeter(camera.name, camera.source, classifier.description)
    # Of a recording every frame is classified.
    supervisor = cast("CameraSupervisor", SimpleNamespace(live=False))
    shared, controls = shared_settings(settings), configured_controls(settings, camera)
    return Channel(camera, shared, controls, model, classifier, supervisor, meter, MotionDetector())


def clip_of(path: Path, people: Sequence[Span] = ()) -> Clip:
    """A video, or a picture that stays for a while."""
    if path.suffix in (".jpg", ".bmp", ".png"):
        pixels = read_picture(path).pixels
        frames = (frame_at(pixels, n, _FPS) for n in range(round(_PICTURE_S * _FPS)))
        return Clip(path.name, frames, people)
    return Clip(path.name, recorded(path).frames(0, 3600.0), people)


def usual(testdata: Path) -> Iterator[tuple[Path, Sequence[Span]]]:
    """The clips that are at hand, and when somebody is there."""
    yield testdata / OFFICE, IN_THE_OFFICE
    yield FOOTAGE / "demo.mp4", ()
    for path in (*find_pictures(FOOTAGE), *find_pictures(testdata / "images")):
        # The one portrait.
        yield path, ((0.0, _PICTURE_S),) if path.name == "grace_hopper.bmp" else ()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="tests.presence", description=__doc__)
    parser.add_argument("clips", metavar="VIDEO", nargs="*", type=_clip)
    parser.add_argument("--json", action="store_true", help="the results as JSON")
    options = parser.parse_args(arguments)
    clips = options.clips
    if not clips:
        if "LABELCAM_TESTDATA" not in os.environ:
            parser.error("set LABELCAM_TESTDATA, or give a video")
        clips = list(usual(Path(os.environ["LABELCAM_TESTDATA"])))
    results = [look(clip_of(*clip), way) for clip in clips for way in WAYS]
    if options.json:
        print(json.dumps(msgspec.to_builtins(results), indent=1))
    else:
        _print(results)
    ours = [result for result in results if result.way == "both"]
    return int(any(result.found < result.people or result.false for result in ours))


def _clip(text: str) -> tuple[Path, Sequence[Span]]:
    name, _, spans = text.partition("=")
    ends = [span.split("-") for span in spans.split(",") if span]
    return Path(name), [(float(start), float(end)) for start, end in ends]


def _print(results: Sequence[Result]) -> None:
    table = Table("clip", "models", "people", "found", "false", "person was said, s")
    for result in results:
        said = ", ".join(f"{start:.1f}-{end:.1f}" for start, end in result.said)
        counts = (str(n) for n in (result.people, result.found, len(result.false)))
        table.add_row(result.clip, result.way, *counts, said)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    sys.exit(main())
