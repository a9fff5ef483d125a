"""A Video4Linux driver that does what a test says, behind the ioctls of the real interface.

Its layouts are ctypes structures, written from ``linux/videodev2.h`` and not from the reader
that it tests.
"""

import ctypes
import errno
import fcntl
import mmap
import os
import select
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

CAPTURE, METADATA, DEVICE_CAPS = 0x1, 0x800000, 0x80000000
ERROR, MONOTONIC = 0x40, 0x2000
U32, U8 = ctypes.c_uint32, ctypes.c_uint8


class Capability(ctypes.Structure):
    _fields_: ClassVar = [
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus", ctypes.c_char * 32),
        ("version", U32),
        ("whole", U32),
        ("own", U32),
        ("reserved", U32 * 3),
    ]


class FormatDescription(ctypes.Structure):
    _fields_: ClassVar = [
        ("index", U32),
        ("type", U32),
        ("flags", U32),
        ("description", U8 * 32),
        ("pixels", U32),
        ("code", U32),
        ("reserved", U32 * 3),
    ]


class FrameSize(ctypes.Structure):
    _fields_: ClassVar = [
        ("index", U32),
        ("pixels", U32),
        ("type", U32),
        ("sizes", U32 * 6),
        ("reserved", U32 * 2),
    ]


class FrameInterval(ctypes.Structure):
    _fields_: ClassVar = [
        ("index", U32),
        ("pixels", U32),
        ("width", U32),
        ("height", U32),
        ("type", U32),
        ("fractions", U32 * 6),
        ("reserved", U32 * 2),
    ]


class Pix(ctypes.Structure):
    _fields_: ClassVar = [
        ("width", U32),
        ("height", U32),
        ("pixels", U32),
        ("field", U32),
        ("bytesperline", U32),
        ("sizeimage", U32),
        ("rest", U32 * 6),
    ]


class FormatUnion(ctypes.Union):
    _fields_: ClassVar = [("pix", Pix), ("pointer", ctypes.c_void_p), ("raw", U8 * 200)]


class Format(ctypes.Structure):
    _fields_: ClassVar = [("type", U32), ("fmt", FormatUnion)]


class StreamParameters(ctypes.Structure):
    _fields_: ClassVar = [
        ("type", U32),
        ("capability", U32),
        ("mode", U32),
        ("numerator", U32),
        ("denominator", U32),
        ("rest", U8 * 184),
    ]


class Request(ctypes.Structure):
    _fields_: ClassVar = [
        ("count", U32),
        ("type", U32),
        ("memory", U32),
        ("capabilities", U32),
        ("flags", U8),
        ("reserved", U8 * 3),
    ]


class Timecode(ctypes.Structure):
    _fields_: ClassVar = [("type", U32), ("flags", U32), ("parts", U8 * 8)]


class Place(ctypes.Union):
    _fields_: ClassVar = [("offset", U32), ("user", ctypes.c_ulong)]


class Buffer(ctypes.Structure):
    _fields_: ClassVar = [
        ("index", U32),
        ("type", U32),
        ("used", U32),
        ("flags", U32),
        ("field", U32),
        ("seconds", ctypes.c_long),
        ("micros", ctypes.c_long),
        ("timecode", Timecode),
        ("sequence", U32),
        ("memory", U32),
        ("place", Place),
        ("length", U32),
        ("reserved2", U32),
        ("request", U32),
    ]


# Taken before `plug_in` puts the driver in its place.
_anonymous = mmap.mmap

_KINDS: dict[int, Any] = {
    0: Capability,
    2: FormatDescription,
    5: Format,
    8: Request,
    9: Buffer,
    15: Buffer,
    17: Buffer,
    18: U32,
    19: U32,
    22: StreamParameters,
    74: FrameSize,
    75: FrameInterval,
}


def code(letters: str) -> int:
    return int.from_bytes(letters.encode(), "little")


@dataclass
class Picture:
    """What a driver fills a buffer with, how old it is, and whether it calls it broken."""

    data: bytes
    age_s: float = 0.01
    flags: int = MONOTONIC


