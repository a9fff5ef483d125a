"""What the motion detector takes for motion, and what it does not."""

import itertools
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import pytest

from device.frames import Frame, PixelFormat, Pixels
from device.pipeline.motion import COLUMNS, ROWS, MotionDetector
from tests.conftest import frame_of
from tests.gate.clips import NUISANCES, Clip, Scene, night

EVERYWHERE = (0.0, 0.0, 1.0, 1.0)
RIGHT = (0.5, 0.0, 1.0, 1.0)


def moving(frames: Iterable[Frame], detector: MotionDetector | None = None) -> list[bool]:
    """Whether something moved in each of the frames."""
    detector = detector or MotionDetector()
    return [detector.update(frame).within(EVERYWHERE) for frame in frames]


def still(scene: Scene, count: int) -> Iterator[Frame]:
    """Frames of the scene in which nothing moves."""
    return (frame_of(scene.shot(scene.base)) for _ in range(count))


def with_object(pixels: Pixels, x: int, side: int = 90) -> Pixels:
    """The picture with something bright in it."""
    pixels = pixels.copy()
    pixels[200 : 200 + side, x : x + side] = (60, 60, 230)
    return pixels


@pytest.fixture
def learned() -> tuple[Scene, MotionDetector]:
    """A room at night, and a detector that has seen it for a while."""
    scene, detector = night(), MotionDetector()
    moving(still(scene, 60), detector)
    return scene, detector


def test_the_first_frame_moves_and_a_scene_at_rest_does_not() -> None:
    assert moving(still(night(), 40)) == [True] + [False] * 39


@pytest.mark.slow
@pytest.mark.parametrize("clip", NUISANCES, ids=lambda clip: clip.name)
def test_nuisances_are_no_motion(clip: Clip) -> None:
    assert moving(clip.frames(10, 25)) == [True] + [False] * 249


def test_an_object_is_seen_with_its_first_frame(learned: tuple[Scene, MotionDetector]) -> None:
    scene, detector = learned
    motion = detector.update(frame_of(scene.shot(with_object(scene.base, 400))))
    assert motion.within(EVERYWHERE)
    rows, columns = np.nonzero(motion.blocks)
    assert (rows.min(), rows.max()) == (200 * ROWS // 480, 289 * ROWS // 480)
    assert (columns.min(), columns.max()) == (400 * COLUMNS // 640, 489 * COLUMNS // 640)


def test_what_moves_outside_a_region_is_none_of_its_business(
    learned: tuple[Scene, MotionDetector],
) -> None:
    scene, detector = learned
    motion = detector.update(frame_of(scene.shot(with_object(scene.base, 100))))
    assert motion.within((0.0, 0.0, 0.5, 1.0))
    assert not motion.within(RIGHT)


def test_a_frame_is_looked_at_once_for_all_regions(learned: tuple[Scene, MotionDetector]) -> None:
    scene, detector = learned
    frame = frame_of(scene.shot(with_object(scene.base, 100)))
    assert detector.update(frame) is detector.update(frame)


@pytest.mark.slow
def test_what_is_parked_becomes_background(learned: tuple[Scene, MotionDetector]) -> None:
    scene, detector = learned
    parked = with_object(scene.base, 300)
    seen = moving((frame_of(scene.shot(parked)) for _ in range(900)), detector)
    assert all(seen[:20])
    assert not any(seen[-100:])


def test_another_view_has_moved_as_a_whole_and_is_the_background_then(
    learned: tuple[Scene, MotionDetector],
) -> None:
    _, detector = learned
    other = Scene("rocket", noise=12.0)
    motions = [detector.update(frame) for frame in still(other, 20)]
    assert motions[0].blocks.all()
    assert not any(motion.within(EVERYWHERE) for motion in motions[1:])


def test_a_camera_that_turns_moves_until_it_has_turned(
    learned: tuple[Scene, MotionDetector],
) -> None:
    scene, detector = learned
    turned = [np.roll(scene.base, 40 * step, 1) for step in range(1, 9)]
    seen = moving((frame_of(scene.shot(picture)) for picture in (*turned, turned[-1])), detector)
    assert seen == [True] * 8 + [False]


def test_a_frame_of_another_size_is_another_view(learned: tuple[Scene, MotionDetector]) -> None:
    scene, detector = learned
    small = cv2.resize(scene.base, (320, 180)).astype(np.uint8)
    seen = moving((frame_of(small) for _ in range(3)), detector)
    assert seen == [True, False, False]
    assert moving(still(scene, 2), detector) == [True, False]


@pytest.mark.slow
def test_a_driver_that_froze_and_goes_on_wakes_nobody_for_long(
    learned: tuple[Scene, MotionDetector],
) -> None:
    scene, detector = learned
    frozen = scene.shot(scene.base)
    assert not any(moving((frame_of(frozen) for _ in range(600)), detector))
    assert not any(moving(still(scene, 300), detector)[100:])
    assert moving([frame_of(scene.shot(with_object(scene.base, 300)))], detector) == [True]


@pytest.mark.parametrize(("width", "height"), [(8, 8), (1, 1), (641, 359), (1920, 1080)])
@pytest.mark.parametrize("layout", [PixelFormat.BGR, PixelFormat.RGB, PixelFormat.GREY])
def test_every_size_and_layout(width: int, height: int, layout: PixelFormat) -> None:
    shape = (height, width) if layout is PixelFormat.GREY else (height, width, 3)
    dark, bright = (np.full(shape, value, np.uint8) for value in (20, 200))
    frames = [frame_of(pixels, layout) for pixels in (dark, dark, bright, bright)]
    # A step of the light all over is none of motion, where there is contrast or not.
    assert moving(frames) == [True, False, False, False]


def test_the_padding_of_a_planar_picture_is_no_part_of_it() -> None:
    planes = np.full((96, 80), 128, np.uint8)
    noisy = [planes.copy() for _ in range(5)]
    for number, picture in enumerate(noisy):
        picture[:, 64:] = 50 * number
    frames = (Frame(picture, PixelFormat.YUV420, 64, 64, 0, 0.0) for picture in noisy)
    assert moving(frames) == [True, False, False, False, False]


def test_colours_of_one_green_are_told_apart() -> None:
    red, blue = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64, 3), np.uint8)
    red[..., 2], blue[..., 0] = 255, 255
    half = red.copy()
    half[:, :24] = blue[:, :24]
    pictures = itertools.chain(itertools.repeat(red, 10), [half])
    assert moving(frame_of(picture) for picture in pictures)[-2:] == [False, True]
