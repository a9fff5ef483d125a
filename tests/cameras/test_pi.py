"""The Raspberry Pi's camera against a fake of Picamera2; the real one runs in the lab."""

import builtins
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from device import config
from device.cameras import open_camera, pi
from device.cameras.pi import PiCamera, small_size
from device.config import CameraControls, Region
from device.errors import CameraError, CameraStalled, ConfigError, DependencyError
from device.frames import Frame, PixelFormat
from tests.cameras.picamera2_fake import Wire, plug_in


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    return plug_in(monkeypatch)


def opened(
    source: str = "pi", wanted: tuple[int, int] | None = (224, 224), **keys: Any
) -> PiCamera:
    camera = open_camera(config.Camera(source=source, **keys), threading.Event(), wanted)
    assert isinstance(camera, PiCamera)
    return camera


def read(camera: PiCamera) -> Frame:
    frame = camera.read()
    assert frame is not None
    return frame


def test_gives_the_small_stream_in_yuv_with_its_row_padding(wire: Wire) -> None:
    with opened() as camera:
        frame = read(camera)
        assert (frame.width, frame.height, frame.format) == (300, 224, PixelFormat.YUV420)
        assert frame.pixels.shape == (336, 320)
        assert frame.fault() == ""
        assert camera.source == "pi:imx708"
        assert camera.again == "pi:/base/i2c@1/imx708@1a"
        options = wire.last.options
        assert options["colour_space"] == "SMPTE170M"
        assert options["main"] == {"size": (640, 480), "format": "RGB888"}
        assert (wire.last.held, wire.last.configurations) == (0, 1)
    assert wire.last.closed


def test_the_main_stream_is_copied_only_when_a_picture_is_asked_for(wire: Wire) -> None:
    with opened() as camera:
        assert read(camera).large is None
        assert read(camera).large is None
        camera.picture_wanted = True
        large = read(camera).large
        assert large is not None
        assert (large.width, large.height, large.format) == (640, 480, PixelFormat.BGR)
        assert large.fault() == ""
        assert read(camera).large is None
    assert wire.last.copied.count("main") == 1


def test_a_frame_knows_when_it_was_exposed(wire: Wire) -> None:
    with opened() as camera:
        read(camera)
        wire.age_ns = 40_000_000
        frame = read(camera)
        assert wire.clock() / 1e9 - frame.captured_at == pytest.approx(0.04, abs=0.03)
        wire.age_ns = -(10**12)  # a clock that runs on through a suspend
        assert abs(wire.clock() / 1e9 - read(camera).captured_at) < 1


