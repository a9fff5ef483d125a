"""Video4Linux's streaming interface, as the kernel has it: ioctls, buffers, time stamps.

OpenCV's own reader hides when a frame was exposed, which frames the driver called broken, and
waits in its own time; here a frame is the newest there is, and a wait ends when it is told to.
Layouts and numbers are of ``linux/videodev2.h``; those that hold pointers or longs follow the
platform's size.
"""

import contextlib
import errno
import fcntl
import mmap
import os
import select
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device.errors import CameraError

_CAPABILITY = struct.Struct("=16s32s32s6I")
_FMTDESC = struct.Struct("=3I32s5I")
_FRMSIZE = struct.Struct("=3I6I2I")
_FRMIVAL = struct.Struct("=5I6I2I")
# A union that holds a pointer and is aligned like one, 200 bytes long.
_FORMAT = struct.Struct("@I0P12I152x")
_STREAMPARM = struct.Struct("=7I176x")
_REQUEST = struct.Struct("=5I")
_BUFFER = struct.Struct("@5I0l2l2I8s2I0LL3I0l")

_READ, _WRITE = 2 << 30, 1 << 30


def _number(direction: int, number: int, size: int) -> int:
    return direction | size << 16 | ord("V") << 8 | number


_QUERYCAP = _number(_READ, 0, _CAPABILITY.size)
_ENUM_FMT = _number(_READ | _WRITE, 2, _FMTDESC.size)
_S_FMT = _number(_READ | _WRITE, 5, _FORMAT.size)
_REQBUFS = _number(_READ | _WRITE, 8, _REQUEST.size)
_QUERYBUF = _number(_READ | _WRITE, 9, _BUFFER.size)
_QBUF = _number(_READ | _WRITE, 15, _BUFFER.size)
_DQBUF = _number(_READ | _WRITE, 17, _BUFFER.size)
_STREAMON = _number(_WRITE, 18, 4)
_STREAMOFF = _number(_WRITE, 19, 4)
_S_PARM = _number(_READ | _WRITE, 22, _STREAMPARM.size)
_ENUM_FRAMESIZES = _number(_READ | _WRITE, 74, _FRMSIZE.size)
_ENUM_FRAMEINTERVALS = _number(_READ | _WRITE, 75, _FRMIVAL.size)

_CAP_CAPTURE = 0x00000001
_CAP_CAPTURE_MPLANE = 0x00001000
_CAP_META = 0x00800000
_CAP_DEVICE_CAPS = 0x80000000
_CAPTURE = 1
_MMAP = 1
_DISCRETE = 1
_FLAG_ERROR = 0x40
_TIMESTAMP_MASK, _TIMESTAMP_MONOTONIC = 0xE000, 0x2000

# One is filled while the other is read: more would only hold older frames.
_BUFFERS = 2
# How long a wait may last before it looks whether it should end.
_SLICE_S = 0.1
# A time stamp that is older, or in the future, is of another clock.
_AGE_MAX_S = 5.0


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a video node is: its driver, the device's name and place, and what it gives."""

    driver: str
    card: str
    bus: str
    captures: bool
    metadata: bool


