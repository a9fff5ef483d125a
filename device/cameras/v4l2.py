"""A USB camera, or any other that the kernel offers as /dev/videoN."""

import errno
import logging
import re
import threading
import time
from pathlib import Path

import cv2
import numpy as np

from device import config
from device.cameras import Camera, Request
from device.cameras.mjpeg import decode_jpeg
from device.cameras.v4l2_device import Capabilities, Device, Filled, Layout, Mode, problem_of
from device.errors import CameraError, CameraStalled, UsageError
from device.frames import Frame, PixelFormat, Pixels
from device.recordings.pictures import quiet_opencv

# What a frame of 640x480 costs to make of it, in ms on x86-64: copying 0.02, NV12 0.12, YUYV
# and UYVY 0.14, JPEG 1.1. So JPEG is for the sizes and rates that raw pixels do not reach over
# USB, and grey for a camera that has no colours.
_FORMATS = ("YU12", "BGR3", "RGB3", "NV12", "YUYV", "UYVY", "MJPG", "JPEG", "GREY")
_TO_BGR = {
    "NV12": cv2.COLOR_YUV2BGR_NV12,
    "YUYV": cv2.COLOR_YUV2BGR_YUYV,
    "UYVY": cv2.COLOR_YUV2BGR_UYVY,
}
# A rate within this share of the one that was asked for is as good.
_RATE_ENOUGH = 0.9
_SIDE_MAX = 8192
# The first frame takes longer: exposure has to settle, and some cameras start slowly.
_FIRST_FRAME_S = 10.0

# Parts of the Raspberry Pi's camera pipeline. They say that they capture, but give raw sensor
# data or nothing at all unless libcamera runs them; the first two are what a sensor is on.
PI_SENSOR_DRIVERS = frozenset({"unicam", "rp1-cfe"})
_PIPELINE_DRIVERS = PI_SENSOR_DRIVERS | {"bcm2835-isp", "pispbe"}

_NODE = re.compile(r"video(\d+)$")
_USB = re.compile(
    r"usb:(?P<id>[\da-f]{4}:[\da-f]{4})(:(?P<serial>.*?))?(@(?P<port>.*))?", re.IGNORECASE
)

_log = logging.getLogger("labelcam.cameras")


def open_source(request: Request) -> Camera:
    """The camera of ``/dev/videoN``, ``N``, ``usb:VENDOR:PRODUCT`` or ``bus:PATH``."""
    source = request.source
    if source.startswith(("usb:", "bus:")):
        path = find_by_name(source)
    else:
        path = Path(f"/dev/video{source}" if source.isdecimal() else source)
    return V4l2Camera(path, request.settings, request.stop)


def check_source(request: Request) -> None:
    """Raise UsageError for a USB id that is none."""
    if request.source.startswith("usb:"):
        _parse_usb(request.source)