@pytest.mark.parametrize(
    ("keys", "wanted", "expected"),
    [
        ({}, (224, 224), (300, 224)),
        ({}, None, (640, 480)),
        ({"crop": "letterbox"}, (224, 224), (224, 168)),
        ({"crop": "stretch"}, (224, 224), (224, 224)),
        ({"rotate": 90, "crop": "stretch"}, (96, 48), (48, 96)),
        ({"region": (0.0, 0.0, 0.5, 0.5)}, (224, 224), (598, 448)),
        ({"region": (0.4, 0.4, 0.5, 0.5)}, (224, 224), (640, 480)),
        ({"width": 1280, "height": 720}, (96, 96), (172, 96)),
        (
            {
                "regions": (
                    Region(name="a", box=(0.0, 0.0, 1.0, 1.0)),
                    Region(name="b", box=(0.0, 0.0, 0.5, 1.0)),
                ),
                "crop": "stretch",
            },
            (224, 224),
            (448, 224),
        ),
    ],
)
def test_the_small_stream_needs_the_least_resizing(
    keys: dict[str, Any], wanted: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    settings = config.Camera(**keys)
    assert small_size((settings.width, settings.height), settings, wanted) == expected


def test_a_camera_whose_small_stream_has_no_yuv(wire: Wire) -> None:
    wire.lores = ("RGB888",)
    with opened() as camera:
        frame = read(camera)
        assert (frame.width, frame.height, frame.format) == (300, 224, PixelFormat.BGR)
        assert frame.fault() == ""


def test_a_camera_without_a_small_stream(wire: Wire) -> None:
    wire.lores = ()
    with opened() as camera:
        frame = read(camera)
        assert (frame.width, frame.height, frame.format) == (640, 480, PixelFormat.BGR)
        assert not camera.has_large


def test_a_format_that_was_changed_in_silence_is_refused(wire: Wire) -> None:
    wire.makes = "MJPEG"
    with pytest.raises(CameraError, match=r"cannot be set to 640x480 \(it gives MJPEG\); set"):
        opened()
    assert wire.last.closed


def test_a_stall_is_told_in_its_time_and_passes(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pi, "_SLICE_S", 0.01)
    with opened(stall_s=0.5) as camera:
        read(camera)
        wire.stalled.set()
        with pytest.raises(CameraStalled, match="is open but gave no frame for 0 s after 1; check"):
            camera._take(0.05)
        wire.stalled.clear()
        # The job that was left is the one that is waited for again: none is queued up.
        assert read(camera).number == 1
        assert wire.last.jobs == []
        wire.stalled.set()
        with pytest.raises(CameraStalled):
            camera._take(0.05)
    assert wire.last.closed


def test_stops_at_once_when_told(wire: Wire) -> None:
    stop = threading.Event()
    with open_camera(config.Camera(source="pi"), stop) as camera:
        wire.stalled.set()
        threading.Timer(0.05, stop.set).start()
        assert camera.read() is not None
        assert camera.read() is None


class TestWhich:
    @pytest.fixture(autouse=True)
    def two(self, wire: Wire) -> None:
        wire.cameras.append({"Model": "imx219", "Id": "/base/i2c@0/imx219@10", "Num": 1})

    @pytest.mark.parametrize("source", ["pi:1", "pi:imx219", "pi:/base/i2c@0/imx219@10"])
    def test_by_number_model_or_id(self, wire: Wire, source: str) -> None:
        with opened(source) as camera:
            assert camera.source == "pi:imx219"
        assert wire.last.number == 1

    def test_one_that_is_not_there(self) -> None:
        with pytest.raises(CameraError) as caught:
            opened("pi:2")
        assert str(caught.value) == (
            "camera pi:2: is not there; there is pi:0 (imx708), pi:1 (imx219)"
        )


class TestControls:
    def controls(self, wire: Wire, fps: float = 30, **controls: Any) -> dict[str, Any]:
        opened(fps=fps, controls=CameraControls(**controls)).close()
        return wire.last.set

    def test_nothing_but_rate_and_focus_by_default(self, wire: Wire) -> None:
        assert self.controls(wire) == {"FrameDurationLimits": (33333, 33333), "AfMode": 2}

    def test_each_of_them(self, wire: Wire) -> None:
        assert self.controls(
            wire,
            fps=10,
            exposure_us=5000,
            gain=2.5,
            white_balance="daylight",
            focus="manual",
            lens_position=2.0,
            hdr=True,
        ) == {
            "FrameDurationLimits": (100_000, 100_000),
            "ExposureTime": 5000,
            "AnalogueGain": 2.5,
            "AwbMode": 5,
            "AfMode": 0,
            "LensPosition": 2.0,
            "HdrMode": 3,
        }
        assert self.controls(wire, colour_gains=(1.5, 2.0))["ColourGains"] == (1.5, 2.0)

    def test_focus_once(self, wire: Wire) -> None:
        assert self.controls(wire, focus="auto").items() >= {"AfMode": 1, "AfTrigger": 0}.items()

    def test_a_lens_that_does_not_move(self, wire: Wire) -> None:
        del wire.controls["AfMode"], wire.controls["LensPosition"]
        assert "AfMode" not in self.controls(wire)
        with pytest.raises(ConfigError) as caught:
            self.controls(wire, focus="manual", lens_position=1.0)
        assert str(caught.value) == ("camera.controls.focus: manual: pi:imx708 has no such control")
        assert wire.last.closed

    @pytest.mark.parametrize(
        ("keys", "expected"),
        [
            ({"fps": 200}, "camera.fps: 200: pi:imx708 takes 0.00840336 to 120.005"),
            ({"exposure_us": 5}, "camera.controls.exposure_us: 5: pi:imx708 takes 13 to 1.12015e"),
            ({"gain": 99.0}, "camera.controls.gain: 99.0: pi:imx708 takes 1.12 to 16"),
            (
                {"colour_gains": (1.0, 40.0)},
                "camera.controls.colour_gains: (1.0, 40.0): pi:imx708 takes 0 to 32",
            ),
            (
                {"focus": "manual", "lens_position": 20.0},
                "camera.controls.lens_position: 20.0: pi:imx708 takes 0 to 15",
            ),
            (
                {"sensor_mode": (640, 480)},
                "camera.controls.sensor_mode: [640, 480]: pi:imx708 has no such mode; it has "
                "1536x864, 2304x1296",
            ),
            (
                {"tuning_file": "bad.json"},
                "camera.controls.tuning_file: 'bad.json' cannot be used: Tuning file not found",
            ),
        ],
    )
    def test_a_value_out_of_range_names_the_range(
        self, wire: Wire, keys: dict[str, Any], expected: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            self.controls(wire, **keys)
        assert str(caught.value).startswith(expected)
        assert all(camera.closed for camera in wire.opened)

    def test_flips_tuning_and_sensor_mode(self, wire: Wire) -> None:
        self.controls(
            wire, hflip=True, vflip=True, tuning_file="good.json", sensor_mode=(2304, 1296)
        )
        assert wire.last.options["transform"] == {"hflip": True, "vflip": True}
        assert wire.last.options["sensor"] == {"output_size": (2304, 1296), "bit_depth": 10}
        assert wire.last.tuning == {"target": "pisp"}


class TestRemedies:
    def test_busy(self, wire: Wire) -> None:
        wire.busy = True
        with pytest.raises(CameraError) as caught:
            opened()
        assert str(caught.value) == (
            "camera pi:imx708: is in use by another program; close it, `fuser -v /dev/media*` "
            "names it"
        )

    def test_no_camera(self, wire: Wire) -> None:
        wire.cameras.clear()
        with pytest.raises(CameraError, match="camera pi: libcamera sees no camera; check its"):
            opened()

    def test_the_wrong_group(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        wire.cameras.clear()
        (tmp_path / "media0").touch()
        monkeypatch.setattr(pi, "Path", lambda _: tmp_path)
        monkeypatch.setattr("os.access", lambda *_: False)
        with pytest.raises(CameraError) as caught:
            opened()
        assert str(caught.value) == (
            f"camera pi: this user may not open {tmp_path / 'media0'}; `sudo usermod -aG "
            "video,render USER`, then log in again"
        )

    @pytest.mark.parametrize("name", ["picamera2", "libcamera"])
    def test_not_installed(
        self, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(pi, "_DEBIAN_PACKAGES", tmp_path)
        self.hide(name, monkeypatch)
        with pytest.raises(DependencyError) as caught:
            opened()
        assert str(caught.value) == f"camera pi: needs {name}; `sudo apt install python3-{name}`"

    def test_an_environment_that_does_not_see_debian_s_packages(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "picamera2").mkdir()
        monkeypatch.setattr(pi, "_DEBIAN_PACKAGES", tmp_path)
        monkeypatch.setattr("sys.prefix", "/somewhere/.venv")
        self.hide("picamera2", monkeypatch)
        with pytest.raises(DependencyError, match="make it anew with `python3 -m venv --system-si"):
            opened()

    def test_another_numpy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.hide("picamera2", monkeypatch, ValueError("numpy.dtype size changed"))
        with pytest.raises(DependencyError, match=r"does not load \(numpy.dtype size changed\)"):
            opened()

    @staticmethod
    def hide(name: str, patch: pytest.MonkeyPatch, error: Exception | None = None) -> None:
        plug_in(patch)
        patch.delitem(sys.modules, name)
        real = builtins.__import__

        def without(wanted: str, *rest: Any) -> Any:
            if wanted == name:
                raise error or ModuleNotFoundError(f"No module named {name!r}", name=name)
            return real(wanted, *rest)

        patch.setattr(builtins, "__import__", without)

    @pytest.mark.parametrize(
        ("said", "expected"),
        [
            ("Could not open any dmaHeap device", "this user may not take memory for its pictures"),
            ("[Errno 12] Cannot allocate memory", "there is no memory left for its pictures (CMA)"),
            ("what is this", "does not start: what is this; check its ribbon cable"),
        ],
    )
    def test_what_it_raises_is_told_with_a_remedy(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, said: str, expected: str
    ) -> None:
        def fail(_: object) -> None:
            raise OSError(said)

        monkeypatch.setattr("tests.cameras.picamera2_fake.FakePicamera2.start", fail)
        with pytest.raises(CameraError) as caught:
            opened()
        assert expected in str(caught.value)
        assert wire.last.closed


def test_auto_takes_it_where_a_sensor_is_on_its_connector(
    wire: Wire, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr("device.cameras.v4l2.has_pi_camera", lambda: True)
    with open_camera(config.Camera(source="auto")) as camera:
        assert camera.source == "pi:imx708"
    assert caplog.messages == ["camera auto: chose pi:imx708, the Raspberry Pi's own"]
    wire.cameras.clear()
    with pytest.raises(CameraError, match="camera pi: libcamera sees no camera"):
        open_camera(config.Camera(source="auto"))
