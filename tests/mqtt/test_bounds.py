"""Brokers that send more than they may: little of it is kept, and what is due still happens."""

import base64
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device.sinks.mqtt import client
from tests.mqtt.conftest import Rig
from tests.peer import DEADLINE_S, RESIDENT_MAX_MB, Peer, Running, peer

CONNACK = b"\x20\x03\x00\x00\x00"
MEGABYTE = bytes(1 << 20)
ROOT = "labelcam/garden"


def packet(kind: int, body: bytes, announced: int = 0) -> bytes:
    """An MQTT packet; ``announced`` is its length where more of it follows."""
    left, digits = announced or len(body), b""
    while True:
        left, digit = divmod(left, 128)
        digits += bytes([digit | (128 if left else 0)])
        if not left:
            return bytes([kind]) + digits + body


def published(topic: str, payload: bytes, mid: int = 0) -> bytes:
    """The body of a PUBLISH in MQTT 5; ``mid`` is there above QoS 0."""
    named = len(topic).to_bytes(2, "big") + topic.encode()
    return named + (mid.to_bytes(2, "big") if mid else b"") + b"\x00" + payload


PROBE = packet(0x32, published("probe", b"", 7))
PROBE_ACK = b"\x40\x02\x00\x07"


def until(sock: socket.socket, *wanted: bytes) -> bytes:
    """What the client sends, until it has sent all that is wanted, in any order."""
    heard = b""
    while not all(part in heard for part in wanted):
        if not (more := sock.recv(65536)):
            raise ConnectionResetError(heard)
        heard += more
    return heard


def huge(sock: socket.socket) -> None:
    """A packet of 260 MB, and one that is to be acknowledged."""
    sock.recv(4096)
    sock.sendall(CONNACK + packet(0x30, published("hello", b""), 8 + (248 << 20)))
    for _ in range(248):
        sock.sendall(MEGABYTE)
    sock.sendall(PROBE)
    until(sock, PROBE_ACK)


def held(sock: socket.socket) -> None:
    """Messages at QoS 2 that are never released."""
    sock.recv(4096)
    sock.sendall(CONNACK)
    for mid in range(1, 8000):
        sock.sendall(packet(0x34, published("hello", bytes(60_000), mid)))


def websocket(sock: socket.socket) -> None:
    """A frame of 248 MB, after a handshake as it should be."""
    asked = until(sock, b"\r\n\r\n")
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", asked)
    assert key
    digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %s\r\n\r\n" % base64.b64encode(digest)
    )
    sock.recv(4096)
    sock.sendall(b"\x82\x05" + CONNACK)
    sock.sendall(b"\x82\x7f" + (1 << 40).to_bytes(8, "big") + packet(0x30, b"", 250_000_000))
    for _ in range(248):
        sock.sendall(MEGABYTE)


@pytest.mark.parametrize(
    ("behave", "transport"), [(huge, "tcp"), (held, "tcp"), (websocket, "websockets")]
)
@pytest.mark.slow
def test_no_broker_makes_us_large(
    behave: Callable[[socket.socket], None], transport: str, tmp_path: Path
) -> None:
    with (
        peer(behave) as broker,
        Running(
            tmp_path,
            "camera.source=synthetic",
            "mqtt.enabled=true",
            "mqtt.host=127.0.0.1",
            f"mqtt.port={broker.port}",
            f"mqtt.transport={transport}",
        ) as node,
    ):
        node.wait(lambda: broker.met)
    assert node.code == 0
    assert 0 < node.peak_mb <= RESIDENT_MAX_MB
    assert "internal fault" not in node.log


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state", 0)
    yield made
    made.close()


def meet(rig: Rig, broker: Peer, **settings: Any) -> None:
    rig.open(port=broker.port, **settings)
    rig.report(interval_s=0.2)
    wait_for(lambda: broker.met)


def test_a_command_that_is_too_long_is_answered_and_the_connection_stays(lone: Rig) -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        command = published(f"{ROOT}/camera/set/enter", bytes(3_000_000), 6)
        sock.sendall(CONNACK + packet(0x32, command) + PROBE)
        until(sock, PROBE_ACK, b"\x40\x02\x00\x06", b"3000000 bytes; at most 1024 are taken")

    with peer(behave) as broker:
        meet(lone, broker)
    assert lone.device.commands == []


def test_what_was_not_asked_for_is_ignored_and_counted(
    lone: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        topics = ("hello", f"{ROOT}/set", f"{ROOT}/camera/set/enter/x", f"{ROOT}/set/restart")
        sock.sendall(CONNACK + b"".join(packet(0x30, published(t, b"1")) for t in topics))
        until(sock, b'"ignored":4')

    with peer(behave) as broker:
        meet(lone, broker, commands=False)
    assert lone.device.commands == []
    assert "internal fault" not in caplog.text


def test_a_broker_that_does_not_read_is_left(
    lone: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_UNSENT_PACKETS", -1)

    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(CONNACK)
        while sock.recv(4096):
            pass

    with peer(behave) as broker:
        meet(lone, broker)
        wait_for(lambda: "does not read what we answer; see the broker's log" in caplog.text)


def test_a_handshake_without_an_end_is_no_websocket(
    lone: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MAX_FRAME_BYTES", 0)

    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        while True:
            sock.sendall(bytes(65536))

    with peer(behave) as broker:
        meet(lone, broker, transport="websockets")
        wait_for(lambda: "no websocket for MQTT at /mqtt" in caplog.text)


def test_a_handshake_that_takes_for_ever_is_given_up(lone: Rig) -> None:
    asked = threading.Event()

    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        asked.set()
        while True:
            sock.sendall(b"a: b\r\n")
            time.sleep(0.02)

    with peer(behave) as broker:
        lone.open(port=broker.port, transport="websockets")
        assert asked.wait(DEADLINE_S)
        lone.sink.close()
        wait_for(lambda: broker.met)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
