"""Events that bear on security to the broker, where ``mqtt.security`` asks for them."""

import logging
from collections import deque
from collections.abc import Callable

import msgspec

from device.sinks.mqtt.delivery import Delivery
from device.sinks.mqtt.topics import Topics
from device.sinks.wire import iso
from device.system.audit import LOGGER

# What waits while the broker is away; the newest count.
_MAX_WAITING = 256


class SecurityMessage(msgspec.Struct, frozen=True):
    """An event of ``device.system.audit`` with its UTC time."""

    at: str
    event: str
    what: str


class Security(logging.Handler):
    """Takes what is noted, on any thread, as long as it is open; not for what must arrive.

    That is in the log of the device.
    """

    def __init__(self, topics: Topics, wake: Callable[[None], object], *, enabled: bool) -> None:
        super().__init__(logging.INFO)
        self._topic = topics.of(None, "security")
        self._wake = wake
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        if enabled:
            logging.getLogger(LOGGER).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Have the event sent."""
        fields = vars(record)
        message = SecurityMessage(iso(record.created), fields["event"], fields["what"])
        self._waiting.append(msgspec.json.encode(message))
        self._wake(None)

    def send(self, delivery: Delivery) -> None:
        """Send what waits, as far as the window allows."""
        while self._waiting and delivery.room > 0:
            delivery.send(self._topic, self._waiting.popleft())

    def close(self) -> None:
        """Take no more."""
        logging.getLogger(LOGGER).removeHandler(self)
        super().close()
