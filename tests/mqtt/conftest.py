"""A broker, somebody who listens to it, and a sink that talks to it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from device import config
from device.control.commands import Answer, Command
from device.errors import CommandError, TeachError
from device.events import UNAVAILABLE, Controls, DeviceHealth, LabelChange
from device.frames import Frame, PixelFormat
from device.sinks import retry
from device.sinks.mqtt import sink as mqtt
from device.sinks.mqtt.sink import MqttSink
from device.sinks.outbox import Limits, Outbox
from device.sinks.photos import Photos
from device.teach.teacher import Teacher
from tests.mqtt.mosquitto import MISSING, PROGRAM, Door, Mosquitto
from tests.sinks.examples import camera_health, change, device_health, observation

LABELS = ("cat", "dog", "unknown")
CONTROLS = Controls(enabled=True, enter=0.5, exit=0.3, max_fps=0.0, model="lite0")
DEADLINE_S = 20.0


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for seconds until a connection is tried again."""
    monkeypatch.setattr(retry, "FIRST_S", 0.02)
    monkeypatch.setattr(retry, "SLOW_S", 0.02)
    monkeypatch.setattr(mqtt, "GOODBYE_S", 0.2)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    if not PROGRAM:
        pytest.skip(MISSING)
    with Mosquitto(tmp_path / "broker") as started:
        yield started


class Message(NamedTuple):
    topic: str
    payload: bytes
    retained: bool

    @property
    def json(self) -> Any:
        return json.loads(self.payload)


