"""Each trouble of a picture: told after it lasted, taken back after it went, and not else."""

import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from device.frames import Frame, PixelFormat, Pixels
from device.health.picture import PERIOD_S, PictureHealth
from tests.conftest import footage

Look = Callable[[Pixels], Pixels]


class Watched:
    """A camera that looks at a photograph, with the noise of a sensor."""

    def __init__(self) -> None:
        self.health = PictureHealth()
        self.at = 100.0
        self.noise = np.random.default_rng(0)
        self.picture = np.asarray(cv2.resize(footage("coffee").pixels, (320, 240)), np.uint8)

    def watch(self, seconds: float, look: Look = lambda p: p, noise: int = 2) -> tuple[str, ...]:
        for _ in range(int(seconds / PERIOD_S)):
            self.at += PERIOD_S
            pixels = look(self.picture).astype(int)
            if noise:
                pixels = pixels + self.noise.integers(-noise, noise + 1, pixels.shape)
            frame = np.clip(pixels, 0, 255).astype(np.uint8)
            height, width = frame.shape[:2]
            self.health.update(Frame(frame, PixelFormat.BGR, width, height, 0, self.at))
        return self.health.troubles


@pytest.fixture
def watched() -> Watched:
    watched = Watched()
    assert watched.watch(40) == ()
    return watched


def blurred(pixels: Pixels) -> Pixels:
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 4), np.uint8)


def moved(pixels: Pixels) -> Pixels:
    return np.asarray(np.roll(pixels, 30, axis=1), np.uint8)


def tilted(pixels: Pixels) -> Pixels:
    return np.asarray(np.roll(pixels, 20, axis=0), np.uint8)


TROUBLES = {
    "black": lambda p: np.zeros_like(p) + 4,
    "overexposed": lambda p: np.full_like(p, 254),
    "covered": lambda p: np.full_like(p, 90),
    "blurred": blurred,
    "moved": moved,
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_is_told_after_it_lasted_and_taken_back_after_it_went(
    watched: Watched, trouble: str
) -> None:
    look = TROUBLES[trouble]
    assert watched.watch(4, look) == ()
    assert watched.watch(8, look) == (trouble,)
    assert watched.watch(4) == (trouble,)
    assert watched.watch(8) == ()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_moment_of_it_is_nothing(watched: Watched, trouble: str) -> None:
    for _ in range(5):
        assert watched.watch(3, TROUBLES[trouble]) == ()
        assert watched.watch(3) == ()


def test_a_camera_that_was_tilted_has_moved(watched: Watched) -> None:
    assert watched.watch(10, tilted) == ("moved",)


def test_the_same_pixels_again_and_again_are_a_frozen_picture(watched: Watched) -> None:
    assert watched.watch(25, noise=0) == ()
    assert watched.watch(10, noise=0) == ("frozen",)
    assert watched.watch(2) == ()


def test_what_goes_on_in_the_scene_is_no_trouble(watched: Watched) -> None:
    def someone(pixels: Pixels) -> Pixels:
        pixels = pixels.copy()
        left = int(watched.at * 37) % 250
        pixels[50:200, left : left + 60] = (40, 90, 160)
        return pixels

    assert watched.watch(120, someone) == ()


def test_less_light_is_no_blur(watched: Watched) -> None:
    assert watched.watch(60, lambda p: (p * 0.5).astype(np.uint8), noise=1) == ()


@pytest.mark.slow
def test_a_view_that_stays_becomes_the_usual_one(watched: Watched) -> None:
    assert watched.watch(60, moved) == ("moved",)
    assert watched.watch(620, moved) == ()
    assert watched.watch(60, moved) == ()
    assert watched.watch(10) == ("moved",)


def test_is_taken_back_when_the_camera_was_away(watched: Watched) -> None:
    assert watched.watch(10, TROUBLES["black"]) == ("black",)
    watched.health.reset()
    assert watched.health.troubles == ()
    assert watched.watch(2) == ()


def test_time_that_runs_backwards_stops_nothing(watched: Watched) -> None:
    watched.at -= 1e6
    assert watched.watch(10, TROUBLES["black"]) == ("black",)


@pytest.mark.parametrize("layout", list(PixelFormat))
def test_any_layout_and_size(layout: PixelFormat) -> None:
    for width, height in ((16, 16), (300, 224), (1920, 1080)):
        shape = {
            PixelFormat.GREY: (height, width),
            PixelFormat.YUV420: (height * 3 // 2, width + 20),
        }.get(layout, (height, width, 3))
        health = PictureHealth()
        for at in range(10):
            health.update(Frame(np.zeros(shape, np.uint8), layout, width, height, 0, float(at)))
        assert health.troubles == ("black",)


def test_costs_less_than_a_fiftieth_of_the_time_between_frames() -> None:
    health = PictureHealth()
    frame = footage("coffee")
    costs = []
    for number in range(300):
        at = number / 30
        moment = Frame(frame.pixels, frame.format, frame.width, frame.height, number, at)
        begun = time.perf_counter()
        health.update(moment)
        costs.append(time.perf_counter() - begun)
    # All frames are counted, most of which it does not look at; the best of three such seconds
    # leaves out what else the machine does.
    share = min(sum(costs[start : start + 60]) for start in (60, 120, 180, 240)) / (60 / 30)
    assert share < 0.02
