"""A recording of 20 true changes under heavy noise, with its truth: ``python -m tests.tune.noisy``.

A cat and a cup of coffee, the photographs that ship, come to a wall and go again, at ten frames a
second. The light flickers; the sensor is noisy; the camera shakes and blurs; something dark goes
by in front; and pictures flash up for one to three frames: a rocket, or the very cat or cup that
is not there. The same seed makes the same recording.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.events import Observation, StageTimes
from device.frames import Frame, PixelFormat, Pixels
from device.sinks.record import RecordSink
from device.tune.truth import TRUTH, Interval, write_truth
from tests.conftest import FOOTAGE

CHANGES = 20
FPS = 10.0
WIDTH, HEIGHT = 320, 240
# The word of the embedded model for each photograph; the rocket has none that is sure.
PICTURES = {"cat": "cat", "cup": "coffee"}
DISTRACTING = ("cat", "coffee", "rocket")
# How often, a second.
FLASHES, PASSERS, SHAKES, DARKS = 0.35, 0.1, 0.2, 0.08

Image = NDArray[np.float32]


def timeline(chance: np.random.Generator) -> list[tuple[float, float, str]]:
    """Begin, end and label of each state, of which the empty ones are nothing."""
    states, at_s, label = [], 0.0, ""
    for _ in range(CHANGES + 1):
        end_s = at_s + round(float(chance.uniform(3.5, 8.0)), 1)
        states.append((at_s, end_s, label))
        at_s = end_s
        label = str(chance.choice([one for one in ("", *PICTURES) if one != label]))
    return states


def truth(seed: int) -> list[Interval]:
    """What is to be seen in the recording of this seed, and when."""
    states = timeline(np.random.default_rng(seed))
    return [Interval(begin, end, label) for begin, end, label in states if label]


def frames(seed: int) -> Iterator[tuple[float, Pixels]]:
    """The time and the picture, BGR, of each frame."""
    chance = np.random.default_rng(seed)
    states = timeline(chance)
    photographs = {name: _photograph(name) for name in DISTRACTING}
    wall = _wall(chance)
    noise = _Noise(chance)
    flash, left = "", 0
    for number in range(round(states[-1][1] * FPS)):
        # No camera is on time to the millisecond.
        at_s = max(0.0, number / FPS + float(chance.uniform(-0.01, 0.01)))
        label = next(label for begin, end, label in states if begin <= number / FPS < end)
        if not left and chance.random() < FLASHES / FPS:
            flash = str(chance.choice([n for n in DISTRACTING if n != PICTURES.get(label)]))
            left = int(chance.integers(1, 4))
        shown = flash if left else PICTURES.get(label, "")
        left = max(0, left - 1)
        scene = _viewed(photographs[shown], chance) if shown else wall
        yield at_s, noise(scene)


class _Noise:
    """What comes between a scene and the picture of it."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._chance = chance
        self._light = 1.0
        self._shake = self._dark = 0
        self._passer: tuple[float, float, float] | None = None

    def __call__(self, scene: Image) -> Pixels:
        chance = self._chance
        # The light wanders, and a lamp on the mains beats with the exposure.
        self._light = float(np.clip(self._light + chance.normal(0, 0.08), 0.55, 1.25))
        picture = scene * np.float32(self._light * chance.uniform(0.85, 1.1))
        if not self._dark and chance.random() < DARKS / FPS:
            self._dark = int(chance.integers(1, 3))
        if self._dark:
            self._dark -= 1
            picture = picture * np.float32(0.08)
        picture = self._pass_by(picture)
        if not self._shake and chance.random() < SHAKES / FPS:
            self._shake = int(chance.integers(2, 6))
        if self._shake:
            self._shake -= 1
            picture = _blurred(picture, int(chance.integers(9, 21)), chance.uniform(0, 180))
        sigma = chance.uniform(15, 50)
        picture = picture + chance.normal(0, sigma, picture.shape).astype(np.float32)
        return np.clip(picture, 0, 255).astype(np.uint8)

    def _pass_by(self, picture: Image) -> Image:
        """Something dark and wide goes through the picture in half a second."""
        chance = self._chance
        if self._passer is None and chance.random() < PASSERS / FPS:
            wide = float(chance.uniform(0.25, 0.45)) * WIDTH
            self._passer = -wide, wide, float(chance.uniform(0.18, 0.3)) * WIDTH
        if self._passer is None:
            return picture
        left, wide, step = self._passer
        self._passer = (left + step, wide, step) if left < WIDTH else None
        begin, end = round(max(0.0, left)), round(min(float(WIDTH), left + wide))
        picture = picture.copy()
        picture[:, begin : max(begin, end)] *= np.float32(0.15)
        return picture


def _photograph(name: str) -> Image:
    picture: Any = cv2.imread(str(FOOTAGE / f"{name}.jpg"))
    return np.asarray(picture, np.float32)


def _wall(chance: np.random.Generator) -> Image:
    """A wall in uneven light."""
    coarse = chance.uniform(70, 150, (4, 5, 3)).astype(np.float32)
    coarse = coarse.mean(2, keepdims=True) + chance.uniform(-6, 6, 3).astype(np.float32)
    return np.asarray(
        cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.float32
    )


def _viewed(photograph: Image, chance: np.random.Generator) -> Image:
    """The photograph by a hand that is not still."""
    height, width = photograph.shape[:2]
    share = chance.uniform(0.72, 1.0)
    left, top = chance.uniform(0, width * (1 - share)), chance.uniform(0, height * (1 - share))
    cut = photograph[int(top) : int(top + height * share), int(left) : int(left + width * share)]
    return np.asarray(cv2.resize(cut, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _blurred(picture: Image, length: int, angle: float) -> Image:
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), angle, 1)
    kernel = np.asarray(cv2.warpAffine(kernel, turn, (length, length)), np.float32)
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def make(folder: Path, seed: int) -> None:
    """The recording and its truth in a new folder."""
    sink = RecordSink(folder, float("inf"), 1 << 30, lossless=False)
    for number, (at_s, pixels) in enumerate(frames(seed)):
        frame = Frame(pixels, PixelFormat.BGR, WIDTH, HEIGHT, number, at_s)
        sink.observe(
            Observation(
                camera="camera",
                frame=frame,
                predictions=(),
                label=None,
                score=0.0,
                stages=StageTimes(0, 0, 0),
                latency_ms=0.0,
                at=at_s,
            )
        )
    sink.close()
    write_truth(folder / TRUTH, truth(seed))


def main() -> None:
    """Make one on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.tune.noisy", description=__doc__)
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    make(options.out, options.seed)


if __name__ == "__main__":
    main()
