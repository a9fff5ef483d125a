"""The factory: every spelling of a source, and each bad one told in one line."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.cameras import Camera, open_camera, shown, stream
from device.cameras.files import FOOTAGE
from device.cameras.pace import Pace
from device.errors import CameraError, CameraStalled, UsageError
from device.frames import Frame, PixelFormat
from device.recordings.pictures import quiet_opencv
from tests.cameras.conftest import MjpegServer, NoWait, encoded, scene, write_video


def opened(source: str | Path, fps: float = 30, width: int = 640, height: int = 480) -> Camera:
    settings = config.Camera(source=str(source), fps=fps, width=width, height=height)
    return open_camera(settings, NoWait())


def refused(source: str | Path, kind: type[Exception] = CameraError) -> str:
    """The one line that a bad source ends with."""
    with pytest.raises(kind) as caught:
        opened(source).close()
    message = str(caught.value)
    assert "\n" not in message
    return message


def everything(camera: Camera) -> list[Frame]:
    frames: list[Frame] = []
    with camera:
        read_into(frames, camera)
    return frames


def read_into(frames: list[Frame], camera: Camera) -> None:
    while (frame := camera.read()) is not None:
        frames.append(frame)


def test_importing_the_package_imports_no_camera() -> None:
    code = (
        "import sys, device.cameras; print([m for m in sys.modules if 'cv2' in m or 'numpy' == m])"
    )
    # frames.py needs NumPy itself.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['numpy']"


class TestSynthetic:
    def test_has_the_size_asked_for_and_moves(self) -> None:
        frames = everything(opened("synthetic?frames=200", width=320, height=240, fps=30))
        assert len(frames) == 200
        assert (frames[0].width, frames[0].height) == (320, 240)
        assert len({frame.pixels.tobytes() for frame in frames}) == 200

    def test_is_the_same_each_time(self) -> None:
        first, second = (everything(opened("synthetic?frames=9")) for _ in range(2))
        assert all((a.pixels == b.pixels).all() for a, b in zip(first, second, strict=True))

    @pytest.mark.parametrize(("width", "height"), [(16, 16), (8192, 16), (17, 33)])
    def test_any_size_that_the_configuration_takes(self, width: int, height: int) -> None:
        frames = everything(opened("synthetic?frames=50", width=width, height=height))
        assert frames[-1].pixels.shape == (height, width, 3)

    def test_keeps_the_pace(self, no_wait: NoWait) -> None:
        settings = config.Camera(source="synthetic?frames=31", fps=30)
        everything(open_camera(settings, no_wait))
        assert no_wait.waits[-1] == pytest.approx(1.0, abs=0.2)

    def test_stalls_and_fails_when_asked(self) -> None:
        camera = opened("synthetic?stall_after=1")
        assert camera.read()
        with pytest.raises(CameraStalled, match="gave no frame for 2 s after 1, as asked"):
            camera.read()
        camera = opened("synthetic?fail_after=0")
        with pytest.raises(CameraError, match="broke off after 0 frames, as asked"):
            camera.read()

    @pytest.mark.parametrize("knobs", ["speed=1", "frames=-1", "frames=x", "frames", "frames=²"])
    def test_unknown_knobs_are_told(self, knobs: str) -> None:
        message = refused(f"synthetic?{knobs}", UsageError)
        assert message.startswith(f"camera synthetic?{knobs}: ")
        assert message.endswith("give frames, stall_after or fail_after a whole number")


class TestVideo:
    @pytest.mark.parametrize(
        ("name", "codec"),
        [("a.mp4", "mp4v"), ("a.avi", "MJPG"), ("a.avi", "XVID"), ("a.mkv", "mp4v")],
    )
    def test_every_frame_once_at_its_time(
        self, tmp_path: Path, no_wait: NoWait, name: str, codec: str
    ) -> None:
        path = write_video(tmp_path / name, frames=31, codec=codec, fps=10)
        frames = everything(open_camera(config.Camera(source=str(path)), no_wait))
        assert len(frames) == 31
        error = np.abs(frames[4].pixels.astype(int) - scene(4)).mean()
        assert error < 6
        # 30 frames of 100 ms after the first, less what decoding them took
        assert no_wait.waits[-1] == pytest.approx(3.0, abs=0.5)

    def test_the_footage_that_ships(self) -> None:
        frames = everything(opened("footage"))
        assert FOOTAGE.exists()
        assert len(frames) > 30
        assert (frames[0].width, frames[0].height) == (640, 480)

    def test_missing_footage(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr("device.cameras.files.FOOTAGE", tmp_path / "demo.mp4")
        assert refused("footage") == (
            f"camera footage: {tmp_path / 'demo.mp4'} is missing; get the whole project again"
        )

    def test_a_name_with_a_colon_is_no_protocol(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_video(tmp_path / "clip.mp4").rename(tmp_path / "rtsp:clip.mp4")
        monkeypatch.chdir(tmp_path)
        assert len(everything(opened("rtsp:clip.mp4"))) == 30

    @pytest.mark.parametrize(
        ("name", "codec", "share"),
        [("a.avi", "MJPG", 0.5), ("a.avi", "XVID", 0.7), ("a.mkv", "mp4v", 0.4)],
    )
    def test_cut_off_in_the_middle(
        self, tmp_path: Path, name: str, codec: str, share: float, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = write_video(tmp_path / name, codec=codec)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        frames: list[Frame] = []
        with opened(path) as camera, pytest.raises(CameraError) as caught:
            read_into(frames, camera)
        count = len(frames)
        assert 0 < count < 30
        assert str(caught.value) == (
            f"camera {path}: the video broke off at frame {count} of 30; it is damaged or was cut "
            "off, copy it again"
        )
        assert capfd.readouterr().err == ""

    def test_damaged_in_the_middle(self, video: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = bytearray(video.read_bytes())
        middle = len(data) // 3
        data[middle : middle + 2000] = np.random.default_rng(2).bytes(2000)
        video.write_bytes(data)
        with opened(video) as camera, pytest.raises(CameraError, match=r"at frame \d+ of 30"):
            read_into([], camera)
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("content", ["cut", "text", "noise"])
    def test_no_video_at_all(
        self, video: Path, content: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        contents = {
            "cut": video.read_bytes()[:2000],
            "text": b"hello, world\n" * 100,
            "noise": np.random.default_rng(3).bytes(20_000),
        }
        video.write_bytes(contents[content])
        assert refused(video) == (
            f"camera {video}: is neither a picture nor a video that can be read, or was cut off "
            "before its index; copy it again, or save it as MP4 or AVI"
        )
        assert capfd.readouterr().err == ""

    def test_zero_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "empty.mp4").touch()
        assert refused(tmp_path / "empty.mp4").endswith("is empty, 0 bytes; copy it again")


class TestStills:
    def test_each_is_shown_for_a_second(self, folder: Path, no_wait: NoWait) -> None:
        frames = everything(open_camera(config.Camera(source=str(folder), fps=5), no_wait))
        assert len(frames) == 15
        assert [frame.number for frame in frames] == list(range(15))
        assert no_wait.waits[-1] == pytest.approx(14 / 5, abs=0.2)
        shown_again = [
            (frames[i].pixels == frames[i + 1].pixels).all() for i in range(len(frames) - 1)
        ]
        assert [i + 1 for i, same in enumerate(shown_again) if not same] == [5, 10]

    def test_a_single_picture_has_no_end(self, tmp_path: Path, no_wait: NoWait) -> None:
        (tmp_path / "grey.png").write_bytes(encoded(".png", scene()[:, :, 0]))
        settings = config.Camera(source=str(tmp_path / "grey.png"), fps=0.1)
        with open_camera(settings, no_wait) as camera:
            frames = [camera.read() for _ in range(30)]
        assert {frame.format for frame in frames if frame} == {PixelFormat.GREY}
        assert None not in frames

    def test_a_picture_is_told_by_its_content(self, tmp_path: Path) -> None:
        (tmp_path / "picture.dat").write_bytes(encoded(".webp"))
        with opened(tmp_path / "picture.dat", fps=4) as camera:
            assert camera.read() is not None

    def test_nobody_can_change_what_the_next_frame_shows(self, folder: Path) -> None:
        with opened(folder) as camera:
            frame = camera.read()
        assert frame is not None
        with pytest.raises(ValueError, match="read-only"):
            frame.pixels[0, 0] = 0

    def test_a_corrupt_one_is_skipped_and_named_once(
        self, folder: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        jpeg = (folder / "1.jpg").read_bytes()
        (folder / "1.jpg").write_bytes(jpeg[:-100])
        camera = opened(folder, fps=4)
        assert len(everything(camera)) == 8
        assert caplog.record_tuples == [
            (
                "labelcam.cameras.stills",
                logging.WARNING,
                f"camera {folder}: skipped picture {folder / '1.jpg'}: is cut off after "
                f"{len(jpeg) - 100} bytes, without an end; copy it again",
            )
        ]

    def test_all_corrupt(self, folder: Path) -> None:
        for path in folder.iterdir():
            path.write_bytes(b"")
        assert refused(folder) == (
            f"camera {folder}: none of its 3 pictures can be read; the last: picture "
            f"{folder / '2.jpg'}: is empty, 0 bytes; copy it again"
        )

    def test_empty_folder(self, tmp_path: Path) -> None:
        assert refused(tmp_path) == (
            f"camera {tmp_path}: the folder holds no picture; put JPEG, PNG, WebP, TIFF, BMP or "
            "PNM files into it"
        )

    def test_single_corrupt_picture(self, tmp_path: Path) -> None:
        path = tmp_path / "bad.jpg"
        path.write_bytes(b"no picture at all")
        assert refused(path) == (
            f"camera {path}: is not a picture that can be read; give JPEG, PNG, WebP, TIFF, BMP "
            "or PNM"
        )


class TestStream:
    def test_an_end_is_an_error(self, server: MjpegServer) -> None:
        with opened(server.url("/three")) as camera, pytest.raises(CameraError) as caught:
            read_into([], camera)
        assert str(caught.value) == (
            f"camera {server.url('/three')}: the stream ended after 3 frames; check the camera "
            "and the network"
        )

    @pytest.mark.slow
    def test_silence_is_a_stall(self, server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(stream, "_READ_GRACE_S", 0.0)
        stalled = r"gave no frame for 0\.5 s after 3;"
        settings = config.Camera(source=server.url("/stall"), stall_s=0.5)
        with open_camera(settings) as camera, pytest.raises(CameraStalled, match=stalled):
            read_into([], camera)

    @pytest.mark.parametrize("path", ["/nothing", "/garbage", "/loop", "/private"])
    def test_no_video(
        self, server: MjpegServer, path: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        message = refused(server.url(path, "me:hunter2@"))
        assert message == (
            f"camera http://…@127.0.0.1:{server.server_port}{path}: port {server.server_port} "
            "answers, but gave no video in 5 s; check the path, the user and the password in the "
            "URL"
        )
        assert capfd.readouterr().err == ""

    def test_nobody_there(self, server: MjpegServer) -> None:
        port = server.server_port
        server.socket.close()
        assert refused(f"rtsp://me:hunter2@127.0.0.1:{port}/a") == (
            f"camera rtsp://…@127.0.0.1:{port}/a: port {port} cannot be reached: Connection "
            "refused; check address and camera"
        )

    @pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/"])
    def test_no_url(self, url: str) -> None:
        assert "is no valid URL; write special characters in a password as %XX" in refused(url)

    @pytest.mark.parametrize("scheme", ["ftp", "file", "concat", "gopher"])
    def test_other_schemes(self, scheme: str) -> None:
        message = refused(f"{scheme}://u:p@host/x", UsageError)
        assert message.startswith(f"camera {scheme}://…@host/x: {scheme}:// is not a camera; give")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("synthetic?frames=2", "synthetic?frames=2"),
        ("/home/me/a@b.mp4", "/home/me/a@b.mp4"),
        ("http://cam.local:8080/video", "http://cam.local:8080/video"),
        ("RTSP://[fe80::1]:554/ch1", "RTSP://[fe80::1]:554/ch1"),
        ("rtsp://admin:secret@10.0.0.9/ch1", "rtsp://…@10.0.0.9/ch1"),
        ("rtsp://secret@10.0.0.9", "rtsp://…@10.0.0.9"),
        ("http://cam/v.cgi?user=u&pwd=secret", "http://cam/v.cgi…"),
        ("rtsp://cam:554/user=u&password=secret&channel=1", "rtsp://cam:554/user…"),
        ("rtsp://cam/live;secret", "rtsp://cam/live…"),
        ("http://cam/#secret", "http://cam/…"),
        ("rtsp://admin:se@cret@cam/ch1", "rtsp://…"),
        ("rtsp://admin:se/cret@cam/ch1", "rtsp://…"),
        ("rtsp://admin:1?secret@cam/ch1", "rtsp://…"),
        ("rtsp://admin:1#secret@cam/ch1", "rtsp://…"),
        ("rtsp://admin:1/secret@cam/ch1", "rtsp://…"),
        ("http://cam/v?user=a@b&pwd=secret", "http://…"),
        ("http://admin:secret", "http://…"),
        (" rtsp://u:secret@cam/", "rtsp://…@cam/"),
    ],
)
def test_no_secret_is_shown(source: str, expected: str) -> None:
    assert shown(source) == expected


class TestPath:
    def test_absent(self, tmp_path: Path) -> None:
        assert refused(tmp_path / "sythetic") == (
            f"camera {tmp_path / 'sythetic'}: cannot be opened: No such file or directory; give "
            "--source footage, synthetic, pi, /dev/videoN, usb:VENDOR:PRODUCT, a video, a picture, "
            "a folder of pictures or an http(s) or rtsp URL"
        )

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "is neither a file, a folder nor a camera" in refused(tmp_path / "pipe")

    def test_a_name_that_cannot_be(self, tmp_path: Path) -> None:
        assert "is no path" in refused("a\0b", UsageError)
        assert "File name too long" in refused(tmp_path / ("x" * 300))

    @pytest.mark.parametrize("name", ["folder", "file.mp4"])
    def test_not_allowed(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        if name == "folder":
            path.mkdir(mode=0)
        else:
            path.touch(mode=0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
        assert "may not be read by this user; check its permissions" in refused(path)


def test_pace_catches_up_after_a_long_pause(
    monkeypatch: pytest.MonkeyPatch, no_wait: NoWait
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    schedule = Pace(no_wait)
    assert schedule.wait_until(0.0)
    now = 100.5
    assert schedule.wait_until(0.1)  # late, by less than a second: no wait
    assert schedule.wait_until(0.8)
    now = 200.0
    assert schedule.wait_until(0.9)  # after a suspend: from here on
    assert schedule.wait_until(1.0)
    assert no_wait.waits == pytest.approx([0.0, 0.0, 0.3, 0.0, 0.1])


def test_opencv_stays_quiet_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:

    levels: list[int] = []
    monkeypatch.setattr(cv2, "setLogLevel", levels.append)
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "DEBUG")
    quiet_opencv()
    assert levels == []
    monkeypatch.delenv("OPENCV_LOG_LEVEL")
    quiet_opencv()
    assert levels == [0]
