"""Clips with a truth: made ones, seeded, and footage. Times are of the frames, not of a clock."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from device.frames import Frame, PixelFormat, Pixels
from tests.conftest import FOOTAGE

WIDTH, HEIGHT = 640, 480
# Noise is cut out of one larger field at places that chance names: drawing it anew for each
# frame would take ten times what is measured.
_MARGIN = 96
_NIGHT = 0.3

Light = Callable[[float], float]
Change = Callable[[Pixels, float], Pixels]
Picture = NDArray[np.float32]


class Clip(NamedTuple):
    """``frames(fps, seconds)`` are 640x480 in BGR unless it is footage."""

    name: str
    frames: Callable[[float, float], Iterator[Frame]]


class Scene:
    """A photograph as a camera sees it: with noise, in a light that may change."""

    def __init__(self, name: str = "coffee", noise: float = 3.0, level: float = 1.0) -> None:
        picture = cv2.imread(str(FOOTAGE / f"{name}.jpg"))
        self.base: Pixels = cv2.convertScaleAbs(picture, alpha=level).astype(np.uint8, copy=False)
        self._chance = np.random.default_rng(7)
        shape = (HEIGHT + _MARGIN, WIDTH + _MARGIN, 3)
        field = self._chance.standard_normal(shape, np.float32) * np.float32(noise)
        self._noise = np.rint(field).astype(np.int16)

    def shot(self, picture: Pixels) -> Pixels:
        """The picture with the noise of one frame."""
        top, left = self._chance.integers(0, _MARGIN, 2)
        noise = self._noise[top : top + HEIGHT, left : left + WIDTH]
        return np.asarray(cv2.add(picture, noise, dtype=cv2.CV_8U), np.uint8)


def made(
    name: str, scene: Callable[[], Scene], *changes: Callable[[np.random.Generator], Change]
) -> Clip:
    """A scene that changes in these ways, one after the other, before it gets its noise."""

    def frames(fps: float, seconds: float) -> Iterator[Frame]:
        seen, chance = scene(), np.random.default_rng(11)
        steps = [change(chance) for change in changes]
        for number in range(round(fps * seconds)):
            picture = seen.base
            for step in steps:
                picture = step(picture, number / fps)
            yield frame_at(seen.shot(picture), number, fps)

    return Clip(name, frames)


def frame_at(pixels: Pixels, number: int, fps: float) -> Frame:
    """A frame of BGR pixels, as many in as its number says."""
    height, width = pixels.shape[:2]
    return Frame(pixels, PixelFormat.BGR, width, height, number, 1000 + number / fps)


def lit(level: Light) -> Callable[[np.random.Generator], Change]:
    """Exposure, as a factor by the second."""

    def change(_chance: np.random.Generator) -> Change:
        return lambda picture, at: np.asarray(
            cv2.convertScaleAbs(picture, alpha=level(at)), np.uint8
        )

    return change


def step(factor: float, period_s: float = 20.0) -> Light:
    """Between 1 and ``factor``, half a period each."""
    return lambda at: factor if at % period_s >= period_s / 2 else 1.0


def ramp(factor: float, period_s: float = 20.0) -> Light:
    """From 1 to ``factor`` and back, evenly."""
    return lambda at: 1 + (factor - 1) * (1 - abs(1 - 2 * (at % period_s) / period_s))


def flicker(mains_hz: float) -> Callable[[np.random.Generator], Change]:
    """Lamps on the mains under a rolling shutter: bands of 6 %, read out in 1/40 s."""

    def change(_chance: np.random.Generator) -> Change:
        rows = np.arange(HEIGHT)[:, np.newaxis, np.newaxis] / HEIGHT / 40

        def apply(picture: Pixels, at: float) -> Pixels:
            # No power plant keeps its frequency: 0.02 Hz beside it, the bands creep.
            phase = 2 * np.pi * 2 * (mains_hz + 0.02) * (at + rows)
            gain = np.broadcast_to(1 + 0.06 * np.sin(phase), picture.shape)
            return np.asarray(cv2.multiply(picture, gain, dtype=cv2.CV_8U), np.uint8)

        return apply

    return change


def rain(chance: np.random.Generator) -> Change:
    """Bright streaks, elsewhere in each frame."""

    def apply(picture: Pixels, _at: float) -> Pixels:
        streaks = np.zeros(picture.shape[:2], np.uint8)
        for x, y, length in chance.integers((0, -30, 12), (WIDTH, HEIGHT, 40), (120, 3)):
            cv2.line(streaks, (x, y), (x - length // 6, y + length), (50.0,), 1, cv2.LINE_AA)
        return np.asarray(cv2.add(picture, cv2.merge([streaks] * 3)), np.uint8)

    return apply


def leaves(chance: np.random.Generator) -> Change:
    """A corner of the picture that sways, in gusts."""
    texture = chance.integers(30, 160, (16, 14), np.uint8)
    twigs = cv2.resize(texture, (220, 260), interpolation=cv2.INTER_CUBIC)
    phases = chance.uniform(0, 6, 3)

    def apply(picture: Pixels, at: float) -> Pixels:
        gust = 0.55 + 0.45 * np.sin(0.4 * at + phases[0])
        x, y = 6 * gust * np.sin(np.array((4.3, 3.1)) * at + phases[1:])
        place = np.array([[1, 0, x + 12], [0, 1, y + 12]], np.float32)
        swayed = cv2.warpAffine(twigs, place, (220, 260), borderMode=cv2.BORDER_REFLECT)
        picture = picture.copy()
        picture[20:240, 410:590, 1] = swayed[20:240, 20:200]
        return picture

    return apply


def lamp(chance: np.random.Generator, at_s: float = 12.0) -> Change:
    """A lamp in a corner that is switched on and off each 12 s."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    glow = np.exp(-((x - 520) ** 2 + (y - 90) ** 2) / 2 / 110**2) * 90
    light = cv2.merge([glow.astype(np.uint8)] * 3)
    del chance

    def apply(picture: Pixels, at: float) -> Pixels:
        return np.asarray(cv2.add(picture, light), np.uint8) if at // at_s % 2 else picture

    return apply


