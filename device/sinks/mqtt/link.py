"""The way to the broker: the connection in force, and when to try the next one."""

import logging
import math
import time
from collections.abc import Callable

from paho.mqtt.enums import MQTTProtocolVersion

from device.config import Mqtt
from device.sinks.mqtt.broker import address_of
from device.sinks.mqtt.connection import (
    OTHER_VERSION,
    VERSION_NAMES,
    WINDOW,
    Connection,
    Happening,
    Lost,
    Will,
)
from device.sinks.retry import Retry

_log = logging.getLogger("labelcam.mqtt")

# For the name to be looked up, the connection, TLS and the broker's answer, together.
_ATTEMPT_S = 45.0
FIRST_VERSION = MQTTProtocolVersion.MQTTv5


class Link:
    """One connection at a time, made again when it was lost; all that ends one is ``Lost``.

    ``problem`` is why the broker is not reached, empty while it is; ``due`` is when, on the
    monotonic clock, ``attend`` has something to do. ``post`` gets what happens to the
    connection, from any thread.
    """

    def __init__(
        self,
        settings: Mqtt,
        client_id: str,
        post: Callable[[Happening], None],
        will: Will,
    ) -> None:
        self.problem = "not connected yet"
        self.due = 0.0
        self.connection: Connection | None = None
        self.is_up = False
        self._settings = settings
        self._client_id = client_id
        self._post = post
        self._will = will
        self._version = FIRST_VERSION
        self._retry = Retry()
        self._refusal = ""
        self._times_up = 0
        self._where = address_of(settings)

    def describe(self) -> dict[str, str | int]:
        """Broker, version of the protocol and number of reconnections, for health."""
        return {
            "broker": self._where,
            "protocol": VERSION_NAMES[self._version],
            "reconnects": max(0, self._times_up - 1),
        }

    def attend(self, now: float) -> None:
        """Begin an attempt, or give up one that has had no answer; to be called when due."""
        if self.connection is not None:
            self.due = math.inf
            self._post(Lost(self.connection, f"{self._where}: no answer in {_ATTEMPT_S:g} s"))
            return
        self.due = now + _ATTEMPT_S
        self.connection = Connection(
            self._settings,
            self._client_id,
            self._post,
            version=self._version,
            will=self._will,
            # A broker that hangs up on what it refuses takes its answer along where more is on
            # the way: one message at a time shows which it was.
            window=1 if self._retry.contested else WINDOW,
        )
        self.connection.start()

    def come_up(self) -> Connection:
        """The broker let us in; returns the connection."""
        assert self.connection is not None
        self.is_up, self.problem, self.due = True, "", math.inf
        self._refusal = ""
        self._times_up += 1
        self._retry.came_up(time.monotonic())
        _log.info("mqtt: connected to %s, %s", self._where, VERSION_NAMES[self._version])
        return self.connection

    def refuse(self, what: str, reason: str) -> str:
        """Note that the broker refuses something, and say it in a line that it returns.

        Mosquitto, having refused a message, closes the connection without a word: this is
        then why.
        """
        self._refusal = f"{self._where} refuses {what}: {reason}; check its access list"
        return self._refusal

    def lose(self, reason: str, *, slow: bool = False, other_version: bool = False) -> None:
        """Let the connection go, say why where that is new, and try again later."""
        self.close()
        if other_version:
            self._version = OTHER_VERSION[self._version]
        if self._refusal:
            reason, slow = self._refusal, True
        now = time.monotonic()
        wait_s = self._retry.wait_s(now, slow=slow)
        self.due = now + wait_s
        if self._retry.contested and not self._refusal:
            reason += (
                "; that keeps happening: another client with our id, or something it refuses? "
                "see the broker's log"
            )
        if reason != self.problem:
            _log.warning("mqtt: %s; next attempt in %.0f s", reason, wait_s)
            self.problem = reason

    def leave(self) -> bool:
        """Say good-bye after what was published, ``Lost`` then follows; False without anybody to
        say it to."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.disconnect()
        return connection is not None

    def close(self) -> None:
        """End the connection at once, if there is one."""
        connection, self.connection = self.connection, None
        self.is_up = False
        if connection is not None:
            connection.abort()
