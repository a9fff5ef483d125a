"""Frames into input tensors: geometry, colours, number formats."""

import itertools
import tracemalloc

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device import config
from device.errors import ModelError
from device.events import Tensor
from device.frames import Frame, PixelFormat, Pixels
from device.inference.preprocess import Preprocessor, encoding
from tests.conftest import footage, frame_of

UINT8 = Tensor("image", (1, 64, 64, 3), "uint8", 1 / 128, 128)


def _run(
    frame: Frame, camera: config.Camera | None = None, tensor: Tensor = UINT8
) -> NDArray[np.float64]:
    """The input tensor after one frame, as float64, without the batch axis."""
    out = np.zeros(tensor.shape, tensor.dtype)
    Preprocessor(tensor, camera or config.Camera())(frame, out)
    numbers: NDArray[np.float64] = out[0].astype(np.float64)
    return numbers


def _quarters() -> Pixels:
    """A BGR picture, 640 × 480: red, green over blue, white, in reading order."""
    picture = np.zeros((480, 640, 3), np.uint8)
    picture[:240, :320], picture[:240, 320:] = (0, 0, 255), (0, 255, 0)
    picture[240:, :320], picture[240:, 320:] = (255, 0, 0), (255, 255, 255)
    return picture


def _corners(picture: NDArray[np.float64]) -> str:
    """The colours at the four corners in reading order: r, g, b, w or k for black."""
    names = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w", (0, 0, 0): "k"}
    spots = itertools.product((2, -3), (2, -3))
    return "".join(names[tuple((picture[y, x] > 128).astype(int).tolist())] for y, x in spots)


@pytest.mark.parametrize("crop", ["center", "stretch"])
@pytest.mark.parametrize(
    ("rotate", "mirror", "corners"),
    [
        (0, False, "rgbw"),
        (90, False, "brwg"),
        (180, False, "wbgr"),
        (270, False, "gwrb"),
        (0, True, "grwb"),
        (90, True, "rbgw"),
        (180, True, "bwrg"),
        (270, True, "wgbr"),
    ],
)
@pytest.mark.parametrize("layout", [PixelFormat.BGR, PixelFormat.RGB, PixelFormat.YUV420])
def test_a_picture_is_turned_as_a_viewer_would(
    crop: str, rotate: int, mirror: bool, corners: str, layout: PixelFormat
) -> None:
    picture = _quarters()
    if layout is PixelFormat.RGB:
        picture = picture[..., ::-1].copy()
    elif layout is PixelFormat.YUV420:
        picture = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False)
    camera = config.Camera(crop=crop, rotate=rotate, mirror=mirror)  # type: ignore[arg-type]
    assert _corners(_run(frame_of(picture, layout), camera)) == corners


@pytest.mark.parametrize("rotate", [0, 90, 180, 270])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(
    ("region", "colour"),
    [((0, 0, 0.5, 0.5), 0), ((0.5, 0, 1, 0.5), 1), ((0, 0.5, 0.5, 1), 2), ((0.5, 0.5, 1, 1), 3)],
)
def test_a_region_is_of_the_picture_as_it_is_seen(
    rotate: int, mirror: bool, region: tuple[float, float, float, float], colour: int
) -> None:
    seen = {
        (0, False): "rgbw",
        (90, False): "brwg",
        (180, False): "wbgr",
        (270, False): "gwrb",
        (0, True): "grwb",
        (90, True): "rbgw",
        (180, True): "bwrg",
        (270, True): "wgbr",
    }[rotate, mirror][colour]
    camera = config.Camera(rotate=rotate, mirror=mirror, region=region)  # type: ignore[arg-type]
    assert _corners(_run(frame_of(_quarters()), camera)) == seen * 4


def test_center_takes_the_middle_and_letterbox_everything() -> None:
    wide = np.full((100, 300, 3), 255, np.uint8)
    wide[:, 100:200] = (0, 0, 255)  # red, the middle third
    middle = _run(frame_of(wide))
    assert (middle[:, :, 0] == 255).all()
    assert (middle[:, :, 1] == 0).all()
    boxed = _run(frame_of(wide), config.Camera(crop="letterbox"))
    rows = np.flatnonzero(boxed.sum(axis=(1, 2)))
    assert (rows[0], rows[-1]) == (20, 40)  # 64 / 3 rows of picture between black bars
    assert (boxed[30, 2] == 255).all()


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (97, 333), (1, 1), (64, 64), (33, 17)])
@pytest.mark.parametrize("crop", ["center", "letterbox", "stretch"])
@pytest.mark.parametrize("sides", [(64, 64), (63, 65), (96, 48)])
def test_any_size_into_any_input(size: tuple[int, int], crop: str, sides: tuple[int, int]) -> None:
    grey = np.full((*size, 3), 90, np.uint8)
    tensor = Tensor("image", (1, *sides, 3), "uint8", 1 / 128, 128)
    camera = config.Camera(crop=crop)  # type: ignore[arg-type]
    out = _run(frame_of(grey), camera, tensor)
    if crop == "letterbox":
        assert set(np.unique(out)) <= {0.0, 90.0}
        assert (out == 90).any()
    else:
        assert (out == 90).all()


