"""What the device keeps for itself, as a card that forgets bits gives it back."""

import contextlib
import sqlite3
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from device import config
from device.control.overrides import Overrides
from device.events import Controls
from device.inference import choice, proof
from device.inference.runtimes import Candidate, Choice
from device.library import tflite_file
from device.sinks import outbox
from device.sinks.mqtt.announced import Announced
from device.sinks.outbox.storage import Event
from device.system.paths import MODELS, state_directory
from device.teach.teacher import Teacher
from tests.fuzz import mutation
from tests.fuzz.surface import Surface
from tests.fuzz.surfaces.lessons import changed_rows

_LIMITS = outbox.Limits(events=1000, size_bytes=1 << 20, age_s=3600)
_COLUMNS = ("number", "camera", "seq", "body", "boot", "since", "checksum")


def _event(number: int) -> Event:
    return Event(
        f"id{number}",
        f"camera {number % 2}",
        "2026-01-01T00:00:00Z",
        True,
        "cat",
        0.5,
        None,
        1.0,
        "m",
    )


class Outbox(Surface):
    """The events that wait for their broker, in a damaged file."""

    name = "outbox"
    share = 15

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        path = folder / "seed.db"
        box = outbox.Outbox(path, _LIMITS, boot="b", clock=lambda: 100.0)
        box.add(_event(number) for number in range(6))
        box.close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            self._seed = db.serialize()

    def make(self, chance: Random) -> bytes:
        """With other bytes, or with other values in its rows."""
        if chance.random() < 0.5:
            return mutation.mutated(chance, self._seed)
        return changed_rows(chance, self._seed, {"events": _COLUMNS})

    def feed(self, data: bytes) -> None:
        """Open it, add an event, which must be there, and deliver what there is."""
        for file in self.folder.glob("outbox.db*"):
            file.unlink()
        path = self.folder / "outbox.db"
        path.write_bytes(data)
        box = outbox.Outbox(path, _LIMITS, boot="b", clock=lambda: 100.0)
        try:
            box.add([_event(99)])
            waiting = box.pending(0, 100)
            assert [stored.event.id for stored in waiting].count("id99") == 1, box.trouble
            box.acknowledge(box.newest)
            assert not box.pending(0, 100)
            assert len(box) == 0
        finally:
            box.close()


class StateFiles(Surface):
    """The small files of the state directory. The first byte of an input says which."""

    name = "state"
    share = 50

    _FILES: ClassVar[tuple[tuple[str, Any], ...]] = (
        (
            "commands.json",
            [
                {"camera": "camera", "key": "enter", "value": 0.6, "configured": 0.5},
                {"camera": None, "key": "interval_s", "value": 30.0, "configured": 60.0},
                {
                    "camera": "camera",
                    "key": "region",
                    "value": [0.1, 0.1, 0.5, 0.5],
                    "configured": [0, 0, 1, 1],
                },
            ],
        ),
        (
            "teach/default/grade.json",
            {
                "accuracy": 0.9,
                "spread": 0.1,
                "mixed": ["red", "green"],
                "confusion": [["red", "green", 1]],
            },
        ),
        ("proofs.json", ["a" * 64]),
        ("choices.json", []),
        ("mqtt-announced.json", {"topic": "a/b", "platforms": {"enter": "number"}}),
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        model = tflite_file.read(MODELS / "mobilenet-v1-person-96.tflite")
        best = Candidate("ai-edge-litert", "xnnpack", 2)
        choice.remember(model, config.Model(), Choice(best, "measured"))
        self._choices = (state_directory() / "choices.json").read_bytes()
        self._teacher = Teacher("default", "a" * 64, config.Teach())

    def make(self, chance: Random) -> bytes:
        """A file of these with changes."""
        which = chance.randrange(len(self._FILES))
        name, tree = self._FILES[which]
        if name == "choices.json":
            data = mutation.mutated(chance, self._choices)
        else:
            data = mutation.as_json(chance, tree)
        return bytes([which]) + data

    def feed(self, data: bytes) -> None:
        """Read it as a start does, and replace it."""
        name, _ = self._FILES[data[0] % len(self._FILES) if data else 0]
        path = state_directory() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[1:])
        match path.name:
            case "commands.json":
                overrides = Overrides(path)
                overrides.controls("camera", Controls(True, 0.5, 0.3, 0.0, "m"))
                overrides.interval_s(60.0)
                overrides.keep("camera", "enter", 0.7, 0.5)
            case "grade.json":
                assert self._teacher.grade is not None
            case "proofs.json":
                proof._remembered()
            case "choices.json":
                choice._read()
            case _:
                announced = Announced(path)
                announced.gone({})
                announced.update("a/c", {"leave": {"platform": "number"}})

    def close(self) -> None:
        """Close the lessons."""
        self._teacher.close()
