"""Pictures in half blocks."""

import numpy as np

from device.sinks.terminal.blocks import half_blocks, size

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