class Listener:
    """Hears everything that a broker passes on."""

    def __init__(self, port: int, topics: str = "#", **options: Any) -> None:
        self.messages: list[Message] = []
        self._topics = topics
        self._heard = threading.Condition()
        self.subscribed = threading.Event()
        self._client = client = paho.Client(CallbackAPIVersion.VERSION2, **options)
        client.reconnect_delay_set(0.02, 0.05)  # type: ignore[arg-type]
        client.on_connect = self._subscribe
        client.on_subscribe = lambda *_: self.subscribed.set()
        client.on_disconnect = lambda *_: self.subscribed.clear()
        client.on_message = self._hear
        client.connect_async("127.0.0.1", port)
        client.loop_start()
        assert self.subscribed.wait(DEADLINE_S)

    def _subscribe(self, *_: object) -> None:
        self._client.subscribe(self._topics, 1)

    def _hear(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        with self._heard:
            self.messages.append(Message(message.topic, bytes(message.payload), message.retain))
            self._heard.notify_all()

    def of(self, ending: str) -> list[Message]:
        """What came on topics with this ending."""
        return [message for message in list(self.messages) if message.topic.endswith(ending)]

    def wait(self, condition: Callable[[], Any], what: str = "") -> None:
        """Wait until what was heard, or what the node made of it, fulfils a condition."""
        deadline = time.monotonic() + DEADLINE_S
        with self._heard:
            while not condition():
                if time.monotonic() > deadline:
                    topics = [message.topic for message in self.messages]
                    pytest.fail(f"{what or 'condition'} not met; heard: {topics[-20:]}")
                # Not every condition is of messages: acknowledgements come after the last.
                self._heard.wait(0.02)

    def wait_for(self, ending: str, count: int = 1) -> Message:
        """The message that is the so many-th on topics with this ending."""
        self.wait(lambda: len(self.of(ending)) >= count, f"{count} of {ending}")
        return self.of(ending)[count - 1]

    def send(self, topic: str, payload: bytes | str, retain: bool = False) -> None:
        self._client.publish(topic, payload, 1, retain).wait_for_publish(DEADLINE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Device:
    """Stands in for the node: takes commands, and answers at once."""

    known_by_lesson: tuple[str, ...] = ()
    looks_at = CONTROLS.region

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.labels_of: dict[str, tuple[str, ...]] = {}
        self.refuses: str = ""
        self.full = False

    def submit(
        self, command: Command, answered: Callable[[Answer], None] | None = None, *, by: str = ""
    ) -> None:
        if self.full:
            raise CommandError(command.key, "64 others wait; try again later")
        self.commands.append(command)
        self.by = by
        assert answered is not None
        answered(Answer(command, self.refuses))

    def labels(self, camera: str) -> tuple[str, ...]:
        return self.labels_of.get(camera, LABELS)

    def taught(self, _camera: str) -> tuple[str, ...]:
        return self.known_by_lesson

    def region(self, _camera: str) -> tuple[float, float, float, float]:
        return self.looks_at

    def teacher(self, camera: str) -> Teacher:
        raise TeachError(f"camera {camera!r} has no model that can be taught")

    def models(self) -> tuple[str, ...]:
        return ("lite0", "v2")


class Rig:
    """A sink with its device and its state directory; makes new ones on the same state."""

    door: Door

    def __init__(self, state: Path, port: int) -> None:
        self.state = state
        self.device = Device()
        self.settings = config.Mqtt(host="127.0.0.1", port=port, node="garden", interval_s=60.0)
        self.snapshots = config.Snapshots()
        self.cameras = [config.Camera()]
        self.made: list[str] = []
        self.sinks: list[MqttSink] = []

    def open(
        self,
        watched: tuple[str, ...] = (),
        make_outbox: Callable[[Path, Limits], Outbox] = Outbox,
        nothing: str = "unknown",
        history: Path | None = None,
        **settings: Any,
    ) -> MqttSink:
        self.settings = msgspec.structs.replace(self.settings, **settings)
        self.sinks.append(
            MqttSink(
                self.settings,
                self.cameras,
                self.device,
                Photos(self.snapshots, self.cameras, self.device),
                watched,
                nothing=nothing,
                state=self.state,
                history=history,
                make_outbox=make_outbox,
            )
        )
        return self.sink

    @property
    def sink(self) -> MqttSink:
        return self.sinks[-1]

    def device_health(self, **different: Any) -> DeviceHealth:
        controls = different.pop("controls", CONTROLS)
        interval_s = different.pop("interval_s", 60.0)
        cameras = [
            camera_health(name=camera.name, controls=controls, **different)
            for camera in self.cameras
        ]
        return msgspec.structs.replace(device_health(*cameras), interval_s=interval_s)

    def report(self, **different: Any) -> None:
        self.sink.report(self.device_health(**different))

    changed: tuple[LabelChange, ...] = ()

    def change(self, label: str, camera: str = "camera", **different: Any) -> None:
        self.made.append(label)
        made = change(camera=camera, label=label, at=time.monotonic(), **different)
        # A camera that is lost gives no frame that could carry the change.
        self.changed = () if label == UNAVAILABLE else (made,)
        self.sink.change(made)

    def see(self, label: str, score: float = 0.9, snapshot: bool = False) -> None:
        pixels = np.full((48, 64, 3), 99, np.uint8)
        frame = Frame(pixels, PixelFormat.BGR, 64, 48, 0, 0.0)
        seen = observation(label=label, score=score)
        changed, self.changed = self.changed, ()
        self.sink.observe(
            msgspec.structs.replace(
                seen, frame=frame, changes=changed, snapshot=frame if snapshot else None
            )
        )

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.sink.problem and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.sink.problem == ""

    @property
    def stored(self) -> int:
        """How many events lie in the outbox."""
        return self.sink.stored

    def close(self) -> None:
        for sink in self.sinks:
            sink.close()


@pytest.fixture
def listener(broker: Mosquitto) -> Iterator[Listener]:
    found = Listener(broker.port)
    yield found
    found.close()


@pytest.fixture
def rig(tmp_path: Path, broker: Mosquitto, listener: Listener) -> Iterator[Rig]:
    """A sink that reaches the broker while the listener does."""
    door = Door(broker.port, listener.subscribed)
    made = Rig(tmp_path / "state", door.port)
    made.door = door
    yield made
    made.close()
    door.close()


def unique_labels(listener: Listener) -> list[str]:
    """The labels of the events heard, duplicates by id removed."""
    found: dict[str, str] = {}
    for message in listener.of("/event"):
        event = message.json
        found.setdefault(event["id"], event["label"])
    return list(found.values())
