"""How things are now: topics of which the broker keeps the newest payload, and what was said."""

from collections.abc import Iterable

import msgspec
from paho.mqtt.client import MQTTMessageInfo

from device.control.table import Value
from device.events import UNAVAILABLE, CameraHealth, DeviceHealth, LabelChange, Observation
from device.health import vitals
from device.sinks.mqtt.connection import has_landed
from device.sinks.mqtt.delivery import Delivery
from device.sinks.mqtt.payloads import AnswerMessage, StateMessage, state_message
from device.sinks.mqtt.topics import Topics
from device.sinks.standing import NOTHING, Standing

ONLINE, OFFLINE = b"online", b"offline"


class _Slot:
    """A retained topic and its newest payload; ``flying`` while one is on its way."""

    __slots__ = ("dirty", "flying", "payload", "qos")

    def __init__(self) -> None:
        self.payload = b""
        self.qos = 1
        self.dirty = False
        self.flying: MQTTMessageInfo | None = None


class State:
    """What is true of the device and its cameras, sent when it changes.

    What waits for the window is replaced by what is newer. ``health`` is the device's last.
    """

    def __init__(self, topics: Topics, nothing: str = NOTHING) -> None:
        self.health: DeviceHealth | None = None
        self._topics = topics
        # Written by the node's thread, read by the sink's; each value is replaced as a whole.
        self._scores: dict[str, tuple[str | None, float]] = {}
        self._nothing = Standing(nothing=nothing)
        self._standings: dict[str, Standing] = {}
        self._states: dict[str, StateMessage] = {}
        self._values: dict[str, AnswerMessage] = {}
        # In the order in which they are sent; that the device is there comes first.
        self._slots = {topics.availability: _Slot()}

    def observe(self, observation: Observation) -> None:
        """Note the score of a camera's label; for the node's thread."""
        self._scores[observation.camera] = (observation.label, observation.score)

    def change(self, changes: Iterable[LabelChange]) -> None:
        """Say what the cameras see since these changes."""
        for change in changes:
            before = self._standings.get(change.camera, self._nothing)
            self._standings[change.camera] = before.after(change)
        self.say_states()

    def follow(self, health: DeviceHealth) -> None:
        """Say what is other than it was in the last health."""
        self.health = health
        self.say_states()
        for camera in health.cameras:
            if camera.controls is not None:
                for key, value in msgspec.structs.asdict(camera.controls).items():
                    self._say_value(self._topics.of(camera.name, key), value)
        self._say_value(self._topics.of(None, "interval_s"), health.interval_s)

    def say_states(self, *, again: bool = False) -> None:
        """Say what each camera sees where it is news, or ``again`` with its present score."""
        for camera in self.health.cameras if self.health else ():
            state = self._state_of(camera)
            said = self._states.get(camera.name)
            if said is not None and not again:
                # The score alone moves with each frame and is no news.
                said = msgspec.structs.replace(said, score=state.score, since=state.since)
            if again or said != state:
                self._say_state(camera.name, state)

    def value(self, topic: str) -> Value:
        """The value in force of what has this topic, or None where it has none."""
        said = self._values.get(topic)
        return said.value if said else None

    def come_up(self) -> None:
        """Say everything, to a broker that may have lost all that it knew of us."""
        self.put(self._topics.availability, ONLINE)
        for slot in self._slots.values():
            slot.dirty, slot.flying = True, None

    def end(self) -> None:
        """Leave nothing behind that would be taken for current."""
        for camera, said in self._states.items():
            ended = msgspec.structs.replace(
                said, state="ended", label=UNAVAILABLE, score=0.0, since=None, active=()
            )
            self._say_state(camera, ended)
        self.put(self._topics.availability, OFFLINE)

    def put(self, topic: str, payload: bytes, *, qos: int = 1) -> None:
        """Have a payload sent, retained, in place of one that was not sent yet."""
        slot = self._slots.setdefault(topic, _Slot())
        slot.payload, slot.qos, slot.dirty = payload, qos, True

    def repeat(self, topic: str) -> bool:
        """Have the payload of a topic sent again; False where there was none."""
        if slot := self._slots.get(topic):
            slot.dirty = True
        return slot is not None

    def send(self, delivery: Delivery) -> None:
        """Send what is news, as far as the window allows."""
        for topic, slot in self._slots.items():
            if slot.dirty and delivery.room > 0 and has_landed(slot.flying):
                slot.dirty = False
                slot.flying = delivery.send(topic, slot.payload, qos=slot.qos, retain=True)

    def _state_of(self, camera: CameraHealth) -> StateMessage:
        standing = self._standings.get(camera.name, self._nothing)
        last = standing.last
        if last is None:
            return state_message(camera, None, (), 0.0, None)
        seen, score = self._scores.get(camera.name, (None, 0.0))
        label = standing.label(seen)
        if label != seen:
            score = last.score
        since = standing.since(label)
        wall = None if since is None else vitals.wall_time(since)
        return state_message(camera, label, last.active, score, wall)

    def _say_state(self, camera: str, state: StateMessage) -> None:
        self._states[camera] = state
        self.put(self._topics.of(camera, "state"), msgspec.json.encode(state))

    def _say_value(self, topic: str, value: Value) -> None:
        said = AnswerMessage(value)
        if self._values.get(topic) != said:
            self._values[topic] = said
            self.put(topic, msgspec.json.encode(said))
