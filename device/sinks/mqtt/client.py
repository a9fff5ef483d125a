"""paho's client with bounds: nothing that a broker sends takes more than a little memory."""

import socket
from collections.abc import Callable
from typing import Any, Self

from paho.mqtt import client as paho
from paho.mqtt.enums import MQTTErrorCode

# What a websocket brings is handed on a frame at a time.
MAX_FRAME_BYTES = 1 << 20
_CHUNK_BYTES = 64 << 10
# Room for the longest topic, 64 KB, and what is said beside it, before the payload.
_KEPT_BYTES = 128 << 10
# A broker that reads sees each acknowledgement at once; our own messages wait in the outbox.
_UNSENT_PACKETS = 1000


class Client(paho.Client):
    """A client of one connection, whose network thread cannot end unseen, whatever it meets.

    ``dialled`` gets the socket before TLS and websockets begin, ``ended`` the error that the
    connection ended with. Of a packet over 128 KiB only the beginning is kept.
    """

    dialled: Callable[[socket.socket], None]
    ended: Callable[[Exception | None], None]

    @property
    def cut_bytes(self) -> int:
        """How much was let go of the packet that is being handled."""
        packet = self._in_packet["packet"]
        return packet.cut_bytes if isinstance(packet, _Head) else 0

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
        # Whoever is called here holds us as well. Python would find the circle in time, and until
        # then each attempt at a broker that is down for long would keep its descriptors.
        self.on_connect = self.on_disconnect = self.on_publish = None
        self.on_message = self.on_subscribe = None
        del self.dialled, self.ended
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    # Seams of paho's that it does not document: tests/mqtt/test_bounds.py shows that they hold.

    def _sock_recv(self, bufsize: int) -> bytes:
        """What has come; ``bufsize`` is at first the whole length that a packet announces."""
        if len(self._out_packet) > _UNSENT_PACKETS:
            raise BufferError
        if bufsize > _KEPT_BYTES and not self._in_packet["packet"]:
            self._in_packet["packet"] = _Head()
        return super()._sock_recv(min(bufsize, _CHUNK_BYTES))

    def _handle_publish(self) -> MQTTErrorCode:
        # We subscribe at QoS 1. At 2 paho keeps up to 65,535 messages until they are released.
        if self._in_packet["command"] & 0b110 > 0b010:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._handle_publish()

    def _create_socket_connection(self) -> socket.socket:
        sock = super()._create_socket_connection()
        self.dialled(sock)
        return sock

    def _create_socket(self) -> Any:
        if self._transport != "websockets":
            return super()._create_socket()
        sock = self._create_socket_connection()
        try:
            if self._ssl:
                sock = self._ssl_wrap_socket(sock)
            sock.settimeout(self._connect_timeout)
            return _Websocket(
                socket=sock,
                host=self._host,
                port=self._port,
                is_ssl=self._ssl,
                path=self._websocket_path,
                extra_headers=self._websocket_extra_headers,
            )
        except BaseException:
            sock.close()
            raise


class _Head(bytearray):
    """The beginning of a packet; ``cut_bytes`` counts what came after it and was let go."""

    cut_bytes = 0

    def __iadd__(self, data: Any) -> Self:  # type: ignore[misc]
        room = _KEPT_BYTES - len(self)
        self.extend(data[:room])
        self.cut_bytes += max(0, len(data) - room)
        return self


class _Websocket(paho._WebsocketWrapper):
    """paho's websocket, which collects a whole line of the handshake, and a whole frame."""

    @property
    def _readbuffer(self) -> bytearray:
        return self.__buffer

    @_readbuffer.setter
    def _readbuffer(self, value: bytearray) -> None:
        self.__buffer = _Bounded(value)


class _Bounded(bytearray):
    def extend(self, data: Any) -> None:
        if len(self) + len(data) > MAX_FRAME_BYTES + _CHUNK_BYTES:
            raise paho.WebsocketConnectionError(f"more than {MAX_FRAME_BYTES} bytes")
        super().extend(data)
