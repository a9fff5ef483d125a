"""What comes over a network: a broker's packets, and requests to the page."""

import contextlib
import queue
import socket
import time
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from paho.mqtt.enums import MQTTProtocolVersion

from device import config
from device.control.table import CONTROLS
from device.sinks.mqtt.commands import Commands
from device.sinks.mqtt.connection import Connected, Connection, Happening, Lost, Received
from device.sinks.mqtt.state import State
from device.sinks.mqtt.topics import Topics
from device.sinks.web import openapi
from tests.fuzz import mutation
from tests.fuzz.surface import Answering, Surface
from tests.web.conftest import FakeDevice, View

_PATIENCE_S = 5.0


def _packet(kind: int, body: bytes) -> bytes:
    """An MQTT packet."""
    left, digits = len(body), b""
    while True:
        left, digit = divmod(left, 128)
        digits += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([kind]) + digits + body


class Broker(Surface):
    """What a broker sends, from its first packet on. The first byte is the version: 4 or 5."""

    name = "broker"
    share = 15

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._server: Answering | None = None
        topics = Topics("labelcam", "garden", ["camera"], "machine")
        self._root = topics.root
        self._commands = Commands(
            FakeDevice(),
            topics.slugs,
            topics,
            State(topics),
            lambda _: None,
            taken=True,
            images=True,
        )

    def make(self, chance: Random) -> bytes:
        """A welcome and a few packets, changed."""
        version = chance.choice((4, 5))
        v5 = version == 5
        properties = chance.choice((b"\0", b"\3\x21\0\x10", b"\5\x27\0\0\1\0")) if v5 else b""
        packets = [_packet(0x20, b"\0\0" + properties)]
        for _ in range(chance.randrange(5)):
            way = chance.randrange(8)
            if way < 4:
                key = chance.choice((*CONTROLS, mutation.text(chance)))
                place = chance.choice(("camera/", "", "other/"))
                topic = f"{self._root}/{place}set/{key}".encode("utf-8", "replace")
                payload = chance.choice((b"0.5", b"PRESS", mutation.as_json(chance, "cat")))
                qos = chance.randrange(3)
                mid = b"\0\7" if qos else b""
                body = len(topic).to_bytes(2, "big") + topic + mid + (b"\0" if v5 else b"")
                packets.append(_packet(0x30 | qos << 1 | chance.randrange(2), body + payload))
            elif way == 4:
                packets.append(_packet(0x90, b"\0\1" + (b"\0" if v5 else b"") + b"\1\1"))
            elif way == 5:
                packets.append(_packet(chance.choice((0x40, 0x50, 0x62, 0x70)), b"\0\1"))
            elif way == 6:
                packets.append(_packet(chance.choice((0xD0, 0xE0, 0xF0)), b""))
            else:
                packets.append(_packet(chance.randrange(256), chance.randbytes(8)))
        data = b"".join(packets)
        if chance.random() < 0.7:
            data = mutation.mutated(chance, data)
        return bytes([version]) + data

    def feed(self, data: bytes) -> None:
        """Connect, take what comes, and lose the connection: that must be said."""
        if self._server is None:
            self._server = Answering()
        self._server.answers = [data[1:]]
        settings = config.Mqtt(enabled=True, host="127.0.0.1", port=self._server.port)
        happened: queue.SimpleQueue[Happening] = queue.SimpleQueue()
        version = MQTTProtocolVersion.MQTTv5 if data[:1] == b"\5" else MQTTProtocolVersion.MQTTv311
        connection = Connection(settings, "fuzz", happened.put, version=version)
        connection.start()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            match happened.get(timeout=max(0.0, deadline - time.monotonic())):
                case Lost(reason=reason):
                    assert reason.isprintable(), reason
                    break
                case Received() as message:
                    self._commands.receive(message)
                case Connected():
                    connection.subscribe(f"{self._root}/set/+")
                case _:
                    pass
        connection.abort()

    def close(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()


class Page(Surface):
    """Requests to the page, as bytes on a connection of their own."""

    name = "page"
    share = 6

    _HEADERS: ClassVar[tuple[bytes, ...]] = (
        b"Host: 127.0.0.1",
        b"Host: localhost:80",
        b"Host: evil.example",
        b"Origin: http://evil.example",
        b"Sec-Fetch-Site: cross-site",
        b"Content-Type: application/json",
        b"X-Labelcam: 1",
        b"Authorization: Bearer secret-secret-secret",
        b"Cookie: labelcam=secret; labelcam=\xff",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"If-None-Match: *",
        b"Connection: close",
        b"Upgrade: websocket",
        b"Range: bytes=0-",
        b"Accept-Encoding: gzip",
    )
    _ORDERS: ClassVar[tuple[Any, ...]] = (
        {"camera": "camera", "key": "enter", "value": 0.5},
        {"camera": None, "key": "restart", "value": None},
        {"camera": "camera", "action": "remove_label", "label": "cat"},
        {"camera": "camera", "action": "move", "entries": [1, 2], "label": "cat"},
        {"camera": "camera", "action": "undo"},
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._view: View | None = None
        document: dict[str, Any] = openapi.document(needs_token=False)
        self._paths = [*document["paths"], "/", "/login", "/logout", "/page.js", "/openapi.json"]

    def make(self, chance: Random) -> bytes:
        """A request or two, changed."""
        data = b"".join(self._request(chance) for _ in range(chance.randint(1, 2)))
        return mutation.mutated(chance, data) if chance.random() < 0.4 else data

    def _request(self, chance: Random) -> bytes:
        path = chance.choice(self._paths)
        method = "POST" if path in ("/api/command", "/logout") else "GET"
        if chance.random() < 0.3:
            method = chance.choice(("GET", "POST", "HEAD", "PUT", "OPTIONS", "TRACE", "get"))
        if chance.random() < 0.3:
            name, value = chance.choice(("camera", "entry", "q")), mutation.text(chance)
            path += f"?{name}={value}" if chance.random() < 0.5 else f"?{name}=%{value}"
        if chance.random() < 0.1:
            path += mutation.text(chance)
        headers = [b"Host: 127.0.0.1", *chance.sample(self._HEADERS[3:], chance.randrange(4))]
        if chance.random() < 0.1:
            headers[0] = chance.choice(self._HEADERS[:3])
        body = b""
        if method in ("POST", "PUT"):
            headers += [self._HEADERS[5], self._HEADERS[6]]
            body = mutation.as_json(chance, chance.choice(self._ORDERS))[:5000]
            length = len(body) if chance.random() < 0.95 else chance.choice((0, -1, 10**9))
            headers.append(b"Content-Length: %d" % length)
        line = f"{method} {path} HTTP/1.1".encode("utf-8", "replace")
        return b"\r\n".join((line, *headers, b"", body))

    def feed(self, data: bytes) -> None:
        """Send it, read what is answered, and see that the page is well."""
        if self._view is None:
            self._view = View(config.Web(enabled=True, port=0), [config.Camera()])
            self._view.start()
        with socket.create_connection(("127.0.0.1", self._view.port), _PATIENCE_S) as sock:
            # What is too long is not read to its end.
            with contextlib.suppress(ConnectionError):
                sock.sendall(data)
            answer = _answer(sock)
        assert not answer or answer.startswith(b"HTTP/1.1 "), answer[:100]
        assert b"HTTP/1.1 500" not in answer, answer[:400]
        assert answer or self._view.ask("/healthz").status

    def close(self) -> None:
        """End the page."""
        if self._view:
            self._view.close()


def _answer(sock: socket.socket) -> bytes:
    """What comes, until nothing has come for a while: some answers have no end."""
    got = b""
    sock.settimeout(0.02)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while len(got) < 1 << 20 and (more := sock.recv(65536)):
            got += more
            sock.settimeout(0.005)
    return got
