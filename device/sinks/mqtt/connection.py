"""One connection to a broker, from looking its name up until it is lost.

Each attempt is a client of its own, so that nothing of a connection outlives it: what is
still unacknowledged lies in the outbox, and nowhere else. The network thread belongs to
paho; all it does for us is to put what happened into the owner's inbox.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device.config import Mqtt
from device.control.commands import MAX_BYTES
from device.errors import SinkError
from device.sinks.mqtt.broker import address_of, password_of, port_of, tls_context
from device.sinks.mqtt.client import MAX_FRAME_BYTES, Client
from device.sinks.mqtt.faults import (
    CONNECT_TIMEOUT_S,
    KEEP_ALIVE_TIMEOUT,
    WRONG_VERSION,
    explain,
    refusal,
)

VERSION_NAMES = {MQTTProtocolVersion.MQTTv5: "MQTT 5", MQTTProtocolVersion.MQTTv311: "MQTT 3.1.1"}
OTHER_VERSION = {
    MQTTProtocolVersion.MQTTv5: MQTTProtocolVersion.MQTTv311,
    MQTTProtocolVersion.MQTTv311: MQTTProtocolVersion.MQTTv5,
}
# The window of unacknowledged messages: on a network of 10 ms it lets 6,000 a second through.
WINDOW = 64
# A command over its few bytes is answered with the reason, and for that it must be
# received; what is longer than this the broker keeps to itself.
_MAX_PACKET_BYTES = 32 << 20
# None of ours is as long.
_TOPIC_LENGTH = 1024


class Connected(NamedTuple):
    """The broker let us in; ``window`` is how many messages it takes unacknowledged."""

    connection: "Connection"
    window: int


class Lost(NamedTuple):
    """The connection is over, or never came to be.

    ``slow`` says that trying again soon is of no use; ``other_version`` that the broker may
    understand the other version of the protocol.
    """

    connection: "Connection"
    reason: str
    slow: bool = False
    other_version: bool = False


class Acknowledged(NamedTuple):
    """The broker has a message, or refuses it for a reason."""

    connection: "Connection"
    mid: int
    refusal: str


class Received(NamedTuple):
    """A message, cut to what a command may have; ``size`` is what its payload had."""

    connection: "Connection"
    topic: str
    payload: bytes
    size: int
    retained: bool


class Subscribed(NamedTuple):
    """The broker's word on our subscriptions: those it refuses, empty when none."""

    connection: "Connection"
    refusal: str


Happening = Connected | Lost | Acknowledged | Received | Subscribed


class Will(NamedTuple):
    """What the broker says of us when we are gone."""

    topic: str
    payload: bytes


