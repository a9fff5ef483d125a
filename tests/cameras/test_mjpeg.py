"""JPEGs of cameras: whole ones to the bit, damaged ones told, several cameras at once."""

import threading

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device.cameras.mjpeg import decode_jpeg
from device.system.stderr import caught

SCENE = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
BGR = np.asarray(cv2.resize(SCENE, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def encoded(pixels: NDArray[np.uint8], *options: int) -> bytes:
    return cv2.imencode(".jpg", pixels, options)[1].tobytes()


JPEG = encoded(BGR)


def test_what_is_whole_is_as_opencv_decodes_it() -> None:
    for data in (JPEG, encoded(BGR[:, :, 0]), encoded(BGR, cv2.IMWRITE_JPEG_RST_INTERVAL, 4)):
        pixels = decode_jpeg(memoryview(data), 160, 120)
        expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR)
        assert pixels is not None
        np.testing.assert_array_equal(pixels, expected)


def without_tables(jpeg: bytes) -> bytes:
    """As old webcams send it: the Huffman tables are those of the standard, and left out."""
    kept, at = jpeg[:2], 2
    while jpeg[at + 1] != 0xDA:
        length = 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        kept += jpeg[at : at + length] if jpeg[at + 1] != 0xC4 else b""
        at += length
    return kept + jpeg[at:]


@pytest.mark.parametrize(
    "data", [JPEG[:-2] + bytes(100) + JPEG[-2:], JPEG + bytes(100), without_tables(JPEG)]
)
def test_peculiarities_of_cameras_harm_nothing(data: bytes) -> None:
    pixels, plain = (decode_jpeg(one, 160, 120) for one in (data, JPEG))
    assert pixels is not None
    assert plain is not None
    np.testing.assert_array_equal(pixels, plain)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        JPEG[:4],
        JPEG[:200],
        JPEG[: len(JPEG) // 2],
        JPEG[:-2],
        JPEG[: len(JPEG) // 2] + JPEG[-2:],
        JPEG[:2] + bytes(9) + JPEG[2:],
        encoded(BGR[::2, ::2]),
    ],
)
def test_damage_and_another_size_are_told_in_silence(
    data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    assert decode_jpeg(data, 160, 120) is None
    assert capfd.readouterr().err == ""


def test_two_cameras_decode_at_once() -> None:
    done: list[bool] = []
    thread = threading.Thread(
        target=lambda: done.append(decode_jpeg(JPEG, 160, 120) is not None), daemon=True
    )
    # Who has stderr turned aside, as for a file's picture, must not hold a camera up.
    with caught():
        thread.start()
        thread.join(20)
        assert done == [True]