@dataclass
class Driver:
    """A video node: what it says of itself, its formats, and what becomes of its buffers."""

    own: int = CAPTURE
    driver: bytes = b"uvcvideo"
    bus: bytes = b"usb-1"
    formats: dict[str, dict[tuple[int, int], float]] = field(
        default_factory=lambda: {"YUYV": {(640, 480): 30}}
    )
    padding: int = 0
    granted: tuple[int, int] | None = None
    pictures: deque[Picture] = field(default_factory=deque)
    fails: int = 0
    poll_fails: bool = False
    busy: bool = False
    asked_fps: float = 0.0
    layout: Pix = field(default_factory=Pix)
    queued: list[int] = field(default_factory=list)
    buffers: list[mmap.mmap] = field(default_factory=list)
    streaming: bool = False
    clock: Any = time.monotonic

    def ioctl(self, _descriptor: int, request: int, argument: bytes) -> bytes:
        number, size, kind = request & 0xFF, request >> 16 & 0x3FFF, request >> 8 & 0xFF
        assert chr(kind) == "V"
        structure = _KINDS[number]
        assert len(argument) == size == ctypes.sizeof(structure), (number, size)
        record = structure.from_buffer_copy(argument)
        getattr(self, f"_ioctl_{number}")(record)
        return bytes(record)

    def give(self, *pictures: Picture) -> None:
        self.pictures.extend(pictures)

    def _ioctl_0(self, record: Capability) -> None:
        record.driver, record.card, record.bus = self.driver, b"HD Webcam", self.bus
        record.whole, record.own = DEVICE_CAPS | CAPTURE | METADATA, self.own

    def _ioctl_2(self, record: FormatDescription) -> None:
        record.pixels = code(self._nth(list(self.formats), record.index))

    def _ioctl_74(self, record: FrameSize) -> None:
        sizes = self.formats[self._letters(record.pixels)]
        record.type = 1
        record.sizes[:2] = self._nth(list(sizes), record.index)

    def _ioctl_75(self, record: FrameInterval) -> None:
        assert (record.width, record.height) in self.formats[self._letters(record.pixels)]
        fps = self.formats[self._letters(record.pixels)][record.width, record.height]
        record.type = 1
        record.fractions[:2] = self._nth([(100, round(100 * fps))], record.index)

    def _ioctl_5(self, record: Format) -> None:
        pix = record.fmt.pix
        if self.granted:
            pix.width, pix.height = self.granted
        width = pix.width * {"YUYV": 2, "UYVY": 2, "BGR3": 3, "RGB3": 3}.get(
            self._letters(pix.pixels), 1
        )
        pix.bytesperline = width + self.padding
        self.layout = Pix.from_buffer_copy(pix)

    def _ioctl_22(self, record: StreamParameters) -> None:
        self.asked_fps = record.denominator / record.numerator

    def _ioctl_8(self, record: Request) -> None:
        assert record.memory == 1
        if self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.buffers = [_anonymous(-1, 4 << 20) for _ in range(record.count)]

    def _ioctl_9(self, record: Buffer) -> None:
        record.place.offset, record.length = record.index << 22, 4 << 20

    def _ioctl_15(self, record: Buffer) -> None:
        assert record.index not in self.queued
        self.queued.append(record.index)

    def _ioctl_17(self, record: Buffer) -> None:
        if self.fails:
            raise OSError(self.fails, os.strerror(self.fails))
        if not self.pictures or not self.queued:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        picture, record.index = self.pictures.popleft(), self.queued.pop(0)
        self.buffers[record.index][: len(picture.data)] = picture.data
        record.used, record.flags = len(picture.data), picture.flags
        at = self.clock() - picture.age_s
        record.seconds, record.micros = int(at), int(at % 1 * 1e6)

    def _ioctl_18(self, _record: Any) -> None:
        self.streaming = True

    def _ioctl_19(self, _record: Any) -> None:
        self.streaming = False
        self.queued.clear()

    def _nth(self, things: list[Any], index: int) -> Any:
        if index >= len(things):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return things[index]

    @staticmethod
    def _letters(pixels: int) -> str:
        return pixels.to_bytes(4, "little").decode()

    def map(self, _descriptor: int, length: int, offset: int) -> mmap.mmap:
        assert length == 4 << 20
        return self.buffers[offset >> 22]

    def poll(self) -> "Driver.Poll":
        return Driver.Poll(self)

    class Poll:
        def __init__(self, driver: "Driver") -> None:
            self.driver = driver

        def register(self, descriptor: int, _events: int) -> None:
            self.descriptor = descriptor

        def poll(self, _timeout_ms: float) -> list[tuple[int, int]]:
            if self.driver.poll_fails or self.driver.fails:
                return [(self.descriptor, select.POLLERR)]
            return [(self.descriptor, select.POLLIN)] if self.driver.pictures else []


def plug_in(driver: Driver, patch: pytest.MonkeyPatch) -> None:
    """Have every character device be this camera."""
    patch.setattr(fcntl, "ioctl", driver.ioctl)
    patch.setattr(mmap, "mmap", driver.map)
    patch.setattr(select, "poll", driver.poll)


def yuyv(value: int, width: int = 640, height: int = 480, padding: int = 0) -> bytes:
    """A plain grey picture, its rows padded with what is no part of it."""
    rows = np.full((height, 2 * width + padding), 255, np.uint8)
    rows[:, : 2 * width : 2], rows[:, 1 : 2 * width : 2] = value, 128
    return rows.tobytes()


def by_id(folder: Path, target: str = "/dev/null") -> Path:
    node = folder / "usb-HD_Webcam-video-index0"
    node.symlink_to(target)
    return node
