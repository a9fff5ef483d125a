"""The Linux framebuffer: a screen where there is neither a desktop nor a KMS driver.

Format: linux/fb.h, struct fb_var_screeninfo and fb_fix_screeninfo.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import SinkError

DEVICE = Path("/dev/fb0")
# The console in sight, for those who may write to it, else the one that a unit is given.
_CONSOLES = ("/dev/tty0", "/dev/tty")

_FBIOGET_VSCREENINFO, _FBIOGET_FSCREENINFO = 0x4600, 0x4602
_VARIABLE_BYTES, _FIXED_BYTES = 160, 80
# The length of a line in bytes; before it identification, addresses and kinds. What is an
# unsigned long there has the size that it has here.
_LINE_LENGTH_AT = struct.calcsize("=16s") + struct.calcsize("@L") + 4 * 4 + 3 * 2 + 2
# Where red, green and blue begin in a pixel, by its bits: what cv2 can make of BGR.
_LAYOUTS = {32: (16, 8, 0), 24: (16, 8, 0), 16: (11, 5, 0)}


class Framebuffer:
    """A framebuffer device, written to directly.

    Raises SinkError where there is none, it may not be used, or has a format of its own.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("r+b", buffering=0) as file:
                variable = fcntl.ioctl(file, _FBIOGET_VSCREENINFO, bytes(_VARIABLE_BYTES))
                fixed = fcntl.ioctl(file, _FBIOGET_FSCREENINFO, bytes(_FIXED_BYTES))
                width, height, _, _, left, top, bits = struct.unpack_from("7I", variable)
                line_bytes = struct.unpack_from("I", fixed, _LINE_LENGTH_AT)[0]
                # Of each colour its offset, length and the order of its bits.
                offsets = struct.unpack_from("9I", variable, 32)[::3]
                if _LAYOUTS.get(bits) != offsets:
                    raise SinkError(f"{path} has {bits} bits a pixel in an order that is not known")
                self._memory = mmap.mmap(file.fileno(), line_bytes * (top + height))
        except OSError as error:
            raise SinkError(f"{path} cannot be used: {error.strerror}") from None
        self.size = width, height
        lines = np.frombuffer(self._memory, np.uint8).reshape(top + height, line_bytes)
        self._shown = lines[top:, left * bits // 8 : (left + width) * bits // 8]
        self._bits = bits
        _tell_console(b"\033[?25l")

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture, BGRX, uint8, (height, width, 4)."""
        self._shown[:] = packed(picture, self._bits)

    def close(self) -> None:
        """Leave a black screen and let go of the memory, once no view of it is left."""
        self._shown[:] = 0
        del self._shown
        self._memory.close()
        _tell_console(b"\033[?25h")


def _tell_console(sequence: bytes) -> None:
    # Its cursor blinks through the picture; where we may not hide it, that is no reason to end.
    for path in _CONSOLES:
        with contextlib.suppress(OSError):
            console = os.open(path, os.O_WRONLY | os.O_NOCTTY)
            try:
                os.write(console, sequence)
            finally:
                os.close(console)
            return


def packed(picture: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """A BGRX picture as lines of a framebuffer of so many bits a pixel, (height, bytes)."""
    height, width = picture.shape[:2]
    if bits == 32:
        converted = picture
    elif bits == 24:
        converted = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR), np.uint8)
    else:
        converted = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2BGR565), np.uint8)
    return converted.reshape(height, width * bits // 8)
