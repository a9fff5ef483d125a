"""One connection to a broker, from looking its name up until it is lost.

Each attempt is a client of its own, so that nothing of a connection outlives it: what is
still unacknowledged lies in the outbox, and nowhere else. The network thread belongs to
paho; all it does for us is to put what happened into the owner's inbox.
"""

import contextlib
import os
import socket
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from device.config import Mqtt
from device.errors import SinkError

CONNECT_TIMEOUT_S = 10.0
# The window of unacknowledged messages: on a network of 10 ms it lets 6,000 a second through.
WINDOW = 64
# A command over its few bytes is answered with the reason, and for that it must be
# received; what is longer than this the broker keeps to itself.
_MAX_PACKET_BYTES = 32 << 20
_MAX_SECRET_BYTES = 4096
_CREDENTIAL = "mqtt-password"
_KEEP_ALIVE_TIMEOUT = 0x8D


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
    """A message for us, cut to ``kept`` bytes; ``size`` is what it had."""

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


def port_of(settings: Mqtt) -> int:
    """The port asked for, or the one that is usual for this transport."""
    if settings.port:
        return settings.port
    if settings.transport == "websockets":
        return 443 if settings.tls else 80
    return 8883 if settings.tls else 1883


def password_of(settings: Mqtt) -> str | None:
    """The password, or None where there is none to give. Raises SinkError."""
    path = settings.password_file
    if not path:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if not credentials or not (Path(credentials) / _CREDENTIAL).exists():
            return None
        path = str(Path(credentials) / _CREDENTIAL)
    _refuse_public(path, "password_file")
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - read to a bound
            text = file.read(_MAX_SECRET_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"mqtt: password_file {path}: {_reason(error)}") from None
    if not (password := text.partition("\n")[0].rstrip("\r")):
        raise SinkError(f"mqtt: password_file {path}: its first line is empty")
    if not settings.username:
        raise SinkError(f"mqtt: {path} gives a password without a user; set mqtt.username")
    return password


def tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    """What verifies the broker, or None without TLS. Raises SinkError."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"mqtt: ca_file {settings.ca_file}: {_reason(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to demand extensions that the authorities people make for their own
    # broker lack. Chain, dates and host name are verified all the same, on every Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.key_file:
        _refuse_public(settings.key_file, "key_file")
        try:
            # A key under a passphrase would have OpenSSL ask for it on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: b"-")
        except (OSError, ssl.SSLError) as error:
            raise SinkError(
                f"mqtt: cert_file {settings.cert_file} with key_file {settings.key_file}: "
                f"{_reason(error)}; give a PEM certificate and its own key, without a passphrase"
            ) from None
    return context


def _refuse_public(path: str, key: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise SinkError(f"mqtt: {key} {path}: {_reason(error)}") from None
    if mode & stat.S_IROTH:
        raise SinkError(f"mqtt: {key} {path}: is readable by everyone; run: chmod o-rwx {path}")


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
        kept_bytes: int = 4096,
    ) -> None:
        self.version = version
        self._settings = settings
        self._post = post
        self._kept_bytes = kept_bytes
        self._answered = False
        self._is_silent = False
        self._is_aborted = False
        # A descriptor of our own for the socket, since what TLS and websockets wrap does not
        # take every option. None before it is open and after it is closed.
        self._tcp: socket.socket | None = None
        v5 = version == MQTTProtocolVersion.MQTTv5
        self._client = client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            clean_session=None if v5 else True,
            transport=settings.transport,
            reconnect_on_failure=False,
        )
        client.ended = self._ended
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(WINDOW)
        client.suppress_exceptions = True
        client.on_socket_open = self._on_socket_open
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
        """Begin to connect. Raises SinkError for secrets and keys that cannot be used."""
        settings = self._settings
        if context := tls_context(settings):
            self._client.tls_set_context(context)
        password = password_of(settings)
        if settings.username:
            self._client.username_pw_set(settings.username, password)
        properties = None
        if self.version == MQTTProtocolVersion.MQTTv5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.MaximumPacketSize = _MAX_PACKET_BYTES
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

    def _on_socket_open(self, _client: object, _data: object, sock: Any) -> None:
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
            self._post(refused(self, code))
            return
        window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._post(Connected(self, window))

    def _on_disconnect(
        self, _client: object, _data: object, flags: Any, code: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._post(refused(self, code))
        elif code.value == _KEEP_ALIVE_TIMEOUT:
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
        payload = bytes(message.payload[: self._kept_bytes])
        size = len(message.payload)
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        self._post(Received(self, topic, payload, size, message.retain))

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
        settings = self._settings
        where = f"{settings.host}:{port_of(settings)}"
        if error is not None:
            self._post(Lost(self, explain(error, settings)))
        elif self._is_silent:
            self._post(Lost(self, f"{where} has not answered for {settings.keepalive_s} s"))
        elif not self._answered:
            remedy = "cert_file and key_file" if settings.tls else "tls = true"
            self._post(
                Lost(
                    self,
                    f"{where} closed the connection without an answer in MQTT; is it a broker, "
                    f"and does it want {remedy}?",
                    other_version=True,
                )
            )
        else:
            self._post(Lost(self, f"{where} closed the connection"))


class _Client(paho.Client):
    """paho's client whose network thread cannot end unseen, whatever it meets."""

    ended: Callable[[Exception | None], None]

    def loop_forever(
        self, timeout: float = 1.0, retry_first_connection: bool = False
    ) -> MQTTErrorCode:
        """Connect once, and serve the connection until it is lost."""
        error: Exception | None = None
        try:
            self.reconnect()
            super().loop_forever(timeout, retry_first_connection)
        except Exception as caught:  # noqa: BLE001 - told to the sink, which tries again
            # Its frames hold a socket that paho forgets when a handshake fails.
            error = caught.with_traceback(None)
        # Where it ended by an error of its own, paho leaves it open.
        if (sock := self.socket()) is not None:
            sock.close()
        self.ended(error)
        return MQTTErrorCode.MQTT_ERR_SUCCESS