class Connection:
    """One attempt; ``post`` gets what happens, from any thread, and must not block.

    ``start`` comes back at once. After ``Lost`` nothing more is posted that matters; a
    connection may be dropped at any time with ``abort``.
    """

    def __init__(
        self,
        settings: Mqtt,
        client_id: str,
        post: Callable[[Happening], None],
        *,
        version: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv5,
        will: Will | None = None,
        window: int = WINDOW,
    ) -> None:
        self.version = version
        self._settings = settings
        self._post = post
        self._window = window
        self._answered = False
        self._is_silent = False
        self._is_aborted = False
        # A descriptor of our own for the socket, since what TLS and websockets wrap does not
        # take every option. None before it is open and after it is closed.
        self._tcp: socket.socket | None = None
        v5 = version == MQTTProtocolVersion.MQTTv5
        self._client = client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            clean_session=None if v5 else True,
            transport=settings.transport,
            reconnect_on_failure=False,
        )
        client.dialled, client.ended = self._dialled, self._ended
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(window)
        client.suppress_exceptions = True
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        if settings.transport == "websockets":
            client.ws_set_options(path=settings.path)
        if will is not None:
            client.will_set(will.topic, will.payload, qos=1, retain=True)

    def start(self) -> None:
        """Begin to connect; secrets and keys that cannot be used are ``Lost``, too."""
        settings = self._settings
        try:
            context, password = tls_context(settings), password_of(settings)
        except SinkError as error:
            self._post(Lost(self, str(error).removeprefix("mqtt: "), slow=True))
            return
        if context is not None:
            self._client.tls_set_context(context)
        if settings.username:
            self._client.username_pw_set(settings.username, password)
        properties = None
        if self.version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            framed = settings.transport == "websockets"
            properties.MaximumPacketSize = MAX_FRAME_BYTES if framed else _MAX_PACKET_BYTES
        self._client.connect_async(
            settings.host,
            port_of(settings),
            keepalive=settings.keepalive_s,
            properties=properties,
        )
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> paho.MQTTMessageInfo:
        """Send, or not, where the connection is already lost: ``Lost`` then follows."""
        return self._client.publish(topic, payload, qos, retain)

    def subscribe(self, *topics: str) -> None:
        """Ask for these topics."""
        self._client.subscribe([(topic, 1) for topic in topics])

    def disconnect(self) -> None:
        """Say good-bye, after what was published before."""
        self._client.disconnect()

    def abort(self) -> None:
        """End it at once, whatever the other end does. No thread is waited for."""
        self._is_aborted = True
        self._client.disconnect()
        # The network thread wakes from its wait and finds the connection at its end.
        self._with_tcp(lambda tcp: tcp.shutdown(socket.SHUT_RDWR))

    def _with_tcp(self, call: Callable[[socket.socket], None]) -> None:
        """Make a call on the socket, if it is open and the other end still there."""
        tcp = self._tcp
        if tcp is not None:
            with contextlib.suppress(OSError):
                call(tcp)

    # What paho calls, in its thread. Nothing here may raise or take long.

    def _dialled(self, sock: socket.socket) -> None:
        self._tcp = socket.socket(fileno=os.dup(sock.fileno()))
        self._with_tcp(lambda tcp: tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1))
        if self._is_aborted:
            # While it was being dialled: nobody will want it.
            self._with_tcp(lambda tcp: tcp.shutdown(socket.SHUT_RDWR))

    def _on_connect(
        self, _client: object, _data: object, _flags: object, code: ReasonCode, properties: Any
    ) -> None:
        self._answered = True
        if code.is_failure:
            self._refused(code)
            return
        window = min(self._window, getattr(properties, "ReceiveMaximum", WINDOW))
        self._post(Connected(self, window))

    def _on_disconnect(
        self, _client: object, _data: object, flags: Any, code: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._refused(code)
        elif code.value == KEEP_ALIVE_TIMEOUT:
            self._is_silent = True

    def _on_publish(
        self, _client: object, _data: object, mid: int, code: ReasonCode, _properties: object
    ) -> None:
        # Brokers send each of these in a packet, and by Nagle's algorithm the next only when
        # the kernel has acknowledged this one, which it delays by 40 ms unless told not to:
        # without this, a thousand events take a second, and with it a tenth of that.
        self._with_tcp(lambda tcp: tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1))
        self._post(Acknowledged(self, mid, code.getName() if code.is_failure else ""))

    def _on_message(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        payload = bytes(message.payload[:MAX_BYTES])
        size = len(message.payload) + self._client.cut_bytes
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        self._post(Received(self, topic[:_TOPIC_LENGTH], payload, size, message.retain))

    def _on_subscribe(
        self, _client: object, _data: object, _mid: int, codes: list[ReasonCode], _props: object
    ) -> None:
        refusals = [code.getName() for code in codes if code.is_failure]
        self._post(Subscribed(self, refusals[0] if refusals else ""))

    def _ended(self, error: Exception | None) -> None:
        """The network thread is at its end."""
        tcp, self._tcp = self._tcp, None
        if tcp is not None:
            tcp.close()
        settings, other_version = self._settings, False
        where = address_of(settings)
        if error is not None:
            reason = explain(error, settings)
        elif self._is_silent:
            reason = f"{where} has not answered for {settings.keepalive_s} s"
        elif self._answered:
            reason = f"{where} closed the connection"
        else:
            remedy = "cert_file and key_file" if settings.tls else "tls = true"
            reason = (
                f"{where} closed the connection without an answer in MQTT; is it a broker, "
                f"and does it want {remedy}?"
            )
            other_version = True
        self._post(Lost(self, reason, other_version=other_version))

    def _refused(self, code: ReasonCode) -> None:
        reason, slow = refusal(code)
        self._post(Lost(self, reason, slow=slow, other_version=code.value == WRONG_VERSION))


def has_landed(sent: paho.MQTTMessageInfo | None) -> bool:
    """Whether a message was acknowledged, or at QoS 0 left the device, or was lost."""
    return sent is None or sent.rc != MQTTErrorCode.MQTT_ERR_SUCCESS or sent.is_published()
