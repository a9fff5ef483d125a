"""``labelcam mqtt check`` and ``labelcam mqtt forget``: the way to the broker, by hand."""

import queue
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from paho.mqtt.enums import MQTTProtocolVersion

from device.config import Mqtt
from device.errors import SinkError
from device.sinks.mqtt.announced import Announced
from device.sinks.mqtt.broker import password_of, port_of, tls_context
from device.sinks.mqtt.connection import (
    OTHER_VERSION,
    VERSION_NAMES,
    Acknowledged,
    Connected,
    Connection,
    Happening,
    Lost,
    Received,
    Subscribed,
)
from device.sinks.mqtt.discovery import topic_of
from device.sinks.mqtt.faults import CONNECT_TIMEOUT_S, explain
from device.sinks.mqtt.topics import Topics

_ANSWER_S = 10.0
# Retained messages come right after the subscription; a pause of this length ends them.
_QUIET_S = 0.5
# A node has less than a hundred topics; a broker that sends more is not to be heard for ever.
_MESSAGES_MAX = 1000

_Kind = TypeVar("_Kind", bound=Happening)


class _Failed(Exception):
    """A step that failed, in a line that says what to do; ``other_version`` as in ``Lost``."""

    def __init__(self, reason: str, *, other_version: bool = False) -> None:
        super().__init__(reason)
        self.other_version = other_version


def check(settings: Mqtt, say: Callable[[str], None]) -> bool:
    """Go to the broker step by step and say how each went; whether all of them did."""
    topics = Topics(settings.prefix, settings.node, [])
    step = "secrets"
    try:
        context = tls_context(settings)
        password = password_of(settings)
        who = f"user {settings.username}" if settings.username else "no user"
        say(f"ok    secrets: {who}, {'a' if password else 'no'} password")
        step = "name"
        say(f"ok    name: {settings.host} is {_resolve(settings)}")
        step = "port"
        address = (settings.host, port_of(settings))
        with socket.create_connection(address, CONNECT_TIMEOUT_S) as sock:
            say(f"ok    port: something listens on {port_of(settings)}")
            if context is not None:
                step = "TLS"
                with context.wrap_socket(sock, server_hostname=settings.host) as secure:
                    say(f"ok    TLS: {secure.version()}, the certificate is for {settings.host}")
        step = "login"
        with _Visit(settings, topics) as visit:
            say(f"ok    login: {VERSION_NAMES[visit.version]}, as {visit.client_id}")
            step = "messages"
            visit.exchange(topics.of(None, "check"))
        say(f"ok    messages: sent and received below {topics.root}")
    except (OSError, ValueError) as error:
        say(f"FAIL  {step}: {explain(error, settings)}")
    except SinkError as error:
        say(f"FAIL  {step}: {str(error).removeprefix('mqtt: ')}")
    except _Failed as error:
        say(f"FAIL  {step}: {error}")
    else:
        return True
    return False


def forget(settings: Mqtt, announced: Announced, say: Callable[[str], None]) -> None:
    """Take the device back from Home Assistant and its retained messages from the broker.

    Raises SinkError where the broker cannot be reached or refuses.
    """
    topics = Topics(settings.prefix, settings.node, [])
    now = topic_of(settings.discovery_prefix, topics)
    try:
        with _Visit(settings, topics) as visit:
            left = visit.retained(f"{topics.root}/#")
            for topic in dict.fromkeys((announced.topic or now, now, *left)):
                visit.publish(topic, b"", retain=True)
    except _Failed as error:
        raise SinkError(f"mqtt: {error}") from None
    announced.forget()
    say(
        f"{topics.node} is forgotten: its entities and {len(left)} retained messages are gone; "
        "a labelcam that runs with mqtt.discovery announces itself again"
    )


def _resolve(settings: Mqtt) -> str:
    found = socket.getaddrinfo(settings.host, port_of(settings), type=socket.SOCK_STREAM)
    return ", ".join(dict.fromkeys(str(address[0]) for *_, address in found))


class _Visit:
    """A short connection beside that of the running device, under another client id."""

    def __init__(self, settings: Mqtt, topics: Topics) -> None:
        self.client_id = f"{topics.client_id}-{secrets.token_hex(2)}"
        self.version = MQTTProtocolVersion.MQTTv5
        self._settings = settings
        self._inbox: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        self._received: deque[bytes] = deque(maxlen=_MESSAGES_MAX)
        self._connection = self._connect()

    def __enter__(self) -> "_Visit":
        try:
            self._wait(Connected)
        except _Failed as failed:
            self._connection.abort()
            if not failed.other_version:
                raise
            self.version = OTHER_VERSION[self.version]
            self._connection = self._connect()
            self._wait(Connected)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.disconnect()

    def _connect(self) -> Connection:
        connection = Connection(
            self._settings, self.client_id, self._inbox.put, version=self.version
        )
        connection.start()
        return connection

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Send it, and wait until the broker has it."""
        mid = self._connection.publish(topic, payload, 1, retain).mid
        while (acknowledged := self._wait(Acknowledged)).mid != mid:
            pass
        if acknowledged.refusal:
            raise _Failed(
                f"the broker refuses to take {topic}: {acknowledged.refusal}; "
                "let its access list have this user publish there"
            )

    def exchange(self, topic: str) -> None:
        """Send a message to ourselves."""
        token = secrets.token_hex(8).encode()
        self._subscribe(topic)
        self.publish(topic, token)
        # It may have come before its own acknowledgement.
        while token not in self._received:
            self._wait(Received, f"our own message on {topic} did not come back")

    def retained(self, topic_filter: str) -> list[str]:
        """The topics under a filter that hold a retained message."""
        self._subscribe(topic_filter)
        found: list[str] = []
        while len(found) < _MESSAGES_MAX:
            try:
                item = self._inbox.get(timeout=_QUIET_S)
            except queue.Empty:
                return found
            if isinstance(item, Received) and item.retained:
                found.append(item.topic)
            elif isinstance(item, Lost):
                raise _Failed(item.reason)
        return found

    def _subscribe(self, topic: str) -> None:
        self._connection.subscribe(topic)
        if refusal := self._wait(Subscribed).refusal:
            raise _Failed(
                f"the broker refuses to give us {topic}: {refusal}; "
                "let its access list have this user read there"
            )

    def _wait(self, kind: type[_Kind], problem: str = "the broker does not answer") -> _Kind:
        """The next happening of this kind."""
        deadline = time.monotonic() + _ANSWER_S
        while True:
            try:
                item = self._inbox.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise _Failed(
                    f"{problem} in {_ANSWER_S:g} s; look into its log and its access list"
                ) from None
            if item.connection is not self._connection:
                continue
            if isinstance(item, Lost):
                raise _Failed(item.reason, other_version=item.other_version)
            if isinstance(item, Received):
                self._received.append(item.payload)
            if isinstance(item, kind):
                return item
