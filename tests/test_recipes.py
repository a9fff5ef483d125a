"""The recipes of ARCHITECTURE.md: a dummy of each kind is one module, this one, and one line."""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest

import device.cameras
import device.cli
import device.sinks
import device.sinks.actions.kinds
from device import config
from device.cameras import Camera, Kind, Request, open_camera
from device.cli.arguments import Commands
from device.control.commands import Command, parse
from device.control.table import CONTROLS, Announcement, CameraControl, Prepared
from device.events import ActionResult, DeviceHealth, LabelChange, Look, Observation, Sink
from device.frames import Frame, PixelFormat
from device.inference import runtimes
from device.inference.interpreter import Interpreter
from device.inference.runtimes import DELEGATES, DelegateRequest, OpenedDelegate
from device.inference.xnnpack import XnnpackDelegate
from device.library import tflite_file
from device.node import Node
from device.pipeline import gate
from device.pipeline.channel import Channel
from device.pipeline.feeds import Feeds
from device.sinks import open_sinks
from device.sinks.actions.performer import Occurrence, Performer
from device.sinks.mqtt.announced import Announced
from device.sinks.mqtt.discovery import Discovery
from device.sinks.mqtt.topics import Topics
from device.sinks.outlet import Run
from device.sinks.web.state import WebState
from tests.mqtt.conftest import Device
from tests.sinks.examples import device_health


class DummyCamera(Camera):
    """Four grey frames."""

    live = False

    def __init__(self, request: Request) -> None:
        self.source = request.source
        self._left = 4

    def read(self) -> Frame | None:
        self._left -= 1
        pixels = np.full((8, 8), 99, np.uint8)
        at = time.monotonic()
        return (
            Frame(pixels, PixelFormat.GREY, 8, 8, 3 - self._left, at) if self._left >= 0 else None
        )

    def close(self) -> None: ...


def open_source(request: Request) -> Camera:
    return DummyCamera(request)


class DummySink(Sink):
    name = "dummy"

    def __init__(self) -> None:
        self.observed: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)

    def change(self, change: LabelChange, *_: object) -> None: ...

    def report(self, health: DeviceHealth) -> None: ...

    def close(self) -> None: ...


def open_delegate(_request: DelegateRequest) -> OpenedDelegate:
    return OpenedDelegate(XnnpackDelegate(1), "it is a dummy")


def open_sink(_run: Run) -> DummySink:
    return DummySink()


def settings_of(model: Path, source: str = "synthetic") -> config.Config:
    return config.Config(
        camera=(config.Camera(source=source, fps=100.0),),
        model=config.Model(name=str(model), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False),
    )


def test_a_thing_to_command(colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, Any]] = []

    def prepare(_feeds: Feeds, channel: Channel, value: float) -> Prepared:
        def commit() -> None:
            told.append((channel.name, value))

        return Prepared(commit)

    kind = CONTROLS["enter"].type
    row = CameraControl("dummy", kind, prepare, Announcement("Dummy", "number"))
    monkeypatch.setitem(CONTROLS, "dummy", row)
    command = parse("camera", "dummy", b"0.5", ["camera"])
    topics = Topics("labelcam", "garden", ["camera"])
    assert topics.addressed("labelcam/garden/camera/set/dummy") == ("camera", "dummy")
    told_once = Announced(Path("/dev/null/nowhere"))
    found = Discovery(config.Mqtt(), topics, Device(), (), told_once).entities(device_health())
    assert (found["camera-dummy"]["name"], found["camera-dummy"]["max"]) == ("Dummy", 1)
    page = WebState(config.Web(), [config.Camera()], token=False).whole()
    assert [one.words for one in page.controls if one.key == "dummy"] == ["Dummy"]
    node = Node(settings_of(colours()), frames=50)
    node.controller.submit(command, lambda _: node.controller.submit(Command(None, "restart")))
    node.run()
    assert told == [("camera", 0.5)]


def register(commands: Commands) -> None:
    parser = commands.add_parser("dummy", help="nothing")
    parser.set_defaults(verbose=False, command=lambda _options: 7)


def test_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.cli, "COMMANDS", ("dummy",))
    monkeypatch.setitem(sys.modules, "device.cli.dummy", sys.modules[__name__])
    assert device.cli.main(["dummy"]) == 7


def test_a_kind_of_camera(colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        device.cameras, "KINDS", (Kind("dummy:.*", __name__), *device.cameras.KINDS)
    )
    with open_camera(config.Camera(source="dummy:1"), threading.Event()) as camera:
        assert camera.source == "dummy:1"
    seen = DummySink()
    Node(settings_of(colours(), "dummy:2"), sinks=(lambda: seen,)).run()
    assert seen.observed


def test_an_outlet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.sinks, "KINDS", {"dummy": device.sinks.Kind(__name__)})
    settings: Any = SimpleNamespace(dummy=SimpleNamespace(enabled=True))
    device_: Any = None
    (outlet,) = open_sinks(Run(settings, (), device_, (), 0.0))
    assert outlet.look().name == "dummy"


def test_a_kind_of_action(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Dummy(Performer):
        def begin(self, occurrence: Occurrence) -> str:
            done.append(occurrence.label)
            return "done"

    module = SimpleNamespace(open_action=lambda _settings, _report: Dummy())
    monkeypatch.setitem(sys.modules, "dummy_action", cast(Any, module))
    monkeypatch.setitem(device.sinks.actions.kinds.KINDS, "gpio", "dummy_action")
    action = config.Action(name="dummy", kind="gpio", on=17)
    settings = config.Config(terminal=config.Terminal(enabled=False), action=(action,))
    results: list[ActionResult] = []
    run = Run(settings, settings.camera, Device(), (), 0.0, results.append)
    (outlet,) = open_sinks(run)
    change = LabelChange("camera", "cat", 0.9, None, 0.0, "m", time.monotonic(), active=("cat",))
    outlet.deliver(lambda sink: sink.change(change))
    until = time.monotonic() + 10
    while not results and time.monotonic() < until:
        time.sleep(0.01)
    outlet.close()
    assert done == ["cat"]
    assert [result.done for result in results] == [True]


def test_a_stage_that_spares_work(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class EveryOther:
        look: Look = ""

        def __init__(self, _settings: config.Gate, _scene: gate.Scene) -> None: ...

        def admits(self, frame: Frame) -> bool:
            return frame.number % 2 == 0

    monkeypatch.setattr(gate, "GATES", (EveryOther, *gate.GATES))
    seen = DummySink()
    Node(settings_of(colours()), frames=10, sinks=(lambda: seen,)).run()
    assert len(seen.observed) == 10
    assert all(one.frame.number % 2 == 0 for one in seen.observed)


@pytest.mark.skipif(
    "tflite-runtime" not in runtimes.installed(), reason="tflite-runtime is not installed"
)
def test_a_delegate(colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DELEGATES, "dummy", __name__)
    settings: Any = msgspec.structs.replace(
        config.Model(runtime="tflite-runtime", threads=1), delegate=cast("Any", "dummy")
    )
    with Interpreter(tflite_file.read(colours()), settings) as interpreter:
        assert interpreter.description.reason == "it is a dummy"
        assert interpreter.description.operators_delegated
