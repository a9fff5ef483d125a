"""Every way in which a broker can refuse or mislead, and what is said of it."""

import gc
import logging
import os
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from paho.mqtt.enums import MQTTProtocolVersion

from device import config
from device.errors import SinkError
from device.sinks.mqtt import link
from device.sinks.mqtt.announced import Announced
from device.sinks.mqtt.broker import password_of, port_of, tls_context
from device.sinks.mqtt.check import check, forget
from device.sinks.mqtt.connection import Connection, Happening, Lost
from device.sinks.mqtt.faults import REFUSALS, explain
from tests.mqtt.conftest import Listener, Rig, unique_labels
from tests.mqtt.mosquitto import MISSING, PROGRAM, Authority, Mosquitto, free_port

needs_mosquitto = pytest.mark.skipif(not PROGRAM, reason=MISSING)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


class Scripted:
    """Listens like a broker, and answers every connection with these bytes."""

    def __init__(self, *answers: bytes, hold: bool = False) -> None:
        self.requests: list[bytes] = []
        self._answers = list(answers)
        self._hold = hold
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.settimeout(5)
            try:
                self.requests.append(sock.recv(4096))
                sock.sendall(self._answers[min(len(self.requests), len(self._answers)) - 1])
            except OSError:
                pass
            if self._hold:
                self._open.append(sock)
            else:
                sock.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        for sock in (self._socket, *self._open):
            sock.close()


class Lone(Rig):
    """A sink without a broker of its own."""

    def open_at(self, port: int) -> None:
        self.open(port=port)
        self.report()


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Lone]:
    made = Lone(tmp_path / "state", 0)
    yield made
    made.close()


def wait_for_text(caplog: pytest.LogCaptureFixture, words: str) -> str:
    deadline = time.monotonic() + 20
    while words not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.005)
    return next(r.getMessage() for r in caplog.records if words in r.getMessage())


def connack5(code: int) -> bytes:
    return bytes([0x20, 3, 0, code, 0])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0x80, "the broker says: Unspecified error"),
        (0x85, "the broker refuses the client id"),
        (0x86, "wrong user or password; check mqtt.username and password_file"),
        (0x87, "not authorised; let the broker's access list have this user"),
        (0x88, "the broker is not available"),
        (0x89, "the broker is busy"),
        (0x8A, "banned by the broker"),
        (0x97, "the broker's quota is used up"),
        (0x9A, "the broker keeps no retained messages"),
        (0x9F, "the broker limits how often we may connect"),
    ],
)
@pytest.mark.slow
def test_every_refusal_is_one_line_that_says_what_to_do(
    lone: Lone, caplog: pytest.LogCaptureFixture, code: int, words: str
) -> None:
    broker = Scripted(connack5(code))
    lone.open_at(broker.port)
    line = wait_for_text(caplog, words)
    assert line.startswith("mqtt: ")
    lone.change("goes on")
    # Said once, however often it is tried.
    deadline = time.monotonic() + 20
    while len(broker.requests) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert caplog.text.count(words) == 1
    lone.close()
    broker.close()


def test_the_real_wait_after_a_refusal_is_a_long_one() -> None:
    for code in (0x85, 0x86, 0x87, 0x8A, 0x8E, 0x97, 0x9F):
        _, slow = REFUSALS[code]
        assert slow


