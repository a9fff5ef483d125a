"""TOML to frozen structs; the only reader of the configuration file.

Each part of the program is handed its own section and never sees the rest. An unknown
key, a wrong type or a value out of range is a ``ConfigError`` that names the file, the
key, the value met and the limit.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from device.config import tables
from device.config.action import Action
from device.config.camera import Camera, CameraControls, Region
from device.config.outlets import (
    Feed,
    History,
    Jsonl,
    Mqtt,
    Snapshots,
    Terminal,
    Web,
    Window,
)
from device.config.pipeline import Decide, Drift, Gate, Label, Model, Teach
from device.errors import ConfigError

__all__ = [
    "Action",
    "Camera",
    "CameraControls",
    "Config",
    "Decide",
    "Drift",
    "Feed",
    "Gate",
    "History",
    "Jsonl",
    "Label",
    "Model",
    "Mqtt",
    "Region",
    "Snapshots",
    "Teach",
    "Terminal",
    "Web",
    "Window",
    "load",
    "parse",
]


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration, as the node is built from it."""

    camera: Annotated[tuple[Camera, ...], Meta(min_length=1)] = (Camera(),)
    model: Model = Model()
    decide: Decide = Decide()
    teach: Teach = Teach()
    gate: Gate = Gate()
    drift: Drift = Drift()
    terminal: Terminal = Terminal()
    jsonl: Jsonl = Jsonl()
    web: Web = Web()
    window: Window = Window()
    mqtt: Mqtt = Mqtt()
    feed: Feed = Feed()
    snapshots: Snapshots = Snapshots()
    history: History = History()
    action: tuple[Action, ...] = ()

    def __post_init__(self) -> None:
        names = [camera.name for camera in self.camera]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a different `name` for each camera, met {names}")
        names = [action.name for action in self.action]
        if len(set(names)) < len(names):
            raise ValueError(f"Expected a different `name` for each action, met {names}")


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
