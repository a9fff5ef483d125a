"""Commands: their limits, what is kept of them, and the light that blinks."""

import json
import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec
import pytest

from device import config
from device.control import controller, light
from device.control.commands import Answer, Command, parse
from device.control.light import Light
from device.control.overrides import Overrides
from device.control.table import CONTROLS, Value
from device.errors import CommandError
from device.events import (
    OFF_DUTY,
    UNAVAILABLE,
    Controls,
    DeviceHealth,
    LabelChange,
    Observation,
    Sink,
)
from device.library.catalog import Model
from device.node import Node
from device.pipeline.channel import Channel
from device.pipeline.classifier import Classifier
from device.pipeline.duty import Duty
from device.pipeline.feeds import Feeds
from device.system.audit import LOGGER
from device.system.paths import state_directory

CAMERAS = ("door", "yard")
IN_FORCE = Controls(enabled=True, enter=0.5, exit=0.3, max_fps=0.0, model="m")


@pytest.mark.parametrize(
    ("key", "payload", "value"),
    [
        ("enabled", b"true", True),
        ("enabled", b" false\n", False),
        ("enter", b"0.75", 0.75),
        ("exit", b"0", 0.0),
        ("max_fps", b"12", 12.0),
        ("model", b"efficientnet-lite0", "efficientnet-lite0"),
        ("model", b'"a \\u00e4"', "a ä"),
        ("snapshot", b"", None),
        ("snapshot", b"PRESS", None),
    ],
)
def test_a_payload_becomes_a_command(key: str, payload: bytes, value: Value) -> None:
    command = parse("door", key, payload, CAMERAS)
    assert command == Command("door", key, value)
    assert type(command.value) is type(value)
    assert parse(None, key, payload, CAMERAS).camera is None


@pytest.mark.parametrize(
    ("camera", "key", "payload", "reason"),
    [
        ("door", "enter", b"1.5", "command enter: expected `float` <= 1.0, met '1.5'"),
        ("door", "enter", b"", "command enter: expected a number, met ''"),
        ("door", "enter", b"NaN", "command enter: expected a number, met 'NaN'"),
        ("door", "enter", b"1e999", "command enter: number out of range, met '1e999'"),
        ("door", "enter", b"true", "command enter: expected `float`, got `bool`, met 'true'"),
        ("door", "enter", b"[" * 999, "command enter: expected `float`, got `array`, met '[[["),
        ("door", "enter", b'{"a":' * 99, "command enter: expected `float`, got `object`"),
        (
            "door",
            "enter",
            b"\xff\x00\x1b[2J",
            "command enter: expected a number, met '\ufffd\\u0",
        ),
        ("door", "enabled", b"ON", "command enabled: expected true or false, met 'ON'"),
        ("door", "enabled", b"1", "command enabled: expected `bool`, got `int`, met '1'"),
        ("door", "max_fps", b"-1", "command max_fps: expected `float` >= 0.0, met '-1'"),
        ("door", "model", b"", "command model: expected `str` of length >= 1, met ''"),
        ("door", "snapshot", b"now", "command snapshot: takes no value, met 'now'; send PRESS"),
        ("door", "interval_s", b"9", "command interval_s: is for the whole device, not for one"),
        ("roof", "enter", b"1", "command enter: no camera is called 'roof'"),
        ("door", "enter", b"1" * 2000, "command enter: has 2000 bytes; at most 1024 are taken"),
        ("door", "entr", b"1", "command 'entr': is no command; there are enabled, enter, exit,"),
        ("door", "x" * 500, b"1", "command '" + "x" * 40 + "…': is no command"),
    ],
)
def test_what_is_no_command_is_refused_with_the_reason(
    camera: str, key: str, payload: bytes, reason: str
) -> None:
    with pytest.raises(CommandError) as caught:
        parse(camera, key, payload, CAMERAS)
    said = str(caught.value)
    assert said.startswith(reason)
    assert len(said) < 250
    assert said.isprintable()


def test_every_key_has_the_limits_of_the_configuration() -> None:
    for key, section in (("enter", config.Decide()), ("max_fps", config.Gate())):
        with pytest.raises(CommandError):
            parse("door", key, b"1e9", CAMERAS)
        assert (
            getattr(section, key)
            == parse("door", key, json.dumps(getattr(section, key)).encode(), CAMERAS).value
        )
    with pytest.raises(CommandError, match=r"expected `float` >= 5\.0"):
        parse(None, "interval_s", b"1", CAMERAS)


