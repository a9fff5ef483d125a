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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from device import config
from device.control.commands import Answer, Device
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.sinks.mqtt.announced import ANNOUNCED_FILE, Announced
from device.sinks.mqtt.commands import Commands
from device.sinks.mqtt.connection import (
    Acknowledged,
    Connected,
    Happening,
    Lost,
    Received,
    Subscribed,
    Will,
)
from device.sinks.mqtt.delivery import EVENTS, Delivery
from device.sinks.mqtt.discovery import Discovery
from device.sinks.mqtt.link import Link
from device.sinks.mqtt.payloads import health_message
from device.sinks.mqtt.pictures import Pictures
from device.sinks.mqtt.security import Security
from device.sinks.mqtt.state import OFFLINE, ONLINE, State
from device.sinks.mqtt.today import Today
from device.sinks.mqtt.topics import Topics
from device.sinks.outbox import Limits, Outbox
from device.sinks.photos import Photos
from device.sinks.standing import NOTHING
from device.system.paths import state_directory

_log = logging.getLogger("labelcam.mqtt")

GOODBYE_S = 1.0
_TICK_S = 1.0
# What waits for the writer; at thirty changes a second, five minutes of a disk that hangs.
MAX_INBOX = 10_000
# Five hundred devices do not all answer Home Assistant's birth in the same moment.
BIRTH_JITTER_S = 1.0


# After a fault of the outbox's own; what happens meanwhile waits in the inbox.
RETRY_S = 10.0