@pytest.mark.parametrize(
    "refusal", [connack5(0x84), bytes([0x20, 2, 0, 1]), b""], ids=["in 5", "in 3.1.1", "silent"]
)
def test_an_older_broker_is_spoken_to_in_3_1_1(lone: Lone, refusal: bytes) -> None:
    broker = Scripted(refusal, bytes([0x20, 2, 0, 0]), hold=True)
    if not refusal:
        broker.close()
        broker = Scripted(refusal, bytes([0x20, 2, 0, 0]))
    lone.open_at(broker.port)
    deadline = time.monotonic() + 20
    while len(broker.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    # The protocol's level stands after its name in CONNECT.
    levels = [request[request.index(b"MQTT") + 4] for request in broker.requests[:2]]
    assert levels == [5, 4]
    lone.close()
    broker.close()


@needs_mosquitto
def test_everything_works_in_3_1_1(
    rig: Rig, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "FIRST_VERSION", MQTTProtocolVersion.MQTTv311)
    rig.open()
    rig.report()
    rig.wait_until_up()
    assert listener.wait_for("/health").json["mqtt"]["protocol"] == "MQTT 3.1.1"
    rig.change("cat")
    listener.wait(lambda: unique_labels(listener) == ["cat"])
    listener.send("labelcam/garden/camera/set/enter", b"7")
    listener.wait(lambda: any(m.json["error"] for m in listener.of("camera/enter")))


@pytest.mark.parametrize(
    ("answer", "hold"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html></html>", False),
        (b"SSH-2.0-OpenSSH_9.2\r\n", True),
        (os.urandom(512), False),
        (b"\x20\xff\xff\xff\xff\xff\x01", False),
        (b"\x20\x03\x00\x00\x7f", False),
        (b"\x20\x00", False),
        (b"\x30\x05\x00\xff\xffab", False),
        (b"\xd0\x00" * 100, False),
        (b"", False),
    ],
)
def test_what_is_no_broker_is_one_line_and_hurts_nobody(
    lone: Lone, caplog: pytest.LogCaptureFixture, answer: bytes, hold: bool
) -> None:
    server = Scripted(answer, hold=hold)
    lone.open_at(server.port)
    lone.change("goes on")
    if not hold:
        line = wait_for_text(caplog, f"127.0.0.1:{server.port}")
        assert "broker" in line or "closed the connection" in line
    lone.change("and on")
    deadline = time.monotonic() + 20
    while lone.stored < 2:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    lone.close()
    server.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": "no.such.host.invalid"}, "host 'no.such.host.invalid' is not known"),
        ({"host": "x" * 70 + ".y"}, "no host name; check mqtt.host"),
        ({"host": "a..b"}, "no host name; check mqtt.host"),
        ({"port": 1}, "nothing listens there"),
        ({"password_file": "/nonexistent"}, "password_file /nonexistent: No such file"),
        ({"tls": True, "ca_file": "/nonexistent"}, "ca_file /nonexistent: No such file"),
        ({"tls": True, "ca_file": "/etc/hostname"}, "ca_file /etc/hostname: "),
    ],
)
def test_a_wrong_setting_is_one_line_and_the_sink_goes_on(
    lone: Lone, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], words: str
) -> None:
    lone.open(**settings)
    wait_for_text(caplog, words)
    lone.change("goes on")
    deadline = time.monotonic() + 20
    while not lone.stored:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_ports_that_are_usual() -> None:
    assert port_of(config.Mqtt()) == 1883
    assert port_of(config.Mqtt(tls=True)) == 8883
    assert port_of(config.Mqtt(transport="websockets")) == 80
    assert port_of(config.Mqtt(transport="websockets", tls=True)) == 443
    assert port_of(config.Mqtt(port=9001)) == 9001


def test_a_password_comes_from_a_file_that_is_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "password"
    file.write_text("s3cret \nsecond line\n")
    file.chmod(0o640)
    settings = config.Mqtt(username="cam", password_file=str(file))
    assert password_of(settings) == "s3cret "
    assert "s3cret" not in repr(settings)
    file.chmod(0o644)
    with pytest.raises(SinkError, match=f"{file}: is readable by everyone; run: chmod o-rwx"):
        password_of(settings)
    file.chmod(0o600)
    with pytest.raises(SinkError, match=r"without a user; set mqtt\.username"):
        password_of(config.Mqtt(password_file=str(file)))
    file.write_text("\n")
    with pytest.raises(SinkError, match="its first line is empty"):
        password_of(settings)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(SinkError, match="is not text in UTF-8"):
        password_of(settings)
    assert password_of(config.Mqtt(username="cam")) is None
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    assert password_of(config.Mqtt(username="cam")) is None
    (credentials / "mqtt-password").write_text("from systemd\n")
    (credentials / "mqtt-password").chmod(0o400)
    assert password_of(config.Mqtt(username="cam")) == "from systemd"


