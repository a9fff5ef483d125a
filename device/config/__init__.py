"""TOML to frozen structs; the only reader of the configuration file.

Each part of the program is handed its own section and never sees the rest. An unknown
key, a wrong type or a value out of range is a ``ConfigError`` that names the file, the
key, the value met and the limit.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device.config import hours, tables
from device.errors import ConfigError

_MAX_FPS_MIN = 0.001
# What is smaller has not one pixel of the smallest picture.
_SIDE_MIN = 0.01

Positive = Annotated[float, Meta(gt=0)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
# The kernel ends a path at a NUL, and another file than the named one would be opened.
FilePath = Annotated[str, Meta(pattern=r"^[^\0]*$")]
# Slower is no camera, and the time between two frames must stay a time.
Rate = Annotated[float, Meta(ge=0.01, le=240)]
Share = Annotated[float, Meta(ge=0, le=1)]
Pixels = Annotated[int, Meta(ge=16, le=8192)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
Box = tuple[Share, Share, Share, Share]


def _check_box(key: str, box: Box) -> None:
    left, top, right, bottom = box
    if not (right - left >= _SIDE_MIN and bottom - top >= _SIDE_MIN):
        raise ValueError(
            f"Expected `{key}` as [left, top, right, bottom] with left < right, "
            f"{_SIDE_MIN:.0%} of the picture apart at least"
        )


class CameraControls(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a Raspberry Pi's camera is set; what is 0, empty or "auto" is left to the camera."""

    exposure_us: Annotated[int, Meta(ge=0)] = 0
    gain: Annotated[float, Meta(ge=0)] = 0.0
    white_balance: Literal[
        "auto", "incandescent", "tungsten", "fluorescent", "indoor", "daylight", "cloudy"
    ] = "auto"
    colour_gains: Annotated[tuple[Positive, ...], Meta(max_length=2)] = ()
    focus: Literal["auto", "continuous", "manual"] = "continuous"
    lens_position: Annotated[float, Meta(ge=0)] = 0.0
    hdr: bool = False
    hflip: bool = False
    vflip: bool = False
    tuning_file: FilePath = ""
    sensor_mode: Annotated[tuple[Pixels, ...], Meta(max_length=2)] = ()

    def __post_init__(self) -> None:
        for key in ("colour_gains", "sensor_mode"):
            if len(getattr(self, key)) == 1:
                raise ValueError(f"Expected two numbers as `{key}`, or none, met one")
        if self.colour_gains and self.white_balance != "auto":
            raise ValueError(
                "Expected `white_balance` or `colour_gains`, not both, "
                f"met {self.white_balance!r} and {list(self.colour_gains)}"
            )
        if self.lens_position and self.focus != "manual":
            raise ValueError(
                f'Expected `focus = "manual"` with `lens_position`, met {self.focus!r}'
            )


class Region(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of a camera's picture with a label of its own: [left, top, right, bottom].

    ``lessons`` is the set that was taught for it, empty for that of its camera.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[^/]+$")]
    box: Box
    lessons: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{0,64}$")] = ""

    def __post_init__(self) -> None:
        _check_box("box", self.box)


class Camera(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where frames come from and which part of them the model sees.

    ``regions``, ``[[camera.region]]`` in the file, each have a label of their own in place of
    ``region``. ``model`` and ``labels`` take the place of those of ``[model]``; ``lessons`` is the
    set that was taught for it.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64)] = "camera"
    source: Annotated[FilePath, Meta(min_length=1)] = "auto"
    width: Pixels = 640
    height: Pixels = 480
    fps: Rate = 30.0
    crop: Literal["center", "letterbox", "stretch"] = "center"
    region: Box = (0.0, 0.0, 1.0, 1.0)
    rotate: Literal[0, 90, 180, 270] = 0
    mirror: bool = False
    model: FilePath = ""
    labels: FilePath = ""
    lessons: Annotated[str, Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] = "default"
    stall_s: Annotated[float, Meta(ge=0.5, le=3600)] = 5.0
    give_up_s: Seconds = 120.0
    tls_verify: bool = True
    watch_picture: bool = True
    controls: CameraControls = CameraControls()
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        _check_box("region", self.region)
        names = [region.name for region in self.regions]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a different `name` for each region, met {names}")
        if self.labels and not self.model:
            raise ValueError("Expected `model` where `labels` is given, met none")

    def __repr__(self) -> str:
        """As a struct, but for ``source``: an address may hold a password."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{k}={'…' if k == 'source' and '://' in v else repr(v)}" for k, v in values)
        return f"Camera({', '.join(shown)})"


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model looks, and on what it runs."""

    name: Annotated[FilePath, Meta(min_length=1)] = "efficientnet-lite0-224-int8"
    labels: FilePath = ""
    runtime: Literal["auto", "tflite-runtime", "ai-edge-litert"] = "auto"
    delegate: Literal["auto", "xnnpack", "edgetpu", "none"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=64)] = 0
    edgetpu_device: Annotated[str, Meta(pattern="^(usb|pci)?(:[0-9]{1,2})?$")] = ""
    edgetpu_library: Annotated[FilePath, Meta(min_length=1)] = "libedgetpu.so.1"
    max_failures: Annotated[int, Meta(ge=1, le=1000)] = 3


