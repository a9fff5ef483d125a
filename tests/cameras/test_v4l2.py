"""The V4L2 camera against a scripted driver behind the kernel's own interface.

There is no camera where these tests run; ``tests/lab/v4l2.sh`` is for the real drivers.
"""

import errno
import logging
import os
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.cameras import open_camera, v4l2
from device.cameras.v4l2 import V4l2Camera, choose_mode
from device.cameras.v4l2_device import Capabilities, Mode
from device.errors import CameraError, CameraStalled, ConfigError, UsageError
from device.frames import Frame, PixelFormat, Pixels
from tests.cameras.conftest import encoded, scene
from tests.cameras.kernel import ERROR, METADATA, MONOTONIC, Driver, Picture, by_id, plug_in, yuyv


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    plug_in(driver, monkeypatch)
    driver.give(Picture(yuyv(128)))
    return driver


def opened(source: str | Path = "/dev/null", **settings: object) -> V4l2Camera:
    camera = open_camera(config.Camera(source=str(source), **settings))  # type: ignore[arg-type]
    assert isinstance(camera, V4l2Camera)
    return camera


def refused(source: str | Path = "/dev/null", **settings: object) -> str:
    with pytest.raises(CameraError) as caught:
        opened(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def read(camera: V4l2Camera) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


def test_gives_frames_as_asked_for(driver: Driver) -> None:
    with opened(fps=15) as camera:
        assert camera.source == "/dev/null"
        frames = [read(camera)]
        for value in (16, 235):
            driver.give(Picture(yuyv(value)))
            frames.append(read(camera))
    assert [f.number for f in frames] == [0, 1, 2]
    assert [tuple(f.pixels[100, 100]) for f in frames] == [(130,) * 3, (0,) * 3, (255,) * 3]
    assert all(f.format is PixelFormat.BGR for f in frames)
    assert driver.asked_fps == pytest.approx(15)
    assert len(driver.buffers) == 2
    assert not driver.streaming
    assert camera.read() is None


def test_a_frame_is_the_newest_and_knows_its_age(driver: Driver) -> None:
    with opened() as camera:
        read(camera)
        driver.give(Picture(yuyv(50), age_s=0.2), Picture(yuyv(200), age_s=0.04))
        frame = read(camera)
        assert frame.pixels[0, 0, 0] > 150
        assert driver.clock() - frame.captured_at == pytest.approx(0.04, abs=0.03)
        assert sorted(driver.queued) == [0, 1], "both buffers are the driver's again"


@pytest.mark.parametrize("picture", [Picture(yuyv(9), flags=0), Picture(yuyv(9), age_s=-3)])
def test_a_time_stamp_of_another_clock_is_not_believed(driver: Driver, picture: Picture) -> None:
    with opened() as camera:
        read(camera)
        driver.give(picture)
        assert driver.clock() - read(camera).captured_at < 0.5


def test_rows_are_padded(driver: Driver) -> None:
    driver.padding = 64
    driver.pictures.clear()
    driver.give(Picture(yuyv(128, padding=64)))
    with opened() as camera:
        frame = read(camera)
    assert frame.pixels.shape == (480, 640, 3)
    assert (frame.pixels == 130).all()


@pytest.mark.parametrize(
    ("pixels", "make", "order"),
    [
        ("YUYV", lambda b: _packed(b, "YUYV"), PixelFormat.BGR),
        ("UYVY", lambda b: _packed(b, "UYVY"), PixelFormat.BGR),
        ("NV12", lambda b: b"".join(_nv12(b)), PixelFormat.BGR),
        ("YU12", lambda b: cv2.cvtColor(b, cv2.COLOR_BGR2YUV_I420).tobytes(), PixelFormat.YUV420),
        ("BGR3", lambda b: b.tobytes(), PixelFormat.BGR),
        ("RGB3", lambda b: b[:, :, ::-1].tobytes(), PixelFormat.RGB),
        ("GREY", lambda b: cv2.cvtColor(b, cv2.COLOR_BGR2GRAY).tobytes(), PixelFormat.GREY),
        ("MJPG", lambda b: encoded(".jpg", b), PixelFormat.BGR),
    ],
)
def test_every_format_gives_the_same_picture(
    driver: Driver, pixels: str, make: object, order: PixelFormat
) -> None:
    assert callable(make)
    picture = scene(0, 640, 480)
    driver.formats = {pixels: {(640, 480): 30}}
    driver.pictures.clear()
    driver.give(Picture(make(picture)))
    with opened() as camera:
        frame = read(camera)
    assert (frame.format, frame.width, frame.height) == (order, 640, 480)
    assert frame.fault() == ""
    seen = frame.pixels
    if order is PixelFormat.RGB:
        seen = seen[:, :, ::-1]
    elif order is PixelFormat.YUV420:
        seen = np.asarray(cv2.cvtColor(seen, cv2.COLOR_YUV2BGR_I420), np.uint8)
    elif order is PixelFormat.GREY:
        picture = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    assert np.abs(seen.astype(int) - picture).mean() < 4


def _packed(bgr: Pixels, order: str) -> bytes:
    yuv = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV).astype(int)
    # OpenCV's YUV is of full range; a camera's is 16 to 235.
    luma = 16 + yuv[:, :, 0] * 219 // 255
    chroma = 128 + (yuv[:, :, 1:] - 128) * np.array([1.014 * 224 / 255, 0.797 * 224 / 255])
    rows = np.zeros((*bgr.shape[:2], 2), np.uint8)
    light = order.index("Y")
    rows[:, :, light] = luma
    rows[:, ::2, 1 - light], rows[:, 1::2, 1 - light] = chroma[:, ::2, 0], chroma[:, ::2, 1]
    return rows.tobytes()


