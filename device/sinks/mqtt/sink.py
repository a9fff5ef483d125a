"""Label changes, state and health to a broker, and commands from it.

The node's thread only puts what happened into an inbox. The thread ``labelcam-mqtt`` alone
has the outbox and decides what is sent; paho's network thread, one for each connection, puts
what the broker says into the same inbox. So nothing here is shared, and neither a slow disk
nor a stalled broker is ever waited for by the loop that classifies.
"""

import contextlib
import functools
import logging
import math
import queue
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from paho.mqtt.client import MQTTMessageInfo
from paho.mqtt.enums import MQTTErrorCode, MQTTProtocolVersion

from device import config
from device.control.commands import Answer, Device, called, parse
from device.control.table import CONTROLS, Value
from device.errors import CommandError, SinkError
from device.events import UNAVAILABLE, CameraHealth, DeviceHealth, LabelChange, Observation
from device.frames import Frame
from device.health import vitals
from device.sinks.mqtt import discovery
from device.sinks.mqtt.announced import ANNOUNCED_FILE, Announced
from device.sinks.mqtt.connection import (
    WINDOW,
    Acknowledged,
    Connected,
    Connection,
    Happening,
    Lost,
    Received,
    Subscribed,
    Will,
    port_of,
)
from device.sinks.mqtt.outbox import Event, Limits, Outbox
from device.sinks.mqtt.payloads import (
    AnswerMessage,
    Ids,
    StateMessage,
    event_message,
    health_message,
    iso,
    state_message,
)
from device.sinks.mqtt.retry import Retry
from device.sinks.mqtt.topics import Topics
from device.sinks.mqtt.topics import slug as make_slug
from device.sinks.picture import jpeg, upright
from device.system.paths import state_directory

_log = logging.getLogger("labelcam.mqtt")

# For the name to be looked up, the connection, TLS and the broker's answer, together.
_ATTEMPT_S = 45.0
_GOODBYE_S = 1.0
_TICK_S = 1.0
# What waits for the writer; at thirty changes a second, five minutes of a disk that hangs.
_MAX_INBOX = 10_000
_MAX_ANSWERS = 256
# Five hundred devices do not all answer Home Assistant's birth in the same moment.
_BIRTH_JITTER_S = 1.0
_JPEG_QUALITY = 85
_ONLINE, _OFFLINE = b"online", b"offline"
_FIRST_VERSION = MQTTProtocolVersion.MQTTv5
_OTHER_VERSION = {
    MQTTProtocolVersion.MQTTv5: MQTTProtocolVersion.MQTTv311,
    MQTTProtocolVersion.MQTTv311: MQTTProtocolVersion.MQTTv5,
}
_VERSION_NAMES = {MQTTProtocolVersion.MQTTv5: "MQTT 5", MQTTProtocolVersion.MQTTv311: "MQTT 3.1.1"}


class _Changed(NamedTuple):
    change: LabelChange


class _Picture(NamedTuple):
    camera: str


class _Close(NamedTuple):
    pass


class _Slot:
    """A topic of which only the newest payload counts; ``flying`` while one is on its way."""

    __slots__ = ("dirty", "flying", "payload", "qos", "retain")

    def __init__(self, qos: int, retain: bool) -> None:
        self.qos = qos
        self.retain = retain
        self.payload = b""
        self.dirty = False
        self.flying: MQTTMessageInfo | None = None