class V4l2Camera(Camera):
    """A camera by its device node, in the nearest size and frame rate that it has.

    Of its formats the one that costs least is taken, among those that come nearest to the
    size and rate asked for. Frames are BGR, GREY, or YUV420 where the camera gives that; a
    broken one is skipped and counted in ``skipped``. It is found ``again`` by what it is,
    since its number may be another after it was unplugged.
    """

    def __init__(self, path: Path, settings: config.Camera, stop: threading.Event) -> None:
        quiet_opencv()
        self.source = str(path)
        self.skipped = 0
        self._path = path
        self._stop = stop
        self._stall_s = settings.stall_s
        self._number = 0
        self._closed = False
        self._device = Device(path)
        try:
            self._layout = self._start(settings)
            self.again = "" if path.is_symlink() else _identity(path, self._device.capabilities)
            self._next = self._take(max(_FIRST_FRAME_S, settings.stall_s))
        except BaseException:
            self.close()
            raise
        layout = self._layout
        asked, given = (settings.width, settings.height), (layout.width, layout.height)
        if asked != given:
            _log.info("camera %s: gives %dx%d where %dx%d was asked", path, *given, *asked)

    def read(self) -> Frame | None:
        """The newest frame, as soon as there is one; None when told to stop."""
        frame, self._next = self._next, None
        if self._closed or self._stop.is_set():
            return None
        return frame or self._take(self._stall_s + 1)

    def close(self) -> None:
        """Let the device go."""
        self._closed = True
        self._next = None
        self._device.close()

    def _start(self, settings: config.Camera) -> Layout:
        path, node = self._path, self._device.capabilities
        if node.driver in _PIPELINE_DRIVERS:
            raise CameraError(
                path, f"({node.card}) is part of the Raspberry Pi's own camera; give --source pi"
            )
        if not node.captures:
            kind = "carries metadata, not pictures" if node.metadata else "does not capture"
            raise CameraError(
                path, f"({node.card}) {kind}; give another of its nodes, often the one before"
            )
        modes = self._device.modes(settings.width, settings.height)
        mode = choose_mode(modes, settings.width, settings.height, settings.fps)
        if mode is None:
            has = ", ".join(mode.pixels for mode in modes) or "none"
            raise CameraError(
                path,
                f"({node.card}) gives no pixels that are read here (has {has}; "
                f"read are {', '.join(_FORMATS)}); give another of its nodes",
            )
        try:
            layout = self._device.start(mode, settings.fps)
        except OSError as error:
            busy = error.errno in (errno.EBUSY, errno.ENOSPC, errno.ENODEV)
            problem = f"({node.card}) does not start; plug it in again, `dmesg` may say more"
            raise CameraError(path, problem_of(error) if busy else problem) from None
        width, height = layout.width, layout.height
        if layout.pixels not in _FORMATS or not (
            0 < width <= _SIDE_MAX and 0 < height <= _SIDE_MAX
        ):
            raise CameraError(
                path,
                f"({node.card}) gives {width}x{height} {layout.pixels!r} where "
                f"{mode.width}x{mode.height} {mode.pixels} was asked; set another width and height",
            )
        _log.debug("camera %s: %s, %s", path, node, layout)
        return layout

    def _take(self, timeout_s: float) -> Frame | None:
        """The newest frame; broken ones are skipped for as long as it may take."""
        until = time.monotonic() + timeout_s
        try:
            while not self._stop.is_set():
                left_s = until - time.monotonic()
                if left_s <= 0:
                    raise CameraStalled(
                        self._path,
                        f"is open but gave no frame for {timeout_s:.0f} s after {self._number}; "
                        "check the cable, or plug it in again",
                    )
                with self._device.newest(left_s, self._stop) as filled:
                    if filled is None:
                        continue
                    frame = self._frame(filled)
                if frame is not None:
                    return frame
                self.skipped += 1
        except OSError as error:
            if isinstance(error, CameraError):
                raise
            if error.errno in (errno.ENODEV, errno.ENOENT) or not self._path.exists():
                problem = f"was unplugged after {self._number} frames"
            else:
                problem = (
                    f"its driver failed after {self._number} frames: {error.strerror}; plug the "
                    "camera in again, `dmesg` may say more"
                )
            raise CameraError(self._path, problem) from None
        return None

    def _frame(self, filled: Filled) -> Frame | None:
        """A frame with pixels of its own; None where the driver or the data says it is broken."""
        layout = self._layout
        if filled.broken:
            return None
        made = _decode(filled.data, layout)
        if made is None:
            return None
        pixels, order = made
        width = layout.width if order is PixelFormat.YUV420 else pixels.shape[1]
        height = layout.height if order is PixelFormat.YUV420 else pixels.shape[0]
        frame = Frame(pixels, order, width, height, self._number, filled.captured_at)
        self._number += 1
        return frame


def choose_mode(modes: list[Mode], width: int, height: int, fps: float) -> Mode | None:
    """The mode that comes nearest to the size, then reaches the rate, then costs least.

    None where no format of them is read.
    """

    def rank(mode: Mode) -> tuple[int, float, int]:
        distance = abs(mode.width - width) + abs(mode.height - height)
        missing = max(0.0, fps * _RATE_ENOUGH - mode.fps)
        return distance, missing, _FORMATS.index(mode.pixels)

    return min((mode for mode in modes if mode.pixels in _FORMATS), key=rank, default=None)


def find_devices(folder: Path = Path("/dev")) -> tuple[list[tuple[Path, Capabilities]], list[str]]:
    """The nodes that are cameras, by number; and why each other is not."""
    cameras: list[tuple[Path, Capabilities]] = []
    others: list[str] = []
    for path in _nodes(folder):
        try:
            node = query(path)
        except CameraError as error:
            others.append(str(error).removeprefix("camera "))
            continue
        if node.captures and node.driver not in _PIPELINE_DRIVERS:
            cameras.append((path, node))
        else:
            others.append(f"{path} is {node.driver}, no camera to read from directly")
    return cameras, others


