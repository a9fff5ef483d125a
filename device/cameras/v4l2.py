"""A USB camera, or any other that the kernel offers as /dev/videoN, through OpenCV."""

import errno
import fcntl
import logging
import os
import re
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from device import config
from device.cameras import Camera
from device.errors import CameraError, CameraStalled
from device.frames import Frame
from device.pictures import as_frame, quiet_opencv

_READ_TIMEOUT_S = 5

# linux/videodev2.h; the numbers hold on x86, ARM and RISC-V.
_VIDIOC_QUERYCAP = 0x80685600
_VIDIOC_REQBUFS = 0xC0145608
_CAP_VIDEO_CAPTURE = 0x00000001
_CAP_VIDEO_CAPTURE_MPLANE = 0x00001000
_CAP_META_CAPTURE = 0x00800000
_CAP_DEVICE_CAPS = 0x80000000
_BUF_TYPE_VIDEO_CAPTURE = 1
_MEMORY_MMAP = 1

# Parts of the Raspberry Pi's camera pipeline. They say that they capture, but give raw sensor
# data or nothing at all unless libcamera runs them, so `auto` must not take them.
_PIPELINE_DRIVERS = frozenset({"unicam", "bcm2835-isp", "rp1-cfe", "pispbe"})

_log = logging.getLogger("labelcam.cameras.v4l2")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a video node is: its driver, the name of the device, and whether it captures."""

    driver: str
    card: str
    captures: bool
    metadata: bool


def query(path: Path) -> Capabilities:
    """What the driver says of the node. Raises CameraError, with the remedy, if it is none."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise CameraError(path, "is a directory; give a device such as /dev/video0")
        if not stat.S_ISCHR(mode):
            raise CameraError(path, "is a file and no device; give one such as /dev/video0")
        # A driver may wait in open() for the device to come free.
        node = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            answer = fcntl.ioctl(node, _VIDIOC_QUERYCAP, bytes(104))
        finally:
            os.close(node)
    except CameraError:
        raise
    except OSError as error:
        raise CameraError(path, _problem(error)) from None
    driver, card, _, _, whole, own = struct.unpack_from("<16s32s32sIII", answer)
    # The whole device's capabilities are those of all its nodes; this one may be for metadata.
    capabilities = own if whole & _CAP_DEVICE_CAPS else whole
    return Capabilities(
        _text(driver),
        _text(card),
        bool(capabilities & (_CAP_VIDEO_CAPTURE | _CAP_VIDEO_CAPTURE_MPLANE)),
        bool(capabilities & _CAP_META_CAPTURE),
    )


def find_devices(folder: Path = Path("/dev")) -> tuple[list[tuple[Path, str]], list[str]]:
    """The nodes that are cameras, by number, with their names; and why each other is not."""
    nodes = [(int(found[1]), p) for p in folder.glob("video*") if (found := _NODE.match(p.name))]
    cameras: list[tuple[Path, str]] = []
    others: list[str] = []
    for _, path in sorted(nodes):
        try:
            node = query(path)
        except CameraError as error:
            others.append(str(error).removeprefix("camera "))
            continue
        if node.captures and node.driver not in _PIPELINE_DRIVERS:
            cameras.append((path, node.card))
        else:
            others.append(f"{path} is {node.driver}, no camera to read from directly")
    return cameras, others


_NODE = re.compile(r"video(\d+)$")


class V4l2Camera(Camera):
    """A camera by its device node, in the nearest size and frame rate that it has."""

    def __init__(self, path: Path, settings: config.Camera) -> None:
        self.source = str(path)
        self._path = path
        node = query(path)
        if not node.captures:
            kind = "carries metadata, not pictures" if node.metadata else "does not capture"
            raise CameraError(
                path, f"({node.card}) {kind}; give another of its nodes, often the one before"
            )
        quiet_opencv()
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(_READ_TIMEOUT_S))
        self._number = 0
        self._closed = False
        self._capture = cv2.VideoCapture(self.source, cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise CameraError(path, _why_not(path, node))
        # One buffer: what waits in a driver's queue is the past.
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self._capture.set(cv2.CAP_PROP_FRAME_WIDTH, settings.width)
        self._capture.set(cv2.CAP_PROP_FRAME_HEIGHT, settings.height)
        self._capture.set(cv2.CAP_PROP_FPS, settings.fps)
        try:
            self._next: Frame | None = self._take()
        except CameraError:
            self.close()
            raise
        asked, given = (settings.width, settings.height), (self._next.width, self._next.height)
        if asked != given:
            _log.info("camera %s: gives %dx%d where %dx%d was asked", path, *given, *asked)

    def read(self) -> Frame | None:
        """The next frame, BGR."""
        frame, self._next = self._next, None
        if self._closed:
            return None
        return frame or self._take()

    def close(self) -> None:
        """Let the device go."""
        self._closed = True
        self._next = None
        self._capture.release()

    def _take(self) -> Frame:
        asked_at = time.monotonic()
        taken, pixels = self._capture.read()
        if taken:
            frame = as_frame(np.asarray(pixels, np.uint8), self._number)
            self._number += 1
            return frame
        waited_s = time.monotonic() - asked_at
        if not self._path.exists():
            raise CameraError(self._path, f"was unplugged after {self._number} frames")
        if waited_s >= _READ_TIMEOUT_S * 0.9:
            raise CameraStalled(
                self._path,
                f"is open but gave no frame for {waited_s:.0f} s after {self._number}; check the "
                "cable, or plug it in again",
            )
        raise CameraError(
            self._path,
            f"is open but gave no frame after {self._number}; another program may use it, or "
            "plug it in again",
        )


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="replace")


def _problem(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return "no such device; plug the camera in, or look with `ls /dev/video*`"
        case errno.EACCES | errno.EPERM:
            return (
                "may not be opened by this user; `sudo usermod -aG video USER`, then log in again"
            )
        case errno.EBUSY:
            return _BUSY
        case errno.ENODEV | errno.ENXIO:
            return "there is no device behind this node any more; plug the camera in again"
        case errno.ENOTTY | errno.EINVAL:
            return "is a device but no camera; give one such as /dev/video0"
        case _:
            return f"cannot be opened: {error.strerror}; plug the camera in again"


_BUSY = "is in use by another program; close it, `fuser -v /dev/video*` names it"


def _why_not(path: Path, node: Capabilities) -> str:
    """Why OpenCV could not start the camera: it does not say that another program has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            for count in (1, 0):  # take a buffer, give it back
                request = struct.pack(
                    "<IIIIB3x", count, _BUF_TYPE_VIDEO_CAPTURE, _MEMORY_MMAP, 0, 0
                )
                fcntl.ioctl(descriptor, _VIDIOC_REQBUFS, request)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno == errno.EBUSY:
            return _BUSY
    return f"({node.card}) does not start; plug it in again, `dmesg` may say more"