class Decide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How scores over time become label changes."""

    enter: Share = 0.5
    exit: Share = 0.3
    smoothing_s: Seconds = 0.5
    min_frames: Annotated[int, Meta(ge=1, le=1000)] = 3
    min_hold_s: Seconds = 1.0
    unknown: Annotated[str, Meta(min_length=1)] = "unknown"
    groups: FilePath = ""
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.exit < self.enter:
            raise ValueError(f"Expected `exit` < `enter` ({self.enter:g}), met {self.exit:g}")


class Teach(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How labels of one's own are learned, and what is kept of the pictures."""

    beside: bool = False
    keep_pictures: bool = False
    mirror: bool = True
    strictness: Annotated[float, Meta(ge=0, le=0.5)] = 0.05
    doubts: Annotated[int, Meta(ge=0, le=1000)] = 0


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which frames are worth an inference."""

    max_fps: Annotated[float, Meta(ge=0, le=240)] = 0.0
    cpu_budget: Annotated[float, Meta(ge=0, le=6400)] = 0.0
    hours: tuple[str, ...] = ()
    days: tuple[Day, ...] = ()
    motion: Literal["auto", "off", "on"] = "auto"
    recheck_s: Annotated[float, Meta(ge=1, le=3600)] = 30.0
    idle_fps: Annotated[float, Meta(ge=0, le=240)] = 0.2

    def __post_init__(self) -> None:
        for text in self.hours:
            hours.minutes(text)
        # Once in a quarter of an hour; less never comes, and looks like a device that hangs.
        if 0 < self.max_fps < _MAX_FPS_MIN:
            raise ValueError(
                f"Expected `max_fps` of 0, which is no limit, or {_MAX_FPS_MIN} at least, "
                f"met {self.max_fps:g}"
            )


class Terminal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels on the terminal: a live display, or plain lines where stdout is no terminal."""

    enabled: bool = True
    top: Annotated[int, Meta(ge=1, le=20)] = 5
    picture: bool = False


class Jsonl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label changes as JSON, one object a line, on stdout."""

    enabled: bool = False


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page in the browser, and what it is made of for other programs."""

    enabled: bool = False
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    hosts: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}$")], ...] = ()
    token_file: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    pictures: bool = True
    max_fps: Annotated[float, Meta(ge=0.01, le=60)] = 10.0
    commands: bool = True

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("Expected `cert_file` and `key_file` together, met only one of them")


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The live picture in a window of a desktop, or straight on a screen without one."""

    enabled: bool = False
    fullscreen: bool = False
    max_fps: Annotated[float, Meta(ge=0.01, le=60)] = 15.0
    rotate: Literal[0, 90, 180, 270] = 0


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label changes, state and health to a broker, and commands from it."""

    enabled: bool = False
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "localhost"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    transport: Literal["tcp", "websockets"] = "tcp"
    path: Annotated[str, Meta(pattern="^/")] = "/mqtt"
    tls: bool = False
    ca_file: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    username: str = ""
    password_file: FilePath = ""
    node: Annotated[str, Meta(max_length=64)] = ""
    prefix: Annotated[str, Meta(pattern="^[^/+#\\0]+(/[^/+#\\0]+)*$", max_length=128)] = "labelcam"
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    interval_s: Annotated[float, Meta(ge=5, le=3600)] = 60.0
    commands: bool = True
    images: bool = False
    security: bool = False
    discovery: bool = True
    discovery_prefix: Annotated[str, Meta(pattern="^[^/+#\\0]+(/[^/+#\\0]+)*$", max_length=128)] = (
        "homeassistant"
    )
    watch: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    outbox_events: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000
    outbox_mb: Annotated[float, Meta(ge=1, le=10_000)] = 50.0
    outbox_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("Expected `cert_file` and `key_file` together, met only one of them")
        for key in ("ca_file", "cert_file"):
            if getattr(self, key) and not self.tls:
                raise ValueError(f"Expected `tls = true` where `{key}` is given, met false")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration, as the node is built from it."""

    camera: Annotated[tuple[Camera, ...], Meta(min_length=1)] = (Camera(),)
    model: Model = Model()
    decide: Decide = Decide()
    teach: Teach = Teach()
    gate: Gate = Gate()
    terminal: Terminal = Terminal()
    jsonl: Jsonl = Jsonl()
    web: Web = Web()
    window: Window = Window()
    mqtt: Mqtt = Mqtt()

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.camera]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a different `name` for each camera, met {names}")


def load(
    path: Path | None = None, settings: Iterable[str] = (), *, source: str | None = None
) -> Config:
    """The configuration in the file, or the defaults, with ``--set`` settings on top.

    Each setting is ``section.key=value``; the value is TOML, or a bare word taken as a
    string. With several cameras, ``camera.NAME.key`` names one, ``camera.key`` all.
    ``source`` is where all cameras' pictures come from instead. Raises ConfigError.
    """
    where = str(path) if path else "--set"
    raw = tables.decode(tables.read(path), where) if path else {}
    for setting in settings:
        tables.apply(raw, setting)
        where = str(path) + " with --set" if path else "--set"
    if source is not None:
        for table in tables.cameras(raw):
            table["source"] = source
    return _convert(raw, where)


def parse(text: str, where: str) -> Config:
    """The configuration in a text; ``where`` names it. Raises ConfigError."""
    return _convert(tables.decode(text, where), where)


def _convert(raw: dict[str, Any], where: str) -> Config:
    tables.name_regions(raw)
    try:
        return msgspec.convert(raw, Config, strict=True)
    except msgspec.ValidationError as error:
        raise ConfigError(where, tables.explain(str(error), raw, Config)) from None
