"""What every camera promises, asked of each kind that is here.

A Raspberry Pi's camera is asked through a fake of Picamera2, or through the real one where
``LABELCAM_TEST_PI`` says that there is one, as in the lab. A /dev/video* node is not here:
`test_v4l2.py` runs that camera against a scripted driver.
"""

import os
import threading
import time
from pathlib import Path

import pytest

from device import config
from device.cameras import Camera, open_camera
from device.errors import CameraError
from device.frames import PixelFormat
from tests.cameras.conftest import PASSWORD, USER, MjpegServer, NoWait, encoded
from tests.cameras.picamera2_fake import plug_in

FINITE = ["synthetic", "video", "footage", "folder"]
ALL = [*FINITE, "still", "mjpeg", "mjpeg-password", "pi"]


@pytest.fixture
def source(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind: str = request.param
    if kind == "synthetic":
        return "synthetic?frames=12"
    if kind in ("video", "folder"):
        return str(request.getfixturevalue(kind))
    if kind == "pi" and "LABELCAM_TEST_PI" not in os.environ:
        plug_in(request.getfixturevalue("monkeypatch"))
    if kind == "still":
        (tmp_path / "still.png").write_bytes(encoded(".png"))
        return str(tmp_path / "still.png")
    if kind.startswith("mjpeg"):
        server: MjpegServer = request.getfixturevalue("server")
        if kind == "mjpeg-password":
            return server.url("/private", f"{USER}:{PASSWORD}@")
        return server.url("/live")
    return kind


def opened(source: str, stop: threading.Event | None = None) -> Camera:
    settings = config.Camera(source=source, width=64, height=48, fps=10)
    return open_camera(settings, stop or NoWait())


@pytest.mark.parametrize("source", ALL, indirect=True)
def test_frames_are_whole_and_numbered(source: str) -> None:
    before = time.monotonic() - 1  # one may have been exposed while the camera opened
    with opened(source) as camera:
        frames = [camera.read() for _ in range(8)]
    for number, frame in enumerate(frames):
        assert frame is not None
        assert frame.number == number
        assert frame.format is (PixelFormat.YUV420 if source == "pi" else PixelFormat.BGR)
        assert frame.fault() == ""
        assert frame.pixels.flags.c_contiguous
        assert before <= frame.captured_at <= time.monotonic()
        before = frame.captured_at


@pytest.mark.parametrize("source", ALL, indirect=True)
def test_a_frame_stays_as_it_was(source: str) -> None:
    with opened(source) as camera:
        first = camera.read()
        assert first is not None
        as_it_was = first.pixels.copy()
        for _ in range(7):
            camera.read()
        assert (first.pixels == as_it_was).all()
    assert (first.pixels == as_it_was).all()


@pytest.mark.parametrize("source", FINITE, indirect=True)
def test_the_end_is_none_and_stays_so(source: str) -> None:
    with opened(source) as camera:
        count = 0
        while camera.read() is not None:
            count += 1
        assert count >= 10
        assert camera.read() is None


@pytest.mark.parametrize("source", ALL, indirect=True)
def test_close_twice_and_read_nothing_after(source: str) -> None:
    camera = opened(source)
    assert camera.read() is not None
    camera.close()
    camera.close()
    assert camera.read() is None


@pytest.mark.parametrize("source", FINITE, indirect=True)
def test_stop_ends_a_wait_at_once(source: str) -> None:
    stop = threading.Event()
    settings = config.Camera(source=source, width=64, height=48, fps=0.01)
    with open_camera(settings, stop) as camera:
        assert camera.read() is not None
        stop.set()
        assert camera.read() is None


@pytest.mark.parametrize("source", ALL, indirect=True)
def test_source_is_shown_without_the_password(source: str) -> None:
    with opened(source) as camera:
        assert camera.source
        assert USER not in camera.source
        assert PASSWORD not in repr(camera) + camera.source


@pytest.mark.parametrize("source", ALL, indirect=True)
@pytest.mark.slow
def test_reopening_leaks_no_descriptor(source: str, request: pytest.FixtureRequest) -> None:
    def reopened(times: int) -> int:
        for _ in range(times):
            opened(source).close()
        if source.startswith("http"):
            # The server's end of each connection is in this process too.
            assert request.getfixturevalue("server").wait_until_idle()
        return len(list(Path("/proc/self/fd").iterdir()))

    assert reopened(1) == reopened(5)


@pytest.mark.parametrize("knob", ["fail_after", "stall_after"])
def test_what_is_broken_stays_broken(knob: str) -> None:
    with opened(f"synthetic?{knob}=2") as camera:
        assert camera.read()
        assert camera.read()
        for _ in range(2):
            with pytest.raises(CameraError):
                camera.read()