class MqttSink(Sink):
    """The MQTT way out, and the way in for commands.

    ``watched`` are the labels that get a binary sensor in Home Assistant. ``state`` is where
    the outbox lies, by default the state directory. ``stored`` is how many events lie there.
    ``history`` is the file that today's numbers come from, None where there is none.
    """

    name = "mqtt"

    def __init__(
        self,
        settings: config.Mqtt,
        cameras: Sequence[config.Camera],
        device: Device,
        photos: Photos,
        watched: Sequence[str] = (),
        *,
        nothing: str = NOTHING,
        state: Path | None = None,
        history: Path | None = None,
        make_outbox: Callable[[Path, Limits], Outbox] = Outbox,
    ) -> None:
        self.stored = 0
        self._settings = settings
        self.topics = topics = Topics(settings.prefix, settings.node, [c.name for c in cameras])
        folder = state_directory() if state is None else state
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._accepted = 0
        self._overrun = 0
        self._state = State(topics, nothing)
        self._pictures = Pictures(photos, topics)
        self._security = Security(topics, self._post, enabled=settings.security)

        # The sink's thread alone has these.
        limits = Limits(
            settings.outbox_events, int(settings.outbox_mb * 2**20), settings.outbox_days * 86_400
        )
        self._make_outbox = functools.partial(make_outbox, folder / "outbox.db", limits)
        self._link = Link(
            settings, topics.client_id, self._hear_of, Will(topics.availability, OFFLINE)
        )
        self._today = Today(history, topics, device, watched)
        self._discovery = Discovery(
            settings, topics, device, watched, Announced(folder / ANNOUNCED_FILE), self._today
        )
        self._delivery = Delivery(topics)
        self._commands = Commands(
            device,
            topics.slugs,
            topics,
            self._state,
            self._inbox.put,
            taken=settings.commands,
            images=settings.images,
        )
        self._tick_due = 0.0
        self._health_due = math.inf
        self._announce_due = math.inf
        # A daemon, because a disk that hangs for good must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-mqtt", daemon=True)
        self._thread.start()

    # What the node's thread calls.

    @property
    def problem(self) -> str:
        """Why the broker is not reached, empty while it is."""
        return self._link.problem

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Take a label change: from here it is on its way to the disk, and then to the broker."""
        if self._post(change):
            self._accepted += 1
            return
        if not self._overrun:
            _log.warning("mqtt: the disk hangs; label changes are dropped and counted")
        self._overrun += 1

    def observe(self, observation: Observation) -> None:
        """Note the score, and take the picture where one is wanted."""
        self._state.observe(observation)
        if self._settings.images and self._pictures.take(observation):
            self._post(None)

    def report(self, health: DeviceHealth) -> None:
        """Take how the device is."""
        self._post(health)

    def close(self) -> None:
        """Say good-bye to the broker, and leave on disk what it has not taken."""
        self._security.close()
        self._closing.set()
        self._inbox.put(None)
        self._thread.join(GOODBYE_S + 0.5)
        if lost := self._accepted - self._delivery.taken:
            _log.error("mqtt: %d label changes are lost: the outbox has not taken them", lost)
            self._accepted -= lost

    def _post(self, item: object) -> bool:
        """Put something into the inbox, for any thread, None only to wake ours; False when a
        disk that hangs has let it fill up."""
        if self._inbox.qsize() >= MAX_INBOX:
            return False
        self._inbox.put(item)
        return True

    def _hear_of(self, happening: Happening) -> None:
        """What a connection posts: all that is its own, and commands while there is room."""
        if isinstance(happening, Received):
            self._post(happening)
        else:
            self._inbox.put(happening)

    # The thread labelcam-mqtt.

    def _run(self) -> None:
        while True:
            try:
                self._serve()
                break
            except Exception as error:  # noqa: BLE001 - the outbox is opened again, or it is the end
                self._lose(f"the outbox fails ({_described(error)}); opened again in {RETRY_S:g} s")
            if self._closing.is_set():
                break
            self._closing.wait(RETRY_S)
        self._link.close()

    def _serve(self) -> None:
        with contextlib.closing(self._make_outbox()) as self._outbox:
            self._delivery.open(self._outbox)
            ends = False
            while not ends:
                # Whatever came before close is in the inbox by now.
                ends = self._closing.is_set()
                items = self._next(wait=not ends)
                # First of all, so that they are kept whatever becomes of the rest.
                self._delivery.take([item for item in items if isinstance(item, LabelChange)])
                try:
                    self._talk(items, ends=ends)
                except Exception as error:  # noqa: BLE001 - the outbox goes on without a broker
                    self._lose(f"internal fault, please report it: {_described(error)}")
                self.stored = len(self._outbox)
            self._say_goodbye()

    def _next(self, *, wait: bool) -> list[Any]:
        """All that happened, after a wait until something does or something is due."""
        due = min(self._tick_due, self._link.due, self._health_due, self._announce_due)
        items = []
        with contextlib.suppress(queue.Empty):
            wait_s = max(0.0, due - time.monotonic()) if wait else 0.0
            items.append(self._inbox.get(timeout=wait_s))
            while True:
                items.append(self._inbox.get_nowait())
        return items

    def _talk(self, items: list[Any], *, ends: bool) -> None:
        """Do what follows from what happened, and what is due."""
        changes = [item for item in items if isinstance(item, LabelChange)]
        self._state.change(changes)
        if changes:
            self._today.expect_change(time.monotonic())
        for item in items:
            self._handle(item)
        if not ends:
            self._do_what_is_due(time.monotonic())
            self._pump()

    def _do_what_is_due(self, now: float) -> None:
        if now >= self._tick_due:
            self._tick_due = now + _TICK_S
            self._outbox.tick()
            self._today.attend(self._state, now)
        if now >= self._announce_due:
            self._announce_due = math.inf
            self._announce()
        if now >= self._health_due:
            self._say_health(now)
        if now >= self._link.due:
            self._link.attend(now)

    def _handle(self, item: object) -> None:
        match item:
            case DeviceHealth():
                self._follow(item)
            case Answer():
                self._commands.answer(item)
            case Connected() | Lost() | Acknowledged() | Received() | Subscribed():
                if item.connection is self._link.connection:
                    self._hear(item)

    def _hear(self, happening: Happening) -> None:
        match happening:
            case Connected(_, window):
                self._come_up(window)
            case Lost(_, reason, slow, other_version):
                self._lose(reason, slow=slow, other_version=other_version)
            case Acknowledged():
                self._acknowledge(happening)
            case Subscribed(_, refusal):
                if refusal:
                    _log.warning("mqtt: the broker gives us no commands: %s", refusal)
            case Received(topic=topic, payload=payload):
                if topic != self._discovery.birth_topic:
                    self._commands.receive(happening)
                elif payload == ONLINE:
                    jitter_s = random.uniform(0, BIRTH_JITTER_S)  # noqa: S311
                    self._announce_due = time.monotonic() + jitter_s

    def _follow(self, health: DeviceHealth) -> None:
        before = self._state.health
        self._state.follow(health)
        if before is None or _shape(before) != _shape(health):
            self._announce()
            self._health_due = 0.0

    def _say_health(self, now: float) -> None:
        health = self._state.health
        assert health is not None
        self._health_due = now + health.interval_s
        # A sensor whose value is not repeated expires in Home Assistant.
        self._state.say_states(again=True)
        outbox = {
            "events": len(self._outbox),
            "bytes": self._outbox.size_bytes,
            "dropped": self._outbox.dropped + self._overrun,
            "damaged": self._outbox.damaged,
            "trouble": self._outbox.trouble,
        }
        link = {**self._link.describe(), "ignored": self._commands.ignored}
        message = health_message(health, self.topics, time.time(), outbox, link)
        self._state.put(self.topics.health, message, qos=0)

    def _announce(self) -> None:
        for topic, payload in self._discovery.messages(self._state.health):
            self._state.put(topic, payload)

    def _come_up(self, window: int) -> None:
        """Tell the broker everything again: it may have lost all that it knew of us."""
        connection = self._link.come_up()
        self._delivery.begin(connection, window)
        if self._settings.commands:
            connection.subscribe(*self.topics.commands)
        if self._settings.discovery:
            connection.subscribe(self._discovery.birth_topic)
        self._announce()
        self._state.come_up()
        if self._state.health is not None:
            self._health_due = 0.0

    def _lose(self, reason: str, *, slow: bool = False, other_version: bool = False) -> None:
        self._link.lose(reason, slow=slow, other_version=other_version)
        self._pictures.clear()

    def _acknowledge(self, message: Acknowledged) -> None:
        what = self._delivery.acknowledge(message.mid, refused=bool(message.refusal))
        if message.refusal and what:
            reason = self._link.refuse(what, message.refusal)
            if what == EVENTS:
                self._lose(reason, slow=True)
            else:
                _log.warning("mqtt: %s", reason)

    def _pump(self) -> None:
        """Send what is waiting, as far as the window of unacknowledged messages allows."""
        if self._link.is_up:
            self._commands.send(self._delivery)
            self._state.send(self._delivery)
            self._delivery.send_events()
            self._security.send(self._delivery)
            self._pictures.send(self._delivery)

    def _say_goodbye(self) -> None:
        if not self._link.is_up:
            return
        self._state.end()
        deadline = time.monotonic() + GOODBYE_S
        self._pump()
        while self._link.is_up and not self._delivery.idle:
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(item, Happening) and item.connection is self._link.connection:
                self._hear(item)
            self._pump()
        if self._link.leave():
            # The network thread needs a moment to send it; it posts when it is done.
            with contextlib.suppress(queue.Empty):
                while not isinstance(self._inbox.get(timeout=0.2), Lost):
                    pass


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _shape(health: DeviceHealth) -> object:
    """What the entities of Home Assistant depend on."""
    models = [camera.controls.model for camera in health.cameras if camera.controls]
    return models, [camera.taught for camera in health.cameras], health.interval_s