class _Flight:
    """An event that was sent and not yet acknowledged."""

    __slots__ = ("acknowledged", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.acknowledged = False


class MqttSink:
    """The MQTT way out, and the way in for commands.

    ``watched`` are the labels that get a binary sensor in Home Assistant. ``state`` is where
    the outbox lies, by default the state directory. ``problem`` is why the broker is not
    reached, empty while it is.
    """

    name = "mqtt"

    def __init__(
        self,
        settings: config.Mqtt,
        cameras: Sequence[config.Camera],
        device: Device,
        watched: Sequence[str] = (),
        *,
        state: Path | None = None,
        make_outbox: Callable[[Path, Limits], Outbox] = Outbox,
    ) -> None:
        self._settings = settings
        self._cameras = {camera.name: camera for camera in cameras}
        self._device = device
        self._watched = tuple(watched)
        self.problem = "not connected yet"
        self.topics = Topics(settings.prefix, settings.node, list(self._cameras))
        state = state_directory() if state is None else state
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._error: Exception | None = None
        # Written by the node's thread, read by ours; each value is replaced as a whole.
        self._scores: dict[str, tuple[str | None, float]] = {}
        self._frames: dict[str, Frame] = {}
        self._overrun = 0

        # Ours alone from here on.
        limits = Limits(
            settings.outbox_events, int(settings.outbox_mb * 2**20), settings.outbox_days * 86_400
        )
        self._make_outbox = functools.partial(make_outbox, state / "outbox.db", limits)
        self._announced = Announced(state / ANNOUNCED_FILE)
        self._ids = Ids()
        self._health: DeviceHealth | None = None
        self._changes: dict[str, LabelChange] = {}
        # In the order in which they are sent; that the device is there comes first.
        self._slots = {self.topics.availability: _Slot(qos=1, retain=True)}
        self._answers: deque[tuple[str, bytes, bool]] = deque(maxlen=_MAX_ANSWERS)
        # Cameras with a picture to send, and their last ones on the way.
        self._pictures: set[str] = set()
        self._flying_pictures: dict[str, MQTTMessageInfo] = {}
        self._refusal = ""
        self._retry = Retry()
        self._connection: Connection | None = None
        self._is_up = False
        self._link_due = 0.0
        self._version = _FIRST_VERSION
        self._times_up = 0
        self._window = WINDOW
        self._cursor = 0
        self._replay_through = 0
        self._flights: dict[int, _Flight | str] = {}
        self._events: deque[_Flight] = deque()
        self._health_due = 0.0
        self._announce_due: float | None = None
        self._tick_due = 0.0
        # A daemon, because a disk that hangs for good must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-mqtt", daemon=True)
        self._thread.start()

    # What the node's thread calls.

    def change(self, change: LabelChange) -> None:
        """Take a label change: from here it is on its way to the disk, and then to the broker."""
        self._check()
        if not self._post(_Changed(change)):
            self._overrun += 1

    def observe(self, observation: Observation) -> None:
        """Note the score, and take the picture where one is wanted."""
        self._scores[observation.camera] = (observation.label, observation.score)
        wanted = observation.snapshot or (observation.frame if observation.change else None)
        if wanted is not None and self._settings.images:
            # One frame a camera, the newest: they are large, and the inbox may be long.
            self._frames[observation.camera] = wanted
            self._post(_Picture(observation.camera))

    def report(self, health: DeviceHealth) -> None:
        """Take how the device is."""
        self._check()
        self._post(health)

    def close(self) -> None:
        """Say good-bye to the broker, and leave on disk what it has not taken."""
        self._inbox.put(_Close())
        self._thread.join(_GOODBYE_S + 0.5)

    def _post(self, item: object) -> bool:
        """Put something into the inbox, for any thread; False when a disk that hangs has let
        it fill up."""
        if self._inbox.qsize() >= _MAX_INBOX:
            return False
        self._inbox.put(item)
        return True

    def _hear_of(self, happening: Happening) -> None:
        """What a connection posts: all that is its own, and commands while there is room."""
        if isinstance(happening, Received):
            self._post(happening)
        else:
            self._inbox.put(happening)

    def _check(self) -> None:
        if self._error is not None:
            raise SinkError(f"mqtt: {type(self._error).__name__}: {self._error}")

    # The thread labelcam-mqtt.

    def _run(self) -> None:
        try:
            self._outbox = self._make_outbox()
            with contextlib.closing(self._outbox):
                while self._step():
                    pass
                self._say_goodbye()
        except Exception as error:  # noqa: BLE001 - the node isolates the sink when it sees this
            self._error = error
        finally:
            if self._connection is not None:
                self._connection.abort()

    def _step(self) -> bool:
        """Wait for something to happen and do what follows from it; False when it is time to
        end."""
        wait_s = max(0.0, self._next_due() - time.monotonic())
        items = []
        with contextlib.suppress(queue.Empty):
            items.append(self._inbox.get(timeout=wait_s))
            while True:
                items.append(self._inbox.get_nowait())
        # In one transaction, however many they are.
        changes = [item.change for item in items if isinstance(item, _Changed)]
        if changes:
            self._take(changes)
        for item in items:
            self._handle(item)
        if any(isinstance(item, _Close) for item in items):
            return False
        self._do_what_is_due(time.monotonic())
        self._pump()
        return True

    def _next_due(self) -> float:
        due = [self._tick_due, self._link_due]
        if self._health is not None:
            due.append(self._health_due)
        if self._announce_due is not None:
            due.append(self._announce_due)
        return min(due)

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._tick_due:
            self._tick_due = now + _TICK_S
            self._outbox.tick()
        if self._announce_due is not None and now >= self._announce_due:
            self._announce_due = None
            self._announce()
        if now >= self._health_due and self._health is not None:
            self._health_due = now + self._health.interval_s
            self._publish_health(self._health)
        if now >= self._link_due:
            if self._connection is None:
                self._connect(now)
            else:
                self._lose(f"{self._where}: no answer in {_ATTEMPT_S:g} s", slow=False)

    def _handle(self, item: object) -> None:
        match item:
            case DeviceHealth():
                self._follow(item)
            case _Picture(camera):
                self._pictures.add(camera)
            case Answer():
                self._answer(item)
            case Connected() | Lost() | Acknowledged() | Received() | Subscribed():
                if item.connection is self._connection:
                    self._hear(item)

    def _hear(self, happening: Happening) -> None:
        match happening:
            case Connected(_, window):
                self._come_up(window)
            case Lost(_, reason, slow, other_version):
                if other_version:
                    self._version = _OTHER_VERSION[self._version]
                self._lose(reason, slow=slow)
            case Acknowledged(_, mid, refusal):
                self._acknowledge(mid, refusal)
            case Subscribed(_, refusal):
                if refusal:
                    _log.warning("mqtt: the broker gives us no commands: %s", refusal)
            case Received():
                self._receive(happening)

    # Events, state and health.

    def _take(self, changes: list[LabelChange]) -> None:
        """Put changes into the outbox, and remember what each camera sees."""
        synced = bool(vitals.clock_synced())
        events = []
        for change in changes:
            at = vitals.wall_time(change.at)
            events.append(
                Event(
                    id=self._ids.next(at),
                    camera=change.camera,
                    at=iso(at),
                    clock_synced=synced,
                    label=change.label,
                    score=round(change.score, 4),
                    previous=change.previous,
                    held_s=round(change.held_s, 3),
                    model=change.model,
                )
            )
        self._outbox.add(events)
        for change in changes:
            self._changes[change.camera] = change
        for camera in {change.camera for change in changes}:
            self._publish_state(camera)

    def _follow(self, health: DeviceHealth) -> None:
        """Publish what is other than it was in the last health."""
        before, self._health = self._health, health
        for camera in health.cameras:
            self._publish_state(camera.name)
            if camera.controls is not None:
                for key, value in msgspec.structs.asdict(camera.controls).items():
                    self._publish_value(camera.name, key, value)
        self._publish_value(None, "interval_s", health.interval_s)
        if before is None or self._shape(before) != self._shape(health):
            self._announce()
            self._health_due = 0.0

    def _shape(self, health: DeviceHealth) -> object:
        """What the entities of Home Assistant depend on."""
        models = [camera.controls.model for camera in health.cameras if camera.controls]
        return models, health.interval_s

    def _publish_state(self, camera: str, *, again: bool = False) -> None:
        health = self._health_of(camera)
        if health is None:
            return
        change = self._changes.get(camera)
        label, score = self._scores.get(camera, (None, 0.0))
        if change is not None and label != change.label:
            score = change.score
        since = None if change is None else vitals.wall_time(change.at)
        state = state_message(health, change, score, since)
        slot = self._slot(self.topics.of(camera, "state"), qos=1, retain=True)
        if slot.payload and not again:
            # The score alone moves with each frame and is no news.
            was = msgspec.json.decode(slot.payload, type=StateMessage)
            if _without_score(was) == _without_score(state):
                return
        self._put(slot, msgspec.json.encode(state))

    def _health_of(self, camera: str) -> CameraHealth | None:
        cameras = self._health.cameras if self._health else ()
        return next((health for health in cameras if health.name == camera), None)

    def _publish_value(self, camera: str | None, key: str, value: Value) -> None:
        slot = self._slot(self.topics.of(camera, key), qos=1, retain=True)
        payload = msgspec.json.encode(AnswerMessage(value))
        if slot.payload != payload:
            self._put(slot, payload)

    def _publish_health(self, health: DeviceHealth) -> None:
        for camera in self._cameras:
            # A sensor whose value is not repeated expires in Home Assistant.
            self._publish_state(camera, again=True)
        outbox = {
            "events": len(self._outbox),
            "bytes": self._outbox.size_bytes,
            "dropped": self._outbox.dropped + self._overrun,
            "trouble": self._outbox.trouble,
        }
        link = {
            "broker": self._where,
            "protocol": _VERSION_NAMES[self._version],
            "reconnects": max(0, self._times_up - 1),
        }
        payload = health_message(health, self.topics, time.time(), outbox, link)
        self._put(self._slot(self.topics.health, qos=0, retain=True), payload)

    def _slot(self, topic: str, *, qos: int, retain: bool) -> _Slot:
        return self._slots.setdefault(topic, _Slot(qos, retain))

    def _put(self, slot: _Slot, payload: bytes) -> None:
        slot.payload = payload
        slot.dirty = True

    # The connection.

    @property
    def _where(self) -> str:
        return f"{self._settings.host}:{port_of(self._settings)}"

    def _connect(self, now: float) -> None:
        connection = Connection(
            self._settings,
            self.topics.client_id,
            self._hear_of,
            version=self._version,
            will=Will(self.topics.availability, _OFFLINE),
        )
        try:
            connection.start()
        except SinkError as error:
            self._lose(str(error).removeprefix("mqtt: "), slow=True)
            return
        self._connection = connection
        self._link_due = now + _ATTEMPT_S

    def _come_up(self, window: int) -> None:
        """Tell the broker everything again: it may have lost all that it knew of us."""
        connection = self._connection
        assert connection is not None
        self._is_up = True
        self.problem = ""
        self._times_up += 1
        self._window = window
        self._refusal = ""
        self._retry.came_up(time.monotonic())
        self._link_due = math.inf
        _log.info("mqtt: connected to %s, %s", self._where, _VERSION_NAMES[self._version])
        self._cursor = 0
        self._replay_through = self._outbox.newest
        if self._settings.commands:
            connection.subscribe(*self.topics.commands)
        if self._settings.discovery:
            connection.subscribe(f"{self._settings.discovery_prefix}/status")
        self._put(self._slot(self.topics.availability, qos=1, retain=True), _ONLINE)
        self._announce()
        for slot in self._slots.values():
            slot.dirty = True
        self._health_due = 0.0

    def _lose(self, reason: str, *, slow: bool) -> None:
        """Let the connection go, say why where that is new, and try again later."""
        now = time.monotonic()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
        self._is_up = False
        self._flights.clear()
        self._events.clear()
        for slot in self._slots.values():
            slot.flying = None
        self._pictures.clear()
        self._flying_pictures.clear()
        if self._refusal:
            # Mosquitto, having refused a message, closes the connection without a word.
            reason, slow = self._refusal, True
        wait_s = self._retry.wait_s(now, slow=slow)
        self._link_due = now + wait_s
        if self._retry.contested and not self._refusal:
            reason += (
                "; that keeps happening: another client with our id, or something it refuses? "
                "see the broker's log"
            )
        if reason != self.problem:
            _log.warning("mqtt: %s; next attempt in %.0f s", reason, wait_s)
            self.problem = reason

    def _pump(self) -> None:
        """Send what is waiting, as far as the window of unacknowledged messages allows."""
        if not self._is_up:
            return
        while self._answers and len(self._flights) < self._window:
            topic, payload, retain = self._answers.popleft()
            self._send(topic, payload, 1, retain, topic)
        for topic, slot in self._slots.items():
            if slot.dirty and len(self._flights) < self._window and _has_landed(slot.flying):
                slot.dirty = False
                slot.flying = self._send(topic, slot.payload, slot.qos, slot.retain, topic)
        self._send_events()
        self._send_pictures()

    def _send_events(self) -> None:
        while self._cursor < self._outbox.newest:
            room = self._window - len(self._flights)
            # Not one by one as they are acknowledged: each look into the outbox has its price.
            if room < min(self._window // 2, self._outbox.newest - self._cursor):
                return
            batch = self._outbox.pending(self._cursor, room)
            if not batch:
                self._cursor = self._outbox.newest
                return
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            for stored in batch:
                age_s = None if stored.since is None else now - stored.since
                payload = event_message(
                    stored.event, age_s, replayed=stored.number <= self._replay_through
                )
                camera = stored.event.camera
                # A camera that the configuration no longer has left events behind.
                slug = self.topics.slugs.get(camera) or make_slug(camera, "camera")
                flight = _Flight(stored.number)
                self._events.append(flight)
                self._send(f"{self.topics.root}/{slug}/event", payload, 1, False, flight)
                self._cursor = stored.number

    def _send_pictures(self) -> None:
        for camera in list(self._pictures):
            if not _has_landed(self._flying_pictures.get(camera)):
                continue  # the network is slower than the pictures: the newest will do
            self._pictures.discard(camera)
            frame, found = self._frames.pop(camera, None), self._cameras[camera]
            if frame is None:
                continue
            picture = jpeg(upright(frame, found.rotate, found.mirror), _JPEG_QUALITY)
            topic = self.topics.of(camera, "image")
            self._flying_pictures[camera] = self._send(topic, picture, 0, False, topic)

    def _send(
        self, topic: str, payload: bytes, qos: int, retain: bool, flight: _Flight | str
    ) -> MQTTMessageInfo:
        assert self._connection is not None
        info = self._connection.publish(topic, payload, qos, retain)
        if qos:
            self._flights[info.mid] = flight
        return info

    def _acknowledge(self, mid: int, refusal: str) -> None:
        flight = self._flights.pop(mid, None)
        if refusal and flight is not None:
            what = "events" if isinstance(flight, _Flight) else flight
            self._refusal = f"{self._where} refuses {what}: {refusal}; check its access list"
            if isinstance(flight, _Flight):
                # It stays in the outbox, and so do those that follow it.
                self._lose(self._refusal, slow=True)
                return
            _log.warning("mqtt: %s", self._refusal)
        if isinstance(flight, _Flight):
            flight.acknowledged = True
            last = 0
            while self._events and self._events[0].acknowledged:
                last = self._events.popleft().number
            if last:
                self._outbox.acknowledge(last)

    def _say_goodbye(self) -> None:
        """Leave nothing behind that would be taken for current."""
        if not self._is_up or self._connection is None:
            return
        for camera in self._cameras:
            slot = self._slot(self.topics.of(camera, "state"), qos=1, retain=True)
            if slot.payload:
                state = msgspec.json.decode(slot.payload, type=StateMessage)
                self._put(slot, msgspec.json.encode(_ended(state)))
        self._put(self._slot(self.topics.availability, qos=1, retain=True), _OFFLINE)
        deadline = time.monotonic() + _GOODBYE_S
        self._pump()
        while self._is_up and (self._flights or self._cursor < self._outbox.newest):
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(item, Happening) and item.connection is self._connection:
                self._hear(item)
            self._pump()
        if self._connection is not None:
            self._connection.disconnect()
            # The network thread needs a moment to send it; it posts when it is done.
            with contextlib.suppress(queue.Empty):
                while not isinstance(self._inbox.get(timeout=0.2), Lost):
                    pass
            self._connection = None

    # Commands and Home Assistant.

    def _receive(self, message: Received) -> None:
        if message.topic == f"{self._settings.discovery_prefix}/status":
            if message.payload == _ONLINE:
                self._announce_due = time.monotonic() + random.uniform(0, _BIRTH_JITTER_S)  # noqa: S311
            return
        camera, key = self.topics.addressed(message.topic)
        try:
            if message.retained:
                raise CommandError(
                    called(key), "was retained, and would come at every connection; send it without"
                )
            if not message.payload:
                # It is also what comes when somebody clears a retained command.
                raise CommandError(called(key), "is empty; send a value, or PRESS")
            command = parse(camera, key, message.payload, self._cameras, message.size)
            if command.key == "snapshot" and not self._settings.images:
                raise CommandError(key, "pictures are not sent; set mqtt.images = true")
            self._device.submit(command, self._inbox.put)
        except CommandError as error:
            self._refuse(camera, key, str(error))

    def _answer(self, answer: Answer) -> None:
        camera, key = answer.command.camera, answer.command.key
        if answer.error:
            self._refuse(camera, key, answer.error)
            return
        # The values in force came with the health before this answer; they are sent again
        # where nothing changed, for whoever waits for an answer.
        slot = self._slots.get(self.topics.of(camera, key))
        if slot is not None:
            slot.dirty = True
        else:
            payload = msgspec.json.encode(AnswerMessage(answer.command.value))
            self._answers.append((self.topics.of(camera, key), payload, False))

    def _refuse(self, camera: str | None, key: str, reason: str) -> None:
        """Answer with the reason: on the topic of the value, or on ``error`` for what has none.

        Not retained, since it is of no use to who comes later.
        """
        _log.info("mqtt: %s", reason)
        is_known = key in CONTROLS and (camera is None or camera in self._cameras)
        if not is_known:
            topic = f"{self.topics.root}/error"
            self._answers.append((topic, msgspec.json.encode(AnswerMessage(None, reason)), False))
            return
        topic = self.topics.of(camera, key)
        slot = self._slots.get(topic)
        value = msgspec.json.decode(slot.payload, type=AnswerMessage).value if slot else None
        self._answers.append((topic, msgspec.json.encode(AnswerMessage(value, reason)), False))

    def _announce(self) -> None:
        """Make the discovery message anew, and have it sent."""
        topic = discovery.topic_of(self._settings.discovery_prefix, self.topics)
        if not self._settings.discovery:
            topic, found = "", {}
        elif self._health is None:
            return
        else:
            entities = []
            for camera in self._cameras:
                labels = self._device.labels(camera)
                watched = tuple(label for label in self._watched if label in labels)
                entities.append(discovery.CameraEntities(camera, labels, watched))
            found = discovery.components(
                self.topics,
                tuple(entities),
                self._device.models(),
                interval_s=self._health.interval_s,
                commands=self._settings.commands,
                images=self._settings.images,
            )
            gone = self._announced.gone(found)
            payload = discovery.message(self.topics, self._health.vitals.board, found, gone)
            self._put(self._slot(topic, qos=1, retain=True), payload)
        former = self._announced.update(topic, found)
        if former and former != topic:
            # Under its former name the device would stay beside the present one.
            self._answers.append((former, b"", True))


def _has_landed(flying: MQTTMessageInfo | None) -> bool:
    """Whether a message was acknowledged, or at QoS 0 left the device, or was lost."""
    return flying is None or flying.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or flying.is_published()


def _without_score(state: StateMessage) -> StateMessage:
    return msgspec.structs.replace(state, score=0.0, since=None)


def _ended(state: StateMessage) -> StateMessage:
    return msgspec.structs.replace(state, state="ended", label=UNAVAILABLE, score=0.0, since=None)
