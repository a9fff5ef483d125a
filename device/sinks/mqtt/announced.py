"""What Home Assistant was told, over restarts."""

import contextlib
from pathlib import Path
from typing import Any

import msgspec

from device.system.files import replace_file
from device.system.text import from_json

ANNOUNCED_FILE = "mqtt-announced.json"

Component = dict[str, Any]


class _Record(msgspec.Struct, frozen=True):
    topic: str
    platforms: dict[str, str]


class Announced:
    """The topic and the entities of the last announcement, in a small file.

    An entity that is not to be any more must be taken back by name, and a device that was
    renamed by its former topic. Without a disk what goes stays behind in Home Assistant;
    that is all, and no error.
    """

    def __init__(self, path: Path) -> None:
        self.topic = ""
        self._path = path
        self._platforms: dict[str, str] = {}
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            record = from_json(path.read_bytes(), _Record)
            self.topic, self._platforms = record.topic, record.platforms

    def gone(self, found: dict[str, Component]) -> dict[str, str]:
        """Platforms, by key, of what was told once and is no more."""
        return {key: of for key, of in self._platforms.items() if key not in found}

    def update(self, topic: str, found: dict[str, Component]) -> str:
        """Remember what is told now; returns the topic of before."""
        former = self.topic
        platforms = self._platforms | {key: entity["platform"] for key, entity in found.items()}
        if former == topic and platforms == self._platforms:
            return former
        self.topic, self._platforms = topic, platforms if topic else {}
        with contextlib.suppress(OSError):
            replace_file(self._path, msgspec.json.encode(_Record(topic, self._platforms)))
        return former

    def forget(self) -> None:
        """Know of nothing that was told."""
        self.topic, self._platforms = "", {}
        with contextlib.suppress(OSError):
            self._path.unlink()