def test_a_key_that_everyone_may_read_is_refused(authority: Authority) -> None:
    certificate, key = authority.issue("client", "garden")
    settings = config.Mqtt(tls=True, cert_file=str(certificate), key_file=str(key))
    context = tls_context(settings)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    key.chmod(0o644)
    with pytest.raises(SinkError, match=f"key_file {key}: is readable by everyone"):
        tls_context(settings)
    key.chmod(0o600)
    other, _ = authority.issue("other", "garden")
    with pytest.raises(SinkError, match="give a PEM certificate and its own key"):
        tls_context(config.Mqtt(tls=True, cert_file=str(other), key_file=str(key)))


def test_a_clock_that_is_wrong_is_named_as_the_cause() -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = 9, "in OpenSSL's words"
    assert "is this device's clock right?" in explain(error, config.Mqtt())
    error.verify_code = 10
    assert "has expired" in explain(error, config.Mqtt())
    error.verify_code = 1
    assert explain(error, config.Mqtt()) == "localhost:1883: in OpenSSL's words"


@needs_mosquitto
def test_a_password_lets_us_in_and_a_wrong_one_does_not(
    lone: Lone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong-one\n")
    secret.chmod(0o600)
    users = tmp_path / "users"
    # Of "right-one", as mosquitto_passwd writes it.
    hashed = _hashed(b"right-one")
    users.write_text(f"cam:{hashed}\n")
    with Mosquitto(tmp_path / "b", "allow_anonymous false", f"password_file {users}") as broker:
        lone.open(port=broker.port, username="cam", password_file=str(secret))
        wait_for_text(caplog, "not authorised")
        secret.write_text("right-one\n")
        lone.report()
        lone.wait_until_up()
        lone.close()
    assert "right-one" not in caplog.text
    assert "wrong-one" not in caplog.text


def _hashed(password: bytes) -> str:
    import base64
    import hashlib

    salt = os.urandom(12)
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, 101)
    return f"$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"


@needs_mosquitto
@pytest.mark.slow
def test_tls_with_an_authority_and_a_certificate_of_our_own(
    lone: Lone, tmp_path: Path, authority: Authority
) -> None:
    certificate, key = authority.issue("broker")
    own, own_key = authority.issue("garden", "garden")
    lines = (
        f"cafile {authority.certificate}", f"certfile {certificate}", f"keyfile {key}",
        "require_certificate true", "allow_anonymous true",
    )  # fmt: skip
    stranger = Authority(tmp_path / "stranger", "Stranger")
    said: list[str] = []
    with Mosquitto(tmp_path / "b", *lines) as broker:
        good = config.Mqtt(
            host="localhost",
            port=broker.port,
            tls=True,
            ca_file=str(authority.certificate),
            cert_file=str(own),
            key_file=str(own_key),
        )
        assert check(good, said.append), said
        assert [line.split(":")[0] for line in said] == [
            "ok    secrets", "ok    name", "ok    port", "ok    TLS", "ok    login",
            "ok    messages",
        ]  # fmt: skip
        changed = msgspec.structs.replace
        for settings, words in (
            (changed(good, host="127.0.0.1"), "FAIL  TLS: 127.0.0.1:{p}: the broker's certificate"),
            (changed(good, ca_file=""), "FAIL  TLS: localhost:{p}: the broker's "),
            (changed(good, ca_file=str(stranger.certificate)), "FAIL  TLS: localhost:{p}: the br"),
            (changed(good, cert_file="", key_file=""), "FAIL  login: localhost:{p} closed the "),
            (config.Mqtt(port=broker.port), "FAIL  login: localhost:{p} closed the connection "),
        ):
            said.clear()
            assert not check(settings, said.append)
            assert said[-1].startswith(words.format(p=broker.port)), said
        lone.settings = good
        lone.open()
        lone.report()
        lone.wait_until_up()
        lone.close()


@needs_mosquitto
@pytest.mark.slow
def test_websockets(lone: Lone, tmp_path: Path) -> None:
    port = free_port()
    with Mosquitto(
        tmp_path / "b", "allow_anonymous true", f"listener {port} 127.0.0.1", "protocol websockets"
    ) as broker:
        listener = Listener(broker.port)
        lone.open(port=port, transport="websockets")
        lone.report()
        lone.wait_until_up()
        lone.change("cat")
        listener.wait(lambda: unique_labels(listener) == ["cat"])
        lone.close()
        listener.close()
        said: list[str] = []
        settings = config.Mqtt(port=broker.port, transport="websockets")
        assert not check(settings, said.append)
        assert "no websocket for MQTT at /mqtt; check mqtt.path and mqtt.port" in said[-1]
        gc.collect()


