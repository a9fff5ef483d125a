"""A web view on a free port, with a device behind it that obeys at once."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from device import config
from device.config import Teach
from device.control.commands import Answer, Command
from device.errors import CommandError, TeachError
from device.events import Controls
from device.frames import Frame
from device.sinks.ring import open_ring
from device.sinks.web.sink import WebSink
from device.system.paths import state_directory
from device.teach.teacher import Teacher
from tests.conftest import footage
from tests.sinks.examples import camera_health, change, device_health, observation

PATIENCE_S = 10.0
CONTROLS = Controls(True, 0.5, 0.3, 0.0, "efficientnet-lite0-224-int8")


class FakeDevice:
    """Obeys each command as it comes, or refuses it with ``error``."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.error = ""
        self.full = False
        self.deaf = False

    def submit(
        self, command: Command, answered: Callable[[Answer], None] | None = None, *, by: str = ""
    ) -> None:
        if self.full:
            raise CommandError(command.key, "64 others wait; try again later")
        self.commands.append(command)
        self.by = by
        if answered and not self.deaf:
            answered(Answer(command, self.error))

    def labels(self, _camera: str) -> tuple[str, ...]:
        return ()

    def taught(self, _camera: str) -> tuple[str, ...]:
        return ()

    def region(self, _camera: str) -> tuple[float, float, float, float]:
        return CONTROLS.region

    def teacher(self, camera: str) -> Teacher:
        if camera != "camera":
            raise TeachError(f"camera {camera!r} has no model that can be taught")
        return Teacher("default", "0" * 64, Teach(keep_pictures=True))

    def models(self) -> tuple[str, ...]:
        return ()


class View:
    """The web view as its node and its visitors know it."""

    def __init__(self, settings: config.Web, cameras: list[config.Camera]) -> None:
        self.device = FakeDevice()
        self.ring = open_ring(config.Snapshots(), state_directory())
        self.sink = WebSink(settings, cameras, self.device, Teach(), self.ring)
        self.port = self.sink.port
        self.url = self.sink.url
        self.label = "espresso"
        self.controls = CONTROLS
        self._connections: list[socket.socket] = []
        self.photo = footage("coffee")

    def see(
        self,
        label: str = "espresso",
        camera: str = "camera",
        active: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        """Let the camera see a new frame of the coffee."""
        pixels = self.photo.pixels.copy()
        frame = Frame(
            pixels, self.photo.format, pixels.shape[1], pixels.shape[0], 0, time.monotonic()
        )
        seen = observation(label, camera=camera, at=time.monotonic(), **more)
        self.sink.observe(_with(seen, frame=frame, active=active or seen.active))

    def start(self, label: str = "espresso") -> None:
        """Let everything be well: a label, a frame and a report."""
        self.sink.change(change(label=label, at=time.monotonic()))
        self.see(label)
        self.sink.report(device_health(camera_health(controls=CONTROLS)))

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> "Reply":
        """Send a request and read its whole answer."""
        if tls:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=PATIENCE_S, context=tls
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def metric(self, name: str) -> float:
        """What /metrics says of a metric without labels."""
        lines = self.ask("/metrics").body.decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def order(self, order: object, **headers: str) -> "Reply":
        """Send a command as the page does."""
        usual = {"Content-Type": "application/json", "X-Labelcam": "1"}
        return self.ask("/api/command", "POST", json.dumps(order).encode(), usual | headers)

    def send(self, data: bytes) -> socket.socket:
        """A connection that has sent these bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)
        self._connections.append(connection)
        connection.sendall(data)
        return connection

    def close(self) -> None:
        """End the view and every connection to it."""
        self.sink.close()
        for connection in self._connections:
            connection.close()


class Reply:
    """An answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = {name.lower(): value for name, value in headers.items()}
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


def _with(struct: Any, **different: Any) -> Any:
    return type(struct)(**({f: getattr(struct, f) for f in struct.__struct_fields__} | different))


Open = Callable[..., View]


@pytest.fixture
def open_view(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens a web view with these settings, by default for this machine alone."""
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path_factory.mktemp("state")))
    opened: list[View] = []

    def make(*cameras: config.Camera, **settings: Any) -> View:
        made = View(
            config.Web(enabled=True, **({"port": 0} | settings)),
            list(cameras or (config.Camera(),)),
        )
        opened.append(made)
        return made

    yield make
    for view in opened:
        view.close()


@pytest.fixture
def view(open_view: Open) -> View:
    """A web view of a camera that sees a cup of espresso."""
    made = open_view()
    made.start()
    return made


def read_until(connection: socket.socket, wanted: bytes, least: int = 1) -> bytes:
    """Read until ``wanted`` came so many times; an end before that is a failure."""
    data = b""
    connection.settimeout(PATIENCE_S)
    while data.count(wanted) < least:
        part = connection.recv(65536)
        assert part, data[-300:]
        data += part
    return data
