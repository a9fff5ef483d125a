"""The picture of a change: upright, without EXIF, and blurred so that nobody is known by it."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from device.config.values import Box
from device.frames import Frame, PixelFormat
from device.recordings.rendering import blurred, photo
from tests.conftest import footage


def frame_of(pixels: NDArray[np.uint8], layout: PixelFormat = PixelFormat.BGR) -> Frame:
    return Frame(pixels, layout, pixels.shape[1], pixels.shape[0], 0, 0.0)


def decoded(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def markers(data: bytes) -> list[int]:
    """The second byte of each segment before the picture itself."""
    found, at = [], 2
    while data[at + 1] != 0xDA:
        assert data[at] == 0xFF
        found.append(data[at + 1])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return found


def stripes(width: int, height: int) -> NDArray[np.uint8]:
    """Every second line white: all the detail that a picture can have."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[::2] = 255
    return pixels


def detail(picture: NDArray[np.uint8]) -> float:
    return float(cv2.Laplacian(picture, cv2.CV_64F).var())


def test_it_is_upright_then_mirrored() -> None:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:16, :16] = 255  # top left of the sensor
    picture = decoded(photo(frame_of(pixels), rotate=90, mirror=False))
    assert picture.shape == (64, 48, 3)
    assert picture[5, 40].min() > 200  # top right
    picture = decoded(photo(frame_of(pixels), rotate=90, mirror=True))
    assert picture[5, 5].min() > 200
    assert picture[5, 40].max() < 50


def test_no_photo_says_where_it_was_taken() -> None:
    plain = photo(footage("coffee"), 0, mirror=False)
    blur = photo(footage("coffee"), 0, mirror=False, clear=(0.2, 0.2, 0.8, 0.8))
    for data in (plain, blur):
        # APP0, the tables and the size: no APP1, where EXIF and XMP are, nor a comment.
        assert 0xE1 not in markers(data)
        assert set(markers(data)) <= {0xE0, 0xDB, 0xC0, 0xC4}
        assert b"Exif" not in data


def test_quality_is_what_it_is_told() -> None:
    coffee = footage("coffee")
    assert len(photo(coffee, 0, mirror=False, quality=40)) < 0.6 * len(
        photo(coffee, 0, mirror=False)
    )


BOXES = st.tuples(
    st.floats(0, 0.98), st.floats(0, 0.98), st.floats(0.02, 1), st.floats(0.02, 1)
).map(lambda b: (b[0], b[1], min(1.0, b[0] + b[2]), min(1.0, b[1] + b[3])))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 200), st.integers(1, 200), BOXES)
def test_the_region_is_untouched_and_nothing_more(width: int, height: int, clear: Box) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    before = picture.copy()
    made = blurred(picture, clear)
    assert (picture == before).all()
    assert made.shape == picture.shape
    inside = np.zeros((height, width), bool)
    rows, columns = np.arange(height), np.arange(width)
    # A pixel that is in the region with all of itself.
    tall = (rows >= clear[1] * height - 1e-6) & (rows + 1 <= clear[3] * height + 1e-6)
    wide = (columns >= clear[0] * width - 1e-6) & (columns + 1 <= clear[2] * width + 1e-6)
    inside[np.ix_(tall, wide)] = True
    assert (made[inside] == picture[inside]).all()
    # Noise that is averaged over cells of many pixels comes out near grey.
    if max(width, height) >= 120 and min(width, height) >= 60 and (~inside).any():
        assert made[~inside].std() < 0.5 * picture[~inside].std()


def test_what_is_blurred_keeps_no_detail() -> None:
    picture = blurred(stripes(640, 480), (0.5, 0.0, 1.0, 1.0))
    assert detail(picture[:, :310]) < 1e-4 * detail(picture[:, 330:])
    # Nor does sharpening bring any back.
    soft = cv2.GaussianBlur(picture[:, :310], (0, 0), 20)
    sharpened = np.clip(4.0 * picture[:, :310] - 3.0 * soft, 0, 255).astype(np.uint8)
    assert detail(sharpened) < 1e-4 * detail(picture[:, 330:])


@pytest.mark.parametrize("size", [(320, 240), (640, 480), (1920, 1080), (480, 640)])
def test_a_face_as_high_as_half_the_picture_has_five_cells(size: tuple[int, int]) -> None:
    """Two faces that differ in what is finer than a cell are the same blur."""
    width, height = size
    half = height // 2
    faces = [np.full((height, width, 3), 90, np.uint8) for _ in range(2)]
    rows, _ = np.mgrid[0:half, 0:half]
    for face, phase in zip(faces, (0.0, np.pi), strict=True):
        # Eyes, brows and mouth come about eight times in a face's height.
        pattern = 128 + 100 * np.sin(2 * np.pi * 8 * rows / half + phase)
        face[:half, :half] = pattern[..., None].astype(np.uint8)
    assert np.abs(faces[0][:half, :half].astype(int) - faces[1][:half, :half]).mean() > 100
    made = [blurred(face, (0.9, 0.9, 1.0, 1.0)) for face in faces]
    left = np.abs(made[0].astype(int) - made[1].astype(int))[:half, :half]
    assert left.mean() < 20


def test_a_region_on_whole_pixels_is_kept_to_the_last_of_them() -> None:
    picture = stripes(100, 100)
    made = blurred(picture, (0.29, 0.57, 0.58, 0.93))
    assert (made[57:93, 29:58] == picture[57:93, 29:58]).all()
    assert (made[56, 29:58] != picture[56, 29:58]).any()
    assert (made[57:93, 58] != picture[57:93, 58]).any()


def test_the_region_is_of_the_upright_picture() -> None:
    pixels = stripes(640, 480)
    picture = decoded(photo(frame_of(pixels), 180, mirror=True, clear=(0.0, 0.0, 0.3, 1.0)))
    assert detail(picture[:, :180]) > 5_000
    assert detail(picture[:, 220:]) < 5


@pytest.mark.parametrize("layout", list(PixelFormat))
def test_every_kind_of_frame_can_be_blurred(layout: PixelFormat) -> None:
    shape = {PixelFormat.GREY: (48, 64), PixelFormat.YUV420: (72, 80)}.get(layout, (48, 64, 3))
    frame = Frame(np.full(shape, 128, np.uint8), layout, 64, 48, 0, 0.0)
    assert decoded(photo(frame, 0, mirror=False, clear=(0.1, 0.1, 0.5, 0.5))).shape == (48, 64, 3)