def _nv12(bgr: Pixels) -> tuple[bytes, bytes]:
    i420 = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
    height = bgr.shape[0]
    u, v = i420[height:].reshape(2, -1)
    return i420[:height].tobytes(), np.stack([u, v], axis=1).tobytes()


def test_the_cheapest_format_that_reaches_size_and_rate() -> None:
    modes = [
        Mode("YUYV", 640, 480, 30),
        Mode("MJPG", 640, 480, 30),
        Mode("GREY", 640, 480, 60),
        Mode("H264", 640, 480, 90),
    ]
    at = choose_mode(modes, 640, 480, 30)
    assert at is not None
    assert at.pixels == "YUYV"
    # Over USB 2, raw pixels of this size come ten times a second.
    modes = [Mode("YUYV", 1280, 720, 10), Mode("MJPG", 1280, 720, 30)]
    at = choose_mode(modes, 1280, 720, 30)
    assert at is not None
    assert at.pixels == "MJPG"
    at = choose_mode([Mode("YUYV", 640, 480, 30), Mode("MJPG", 1280, 720, 30)], 1280, 720, 15)
    assert at is not None
    assert at.pixels == "MJPG"
    assert choose_mode([Mode("H264", 640, 480, 30)], 640, 480, 30) is None


def test_asks_for_the_size_nearest_to_the_one_wanted(
    driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    driver.formats = {"YUYV": {(320, 240): 30, (1280, 720): 10, (800, 600): 30}}
    driver.give(Picture(yuyv(128, 800, 600)))
    with opened() as camera:
        read(camera)
    assert (driver.layout.width, driver.layout.height) == (800, 600)
    assert "camera /dev/null: gives 800x600 where 640x480 was asked" in caplog.messages


def test_broken_frames_are_counted_skips(driver: Driver, capfd: pytest.CaptureFixture[str]) -> None:
    with opened() as camera:
        read(camera)
        for bad in (
            Picture(yuyv(1), flags=MONOTONIC | ERROR),
            Picture(b""),
            Picture(yuyv(1)[:-1]),
        ):
            driver.give(bad)
            with pytest.raises(CameraStalled):
                camera._take(0.001)
        assert camera.skipped == 3
        driver.give(Picture(yuyv(200)))
        assert read(camera).number == 1
    assert capfd.readouterr().err == ""


def test_a_damaged_jpeg_is_a_counted_skip_in_silence(
    driver: Driver, capfd: pytest.CaptureFixture[str]
) -> None:
    jpeg = encoded(".jpg", scene(0, 640, 480))
    other = encoded(".jpg", scene(0, 320, 240))
    driver.formats = {"MJPG": {(640, 480): 30}}
    driver.pictures.clear()
    driver.give(Picture(jpeg))
    with opened() as camera:
        read(camera)
        for bad in (jpeg[: len(jpeg) // 2], b"\xff\xd8\xff", other):
            driver.give(Picture(bad))
            with pytest.raises(CameraStalled):
                camera._take(0.001)
        assert camera.skipped == 3
        # Bytes too many before the end, as many webcams give them, harm nothing.
        driver.give(Picture(jpeg[:-2] + b"\0" * 7 + jpeg[-2:]))
        assert read(camera).number == 1
    assert capfd.readouterr().err == ""


def test_stops_at_once_when_told(driver: Driver) -> None:
    stop = threading.Event()
    camera = open_camera(config.Camera(source="/dev/null"), stop)
    assert camera.read() is not None
    stop.set()
    assert camera.read() is None
    camera.close()


def test_a_metadata_node(driver: Driver) -> None:
    driver.own = METADATA
    assert refused() == (
        "camera /dev/null: (HD Webcam) carries metadata, not pictures; give another of its "
        "nodes, often the one before"
    )


def test_an_output_node(driver: Driver) -> None:
    driver.own = 0x2
    assert "(HD Webcam) does not capture; give another" in refused()


@pytest.mark.parametrize("name", [b"unicam", b"rp1-cfe", b"bcm2835-isp", b"pispbe"])
def test_a_node_of_the_raspberry_pi_s_own_camera(driver: Driver, name: bytes) -> None:
    driver.driver = name
    assert refused() == (
        "camera /dev/null: (HD Webcam) is part of the Raspberry Pi's own camera; give --source pi"
    )


def test_in_use(driver: Driver) -> None:
    driver.busy = True
    assert refused() == (
        "camera /dev/null: is in use by another program; close it, `fuser -v /dev/video*` names it"
    )


def test_gives_only_what_is_not_read_here(driver: Driver) -> None:
    driver.formats = {"H264": {(640, 480): 30}}
    assert "(HD Webcam) gives no pixels that are read here (has H264; read are YU12," in refused()


@pytest.mark.parametrize("size", [(0, 0), (10_000, 10_000)])
def test_a_size_that_cannot_be(driver: Driver, size: tuple[int, int]) -> None:
    driver.granted = size
    assert f"(HD Webcam) gives {size[0]}x{size[1]} 'YUYV' where 640x480 YUYV was asked" in refused()


@pytest.mark.slow
def test_opens_but_gives_no_frame(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2, "_FIRST_FRAME_S", 0.01)
    driver.pictures.clear()
    message = refused(stall_s=0.5)
    assert message.startswith("camera /dev/null: is open but gave no frame for 0 s after 0; check")
    assert not driver.streaming


def test_is_unplugged(driver: Driver) -> None:
    with opened() as camera:
        read(camera)
        driver.fails = errno.ENODEV
        with pytest.raises(CameraError, match="was unplugged after 1 frames"):
            camera.read()


def test_its_node_goes_with_another_error(driver: Driver, tmp_path: Path) -> None:
    node = by_id(tmp_path)
    with opened(node) as camera:
        read(camera)
        node.unlink()
        driver.fails = errno.EIO
        with pytest.raises(CameraError, match="was unplugged after 1 frames"):
            camera.read()


def test_its_driver_fails(driver: Driver) -> None:
    with opened() as camera:
        read(camera)
        driver.fails = errno.EIO
        with pytest.raises(CameraError, match="its driver failed after 1 frames: Input/output err"):
            camera.read()


def test_a_driver_that_polls_an_error_and_tells_none_is_no_busy_loop(driver: Driver) -> None:
    with opened() as camera:
        read(camera)
        driver.poll_fails = True
        with pytest.raises(CameraError, match="its driver failed"):
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


def test_controls_are_for_a_raspberry_pi_s_camera(driver: Driver) -> None:
    with pytest.raises(ConfigError, match=r"camera\.controls: only a Raspberry Pi's camera takes"):
        opened(controls=config.CameraControls(gain=2))


def test_opening_again_leaks_no_descriptor(driver: Driver) -> None:
    def reopened(times: int) -> int:
        for _ in range(times):
            driver.give(Picture(yuyv(1)))
            opened().close()
        return len(list(Path("/proc/self/fd").iterdir()))

    assert reopened(1) == reopened(5)


@pytest.mark.usefixtures("driver")
class TestFinding:
    """By what it is, whatever its number is."""

    @pytest.fixture(autouse=True)
    def machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A /dev and a /sys of our own, empty."""
        (tmp_path / "dev").mkdir()
        monkeypatch.setattr(v4l2, "_SYSFS", tmp_path / "sys")
        nodes = v4l2._nodes
        monkeypatch.setattr(v4l2, "_nodes", lambda _: nodes(tmp_path / "dev"))
        self.root = tmp_path
        return tmp_path

    def plug(self, number: int, usb: str = "", serial: str = "") -> Path:
        node = self.root / "dev" / f"video{number}"
        node.symlink_to("/dev/null")
        interface = self.root / "devices" / f"usb{number}" / "1-1:1.0"
        interface.mkdir(parents=True)
        if usb:
            for name, value in zip(("idVendor", "idProduct"), usb.split(":"), strict=True):
                (interface.parent / name).write_text(value + "\n")
        if serial:
            (interface.parent / "serial").write_text(serial + "\n")
        entry = self.root / "sys" / f"video{number}"
        entry.mkdir(parents=True)
        (entry / "device").symlink_to(interface)
        return node

    def unplug(self, node: Path) -> None:
        node.unlink()

    def test_by_its_usb_id(self) -> None:
        self.plug(0, "1111:2222")
        node = self.plug(1, "046d:0825", "A1")
        for source in ("usb:046d:0825", "usb:046D:0825:A1", "usb:046d:0825@elsewhere"):
            assert v4l2.find_by_name(source) == node
        with pytest.raises(CameraError) as caught:
            v4l2.find_by_name("usb:046d:0825:B2")
        assert str(caught.value) == (
            "camera usb:046d:0825:B2: is not plugged in; plug the camera in, or look with `lsusb`"
        )

    def test_opened_by_its_usb_id(self) -> None:
        node = self.plug(3, "046d:0825")
        with opened("usb:046d:0825") as camera:
            assert camera.source == str(node)

    @pytest.mark.parametrize("source", ["usb:", "usb:046d", "usb:xyz:1234", "usb:046d:08255"])
    def test_what_is_no_usb_id(self, source: str) -> None:
        with pytest.raises(UsageError, match="is no USB id; give it as usb:046d:0825"):
            v4l2.find_by_name(source)

    def test_of_two_alike_the_one_on_the_port(
        self, driver: Driver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.plug(0, "046d:0825")
        second = self.plug(1, "046d:0825")
        query = v4l2.query

        def on_ports(path: Path) -> Capabilities:
            driver.bus = b"usb-2" if path == second else b"usb-1"
            return query(path)

        monkeypatch.setattr(v4l2, "query", on_ports)
        assert v4l2.find_by_name("usb:046d:0825@usb-2") == second
        assert v4l2.find_by_name("usb:046d:0825@usb-1") != second

    def test_is_found_again_under_another_number(
        self, driver: Driver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        node = self.plug(0, "046d:0825", "A1")
        monkeypatch.setattr(Path, "is_symlink", lambda _: False)  # as a device node
        with opened(node) as camera:
            again = camera.again
        assert again == "usb:046d:0825:A1@usb-1"
        self.unplug(node)
        moved = self.plug(2, "046d:0825", "A1")
        driver.give(Picture(yuyv(1)))
        with opened(again) as camera:
            assert camera.source == str(moved)

    def test_what_is_on_no_usb_is_found_by_its_place(self, driver: Driver) -> None:
        driver.bus = b"platform:vivid-000"
        node = self.plug(1)
        assert v4l2._identity(node, v4l2.query(node)) == "bus:platform:vivid-000"
        assert v4l2.find_by_name("bus:platform:vivid-000") == node
        with pytest.raises(CameraError, match="is not plugged in"):
            v4l2.find_by_name("bus:platform:vivid-001")

    def test_by_id_is_a_name_that_holds(self) -> None:
        node = by_id(self.root)
        with opened(node) as camera:
            assert camera.again == ""


class TestAuto:
    @pytest.fixture
    def dev(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A /dev of our own."""
        nodes = v4l2._nodes
        monkeypatch.setattr(v4l2, "_nodes", lambda _: nodes(tmp_path))
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
            "such as /dev/video0); plug one in, or give --source footage, synthetic, pi, "
            "/dev/videoN, usb:VENDOR:PRODUCT, a video, a picture, a folder of pictures or an "
            "http(s) or rtsp URL"
        )

    @pytest.mark.usefixtures("dev")
    def test_finds_nothing(self) -> None:
        assert "no camera found (there is no /dev/video*); plug one in, or give" in refused("auto")

    @pytest.mark.parametrize("name", [b"bcm2835-isp", b"pispbe"])
    def test_leaves_the_raspberry_pi_pipeline_alone(
        self, dev: Path, driver: Driver, name: bytes
    ) -> None:
        (dev / "video0").symlink_to("/dev/null")
        driver.driver = name
        assert f"is {name.decode()}, no camera to read from directly" in refused("auto")
