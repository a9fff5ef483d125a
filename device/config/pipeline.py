"""What is made of a frame: ``[model]``, ``[decide]``, ``[teach]``, ``[gate]``, ``[drift]``."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device.config import hours
from device.config.values import Day, FilePath, Seconds, Share

_MAX_FPS_MIN = 0.001


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which models look, and on what they run.

    The classes of those ``beside`` join the labels of the first; "auto" is the sensor of persons
    where everyday words are in force.
    """

    name: Annotated[FilePath, Meta(min_length=1)] = "efficientnet-lite0-224-int8"
    labels: FilePath = ""
    beside: Literal["auto"] | Annotated[tuple[FilePath, ...], Meta(max_length=4)] = "auto"
    runtime: Literal["auto", "tflite-runtime", "ai-edge-litert"] = "auto"
    delegate: Literal["auto", "xnnpack", "edgetpu", "none"] = "auto"
    threads: Annotated[int, Meta(ge=0, le=64)] = 0
    edgetpu_device: Annotated[str, Meta(pattern="^(usb|pci)?(:[0-9]{1,2})?$")] = ""
    edgetpu_library: Annotated[FilePath, Meta(min_length=1)] = "libedgetpu.so.1"
    max_failures: Annotated[int, Meta(ge=1, le=1000)] = 3


class Label(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[decide.label.NAME]``: what is other for one label than for all."""

    enter: Share | None = None
    exit: Share | None = None
    min_hold_s: Seconds | None = None
    cooldown_s: Seconds | None = None


class Decide(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How scores over time become label changes.

    With ``mode`` "one" a camera has one label at a time, with "any" each label comes and goes by
    itself. ``alias`` gives labels other names, ``label`` has what is other for one of them.
    ``groups`` "auto" is "everyday" for the embedded model where nothing is allowed by name.
    """

    mode: Literal["one", "any"] = "one"
    enter: Share = 0.5
    exit: Share = 0.3
    smoothing_s: Seconds = 0.5
    min_frames: Annotated[int, Meta(ge=1, le=1000)] = 3
    min_hold_s: Seconds = 1.0
    cooldown_s: Seconds = 0.0
    margin: Share = 0.0
    unknown: Annotated[str, Meta(min_length=1)] = "unknown"
    groups: FilePath = "auto"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    alias: dict[str, Annotated[str, Meta(min_length=1)]] = {}
    label: dict[str, Label] = {}

    def __post_init__(self) -> None:
        if not self.exit < self.enter:
            raise ValueError(f"Expected `exit` < `enter` ({self.enter:g}), met {self.exit:g}")
        for name, own in self.label.items():
            enter = self.enter if own.enter is None else own.enter
            exit_ = self.exit if own.exit is None else own.exit
            if not exit_ < enter:
                raise ValueError(
                    f"Expected `exit` < `enter` ({enter:g}) of label {name!r}, met {exit_:g}; "
                    "what a label has not of its own is that of all"
                )
        if self.margin and self.mode == "any":
            raise ValueError(
                f'Expected `margin` of 0 with `mode` "any", met {self.margin:g}: '
                "labels that come and go by themselves have no runner-up"
            )


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


class Drift(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the device notices that its answers change, and keeps pictures of then and now."""

    enabled: bool = True
    pictures: bool = False
