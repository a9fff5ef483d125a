"""The server under those who mean it no good: bounded, and at work for the others."""

import contextlib
import gc
import http.client
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from device import config
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.node import Node
from device.sinks.web import server
from tests.web.conftest import PATIENCE_S, Open, View, read_until

ROOT = Path(__file__).parent.parent.parent
ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side ends it within our patience; whatever it says before is read."""
    connection.settimeout(PATIENCE_S)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.slow
def test_who_says_nothing_or_a_byte_now_and_then_is_dropped(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 0.2)
    silent = view.send(b"")
    started = time.monotonic()
    slow = view.send(ASK)
    with contextlib.suppress(OSError):
        while time.monotonic() < started + PATIENCE_S:
            slow.sendall(b"x")
            time.sleep(0.02)
    assert time.monotonic() < started + PATIENCE_S
    assert is_closed(silent)
    body = view.send(b"POST /api/command HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
    assert is_closed(body)
    again = view.send(ASK + b"\r\n")
    read_until(again, b"ok\n")
    again.sendall(ASK)
    assert is_closed(again)
    assert view.ask("/healthz").status == 200


def test_a_connection_that_is_used_stays(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_WITHIN_S", 0.1)
    connection = http.client.HTTPConnection("127.0.0.1", view.port, timeout=PATIENCE_S)
    for _ in range(3):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        own = connection.sock
        time.sleep(0.06)
    assert connection.sock is own
    connection.close()


@pytest.mark.slow
def test_more_connections_than_there_is_room_for(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 8)
    watcher = view.send(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    read_until(watcher, b"event: state")
    idle = [view.send(b"GET /") for _ in range(60)]
    # Whoever asks for something gets it, and whoever was being served still is.
    assert view.ask("/healthz").status == 200
    assert read_until(watcher, b"event: health")
    assert sum(is_closed(connection) for connection in idle[:40]) == 40


def test_requests_one_after_the_other_at_once(view: View) -> None:
    connection = view.send((ASK + b"\r\n") * 50)
    assert read_until(connection, b"ok\n", 50)


def test_closing_ends_every_stream_and_thread(open_view: Open) -> None:
    view = open_view()
    view.start()
    streams = [
        view.send(b"GET /api/%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path)
        for path in (b"events", b"video.mjpg")
    ]
    for stream in streams:
        read_until(stream, b"200 OK")
    started = time.monotonic()
    view.sink.close()
    view.sink.close()
    assert time.monotonic() - started < 1
    assert all(is_closed(stream) for stream in streams)
    assert not any(thread.name == "labelcam-web" for thread in threading.enumerate())
    assert open_view(config.Camera()).ask("/healthz").status == 200


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_closing_while_others_come_leaves_no_socket(
    open_view: Open, tmp_path: Path, tls: bool
) -> None:
    pem = tmp_path / "localhost.pem"
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    pem.chmod(0o600)
    settings = {"cert_file": str(pem), "key_file": str(pem)} if tls else {}
    for _ in range(10):
        view = open_view(**settings)
        closed = threading.Event()

        def come(port: int = view.port, closed: threading.Event = closed) -> None:
            with contextlib.ExitStack() as came:
                while not closed.is_set():
                    with contextlib.suppress(OSError):
                        client = socket.create_connection(("127.0.0.1", port), 0.1)
                        came.enter_context(client).sendall(ASK + b"\r\n" * (not tls))

        coming = threading.Thread(target=come)
        coming.start()
        time.sleep(0.02)
        view.sink.close()
        assert not any(thread.name == "labelcam-web" for thread in threading.enumerate())
        closed.set()
        coming.join()
        # A socket that nobody closed says so here, and that is an error.
        gc.collect()


@pytest.fixture
def running(colours: Callable[..., Path], tmp_path: Path) -> Iterator[tuple[int, str]]:
    """A whole labelcam with a synthetic camera: its process and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "model.name": f"'{colours()}'",
        "web.enabled": "true",
        "web.port": str(port),
        "jsonl.enabled": "true",
    }
    options = [f"--set={key}={value}" for key, value in settings.items()]
    process = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", "synthetic", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"LABELCAM_STATE": str(tmp_path)},
    )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if _ask(f"{url}/readyz") == b"ok\n":
                break
        except OSError:
            time.sleep(0.05)
    yield process.pid, url
    process.terminate()
    assert process.wait(PATIENCE_S) == 0


def test_a_taken_port_is_reported_and_nothing_ends(
    view: View, colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[DeviceHealth] = []

    class Keeper(Sink):
        name = "keeper"

        def observe(self, observation: Observation) -> None: ...
        def change(self, change: LabelChange, *_: object) -> None: ...
        def report(self, snapshot: DeviceHealth) -> None:
            kept.append(snapshot)

        def close(self) -> None: ...

    settings = config.Config(
        camera=(config.Camera(source="synthetic"),),
        model=config.Model(name=str(colours())),
        terminal=config.Terminal(enabled=False),
        web=config.Web(enabled=True, port=view.port),
    )
    assert Node(settings, frames=3, sinks=[Keeper]).run() == 0
    assert f"sink web: 127.0.0.1:{view.port} is taken by another program" in caplog.text
    assert {sink.name: bool(sink.problem) for sink in kept[0].sinks} == {
        "web": True,
        "keeper": False,
    }


@pytest.mark.slow
def test_a_whole_device_does_as_the_page_asks(running: tuple[int, str]) -> None:
    url = running[1]
    headers = {"Content-Type": "application/json", "X-Labelcam": "1"}
    for key, value in (("region", [0.25, 0.0, 0.75, 1.0]), ("enter", 0.8)):
        order = json.dumps({"camera": "camera", "key": key, "value": value}).encode()
        request = urllib.request.Request(f"{url}/api/command", order, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            assert json.load(answer) == {"done": True}
    state = json.loads(_ask(f"{url}/api/state"))
    assert state["cameras"][0]["region"] == [0.25, 0.0, 0.75, 1.0]
    assert state["health"]["cameras"][0]["controls"]["enter"] == 0.8


@pytest.mark.slow
def test_ten_thousand_connections_and_a_gigabyte(running: tuple[int, str]) -> None:
    process, url = running
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12_000:
        pytest.skip(f"this system allows {hard} open files, fewer than 12,000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, hard))
    port = int(url.rpartition(":")[2])
    before_kb, connections = _resident_kb(process), []
    try:
        for number in range(10_000):
            connection = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
            connections.append(connection)
            if number % 2:
                connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        files = len(list(Path(f"/proc/{process}/fd").iterdir()))
        assert files < server.MAX_CONNECTIONS + 128
        large = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        connections.append(large)
        large.sendall(
            b"POST /api/command HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        )
        sent = 0
        try:
            while sent < 1_000_000_000:
                sent += large.send(b"x" * 65_536)
        except OSError:
            pass
        assert sent < 20_000_000
        assert _ask(f"{url}/readyz") == b"ok\n"
    finally:
        for connection in connections:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert _resident_kb(process) - before_kb < 20_000


def _ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
        body: bytes = answer.read()
        return body


def _resident_kb(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