def refused(connection: Connection, code: ReasonCode) -> Lost:
    """What a reason of the broker's means for whoever runs the device."""
    text, slow = _REFUSALS.get(code.value, (f"the broker says: {code.getName()}", True))
    return Lost(connection, text, slow=slow, other_version=code.value == 0x84)


_REFUSALS = {
    0x84: ("the broker does not speak this version of MQTT", False),
    0x85: ("the broker refuses the client id; let it take any of 20 letters and digits", True),
    0x86: ("wrong user or password; check mqtt.username and password_file", True),
    0x87: ("not authorised; let the broker's access list have this user", True),
    0x88: ("the broker is not available", False),
    0x89: ("the broker is busy", True),
    0x8A: ("banned by the broker; look into its log", True),
    0x8B: ("the broker shuts down", False),
    0x8D: ("the broker has not heard from us for too long", False),
    0x8E: (
        "another client took over our client id; a copied card has its machine's id too: "
        "run systemd-machine-id-setup on one of the two, or give them different mqtt.node",
        True,
    ),
    0x97: ("the broker's quota is used up", True),
    0x9A: ("the broker keeps no retained messages, which labelcam needs; allow them", True),
    0x9F: ("the broker limits how often we may connect", True),
}


def explain(error: Exception, settings: Mqtt) -> str:
    """An error on the way to a broker, as a line that says what to do."""
    where = f"{settings.host}:{port_of(settings)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: {_CERTIFICATE.get(error.verify_code, error.verify_message)}"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return f"{where}: refuses us in TLS ({_reason(error)}); check cert_file and key_file"
    for kind, text in _FAULTS:
        if isinstance(error, kind):
            return text.format(
                where=where,
                host=repr(settings.host),
                path=settings.path,
                timeout=CONNECT_TIMEOUT_S,
                reason=_reason(error),
            )
    return f"{where}: answers something that is not MQTT; is it a broker?"


# The first kind that an error is of decides: subclasses before what they are derived from.
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "host {host} is not known; check mqtt.host and the network"),
    (ssl.SSLError, "{where}: no TLS there ({reason}); is it the broker's TLS port?"),
    (ConnectionRefusedError, "{where}: nothing listens there; does the broker run, on this port?"),
    (
        ConnectionResetError,
        "{where}: closed the connection at once; is it a broker, and does it want mqtt.tls so?",
    ),
    (TimeoutError, "{where}: no answer in {timeout:g} s; check host, port and firewall"),
    (
        paho.WebsocketConnectionError,
        "{where}: no websocket for MQTT at {path}; check mqtt.path and mqtt.port",
    ),
    (OSError, "{where}: {reason}; check the network"),
    (UnicodeError, "host {host} is no host name; check mqtt.host"),
)

# OpenSSL's numbers, of x509_vfy.h.
_CERTIFICATE = {
    9: "the broker's certificate is not valid yet; is this device's clock right?",
    10: "the broker's certificate has expired; renew it, or set this device's clock",
    18: "the broker's certificate is signed by itself; give it as mqtt.ca_file",
    19: "the broker's authority is not trusted; give its certificate as mqtt.ca_file",
    20: "the broker's certificate is of another authority; give that one as mqtt.ca_file",
    21: "the broker's certificate is of another authority; give that one as mqtt.ca_file",
    62: "the broker's certificate is for another host; use the name that it has as mqtt.host",
    64: "the broker's certificate is for another address; use the name that it has as mqtt.host",
}


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "is no certificate in PEM form").lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "is not text in UTF-8"