def test_only_so_many_commands_wait() -> None:
    waiting = Node(config.Config()).controller
    for _ in range(controller.MAX_WAITING):
        waiting.submit(Command("door", "snapshot"))
    with pytest.raises(CommandError, match="64 others wait; try again later"):
        waiting.submit(Command("door", "snapshot"))
    done = waiting.step()
    assert done is not None
    assert done.answer == Answer(Command("door", "snapshot"))
    waiting.submit(Command("door", "snapshot"))


def test_a_change_is_kept_until_the_configuration_changes(tmp_path: Path) -> None:
    path = tmp_path / "state" / "commands.json"
    Overrides(path).keep("door", "enter", 0.8, 0.5)
    kept = Overrides(path)
    kept.keep(None, "interval_s", 10.0, 60.0)
    kept = Overrides(path)
    assert kept.controls("door", IN_FORCE).enter == 0.8
    assert kept.controls("yard", IN_FORCE) == IN_FORCE
    assert kept.interval_s(60.0) == 10.0
    edited = Controls(enabled=True, enter=0.6, exit=0.3, max_fps=0.0, model="m")
    assert kept.controls("door", edited) == edited
    kept.keep(None, "interval_s", 60.0, 60.0)
    assert Overrides(path).interval_s(60.0) == 60.0


