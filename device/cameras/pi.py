"""A Raspberry Pi's own camera, through Picamera2 and libcamera."""

import atexit
import gc
import logging
import math
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from device import config
from device.cameras import Camera, Request, Size
from device.errors import CameraError, CameraStalled, ConfigError, DependencyError
from device.frames import Frame, PixelFormat

# Enough that the sensor never waits while one is copied; each is memory that cannot be swapped.
_BUFFERS = 3
# How long a wait may last before it looks whether it should end.
_SLICE_S = 0.1
# A time stamp that is older, or in the future, is of another clock.
_AGE_MAX_S = 5.0
_FIRST_FRAME_S = 10.0

# Picamera2 names packed formats from the top byte down: its RGB888 lies as BGR in memory.
_ORDERS = {
    "YUV420": PixelFormat.YUV420,
    "RGB888": PixelFormat.BGR,
    "BGR888": PixelFormat.RGB,
}
_WHITE_BALANCES = {
    "incandescent": "Incandescent",
    "tungsten": "Tungsten",
    "fluorescent": "Fluorescent",
    "indoor": "Indoor",
    "daylight": "Daylight",
    "cloudy": "Cloudy",
}
_DEBIAN_PACKAGES = Path("/usr/lib/python3/dist-packages")

_log = logging.getLogger("labelcam.cameras")


def open_source(request: Request) -> Camera:
    """The camera of ``pi`` or ``pi:NUMBER-or-MODEL``."""
    which = request.source.partition(":")[2]
    return PiCamera(request.settings, request.stop, which, request.wanted)


def check_source(_request: Request) -> None:
    """Raise DependencyError without Picamera2."""
    _import()


