"""``[[camera]]``: where pictures come from."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device.config.values import Box, FilePath, Pixels, Positive, Rate, Seconds

# What is smaller has not one pixel of the smallest picture.
_SIDE_MIN = 0.01


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
