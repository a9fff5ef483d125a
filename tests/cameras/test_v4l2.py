"""The V4L2 camera against a scripted driver.

There is no camera where these tests run. What the kernel answers to an ioctl, and what
OpenCV makes of the device, is played by a fake at those two seams, on /dev/null as the
character device. So this proves which error is told when, and that the settings are asked
for; it does not prove that OpenCV gets pictures from a real driver.
"""

import errno
import fcntl
import logging
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.cameras import open_camera, v4l2
from device.errors import CameraError, CameraStalled
from device.frames import Pixels

CAPTURE, METADATA, DEVICE_CAPS = 0x1, 0x800000, 0x80000000


@dataclass
class Driver:
    """A video node: what it says it is, whether another has it, and the frames it gives."""

    node: int = CAPTURE
    driver: bytes = b"uvcvideo"
    opens: bool = True
    busy: bool = False
    frames: list[Pixels] = field(default_factory=list)
    asked: dict[int, float] = field(default_factory=dict)
    released: int = 0

    def ioctl(self, _descriptor: int, request: int, argument: bytes) -> bytes:
        if request == 0x80685600:
            whole = DEVICE_CAPS | CAPTURE | METADATA
            fields = (self.driver, b"HD Webcam", b"usb-1", 0x60100, whole, self.node)
            return struct.pack("<16s32s32sIII12x", *fields)
        assert request == 0xC0145608
        assert len(argument) == 20
        if self.busy:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        return argument

    def video_capture(self, path: str, backend: int) -> "Driver":
        assert path
        assert backend == cv2.CAP_V4L2
        return self

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return self.opens

    def set(self, key: int, value: float) -> bool:
        self.asked[key] = value
        return True

    def read(self) -> tuple[bool, Pixels | None]:
        return (True, self.frames.pop(0)) if self.frames else (False, None)

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver(frames=[np.full((480, 640, 3), n, np.uint8) for n in range(3)])
    monkeypatch.setattr(fcntl, "ioctl", driver.ioctl)
    monkeypatch.setattr(cv2, "VideoCapture", driver.video_capture)
    return driver


