"""A device that is taught while it runs: what it says, and what it still knows after a restart."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.control.commands import Answer, Command
from device.errors import ConfigError, ModelError
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame, PixelFormat
from device.library import catalog
from device.node import Node
from device.pipeline.plan import check_labels
from device.recordings.pictures import read_picture
from device.sinks.record import RecordSink
from device.system.paths import state_directory
from device.teach.embedder import Embedder
from device.teach.lessons import UNNAMED
from device.teach.teacher import Teacher, picture_of
from tests.conftest import FOOTAGE
from tests.sinks.examples import observation

EXTRACTOR = "models/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> config.Config:
    """A cup and a cat, each in front of a camera of its own, and a model that can be taught."""
    cameras = []
    for name in ("coffee", "cat"):
        sink = RecordSink(tmp_path / name, 3600, 1 << 26, lossless=False)
        frame = read_picture(FOOTAGE / f"{name}.jpg")
        for number in range(400):
            seen = replace(frame, number=number, captured_at=number / 30)
            sink.observe(msgspec.structs.replace(observation(), frame=seen))
        sink.close()
        cameras.append(config.Camera(name=name, source=f"replay:{tmp_path / name}"))
    return config.Config(
        camera=tuple(cameras),
        model=config.Model(threads=1, delegate="xnnpack"),
        decide=config.Decide(min_hold_s=0.0, smoothing_s=0.1),
        terminal=config.Terminal(enabled=False),
    )


class Teaching(Sink):
    """Gives commands one after the other, and ends the run when both cameras say a word."""

    name = "teaching"

    def __init__(self, orders: Iterator[Command], words: dict[str, str]) -> None:
        self.node: Node | None = None
        self.answers: list[Answer] = []
        self.said: dict[str, str | None] = {}
        self.health: DeviceHealth | None = None
        self._orders = orders
        self._words = words
        self._began = self._is_over = False

    def _next(self) -> None:
        assert self.node is not None
        order = next(self._orders, None)
        self._is_over = order is None
        if order is not None:
            self.node.controller.submit(order, self._answered)

    def _answered(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._next()

    def observe(self, seen: Observation) -> None:
        assert self.node is not None
        if not self._began:
            self._began = True
            self._next()
        self.said[seen.camera] = seen.label
        knows = self.health and all(camera.taught for camera in self.health.cameras)
        if self._is_over and self.said == self._words and knows:
            self.node.restart()

    def change(self, change: LabelChange, *_: object) -> None: ...

    def report(self, health: DeviceHealth) -> None:
        self.health = health

    def close(self) -> None: ...


def run(
    settings: config.Config,
    orders: list[Command],
    words: dict[str, str],
    frames: int | None = None,
) -> Teaching:
    teaching = Teaching(iter(orders), words)
    node = Node(settings, frames, sinks=(lambda: teaching,), for_s=40)
    teaching.node = node
    node.run()
    return teaching


WORDS = {"coffee": "my cup", "cat": "the cat 🐈/#"}


def test_what_is_taught_is_said_at_once_and_after_a_restart(settings: config.Config) -> None:
    orders = [Command(name, "teach", word) for name, word in WORDS.items() for _ in range(3)]
    teaching = run(settings, orders, WORDS)
    assert [answer.error for answer in teaching.answers] == [""] * 6
    assert teaching.said == WORDS
    assert teaching.health is not None
    assert teaching.health.cameras[0].taught == ("my cup", "the cat 🐈/#")
    again = run(settings, [], WORDS)
    assert again.said == WORDS
    # No picture was asked for, and none was kept.
    assert not list(state_directory().rglob("*.jpg"))


def test_the_label_that_was_chosen_is_what_a_button_teaches(settings: config.Config) -> None:
    orders = [
        Command("coffee", "teach", "PRESS"),
        Command("coffee", "teach_label", "my cup"),
        Command("coffee", "teach", "PRESS"),
        Command("cat", "teach", "the cat 🐈/#"),
        Command("cat", "teach", " "),
    ]
    teaching = run(settings, orders, WORDS)
    errors = [answer.error for answer in teaching.answers]
    assert errors[0].startswith("command teach: say of what")
    assert errors[1:4] == [""] * 3
    assert errors[4].startswith("teach: label ' '")
    assert teaching.said == WORDS


def test_settings_of_labels_may_name_what_is_taught_and_what_the_model_knows(
    settings: config.Config,
) -> None:
    run(settings, [Command(n, "teach", w) for n, w in WORDS.items()], WORDS)
    named = (*WORDS.values(), "cup")
    own = {word: config.Label(cooldown_s=1) for word in named}
    # What was taught takes the place of the model's words, whose settings rest.
    check_labels(config_with(settings, label=own))
    check_labels(config_with(settings, alias=dict.fromkeys(["cat"], "Minka")))
    with pytest.raises(ConfigError, match=r"decide\.label: 'cupp' is no label of the model; did"):
        check_labels(config_with(settings, label={"cupp": config.Label()}))


def config_with(settings: config.Config, **changes: Any) -> config.Config:
    decide = msgspec.structs.replace(settings.decide, **changes)
    return msgspec.structs.replace(settings, decide=decide)


def test_a_damaged_head_leaves_the_labels_of_the_model(
    settings: config.Config, caplog: pytest.LogCaptureFixture
) -> None:
    run(settings, [Command(n, "teach", w) for n, w in WORDS.items()], WORDS)
    head = next(state_directory().rglob("head"))
    head.write_bytes(head.read_bytes()[:-7])
    caplog.clear()
    said = run(msgspec.structs.replace(settings, camera=settings.camera[:1]), [], {}, frames=20)
    assert said.said == {"coffee": "cup"}
    assert "is damaged or cut short" in caplog.text


def test_features_alone_say_what_they_were_taught(settings: config.Config, testdata: Path) -> None:
    model = msgspec.structs.replace(settings.model, name=str(testdata / EXTRACTOR))
    settings = msgspec.structs.replace(settings, model=model)
    with pytest.raises(ModelError, match="`labelcam teach add` gives it some"):
        Node(settings).run()
    found = catalog.find(model.name)
    with (
        Embedder(found, model) as embedder,
        Teacher("default", found.file.sha256, settings.teach) as teacher,
    ):
        for name, word in WORDS.items():
            frame = read_picture(FOOTAGE / f"{name}.jpg")
            teacher.add(word, [embedder.picture(frame, mirror=True, keep=False)])
    assert run(settings, [], WORDS).said == WORDS


def test_what_it_was_not_sure_of_waits_to_be_named(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path / "fog", 3600, 1 << 26, lossless=True)
    for number in range(6):
        pixels = np.full((240, 320, 3), 90 + 20 * number, np.uint8)
        frame = Frame(pixels, PixelFormat.BGR, 320, 240, number, 40.0 * number)
        sink.observe(msgspec.structs.replace(observation(), frame=frame))
    sink.close()
    settings = config.Config(
        camera=(config.Camera(source=f"replay:{tmp_path / 'fog'}?pace=max"),),
        model=config.Model(threads=1, delegate="xnnpack"),
        teach=config.Teach(doubts=2),
        terminal=config.Terminal(enabled=False),
    )
    Node(settings).run()
    model = catalog.find(settings.model.name).file.sha256
    with Teacher("default", model, settings.teach) as teacher:
        deadline = time.monotonic() + 10
        while not teacher.lessons.entries(UNNAMED) and time.monotonic() < deadline:
            time.sleep(0.01)
        doubts = teacher.lessons.entries(UNNAMED)
        assert 1 <= len(doubts) <= 2
        assert all(teacher.lessons.picture(entry.id) for entry in doubts)
        assert teacher.lessons.labels() == {}
        teacher.move([entry.id for entry in doubts], "fog")
        assert teacher.lessons.labels() == {"fog": len(doubts)}
        # Named, they are kept as every other picture is: here, not at all.
        assert not list(state_directory().rglob("*.jpg"))
        for shade in range(5):
            pixels = np.full((240, 320, 3), shade, np.uint8)
            frame = Frame(pixels, PixelFormat.BGR, 320, 240, 0, 0.0)
            features = np.ones(1280, np.float32)
            picture = picture_of(frame, features, settings.camera[0], keep=True)
            teacher.lessons.add_doubt(picture, 2)
        assert len(teacher.lessons.entries(UNNAMED)) == 2
        teacher.lessons.forget_doubts()
        assert teacher.lessons.entries(UNNAMED) == []
        assert not list(state_directory().rglob("*.jpg"))