@pytest.mark.parametrize("tensor_side", [64, 63])
@pytest.mark.parametrize("crop", ["center", "letterbox", "stretch"])
def test_yuv_with_padded_rows_gives_the_same_picture(tensor_side: int, crop: str) -> None:
    picture = footage("coffee").pixels
    yuv = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False)
    luma, blue, red = yuv[:480], yuv[480:600].reshape(240, 320), yuv[600:].reshape(240, 320)
    stride = 704
    padded = np.full((720, stride), 77, np.uint8)
    padded[:480, :640] = luma
    for start, plane in ((480, blue), (600, red)):
        padded[start : start + 120].reshape(240, stride // 2)[:, :320] = plane
    tensor = Tensor("image", (1, tensor_side, tensor_side, 3), "uint8", 1 / 128, 128)
    camera = config.Camera(crop=crop)  # type: ignore[arg-type]
    plain = _run(frame_of(yuv, PixelFormat.YUV420), camera, tensor)
    assert (
        _run(Frame(padded, PixelFormat.YUV420, 640, 480, 0, 0.0), camera, tensor) == plain
    ).all()
    # Colour at half the resolution is all that tells it from the same picture in BGR.
    assert np.abs(plain - _run(frame_of(picture), camera, tensor)).mean() < 4


def test_grey_frames_and_grey_models() -> None:
    grey = np.tile(np.arange(0, 240, dtype=np.uint8), (240, 1))
    out = _run(frame_of(grey, PixelFormat.GREY))
    assert (out[..., 0] == out[..., 1]).all()
    assert (out[..., 0] == out[..., 2]).all()
    model = Tensor("image", (1, 64, 64, 1), "uint8", 1 / 128, 128)
    assert (_run(frame_of(grey, PixelFormat.GREY), tensor=model)[..., 0] == out[..., 0]).all()
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 255
    assert (_run(frame_of(red), tensor=model) == 76).all()  # 0.299 of 255, ITU-R BT.601


def test_a_large_reduction_averages_all_pixels() -> None:
    # One-pixel stripes: a resize that skips pixels gives black, white or moiré.
    stripes = np.zeros((1080, 1080, 3), np.uint8)
    stripes[:, ::2] = 255
    out = _run(frame_of(stripes))
    assert np.abs(out - 127.5).max() <= 2


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "black", "white"),
    [
        ("uint8", 1 / 128, 128, 0, 255),  # Coral's models: [-1, 1)
        ("uint8", 1 / 255, 0, 0, 255),  # [0, 1]
        ("uint8", 1.0, 0, 0, 255),  # [0, 255]
        ("uint8", 0.0186, 114, 0, 255),  # a data set's mean and deviation: all of the span
        ("int8", 1 / 127.5, -1, -128, 127),
        ("int8", 1 / 128, 0, -128, 127),
        ("int8", 1 / 255, -128, -128, 127),
        ("int8", 0.0082, 0, -122, 122),  # [-1, 1] on part of the span: its own numbers
        ("uint8", 0.0082, 128, 6, 250),
        ("float32", 0.0, 0, -1.0, 1.0),
    ],
)
def test_pixels_become_the_numbers_of_the_tensor(
    dtype: str, scale: float, zero_point: int, black: float, white: float
) -> None:
    tensor = Tensor("image", (1, 64, 64, 3), dtype, scale, zero_point)
    for value, expected in ((0, black), (255, white)):
        assert (
            _run(frame_of(np.full((64, 64, 3), value, np.uint8)), tensor=tensor) == expected
        ).all()
    real = _run(frame_of(np.full((64, 64, 3), 100, np.uint8)), tensor=tensor)
    if scale and (white - black) < 255:
        assert abs(scale * (real.flat[0] - zero_point) - (100 / 127.5 - 1)) <= scale / 2


def test_the_cheap_ways_are_found_by_arithmetic() -> None:
    assert encoding(UINT8) is None
    assert encoding(Tensor("i", (1, 8, 8, 3), "int8", 1 / 127.5, -1)) is None
    assert encoding(Tensor("i", (1, 8, 8, 3), "int8", 0.0082, 0)) is not None


@pytest.mark.parametrize("layout", [PixelFormat.BGR, PixelFormat.YUV420])
@pytest.mark.parametrize("side", [64, 63])
def test_it_writes_in_place_and_allocates_no_picture_again(layout: PixelFormat, side: int) -> None:
    pixels = footage("cat").pixels
    if layout is PixelFormat.YUV420:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420).astype(np.uint8, copy=False)
    frame = frame_of(pixels, layout)
    spec = Tensor("image", (1, side, side, 3), "uint8", 1 / 128, 128)
    preprocessor = Preprocessor(spec, config.Camera(rotate=90, mirror=True))
    tensor = np.zeros(spec.shape, np.uint8)
    preprocessor(frame, tensor)
    assert tensor.any()
    expected = tensor.copy()
    tensor.fill(0)
    tracemalloc.start()
    try:
        preprocessor(frame, tensor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < side * side  # one plane of the small picture
    assert (tensor == expected).all()


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((1, 224, 224), "uint8", r"takes shape \[1, 224, 224\]"),
        ((2, 8, 8, 3), "uint8", r"takes shape \[2, 8, 8, 3\]"),
        ((1, 8, 8, 4), "uint8", r"expected \[1, height, width, 3 or 1\]"),
        ((1, 8, 8, 3), "int16", "takes int16; expected uint8, int8 or float32"),
    ],
)
def test_an_input_that_is_no_picture(shape: tuple[int, ...], dtype: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Preprocessor(Tensor("image", shape, dtype, 1.0, 0), config.Camera())
