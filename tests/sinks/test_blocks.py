"""Pictures in half blocks."""

import msgspec
import numpy as np
import pytest

from device.frames import Frame, PixelFormat
from device.sinks.terminal.blocks import BlockPicture, half_blocks, size
from tests.sinks.examples import observation

RED, GREEN = [0, 0, 255], [0, 255, 0]


def test_the_shape_is_kept() -> None:
    picture = np.zeros((480, 640, 3), np.uint8)
    assert size(picture, 80, 12) == (32, 12)
    assert size(picture, 20, 12) == (20, 8)
    assert size(picture, 1, 1) == (1, 1)


def test_cells_are_two_pixels_and_colours_are_sent_once() -> None:
    picture = np.array([[RED, RED, GREEN], [GREEN, GREEN, GREEN]], np.uint8)
    assert half_blocks(picture, 3, 1, true_colour=True) == [
        "\x1b[38;2;248;0;0m\x1b[48;2;0;248;0m▀▀\x1b[38;2;0;248;0m▀\x1b[0m"
    ]
    assert half_blocks(picture, 3, 1, true_colour=False) == [
        "\x1b[38;5;196m\x1b[48;5;46m▀▀\x1b[38;5;46m▀\x1b[0m"
    ]


def test_what_moved_is_tinted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    pixels = np.zeros((30, 40, 3), np.uint8)
    frame = Frame(pixels, PixelFormat.BGR, 40, 30, number=0, captured_at=0.0)
    moved = np.zeros((30, 40), np.bool_)
    moved[:, 20:] = True
    seen = msgspec.structs.replace(observation(), frame=frame, moved=moved)
    (row, *_) = BlockPicture(())(seen, 40, 15)
    left, _, right = row.partition("▀" * 20)
    assert "38;2;0;0;0m" in left
    assert "38;2;120;104;0m" in right
    assert not pixels.any()