def refusing(folder: Path, *allowed: str) -> Mosquitto:
    """A broker that takes these topics of ours alone, and hangs up on all others."""
    folder.mkdir()
    access = folder / "access"
    access.write_text("".join(f"topic write labelcam/garden/{topic}\n" for topic in allowed))
    return Mosquitto(folder / "broker", "allow_anonymous true", f"acl_file {access}")


@needs_mosquitto
@pytest.mark.slow
def test_events_that_the_broker_refuses_are_kept(
    lone: Lone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(tmp_path / "b", "availability") as broker:
        said: list[str] = []
        settings = config.Mqtt(host="127.0.0.1", port=broker.port, node="garden")
        assert not check(settings, said.append)
        assert "refuses to take labelcam/garden/check: Not authorized" in said[-1]
        lone.open(port=broker.port, discovery=False)
        lone.change("cat")
        wait_for_text(caplog, "refuses events: Not authorized")
        assert lone.stored == 1


@needs_mosquitto
@pytest.mark.slow
def test_a_state_that_the_broker_refuses_is_named(
    lone: Lone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(tmp_path / "b", "availability", "camera/event") as broker:
        lone.open(port=broker.port, discovery=False)
        for number in range(20):
            lone.change(str(number))
        lone.report()
        line = "refuses labelcam/garden/camera/state: Not authorized; check its access list; next"
        wait_for_text(caplog, line)


@needs_mosquitto
@pytest.mark.slow
def test_a_device_can_be_forgotten(rig: Rig, listener: Listener, broker: Mosquitto) -> None:
    rig.open()
    rig.report()
    listener.wait_for("/config")
    listener.wait_for("camera/model")
    listener.wait_for("/health")
    rig.close()
    said: list[str] = []
    forget(rig.settings, Announced(rig.state / "mqtt-announced.json"), said.append)
    assert said[0].startswith("garden is forgotten: its entities and ")
    assert not (rig.state / "mqtt-announced.json").exists()
    later = Listener(broker.port)
    later.send("labelcam/end", b"")
    later.wait_for("labelcam/end")
    assert [message.topic for message in later.messages] == ["labelcam/end"]
    later.close()


def test_a_check_names_the_step_that_fails() -> None:
    said: list[str] = []
    assert not check(config.Mqtt(host="127.0.0.1", port=1), said.append)
    assert said[-1].startswith("FAIL  port: 127.0.0.1:1: nothing listens there")
    said.clear()
    assert not check(config.Mqtt(password_file="/nonexistent"), said.append)
    assert said == ["FAIL  secrets: password_file /nonexistent: No such file or directory"]
    with pytest.raises(SinkError, match=r"mqtt: 127\.0\.0\.1:1: nothing listens there"):
        forget(config.Mqtt(host="127.0.0.1", port=1), Announced(Path("/nonexistent")), said.append)


def test_attempts_that_failed_hold_no_descriptors() -> None:
    """A broker that is down for a day is tried a thousand times."""
    happened: queue.SimpleQueue[Happening] = queue.SimpleQueue()
    stranger = Scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    gc.collect()
    gc.disable()
    try:
        before = descriptors()
        for port in (free_port(), stranger.port) * 5:
            settings = config.Mqtt(host="127.0.0.1", port=port)
            Connection(settings, "attempt", happened.put).start()
            assert isinstance(happened.get(timeout=20), Lost)
        deadline = time.monotonic() + 20
        # The last threads are about to end.
        while descriptors() > before:
            assert time.monotonic() < deadline, descriptors() - before
            time.sleep(0.005)
    finally:
        gc.enable()
        stranger.close()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_logged_of_a_connection_that_works(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig.open()
    rig.report()
    rig.wait_until_up()
    rig.change("cat")
    rig.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"mqtt: connected to 127.0.0.1:{rig.settings.port}, MQTT 5"
    ]