class PiCamera(Camera):
    """A camera of libcamera's, opened once and configured once.

    Frames come from its small stream, YUV420 in the size that what is looked at needs; the
    main stream, in the size of the configuration, is copied for a frame's ``large`` alone,
    when that is asked for. Where a camera has no small stream the main one gives the frames.
    """

    def __init__(
        self,
        settings: config.Camera,
        stop: threading.Event,
        which: str = "",
        wanted: Size | None = None,
    ) -> None:
        """Open the camera ``which``: a number, a model, an id, or empty for the first.

        ``wanted`` is the width and height that a model takes. Raises DependencyError without
        Picamera2, ConfigError for controls that the camera does not take, CameraError.
        """
        self.source = f"pi:{which}" if which else "pi"
        self._stop = stop
        self._stall_s = settings.stall_s
        self._number = 0
        self._job: Any = None
        self._picamera2: Any = None
        module, self._libcamera = _import()
        info = self._choose(module.Picamera2.global_camera_info(), which)
        self.again = f"pi:{info['Id']}"
        self.source = f"pi:{info['Model']}"
        try:
            self._picamera2 = self._open(module, info, settings)
            self._configure(settings, wanted)
            self._control(settings)
            self._picamera2.start()
            if settings.controls.focus == "auto" and "AfTrigger" in self._picamera2.camera_controls:
                trigger = self._libcamera.controls.AfTriggerEnum.Start
                self._picamera2.set_controls({"AfTrigger": trigger})
            self._next = self._take(max(_FIRST_FRAME_S, settings.stall_s))
        except (RuntimeError, OSError) as error:
            self.close()
            if isinstance(error, CameraError):
                raise
            raise CameraError(self.source, _why_not(error)) from None
        except BaseException:
            self.close()
            raise

    def read(self) -> Frame | None:
        """The next frame, as soon as it is here; None when told to stop."""
        frame, self._next = self._next, None
        if self._picamera2 is None or self._stop.is_set():
            return None
        return frame or self._take(self._stall_s + 1)

    def close(self) -> None:
        """Let the camera go; may be called twice."""
        camera, self._picamera2 = self._picamera2, None
        self._next = None
        if camera is None:
            return
        if self._job is not None:
            # Else it would be given the next frame, and keep it.
            camera.cancel_all_and_flush()
            self._job = None
        camera.close()
        # Picamera2's objects hold each other, and with them the memory of the pictures, which
        # is scarce: without this a camera that is opened again would find none left.
        del camera
        gc.collect()

    def _choose(self, cameras: list[dict[str, Any]], which: str) -> dict[str, Any]:
        for info in cameras:
            if which in ("", str(info["Num"]), info["Model"], info["Id"]):
                return info
        if cameras:
            there = ", ".join(f"pi:{c['Num']} ({c['Model']})" for c in cameras)
            raise CameraError(self.source, f"is not there; there is {there}")
        raise CameraError(self.source, _why_none())

    def _open(self, module: Any, info: dict[str, Any], settings: config.Camera) -> Any:
        tuning = None
        if path := settings.controls.tuning_file:
            try:
                tuning = module.Picamera2.load_tuning_file(path)
            except (RuntimeError, OSError, ValueError) as error:
                raise ConfigError(
                    "camera.controls.tuning_file", f"{path!r} cannot be used: {error}"
                ) from None
        camera = module.Picamera2(info["Num"], tuning=tuning)
        # It would close the camera at exit, and wait for a driver that is stuck.
        atexit.unregister(camera.close)
        return camera

    def _configure(self, settings: config.Camera, wanted: Size | None) -> None:
        camera, libcamera = self._picamera2, self._libcamera
        main = (settings.width // 2 * 2, settings.height // 2 * 2)
        small = small_size(main, settings, wanted)
        controls = settings.controls
        options: dict[str, Any] = {
            "transform": libcamera.Transform(hflip=controls.hflip, vflip=controls.vflip),
            # What cv2's conversion from YUV takes its pixels for.
            "colour_space": libcamera.ColorSpace.Smpte170m(),
            "buffer_count": _BUFFERS,
        }
        if controls.sensor_mode:
            options["sensor"] = self._sensor_mode(tuple(controls.sensor_mode))
        problem = ""
        for streams in (
            {"main": _stream(main, "RGB888"), "lores": _stream(small, "YUV420")},
            {"main": _stream(main, "RGB888"), "lores": _stream(small, "RGB888")},
            {"main": _stream(main, "RGB888")},
        ):
            try:
                camera.configure(camera.create_video_configuration(**streams, **options))
            except (RuntimeError, ValueError) as error:
                problem = str(error)
                continue
            self._name = "lores" if "lores" in streams else "main"
            granted = camera.camera_configuration()[self._name]
            # A camera that makes JPEG says so only here.
            if granted["format"] in _ORDERS:
                self._order = _ORDERS[granted["format"]]
                self._width, self._height = granted["size"]
                self.has_large = self._name == "lores" and main != granted["size"]
                _log.debug("camera %s: %s stream, %s", self.source, self._name, granted)
                return
            problem = f"it gives {granted['format']}"
        raise CameraError(
            self.source,
            f"cannot be set to {main[0]}x{main[1]} ({problem}); set another width and height, or "
            "open it as /dev/videoN",
        )

    def _sensor_mode(self, size: tuple[int, ...]) -> dict[str, Any]:
        modes = [mode for mode in self._picamera2.sensor_modes if "size" in mode]
        depths = [mode["bit_depth"] for mode in modes if mode["size"] == size]
        if not depths:
            there = ", ".join(sorted({f"{m['size'][0]}x{m['size'][1]}" for m in modes})) or "none"
            raise ConfigError(
                "camera.controls.sensor_mode",
                f"{list(size)}: {self.source} has no such mode; it has {there}",
            )
        return {"output_size": size, "bit_depth": max(depths)}

    def _control(self, settings: config.Camera) -> None:
        """Set frame rate and controls; the limits are of the camera as it is configured."""
        controls, enums = settings.controls, self._libcamera.controls
        period_us = round(1e6 / settings.fps)
        ask = _Controls(self._picamera2.camera_controls, self.source)
        ask.put("fps", "FrameDurationLimits", (period_us, period_us), settings.fps, _rate)
        if controls.exposure_us:
            ask.put("exposure_us", "ExposureTime", controls.exposure_us)
        if controls.gain:
            ask.put("gain", "AnalogueGain", controls.gain)
        if controls.white_balance != "auto":
            mode = getattr(enums.AwbModeEnum, _WHITE_BALANCES[controls.white_balance])
            ask.put("white_balance", "AwbMode", mode, controls.white_balance)
        if controls.colour_gains:
            ask.put("colour_gains", "ColourGains", tuple(controls.colour_gains))
        if controls.focus == "manual":
            ask.put("focus", "AfMode", enums.AfModeEnum.Manual, "manual")
            ask.put("lens_position", "LensPosition", controls.lens_position)
        elif "AfMode" in self._picamera2.camera_controls:
            # A lens that does not move needs no focus: only "manual" asks for one.
            ask.put("focus", "AfMode", getattr(enums.AfModeEnum, controls.focus.capitalize()))
        if controls.hdr:
            ask.put("hdr", "HdrMode", enums.HdrModeEnum.SingleExposure, "true")
        self._picamera2.set_controls(ask.values)

    def _take(self, timeout_s: float) -> Frame | None:
        """The next frame; its request is given back at once."""
        until = time.monotonic() + timeout_s
        self._job = self._job or self._picamera2.capture_request(wait=False)
        while not self._stop.is_set():
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise CameraStalled(
                    self.source,
                    f"is open but gave no frame for {timeout_s:.0f} s after {self._number}; check "
                    "its ribbon cable",
                )
            try:
                request = self._picamera2.wait(self._job, timeout=min(left_s, _SLICE_S))
            except TimeoutError:
                continue
            self._job = None
            try:
                return self._frame(request)
            finally:
                request.release()
        return None

    def _frame(self, request: Any) -> Frame:
        pixels = request.make_array(self._name)
        now = time.monotonic()
        at = request.get_metadata().get("SensorTimestamp", 0) / 1e9
        if not now - _AGE_MAX_S < at <= now:
            at = now
        large = None
        if self.picture_wanted:
            self.picture_wanted = False
            if self.has_large:
                picture = request.make_array("main")
                height, width = picture.shape[:2]
                large = Frame(picture, PixelFormat.BGR, width, height, self._number, at)
        frame = Frame(pixels, self._order, self._width, self._height, self._number, at, large)
        self._number += 1
        return frame


class _Controls:
    """Controls to set, each checked against what the camera says that it takes."""

    def __init__(self, limits: dict[str, Any], source: str) -> None:
        self.values: dict[str, Any] = {}
        self._limits = limits
        self._source = source

    def put(self, key: str, name: str, value: Any, shown: Any = None, limit: Any = float) -> None:
        """Set ``name`` for the key of the configuration. Raises ConfigError with the limits."""
        where = "camera.fps" if key == "fps" else f"camera.controls.{key}"
        shown = value if shown is None else shown
        if name not in self._limits:
            raise ConfigError(where, f"{shown}: {self._source} has no such control")
        least, most, _ = self._limits[name]
        least, most = (_first(least), _first(most))
        numbers = value if isinstance(value, tuple) else (value,)
        # A control without limits says so by a pair that is not ordered.
        if least < most and not all(least <= float(number) <= most for number in numbers):
            low, high = sorted((limit(least), limit(most)))
            raise ConfigError(where, f"{shown}: {self._source} takes {low:g} to {high:g}")
        self.values[name] = value


def _first(limit: Any) -> float:
    """A limit as a number; that of a control with several values counts for each of them."""
    return float(limit[0] if isinstance(limit, tuple | list) else limit)


def _rate(period_us: float) -> float:
    return 1e6 / period_us if period_us else float("inf")


def small_size(main: Size, settings: config.Camera, wanted: Size | None) -> Size:
    """The least size, even and within ``main``, in which every region still fills the model.

    So the camera's own scaler, which costs nothing, does what resizing would do.
    """
    if wanted is None:
        return main
    width, height = wanted if settings.rotate in (0, 180) else wanted[::-1]
    scale_x = scale_y = 0.0
    for left, top, right, bottom in [r.box for r in settings.regions] or [settings.region]:
        across, down = right - left, bottom - top
        if settings.rotate in (90, 270):
            across, down = down, across
        x, y = width / (across * main[0]), height / (down * main[1])
        if settings.crop == "center":
            x = y = max(x, y)
        elif settings.crop == "letterbox":
            x = y = min(x, y)
        scale_x, scale_y = max(scale_x, x), max(scale_y, y)

    def even(side: int, scale: float) -> int:
        # Not to be rounded up for what is only the noise of a division.
        return min(side, math.ceil(round(side * scale / 2, 6)) * 2)

    return even(main[0], scale_x), even(main[1], scale_y)


def _stream(size: Size, layout: str) -> dict[str, Any]:
    return {"size": size, "format": layout}


def _import() -> tuple[Any, Any]:
    """Picamera2 and libcamera, quiet unless someone asked them to speak."""
    os.environ.setdefault("LIBCAMERA_LOG_LEVELS", "*:FATAL")
    logging.getLogger("picamera2").setLevel(logging.CRITICAL)
    try:
        import libcamera
        import picamera2
    except (ImportError, ValueError) as error:
        raise DependencyError(f"camera pi: {_why_no_library(error)}") from None
    return picamera2, libcamera


def _why_no_library(error: Exception) -> str:
    name = getattr(error, "name", None) or ""
    if name.split(".")[0] not in ("picamera2", "libcamera"):
        # Both are compiled against Debian's NumPy, and picamera2 pulls in more.
        return (
            f"picamera2 does not load ({error}); `sudo apt install --reinstall python3-picamera2`, "
            "and no newer NumPy beside it"
        )
    if sys.prefix != sys.base_prefix and (_DEBIAN_PACKAGES / name).exists():
        return (
            f"{name} is installed, but this Python environment does not see Debian's packages; "
            "make it anew with `python3 -m venv --system-site-packages`, as install.sh does"
        )
    return f"needs {name}; `sudo apt install python3-{name}`"


def _why_none() -> str:
    closed = [p for p in sorted(Path("/dev").glob("media*")) if not os.access(p, os.R_OK | os.W_OK)]
    if closed:
        return (
            f"this user may not open {closed[0]}; `sudo usermod -aG video,render USER`, then log "
            "in again"
        )
    return (
        "libcamera sees no camera; check its ribbon cable at both ends and "
        "`rpicam-hello --list-cameras`"
    )


def _why_not(error: BaseException) -> str:
    """The remedy for what Picamera2 raised; the reason is in the errors that led to it."""
    said = []
    link: BaseException | None = error
    while link is not None:
        said.append(f"{link}")
        link = link.__cause__ or link.__context__
    _log.debug("camera pi: %s", "; ".join(said))
    text = " ".join(said).lower()
    if "busy" in text or "in use" in text or "acquire" in text:
        return "is in use by another program; close it, `fuser -v /dev/media*` names it"
    if "dmaheap" in text or "dma_heap" in text or "permission" in text:
        return (
            "this user may not take memory for its pictures; `sudo usermod -aG video,render USER`, "
            "then log in again"
        )
    if "cannot allocate memory" in text or "errno 12" in text:
        return "there is no memory left for its pictures (CMA); set a smaller width and height"
    return f"does not start: {said[-1]}; check its ribbon cable, `dmesg` may say more"
