"""Models beside the first: which they are, who shares them, and when they are asked."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.cli import main
from device.control.commands import Command
from device.errors import ConfigError, ModelError
from device.events import CameraHealth
from device.health.meters import CameraMeter
from device.inference import pool
from device.inference.pool import EnginePool
from device.library import catalog
from device.node import Node
from device.pipeline import plan
from device.pipeline.channel import Channel
from device.pipeline.ensemble import open_ensemble
from device.pipeline.feeds import Feeds
from device.pipeline.motion import MotionDetector
from device.pipeline.plan import configured_controls, find_model, shared_settings
from device.teach.head import Head, HeadFile
from tests.conftest import footage
from tests.control.test_commands import Script

EMBEDDED = "efficientnet-lite0-224-int8"
SENSOR = "mobilenet-v1-person-96"


def settings_of(
    *beside: str, name: str = EMBEDDED, groups: str = "auto", **decide: Any
) -> config.Config:
    return config.Config(
        model=config.Model(name=name, beside=beside or "auto", delegate="none", threads=1),
        decide=config.Decide(groups=groups, **decide),
        terminal=config.Terminal(enabled=False),
    )


def names(settings: config.Config, name: str = "") -> list[str]:
    return [other.name for other in find_model(settings, name or settings.model.name).beside]


def test_the_sensor_looks_where_everyday_words_are_in_force(testdata: Path) -> None:
    assert names(config.Config()) == [SENSOR]
    assert names(settings_of(groups="")) == []
    assert names(settings_of(allow=("tabby",))) == []
    assert names(settings_of(name=SENSOR, groups="everyday")) == []
    other = str(testdata / "models/mobilenet_v2_1.0_224_quant.tflite")
    assert names(settings_of(), other) == []
    assert names(settings_of(groups="everyday"), other) == [SENSOR]
    nothing = config.Config(model=config.Model(beside=()))
    assert names(nothing) == []


def test_models_that_are_named_look_whatever_the_words(colours: Callable[..., Path]) -> None:
    mine = str(colours())
    settings = settings_of(SENSOR, mine, groups="")
    found = find_model(settings, EMBEDDED)
    assert [other.name for other in found.beside] == [SENSOR, "colours"]
    assert found.all_labels[1000:] == ("person", "no person", "red", "green", "blue")
    # A camera or a command may choose one of them as its first.
    assert names(settings, SENSOR) == ["colours"]


@pytest.mark.parametrize(
    ("beside", "error", "message"),
    [
        ((EMBEDDED,), ConfigError, f"model.beside: {EMBEDDED} looks already; name each model once"),
        ((SENSOR, SENSOR), ConfigError, f"model.beside: {SENSOR} looks already; name each"),
        (("mobilenet-of-mine",), ModelError, "is neither a .tflite file nor one of"),
        (("/none.tflite",), ModelError, "model /none.tflite"),
    ],
)
def test_what_cannot_stand_beside_is_refused_with_the_reason(
    beside: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        find_model(settings_of(*beside), EMBEDDED)


def test_features_alone_stand_beside_nothing(testdata: Path) -> None:
    extractor = testdata / "models/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
    with pytest.raises(ModelError, match="gives features alone and no labels"):
        find_model(settings_of(str(extractor)), EMBEDDED)


def test_a_sensor_that_is_not_there_is_said_and_done_without(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(plan, "_SENSOR", "mobilenet-v2-not-fetched.tflite")
    assert names(config.Config()) == []
    assert caplog.messages[0].endswith("; going on without it")


@pytest.mark.slow
def test_a_configuration_is_checked_with_what_is_beside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    five = ", ".join(f'"{n}.tflite"' for n in range(5))
    for value, reason in (
        (f'["{broken}"]', "broken.tflite"),
        (f'["{EMBEDDED}"]', "looks already"),
        (f"[{five}]", "length <= 4"),
        ('"all"', "model.beside = 'all': expected one of 'auto' or a list"),
    ):
        file.write_text(f"model.beside = {value}\n")
        assert main(["config", "check", str(file)]) == 2
        err = capsys.readouterr().err
        assert reason in err
        assert err.count("\n") == 1
    file.write_text(f'model.beside = ["{SENSOR}"]\ncamera.source = "synthetic"\n')
    assert main(["config", "check", "--deep", str(file)]) == 0


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[config.Model]:
    """The settings of every engine that was opened, in order."""
    asked: list[config.Model] = []
    open_engine = pool.open_engine

    def keep(model: catalog.Model, settings: config.Model, *args: Any, **options: Any) -> Any:
        asked.append(settings)
        return open_engine(model, settings, *args, **options)

    monkeypatch.setattr(pool, "open_engine", keep)
    return asked


class Watcher(Script):
    """As Script, and keeps what is said of the cameras."""

    @property
    def beside(self) -> list[list[str]]:
        """The models beside, of each camera, in the last health."""
        return [_beside(camera) for camera in self.snapshots[-1].cameras]


def _beside(camera: CameraHealth) -> list[str]:
    return [other.interpreter.model for other in camera.beside]


def run(settings: config.Config, *orders: Command) -> Watcher:
    watchers: list[Watcher] = []

    def open_watcher() -> Watcher:
        watchers.append(Watcher(lambda: node, list(orders)))
        return watchers[-1]

    node = Node(settings, sinks=[open_watcher])
    assert node.run() == 0
    return watchers[0]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_cameras_and_regions_share_what_is_beside(
    colours: Callable[..., Path], opened: list[config.Model]
) -> None:
    model = str(colours(softmax=True))
    regions = tuple(
        config.Region(name=name, box=(left, 0.0, left + 0.5, 1.0))
        for name, left in (("left", 0.0), ("right", 0.5))
    )
    cameras = (
        config.Camera(name="door", source="synthetic", fps=100, regions=regions),
        config.Camera(name="yard", source="synthetic", fps=100),
    )
    settings = msgspec.structs.replace(settings_of(SENSOR, name=model), camera=cameras)
    watcher = run(settings)
    assert watcher.beside == [[SENSOR]] * 3
    assert len(opened) == 2
    first, beside = opened
    # On one runtime, and with a thread of its own.
    assert first.runtime == "auto"
    assert beside.runtime == watcher.snapshots[-1].interpreter.runtime
    assert beside.threads == 1


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_a_command_that_changes_the_model_changes_what_is_beside(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = str(colours(softmax=True))
    monkeypatch.setattr(Feeds, "models", (EMBEDDED, SENSOR, other))
    camera = config.Camera(source="synthetic", fps=30)
    settings = msgspec.structs.replace(settings_of(), camera=(camera,))

    def beside(*models: str) -> list[list[str]]:
        watcher = run(settings, *(Command("camera", "model", model) for model in models))
        assert [answer.error for answer in watcher.answers] == [""] * len(models)
        return watcher.beside

    assert beside() == [[SENSOR]]
    assert beside(other) == [[]]
    # And after a restart.
    assert beside() == [[]]
    assert beside(EMBEDDED) == [[SENSOR]]
    assert beside(SENSOR) == [[]]


def _channel(teach: config.Teach) -> Channel:
    settings = config.Config(model=config.Model(threads=1, delegate="none"), teach=teach)
    camera, model = settings.camera[0], find_model(settings, EMBEDDED)
    classifier = open_ensemble(EnginePool(), model, settings.model, camera)
    return Channel(
        camera,
        shared_settings(settings),
        configured_controls(settings, camera),
        model,
        classifier,
        cast("CameraSupervisor", SimpleNamespace(live=False, state="live")),
        CameraMeter(camera.name, camera.source, classifier.description),
        MotionDetector(),
    )


def _asked(channel: Channel) -> list[str]:
    return [other.interpreter.model for other in channel.classifier.beside]


def _teach() -> Path:
    """A head that is sure of one word, as if it had been taught to the default lessons."""
    file = catalog.find(EMBEDDED).file
    assert file.embedding is not None
    width = file.tensors[file.outputs[file.embedding]].shape[-1]
    nothing = np.zeros((0, width), np.float32)
    head = Head(
        file.sha256, ("mine", "other"), power=0.5, temperature=1.0, threshold=np.inf, ridge=0.0,
        mean=np.zeros(width, np.float32), weights=np.zeros((2, width), np.float32),
        bias=np.array([3, 0], np.float32), basis=nothing, gains=np.zeros(0, np.float32),
    )  # fmt: skip
    path = HeadFile("default").path
    path.parent.mkdir(parents=True)
    path.write_bytes(head.encode())
    return path


@pytest.mark.usefixtures("state")
def test_what_was_taught_is_said_alone_or_beside_the_words_of_all() -> None:
    channel = _channel(config.Teach())
    channel.process(footage("cat"))
    assert _asked(channel) == [SENSOR]
    assert "person" in channel.labels
    # Taught while it runs: nobody asks the sensor any more, until it is forgotten.
    head = _teach()
    channel.update_head()
    observation = channel.process(footage("cat"))
    assert observation is not None
    assert {seen.label for seen in observation.predictions} == {"mine", "other"}
    assert _asked(channel) == []
    head.unlink()
    channel.update_head()
    channel.process(footage("cat"))
    assert _asked(channel) == [SENSOR]
    channel.close()


@pytest.mark.usefixtures("state")
def test_beside_what_was_taught_the_sensor_goes_on() -> None:
    _teach()
    alone, both = _channel(config.Teach()), _channel(config.Teach(beside=True))
    assert (_asked(alone), _asked(both)) == ([], [SENSOR])
    assert "person" not in alone.labels
    assert {"mine", "person", "cat"} <= set(both.labels)
    for channel in (alone, both):
        assert channel.process(footage("cat"))
        channel.close()