@pytest.mark.parametrize(
    "text",
    ["", "[", "nonsense", '[{"camera":"door"}]', '[{"camera":null,"key":"enter"}]', "[" * 9999],
)
def test_a_broken_memory_is_forgotten_and_said(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "commands.json"
    path.write_text(text)
    assert Overrides(path).controls("door", IN_FORCE) == IN_FORCE
    assert "kept commands are forgotten" in caplog.text


def test_a_memory_that_cannot_be_written_is_said(caplog: pytest.LogCaptureFixture) -> None:
    Overrides(Path("/proc/nowhere/commands.json")).keep("door", "enter", 0.8, 0.5)
    assert "cannot be written" in caplog.text
    assert "enter is lost at the next start" in caplog.text


def test_the_light_blinks_and_is_given_back(tmp_path: Path) -> None:
    trigger = tmp_path / "ACT" / "trigger"
    trigger.parent.mkdir()
    trigger.write_text("none kbd-scrolllock [mmc0] timer heartbeat")
    led = Light(tmp_path)
    led.identify(now=5.0)
    assert trigger.read_text() == "timer"
    led.restore(now=5.0 + light.IDENTIFY_S - 0.1)
    assert trigger.read_text() == "timer"
    led.restore(now=5.0 + light.IDENTIFY_S)
    assert trigger.read_text() == "mmc0"


def test_a_board_without_a_light_says_so(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="this board has no light ACT or led0 or PWR"):
        Light(tmp_path).identify(now=0.0)
    (tmp_path / "ACT" / "trigger").mkdir(parents=True)
    with pytest.raises(CommandError, match="cannot be written: Is a directory"):
        Light(tmp_path).identify(now=0.0)


class Script(Sink):
    """A sink that gives commands, one after the answer to the other, and then ends the run."""

    name = "script"

    def __init__(self, node: Callable[[], Node], orders: list[Command], by: str = "") -> None:
        self.answers: list[Answer] = []
        self.snapshots: list[DeviceHealth] = []
        self.pictures = 0
        self.seen: list[tuple[str, int]] = []
        self.changes: list[LabelChange] = []
        self._node = node
        self._orders = orders
        self._by = by
        self._next()

    def _next(self) -> None:
        if self._orders:
            self._node().controller.submit(self._orders.pop(0), self._answered, by=self._by)
        elif self.answers and self.answers[-1].command.key == "snapshot" and not self.pictures:
            pass  # the next frame brings it
        elif not self._node().wants_restart:
            self._node().controller.submit(Command(None, "restart"))

    def _answered(self, answer: Answer) -> None:
        self.answers.append(answer)
        self._next()

    def observe(self, observation: Observation) -> None:
        self.pictures += observation.snapshot is not None
        self.seen.append((observation.camera, len(self.answers)))
        if observation.snapshot:
            self._next()

    def change(self, change: LabelChange, *_: object) -> None:
        self.changes.append(change)

    def report(self, snapshot: DeviceHealth) -> None:
        self.snapshots.append(snapshot)

    def close(self) -> None:
        pass

    @property
    def controls(self) -> Controls:
        found = self.snapshots[-1].cameras[0].controls
        assert found is not None
        return found


class LateScript(Script):
    """Gives its commands when something has been seen."""

    def _next(self) -> None:
        if self.changes:
            super()._next()

    def change(self, change: LabelChange, *_: object) -> None:
        super().change(change)
        if len(self.changes) == 1:
            self._next()


def obey(
    model: Path,
    *orders: Command,
    kind: type[Script] = Script,
    by: str = "",
    reload: Callable[[], config.Config] | None = None,
    settings: config.Config | None = None,
) -> tuple[Node, Script]:
    """Run a node until it has answered these."""
    settings = settings or config_of(model)
    scripts: list[Script] = []

    def open_script() -> Script:
        scripts.append(kind(lambda: node, list(orders), by))
        return scripts[-1]

    node = Node(settings, reload=reload, sinks=[open_script])
    assert node.run() == 0
    return node, scripts[0]


def config_of(model: Path) -> config.Config:
    return config.Config(
        camera=(config.Camera(source="synthetic", fps=100.0),),
        model=config.Model(name=str(model), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False),
    )


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path / "state"


def test_a_node_obeys_answers_and_remembers(colours: Callable[..., Path]) -> None:
    model = colours()
    _, script = obey(
        model,
        Command("camera", "enter", 0.7),
        Command("camera", "exit", 0.75),
        Command(None, "max_fps", 50.0),
        Command(None, "interval_s", 10.0),
    )
    assert [answer.error for answer in script.answers] == [
        "",
        "command exit: Expected `exit` < `enter` (0.7), met 0.75",
        "",
        "",
    ]
    expected = Controls(enabled=True, enter=0.7, exit=0.3, max_fps=50.0, model=str(model))
    assert script.controls == expected
    assert script.snapshots[-1].interval_s == 10.0
    _, script = obey(model)
    assert script.controls == expected
    assert script.snapshots[-1].interval_s == 10.0


def test_what_changes_and_by_whom_is_noted(
    colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    orders = [("camera", "enter", 0.7), ("camera", "exit", 0.9), (None, "interval_s", 10.0)]
    obey(colours(), *[Command(*order) for order in orders], by="MQTT")
    said = [r.getMessage() for r in caplog.records if r.name == LOGGER]
    assert said == [
        "security: changed: camera enter = 0.7, by MQTT",
        "security: changed: device interval_s = 10.0, by MQTT",
    ]


def test_a_disabled_camera_sees_nothing_and_says_so(colours: Callable[..., Path]) -> None:
    model = colours(softmax=True)
    _, script = obey(
        model,
        Command("camera", "enabled", False),
        Command("camera", "snapshot"),
        Command("camera", "enter", 0.6),
    )
    assert script.controls.enabled is False
    assert script.answers[1].error == ("command snapshot: camera camera is disabled; enable it")
    _, script = obey(model, Command("camera", "enabled", True))
    assert script.controls.enabled is True


@pytest.mark.parametrize("command", [("snapshot",), ("teach", "cup")])
def test_outside_its_hours_a_camera_takes_no_picture_and_says_why(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("device.pipeline.feeds.Duty", partial(Duty, wall_clock=lambda: 0.0))
    settings = msgspec.structs.replace(
        config_of(colours(softmax=True)), gate=config.Gate(hours=("07:00-22:00",))
    )
    enabled = Command("camera", "enabled", True)
    _, script = obey(colours(), Command("camera", *command), enabled, settings=settings)
    assert script.answers[0].error == (
        f"command {command[0]}: camera camera is off duty; wait for its gate.hours"
    )
    assert [change.label for change in script.changes] == [OFF_DUTY]


def test_what_a_disabled_camera_gives_is_not_looked_at(colours: Callable[..., Path]) -> None:
    settings = config_of(colours(softmax=True))
    cameras = tuple(msgspec.structs.replace(settings.camera[0], name=name) for name in "ab")
    _, script = obey(
        colours(softmax=True),
        Command("a", "enabled", False),
        *[Command("b", "exit", 0.1 + n / 1000) for n in range(20)],
        settings=msgspec.structs.replace(settings, camera=cameras),
    )
    assert {camera for camera, answered in script.seen if answered} == {"b"}


def test_what_is_enabled_already_goes_on_seeing(colours: Callable[..., Path]) -> None:
    _, script = obey(
        colours(softmax=True),
        Command("camera", "enabled", True),
        Command("camera", "enabled", True),
        kind=LateScript,
    )
    assert len(script.answers) == 2
    assert UNAVAILABLE not in [change.label for change in script.changes]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("max_fps", 1e-300, "expected `max_fps` of 0, which is no limit, or 0.001 at least"),
        ("region", (0.0, 0.0, 1e-9, 1.0), "with left < right, 1% of the picture apart at least"),
    ],
)
def test_nonsense_is_refused_as_in_the_configuration(
    colours: Callable[..., Path], key: str, value: Value, words: str
) -> None:
    _, script = obey(colours(softmax=True), Command("camera", key, value))
    assert words.lower() in script.answers[0].error.lower()


def test_what_one_camera_refuses_changes_none(colours: Callable[..., Path]) -> None:
    model = colours()
    cameras = tuple(
        config.Camera(name=name, source="synthetic", fps=100.0) for name in ("door", "yard")
    )
    settings = msgspec.structs.replace(config_of(model), camera=cameras)
    _, script = obey(
        model,
        Command("yard", "exit", 0.45),
        Command(None, "enter", 0.4),
        Command("yard", "snapshot"),
        settings=settings,
    )
    assert script.answers[1].error == ("command enter: Expected `exit` < `enter` (0.4), met 0.45")
    door, yard = (camera.controls for camera in script.snapshots[-1].cameras)
    assert door is not None
    assert yard is not None
    assert (door.enter, yard.enter) == (0.5, 0.5)
    assert "enter" not in (state_directory() / "commands.json").read_text()


def test_frames_go_on_while_a_model_is_loaded(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = colours("one.tflite"), colours("two.tflite", softmax=True)
    monkeypatch.setattr(Feeds, "models", (str(model), str(other)))
    seen = threading.Semaphore(0)
    open_model = Feeds.open_model

    def slowly(feeds: Feeds, channel: Channel, name: str) -> tuple[Model, Classifier]:
        for _ in range(20):
            assert seen.acquire(timeout=10)
        return open_model(feeds, channel, name)

    monkeypatch.setattr(Feeds, "open_model", slowly)
    monkeypatch.setattr(Script, "observe", lambda _, __: seen.release())
    _, script = obey(model, Command("camera", "model", str(other)))
    assert script.answers[0] == Answer(Command("camera", "model", str(other)))
    assert script.controls.model == str(other)


def test_a_snapshot_marks_the_next_frame(colours: Callable[..., Path]) -> None:
    _, script = obey(colours(), Command("camera", "snapshot"))
    assert script.pictures == 1


def test_a_model_that_does_not_hold_leaves_the_old_one(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model, other = colours("one.tflite"), colours("two.tflite", softmax=True)
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"not a model")
    names = (str(model), str(other), str(broken))
    monkeypatch.setattr(Feeds, "models", names)
    _, script = obey(
        model,
        Command("camera", "model", "/etc/passwd"),
        Command("camera", "model", str(broken)),
        Command("camera", "model", str(other)),
    )
    unknown, refused, taken = (answer.error for answer in script.answers)
    assert unknown.startswith("command model: '/etc/passwd' is not installed; there are ")
    assert refused.startswith(f"model {broken}: is not a TensorFlow Lite model")
    assert taken == ""
    assert script.controls.model == str(other)
    assert script.snapshots[-1].interpreter.model == "two"
    # And after a restart, when the one that was chosen is no longer there.
    other.unlink()
    _, script = obey(model)
    assert script.controls.model == str(model)


def test_a_reload_of_the_same_or_of_a_bad_configuration_changes_nothing(
    colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    model = colours()
    settings = config_of(model)

    def bad() -> config.Config:
        return config.load(None, ["decide.enter=7"])

    caplog.set_level(logging.INFO)
    _, script = obey(model, Command(None, "reload"), reload=bad)
    assert script.answers[0].error.startswith("--set: decide.enter = 7: expected `float` <= 1.0")
    _, script = obey(model, Command(None, "reload"), reload=lambda: settings)
    assert script.answers[0].error == ""
    assert "starting again" not in caplog.text
    _, script = obey(model, Command(None, "reload"))
    assert script.answers[0].error == "command reload: this run has no configuration to read again"


@pytest.mark.slow
def test_a_reload_of_another_configuration_starts_again(colours: Callable[..., Path]) -> None:
    model = colours()
    settings = config_of(model)
    other = config.Config(camera=settings.camera, model=settings.model)
    node, _ = obey(model, Command(None, "reload"), reload=lambda: other)
    assert node.wants_restart


def test_every_key_is_obeyed_by_a_node(colours: Callable[..., Path]) -> None:
    values: dict[str, Value] = {
        "enabled": True,
        "region": (0.0, 0.0, 0.5, 1.0),
        "enter": 0.6,
        "exit": 0.2,
        "max_fps": 30.0,
        "interval_s": 30.0,
        "teach_label": "open",
    }
    model = colours()
    values["model"] = str(model)
    keys = [key for key in CONTROLS if key not in ("restart", "reload", "snapshot", "teach")]
    _, script = obey(model, *(Command(None, key, values.get(key)) for key in keys))
    said = {answer.command.key: answer.error for answer in script.answers}
    # Only the light may be missing here, and all is as usual.
    refused = {key for key, error in said.items() if error}
    assert refused - {"identify"} == {"accept_drift"}
    assert said["accept_drift"] == (
        "command accept_drift: every camera is as usual; there is nothing to accept"
    )
    assert list(said) == keys