def refused(source: str | Path = "/dev/null") -> str:
    with pytest.raises(CameraError) as caught:
        open_camera(config.Camera(source=str(source)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_gives_frames_in_the_size_asked_for(driver: Driver) -> None:
    with open_camera(config.Camera(source="/dev/null", fps=15)) as camera:
        assert camera.source == "/dev/null"
        frames = [camera.read() for _ in range(3)]
    assert [(f.number, f.pixels[0, 0, 0]) for f in frames if f] == [(0, 0), (1, 1), (2, 2)]
    assert driver.asked == {
        cv2.CAP_PROP_BUFFERSIZE: 1,
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 15,
    }
    assert camera.read() is None
    assert driver.released == 1


def test_another_size_is_told_once(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    driver.frames = [np.zeros((360, 640, 3), np.uint8)]
    frame = open_camera(config.Camera(source="/dev/null")).read()
    assert frame is not None
    assert (frame.width, frame.height) == (640, 360)
    assert caplog.messages == ["camera /dev/null: gives 640x360 where 640x480 was asked"]


def test_a_metadata_node(driver: Driver) -> None:
    driver.node = METADATA
    assert refused() == (
        "camera /dev/null: (HD Webcam) carries metadata, not pictures; give another of its "
        "nodes, often the one before"
    )


def test_an_output_node(driver: Driver) -> None:
    driver.node = 0x2
    assert "(HD Webcam) does not capture; give another" in refused()


def test_in_use(driver: Driver) -> None:
    driver.opens, driver.busy = False, True
    assert refused() == (
        "camera /dev/null: is in use by another program; close it, `fuser -v /dev/video*` names it"
    )


def test_does_not_start(driver: Driver) -> None:
    driver.opens = False
    assert refused() == (
        "camera /dev/null: (HD Webcam) does not start; plug it in again, `dmesg` may say more"
    )


def test_opens_but_gives_no_frame(driver: Driver) -> None:
    driver.frames = []
    assert refused().startswith("camera /dev/null: is open but gave no frame after 0; another")
    assert driver.released == 1


def test_goes_silent(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    camera = open_camera(config.Camera(source="/dev/null"))
    driver.frames = []
    assert camera.read()
    monkeypatch.setattr(v4l2, "_READ_TIMEOUT_S", 0)
    with pytest.raises(CameraStalled, match="is open but gave no frame for 0 s after 1; check"):
        camera.read()


def test_is_unplugged(driver: Driver, tmp_path: Path) -> None:
    node = tmp_path / "by-id"
    node.symlink_to("/dev/null")
    camera = open_camera(config.Camera(source=str(node)))
    driver.frames = []
    node.unlink()
    assert camera.read()
    with pytest.raises(CameraError, match="was unplugged after 1 frames"):
        camera.read()


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "may not be opened by this user; `sudo usermod -aG video USER`"),
        (errno.EBUSY, "is in use by another program; close it"),
        (errno.ENODEV, "there is no device behind this node any more; plug the camera in again"),
        (errno.EIO, "cannot be opened: Input/output error; plug the camera in again"),
    ],
)
def test_each_refusal_has_its_remedy(
    number: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    assert refused().startswith(f"camera /dev/null: {expected}")


def test_a_device_that_is_no_camera() -> None:
    assert refused("/dev/null") == (
        "camera /dev/null: is a device but no camera; give one such as /dev/video0"
    )


@pytest.mark.parametrize("source", ["/dev/video97", "97", "/dev/v4l/by-id/usb-none"])
def test_absent(source: str) -> None:
    path = source if source.startswith("/") else f"/dev/video{source}"
    assert refused(source) == (
        f"camera {path}: no such device; plug the camera in, or look with `ls /dev/video*`"
    )


def test_a_file_or_a_directory_in_its_place(tmp_path: Path) -> None:
    with pytest.raises(CameraError, match="is a directory; give a device such as /dev/video0"):
        v4l2.query(tmp_path)
    (tmp_path / "video0").touch()
    with pytest.raises(CameraError, match="is a file and no device; give one such as"):
        v4l2.query(tmp_path / "video0")


class TestAuto:
    @pytest.fixture
    def dev(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A /dev of our own."""
        find = v4l2.find_devices
        monkeypatch.setattr(v4l2, "find_devices", lambda: find(tmp_path))
        return tmp_path

    @pytest.mark.usefixtures("driver")
    def test_takes_the_lowest_number_that_captures(
        self, dev: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        for name in ("video10", "video2", "video1x"):
            (dev / name).symlink_to("/dev/null")
        (dev / "video0").mkdir()
        with open_camera(config.Camera(source="auto")) as camera:
            assert camera.source == str(dev / "video2")
        assert caplog.messages == [
            f"camera auto: chose {dev / 'video2'} (HD Webcam), the first that captures"
        ]

    def test_says_what_it_looked_at(self, dev: Path) -> None:
        (dev / "video0").symlink_to("/dev/null")
        assert refused("auto") == (
            f"camera auto: no camera found ({dev / 'video0'}: is a device but no camera; give one "
            "such as /dev/video0); plug one in, or give --source footage, synthetic, /dev/videoN, "
            "a video, a picture, a folder of pictures or an http(s) or rtsp URL"
        )

    @pytest.mark.usefixtures("dev")
    def test_finds_nothing(self) -> None:
        assert "no camera found (there is no /dev/video*); plug one in, or give" in refused("auto")

    @pytest.mark.parametrize("name", [b"unicam", b"bcm2835-isp", b"rp1-cfe", b"pispbe"])
    def test_leaves_the_raspberry_pi_pipeline_alone(
        self, dev: Path, driver: Driver, name: bytes
    ) -> None:
        (dev / "video0").symlink_to("/dev/null")
        driver.driver = name
        assert f"is {name.decode()}, no camera to read from directly" in refused("auto")