@dataclass(frozen=True, slots=True)
class Mode:
    """What a camera can give: a pixel format by its four letters, a size, frames a second."""

    pixels: str
    width: int
    height: int
    fps: float


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pictures lie in a buffer: what the driver granted of a mode."""

    pixels: str
    width: int
    height: int
    stride: int


@dataclass(frozen=True, slots=True)
class Filled:
    """A buffer with a picture; ``data`` ends with the block that it was given in."""

    data: memoryview
    captured_at: float
    broken: bool


class Device:
    """An open video node that captures, one picture at a time."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises CameraError, with the remedy, where there is no camera."""
        self.path = path
        self._descriptor = _open(path)
        self._maps: list[mmap.mmap] = []
        try:
            self.capabilities = _capabilities(self._ioctl(_QUERYCAP, bytes(_CAPABILITY.size)))
        except OSError as error:
            self.close()
            raise CameraError(path, problem_of(error)) from None

    def modes(self, width: int, height: int) -> list[Mode]:
        """For each pixel format the size nearest to this one, with its highest rate."""
        found = []
        for pixels in self._formats():
            sizes = self._sizes(pixels, width, height) or [(width, height)]
            near = min(sizes, key=lambda s: (abs(s[0] - width) + abs(s[1] - height), s))
            found.append(Mode(_letters(pixels), *near, self._rate(pixels, *near)))
        return found

    def start(self, mode: Mode, fps: float) -> Layout:
        """Ask for the mode, and let pictures come. Raises OSError, EBUSY where it is in use."""
        code = int.from_bytes(mode.pixels.encode("latin-1"), "little")
        fields = [_CAPTURE, mode.width, mode.height, code, *[0] * 9]
        _, width, height, code, _, stride, *_ = _FORMAT.unpack(
            self._ioctl(_S_FMT, _FORMAT.pack(*fields))
        )
        with contextlib.suppress(OSError):  # a camera may have one rate only
            ask = _STREAMPARM.pack(_CAPTURE, 0, 0, 1000, round(1000 * fps), 0, 0)
            self._ioctl(_S_PARM, ask)
        request = _REQUEST.pack(_BUFFERS, _CAPTURE, _MMAP, 0, 0)
        for index in range(_REQUEST.unpack(self._ioctl(_REQBUFS, request))[0]):
            answer = _BUFFER.unpack(self._ioctl(_QUERYBUF, _buffer(index)))
            offset, length = answer[12] & 0xFFFFFFFF, answer[13]
            self._maps.append(mmap.mmap(self._descriptor, length, offset=offset))
            self._ioctl(_QBUF, _buffer(index))
        self._ioctl(_STREAMON, struct.pack("=i", _CAPTURE))
        return Layout(_letters(code), width, height, stride)

    @contextlib.contextmanager
    def newest(self, timeout_s: float, stop: threading.Event) -> Iterator[Filled | None]:
        """The newest picture, given back to the driver afterwards; None when none came.

        Raises OSError when the driver fails, ENODEV when the camera was unplugged.
        """
        until = time.monotonic() + timeout_s
        buffer = self._take()
        while buffer is None and not stop.is_set() and (left := until - time.monotonic()) > 0:
            failed = self._wait(min(left, _SLICE_S))
            buffer = self._take()
            if failed and buffer is None:
                # A driver that tells no error either would have us ask without a pause.
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        # What waited while nobody looked is the past.
        while buffer is not None and (newer := self._take()) is not None:
            self._ioctl(_QBUF, _buffer(buffer[0]))
            buffer = newer
        if buffer is None:
            yield None
            return
        index, _, used, flags, _, seconds, micros, *_ = buffer
        now = time.monotonic()
        at = seconds + micros / 1e6
        if flags & _TIMESTAMP_MASK != _TIMESTAMP_MONOTONIC or not now - _AGE_MAX_S < at <= now:
            at = now
        with memoryview(self._maps[index]) as whole, whole[:used] as data:
            yield Filled(data, at, bool(flags & _FLAG_ERROR))
        self._ioctl(_QBUF, _buffer(index))

    def close(self) -> None:
        """Stop and let the device go; may be called twice."""
        if self._descriptor < 0:
            return
        if self._maps:
            with contextlib.suppress(OSError):
                self._ioctl(_STREAMOFF, struct.pack("=i", _CAPTURE))
            for mapped in self._maps:
                mapped.close()
            self._maps.clear()
        os.close(self._descriptor)
        self._descriptor = -1

    def _wait(self, timeout_s: float) -> bool:
        """Wait for a picture; True when the driver will have none, for the reason it tells."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        (events,) = [events for _, events in poll.poll(timeout_s * 1000)] or [0]
        return bool(events & (select.POLLERR | select.POLLHUP) and not events & select.POLLIN)

    def _take(self) -> tuple[Any, ...] | None:
        try:
            return _BUFFER.unpack(self._ioctl(_DQBUF, _buffer(0)))
        except BlockingIOError:
            return None

    def _formats(self) -> list[int]:
        answers = self._enumerated(_ENUM_FMT, _FMTDESC, lambda i: (i, _CAPTURE, 0, b"", *[0] * 5))
        return [answer[4] for answer in answers]

    def _sizes(self, pixels: int, width: int, height: int) -> list[tuple[int, int]]:
        found = []
        for _, _, kind, *s in self._enumerated(
            _ENUM_FRAMESIZES, _FRMSIZE, lambda i: (i, pixels, *[0] * 9)
        ):
            if kind == _DISCRETE:
                found.append((s[0], s[1]))
            else:
                found.append((_within(width, *s[:3]), _within(height, *s[3:6])))
                break
        return found

    def _rate(self, pixels: int, width: int, height: int) -> float:
        """The highest rate of the size; without end where the driver does not say."""
        best = 0.0
        for _, _, _, _, kind, *i in self._enumerated(
            _ENUM_FRAMEINTERVALS, _FRMIVAL, lambda i: (i, pixels, width, height, *[0] * 9)
        ):
            numerator, denominator = i[0], i[1]
            best = max(best, denominator / numerator if numerator else 0.0)
            if kind != _DISCRETE:
                break
        return best or float("inf")

    def _enumerated(
        self, request: int, layout: struct.Struct, ask: Callable[[int], tuple[Any, ...]]
    ) -> Iterator[tuple[Any, ...]]:
        for index in range(256):
            try:
                answer = self._ioctl(request, layout.pack(*ask(index)))
            except OSError:
                return
            yield layout.unpack(answer)

    def _ioctl(self, request: int, argument: bytes) -> bytes:
        return fcntl.ioctl(self._descriptor, request, argument)


def problem_of(error: OSError) -> str:
    """What an error of a device means, and what to do."""
    other = f"cannot be opened: {error.strerror}; plug the camera in again"
    return _PROBLEMS.get(error.errno or 0, other)


_ABSENT = "no such device; plug the camera in, or look with `ls /dev/video*`"
_FORBIDDEN = "may not be opened by this user; `sudo usermod -aG video USER`, then log in again"
_GONE = "there is no device behind this node any more; plug the camera in again"
_NO_CAMERA = "is a device but no camera; give one such as /dev/video0"
_PROBLEMS = {
    errno.ENOENT: _ABSENT,
    errno.ENOTDIR: _ABSENT,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EBUSY: "is in use by another program; close it, `fuser -v /dev/video*` names it",
    errno.ENODEV: _GONE,
    errno.ENXIO: _GONE,
    errno.ENOTTY: _NO_CAMERA,
    errno.EINVAL: _NO_CAMERA,
    errno.ENOSPC: "has no room on its USB bus; give another port, or a smaller size or rate",
}


def _open(path: Path) -> int:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CameraError(path, "is a directory; give a device such as /dev/video0")
        if not stat.S_ISCHR(mode):
            raise CameraError(path, "is a file and no device; give one such as /dev/video0")
        # Not waiting: a driver may wait in open() for the device to come free.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except CameraError:
        raise
    except OSError as error:
        raise CameraError(path, problem_of(error)) from None


def _capabilities(answer: bytes) -> Capabilities:
    driver, card, bus, _, whole, own, *_ = _CAPABILITY.unpack(answer)
    # The whole device's capabilities are those of all its nodes; this one may be for metadata.
    capabilities = own if whole & _CAP_DEVICE_CAPS else whole
    return Capabilities(
        _text(driver),
        _text(card),
        _text(bus),
        bool(capabilities & (_CAP_CAPTURE | _CAP_CAPTURE_MPLANE)),
        bool(capabilities & _CAP_META),
    )


def _buffer(index: int) -> bytes:
    return _BUFFER.pack(index, _CAPTURE, *[0] * 7, b"", 0, _MMAP, *[0] * 4)


def _within(value: int, least: int, most: int, step: int) -> int:
    step = max(1, step)
    return least + (min(max(value, least), most) - least) // step * step


def _letters(code: int) -> str:
    return code.to_bytes(4, "little").decode("latin-1")


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")
