"""Picamera2 and libcamera as far as they are used here, with a camera that does as it is told.

What it does was seen on the real library, which ``tests/lab/picamera.sh`` runs through the
same contract: jobs that stay queued when a wait for them is over, rows padded to 64 bytes,
formats that are changed in silence, and each request to be given back once.
"""

import enum
import sys
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from device.frames import Pixels


class Wire:
    """The world outside: which cameras there are, and what is wrong with them."""

    def __init__(self) -> None:
        self.cameras = [{"Model": "imx708", "Id": "/base/i2c@1/imx708@1a", "Num": 0, "Location": 2}]
        self.busy = False
        self.fps = 200.0
        self.stalled = threading.Event()
        self.lores: tuple[str, ...] = ("YUV420", "RGB888")
        self.makes = ""
        self.clock: Callable[[], int] = time.monotonic_ns
        self.age_ns = 5_000_000
        self.controls: dict[str, tuple[Any, Any, Any]] = {
            "FrameDurationLimits": ((8333, 8333), (119_000_000, 119_000_000), (33333, 33333)),
            "ExposureTime": (13, 112_015_096, 20000),
            "AnalogueGain": (1.12, 16.0, 1.0),
            "AwbMode": (0, 7, 0),
            "ColourGains": (0.0, 32.0, None),
            "AfMode": (0, 2, 0),
            "AfTrigger": (0, 1, 0),
            "LensPosition": (0.0, 15.0, 1.0),
            "HdrMode": (0, 4, 0),
        }
        self.opened: list[FakePicamera2] = []

    @property
    def last(self) -> "FakePicamera2":
        return self.opened[-1]


class Job:
    def __init__(self) -> None:
        self.done = threading.Event()
        self.request: Request | None = None


class Request:
    def __init__(self, camera: "FakePicamera2", number: int) -> None:
        self.camera = camera
        self.number = number
        self.references = 1

    def make_array(self, name: str) -> Pixels:
        assert self.references == 1
        self.camera.copied.append(name)
        stream = self.camera.configured[name]
        width, height = stream["size"]
        if stream["format"] == "YUV420":
            rows = np.full((height * 3 // 2, stream["stride"]), 255, np.uint8)
            rows[:height, :width] = 100 + self.number % 50
            rows[height:, :] = 128
            return rows
        return np.full((height, width, 3), 100 + self.number % 50, np.uint8)

    def get_metadata(self) -> dict[str, Any]:
        assert self.references == 1
        return {"SensorTimestamp": self.camera.wire.clock() - self.camera.wire.age_ns}

    def release(self) -> None:
        self.references -= 1
        assert self.references == 0
        self.camera.held -= 1


class FakePicamera2:
    wire: Wire

    def __init__(self, number: int = 0, tuning: dict[str, Any] | None = None) -> None:
        if self.wire.busy:
            try:
                raise RuntimeError("Failed to acquire camera: Device or resource busy")
            except RuntimeError as error:
                raise RuntimeError("Camera __init__ sequence did not complete.") from error
        self.number, self.tuning = number, tuning
        self.configured: dict[str, Any] = {}
        self.set: dict[str, Any] = {}
        self.copied: list[str] = []
        self.jobs: list[Job] = []
        self.held = self.made = self.configurations = 0
        self.started = self.closed = False
        self._due = 0.0
        self.wire.opened.append(self)

    @classmethod
    def global_camera_info(cls) -> list[dict[str, Any]]:
        return [dict(camera) for camera in cls.wire.cameras]

    @staticmethod
    def load_tuning_file(name: str, _dir: str | None = None) -> dict[str, Any]:
        if name != "good.json":
            raise RuntimeError("Tuning file not found")
        return {"target": "pisp"}

    @property
    def camera_controls(self) -> dict[str, tuple[Any, Any, Any]]:
        return self.wire.controls

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        return [
            {"size": (1536, 864), "bit_depth": 10},
            {"size": (2304, 1296), "bit_depth": 8},
            {"size": (2304, 1296), "bit_depth": 10},
            {"format": "MJPEG"},
        ]

    def create_video_configuration(self, **options: Any) -> dict[str, Any]:
        return options

    def configure(self, options: dict[str, Any]) -> None:
        assert not self.started, "never while it runs"
        self.configurations += 1
        self.options = options
        lores = options.get("lores")
        if lores and lores["format"] not in self.wire.lores:
            raise RuntimeError("lores stream cannot be configured")
        if lores and any(
            a > b for a, b in zip(lores["size"], options["main"]["size"], strict=True)
        ):
            raise RuntimeError("lores stream dimensions may not exceed main stream")
        for name in ("main", "lores"):
            if stream := options.get(name):
                width, _ = stream["size"]
                pixel_bytes = 1 if stream["format"] == "YUV420" else 3
                stride = -(-width * pixel_bytes // 64) * 64
                made = self.wire.makes or stream["format"]
                self.configured[name] = {**stream, "stride": stride, "format": made}
            else:
                self.configured.pop(name, None)

    def camera_configuration(self) -> dict[str, Any]:
        return self.configured

    def set_controls(self, controls: dict[str, Any]) -> None:
        self.set |= controls

    def start(self) -> None:
        self.started = True
        self._due = time.monotonic()

    def capture_request(self, wait: bool = True) -> Job:
        assert not wait, "a capture without a time-out may hang"
        job = Job()
        self.jobs.append(job)
        return job

    def wait(self, job: Job, timeout: float) -> Request:
        assert job in self.jobs
        until = time.monotonic() + timeout
        pause = threading.Event()
        while self.wire.stalled.is_set() or time.monotonic() < self._due:
            if time.monotonic() >= until:
                raise TimeoutError
            pause.wait(0.001)
        self._due = time.monotonic() + 1 / self.wire.fps
        self.jobs.remove(job)
        self.made += 1
        self.held += 1
        return Request(self, self.made)

    def cancel_all_and_flush(self) -> None:
        self.jobs.clear()

    def close(self) -> None:
        assert not self.jobs, "a job that nobody waits for keeps its request"
        self.started, self.closed = False, True


class _AwbMode(enum.IntEnum):
    Auto, Incandescent, Tungsten, Fluorescent, Indoor, Daylight, Cloudy = range(7)


class _HdrMode(enum.IntEnum):
    Off, MultiExposureUnmerged, MultiExposure, SingleExposure, Night = range(5)


class _AfMode(enum.IntEnum):
    Manual, Auto, Continuous = range(3)


class _AfTrigger(enum.IntEnum):
    Start, Cancel = range(2)


def plug_in(patch: pytest.MonkeyPatch) -> Wire:
    """Have ``import picamera2`` and ``import libcamera`` find these."""
    wire = Wire()
    library: Any = types.ModuleType("picamera2")
    library.Picamera2 = type("Picamera2", (FakePicamera2,), {"wire": wire})
    libcamera: Any = types.ModuleType("libcamera")
    libcamera.Transform = lambda **flips: flips
    libcamera.ColorSpace = types.SimpleNamespace(Smpte170m=lambda: "SMPTE170M")
    libcamera.controls = types.SimpleNamespace(
        AfModeEnum=_AfMode,
        AwbModeEnum=_AwbMode,
        HdrModeEnum=_HdrMode,
        AfTriggerEnum=_AfTrigger,
    )
    patch.setitem(sys.modules, "picamera2", library)
    patch.setitem(sys.modules, "libcamera", libcamera)
    return wire