def has_pi_camera(folder: Path = Path("/dev")) -> bool:
    """Whether a sensor is on a Raspberry Pi's own camera connector."""
    for path in _nodes(folder):
        try:
            if query(path).driver in PI_SENSOR_DRIVERS:
                return True
        except CameraError:
            continue
    return False


def query(path: Path) -> Capabilities:
    """What the driver says of the node. Raises CameraError, with the remedy, if it is none."""
    device = Device(path)
    device.close()
    return device.capabilities


def find_by_name(source: str, folder: Path = Path("/dev")) -> Path:
    """The node of the camera that ``usb:VENDOR:PRODUCT[:SERIAL][@PORT]`` or ``bus:PLACE`` names.

    Among several of one kind, the one on the port is preferred. Raises CameraError where it
    is not there, UsageError for a name that is none.
    """
    cameras, _ = find_devices(folder)
    if source.startswith("bus:"):
        matching = [path for path, node in cameras if node.bus == source[4:]]
    else:
        wanted = _parse_usb(source)
        name, serial = wanted["id"].lower(), wanted["serial"]
        same = [
            (node.bus != wanted["port"], path)
            for path, node in cameras
            if (usb := _usb_id(path)) and usb[0] == name and (not serial or usb[1] == serial)
        ]
        matching = [path for _, path in sorted(same, key=lambda found: found[0])]
    if not matching:
        raise CameraError(source, "is not plugged in; plug the camera in, or look with `lsusb`")
    return matching[0]


def _parse_usb(source: str) -> re.Match[str]:
    if (wanted := _USB.fullmatch(source)) is None:
        raise UsageError(
            f"camera {source}: is no USB id; give it as usb:046d:0825, `lsusb` shows it"
        )
    return wanted


def _nodes(folder: Path) -> list[Path]:
    nodes = [(int(found[1]), p) for p in folder.glob("video*") if (found := _NODE.match(p.name))]
    return [path for _, path in sorted(nodes)]


def _identity(path: Path, node: Capabilities) -> str:
    """The name under which this very camera is found when it has another number."""
    usb = _usb_id(path)
    if usb is None:
        return f"bus:{node.bus}" if node.bus else ""
    name, serial = usb
    return f"usb:{name}{f':{serial}' * bool(serial)}@{node.bus}"


def _usb_id(path: Path) -> tuple[str, str] | None:
    """Vendor and product as ``046d:0825``, and the serial number; None for no USB device."""
    device = (_SYSFS / path.name / "device").resolve().parent
    try:
        vendor, product = ((device / f"id{x}").read_text().strip() for x in ("Vendor", "Product"))
    except OSError:
        return None
    try:
        serial = (device / "serial").read_text().strip()
    except OSError:
        serial = ""
    return f"{vendor}:{product}", serial


_SYSFS = Path("/sys/class/video4linux")


def _decode(  # noqa: PLR0911 - one for each format
    data: memoryview, layout: Layout
) -> tuple[Pixels, PixelFormat] | None:
    """Pixels of their own and their order; None where the data is too short or corrupt."""
    pixels, width, height = layout.pixels, layout.width, layout.height
    if pixels in ("MJPG", "JPEG"):
        picture = decode_jpeg(data, width, height)
        if picture is None:
            return None
        return picture, PixelFormat.GREY if picture.ndim == 2 else PixelFormat.BGR
    rows = height * 3 // 2 if pixels in ("YU12", "NV12") else height
    stride = layout.stride
    if len(data) < rows * stride:
        return None
    raw = np.frombuffer(data, np.uint8, rows * stride).reshape(rows, stride)
    if pixels == "YU12":
        return raw.copy(), PixelFormat.YUV420
    if pixels == "GREY":
        return raw[:, :width].copy(), PixelFormat.GREY
    if pixels in ("BGR3", "RGB3"):
        order = PixelFormat.BGR if pixels == "BGR3" else PixelFormat.RGB
        return raw[:, : 3 * width].reshape(height, width, 3).copy(), order
    # NV12's second plane has half the rows; a pixel of the packed formats is two bytes.
    planes = raw[:, :width]
    if pixels != "NV12":
        planes = raw[:, : 2 * width].reshape(height, width, 2)
    return np.asarray(cv2.cvtColor(planes, _TO_BGR[pixels]), np.uint8), PixelFormat.BGR