def infrared(chance: np.random.Generator, at_s: float = 15.0) -> Change:
    """From colours to infrared with its spotlight, and back, each 15 s."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    spot = 1.5 * np.exp(-((x - 320) ** 2 + (y - 240) ** 2) / 2 / 200**2)
    del chance

    def apply(picture: Pixels, at: float) -> Pixels:
        if not at // at_s % 2:
            return picture
        near = cv2.addWeighted(picture[:, :, 2], 0.9, 255 - picture[:, :, 0], 0.2, 10)
        grey = cv2.multiply(near, spot, dtype=cv2.CV_8U)
        return np.asarray(cv2.merge([grey] * 3), np.uint8)

    return apply


def visitor(
    share: float, pixels_per_s: float, at_s: float = 10.0
) -> Callable[[np.random.Generator], Change]:
    """From ``at_s`` on and each 20 s, another photograph of ``share`` of the picture goes by."""

    def change(_chance: np.random.Generator) -> Change:
        width, height = round(WIDTH * share**0.5), round(HEIGHT * share**0.5)
        cat = cv2.resize(cv2.imread(str(FOOTAGE / "cat.jpg")), (width, height))

        def apply(picture: Pixels, at: float) -> Pixels:
            right = round((at - at_s) % 20.0 * pixels_per_s)
            if at < at_s or not 0 < right < WIDTH + width:
                return picture
            picture = picture.copy()
            left, end = max(0, right - width), min(right, WIDTH)
            picture[180 : 180 + height, left:end] = cat[
                :, left - right + width : end - right + width
            ]
            return picture

        return apply

    return change


def shots(*names: str, each_s: float = 12.0) -> Callable[[np.random.Generator], Change]:
    """Another photograph each 12 s, as if something else were put before the camera."""

    def change(_chance: np.random.Generator) -> Change:
        pictures = [cv2.imread(str(FOOTAGE / f"{name}.jpg")) for name in names]
        return lambda _picture, at: np.asarray(pictures[int(at // each_s) % len(names)], np.uint8)

    return change


def day(name: str = "coffee") -> Scene:
    """A room by day."""
    return Scene(name)


def night() -> Scene:
    """The room at night: a third of the light, four times the noise."""
    return Scene(noise=12.0, level=_NIGHT)


STILL = (
    made("still room", day),
    made("still room, cat", lambda: Scene("cat")),
    made("still room at night", night),
)
NUISANCES = (
    *STILL,
    made("exposure +30 % in steps", day, lit(step(1.3))),
    made("exposure -30 % in steps", day, lit(step(0.7))),
    made("exposure +30 % in a ramp", day, lit(ramp(1.3))),
    made("exposure -30 % in a ramp", day, lit(ramp(0.7))),
    made("flicker of 50 Hz", day, flicker(50)),
    made("flicker of 60 Hz", day, flicker(60)),
    made("rain", day, rain),
    made("swaying leaves", day, leaves),
)
EVENTS = (
    made("infrared switch-over", day, infrared),
    made("a lamp switched on and off", day, lamp),
    made("something else before the camera", day, shots("coffee", "cat", "rocket")),
    *(
        made(f"object of {100 * share:.0f} %, {word}", day, visitor(share, speed))
        for share in (0.01, 0.02, 0.05)
        for word, speed in (("slow", 40.0), ("fast", 400.0))
    ),
)


def recorded(path: Path) -> Clip:
    """A video at its own rate, whatever is asked for."""

    def frames(_fps: float, seconds: float) -> Iterator[Frame]:
        video = cv2.VideoCapture(str(path))
        fps = video.get(cv2.CAP_PROP_FPS)
        for number in range(round(seconds * fps)):
            there, pixels = video.read()
            if not there:
                return
            yield frame_at(np.asarray(pixels, np.uint8), number, fps)

    return Clip(path.name, frames)
