"""The way of a label change: into the outbox, to the broker, and its acknowledgement."""

import time
from collections.abc import Sequence

from paho.mqtt.client import MQTTMessageInfo

from device.events import LabelChange
from device.health import vitals
from device.sinks.mqtt.connection import WINDOW, Connection
from device.sinks.mqtt.payloads import event_message
from device.sinks.mqtt.topics import Topics, slug
from device.sinks.outbox import Outbox
from device.sinks.outbox.storage import Event
from device.sinks.wire import Ids, change_fields

EVENTS = "events"


class Delivery:
    """What is on its way to the broker, within its window of unacknowledged messages.

    An event leaves the outbox when it and all before it are acknowledged. Nothing outlives
    its connection: ``begin`` starts with the oldest event again. ``taken`` counts the changes
    that are in the outbox or have been.
    """

    def __init__(self, topics: Topics) -> None:
        self.taken = 0
        self._topics = topics
        self._ids = Ids()
        self._outbox: Outbox
        # What the outbox has not taken: with an error of its own it is opened again.
        self._untaken: list[Event] = []
        self._connection: Connection | None = None
        self._window = WINDOW
        # Up to these numbers events were sent, and are sent again or late.
        self._sent_through = 0
        self._replay_through = 0
        # By message id: an event's number, or the topic of what is no event.
        self._flights: dict[int, int | str] = {}

    def open(self, outbox: Outbox) -> None:
        """Use this outbox from now on; comes before all else."""
        self._outbox = outbox
        self.take([])

    def take(self, changes: Sequence[LabelChange]) -> None:
        """Put label changes into the outbox, in one transaction."""
        synced = bool(vitals.clock_synced()) if changes else False
        for change in changes:
            at = vitals.wall_time(change.at)
            self._untaken.append(
                Event(id=self._ids.next(at), clock_synced=synced, **change_fields(change, at))
            )
        if self._untaken:
            self._outbox.add(self._untaken)
            self.taken += len(self._untaken)
            self._untaken = []

    def begin(self, connection: Connection, window: int) -> None:
        """Send through this connection from now on, everything unacknowledged again."""
        self._connection, self._window = connection, window
        self._flights.clear()
        self._sent_through, self._replay_through = 0, self._outbox.newest

    @property
    def room(self) -> int:
        """How many messages the window still takes."""
        return self._window - len(self._flights)

    @property
    def idle(self) -> bool:
        """Whether all was sent and acknowledged."""
        return not self._flights and self._sent_through >= self._outbox.newest

    def send(
        self, topic: str, payload: bytes, *, qos: int = 1, retain: bool = False
    ) -> MQTTMessageInfo:
        """Send a message that is no event."""
        return self._send(topic, payload, topic, qos=qos, retain=retain)

    def send_events(self) -> None:
        """Send the events that were not sent yet, as far as the window allows."""
        while self._sent_through < self._outbox.newest:
            # Not one by one as they are acknowledged: each look into the outbox has its price.
            if self.room < min(max(1, self._window // 2), self._outbox.newest - self._sent_through):
                return
            batch = self._outbox.pending(self._sent_through, self.room)
            if not batch:
                self._sent_through = self._outbox.newest
                return
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            for stored in batch:
                age_s = None if stored.since is None else now - stored.since
                replayed = stored.number <= self._replay_through
                payload = event_message(stored.event, age_s, replayed=replayed)
                camera = stored.event.camera
                # A camera that the configuration no longer has left events behind.
                level = self._topics.slugs.get(camera) or slug(camera, "camera")
                self._send(f"{self._topics.root}/{level}/event", payload, stored.number)
                self._sent_through = stored.number

    def acknowledge(self, mid: int, *, refused: bool) -> str:
        """A message has arrived, or was refused; returns what it was: a topic, or EVENTS.

        An event that was refused stays in the outbox, and so do those that follow it, until
        the next ``begin``.
        """
        flight = self._flights.pop(mid, "")
        if isinstance(flight, str):
            return flight
        if not refused:
            waiting = [number for number in self._flights.values() if isinstance(number, int)]
            self._outbox.acknowledge(min(waiting, default=self._sent_through + 1) - 1)
        return EVENTS

    def _send(
        self, topic: str, payload: bytes, flight: int | str, *, qos: int = 1, retain: bool = False
    ) -> MQTTMessageInfo:
        assert self._connection is not None
        info = self._connection.publish(topic, payload, qos, retain)
        if qos:
            self._flights[info.mid] = flight
        return info
