"""What the service manager hears: from the parts with a clock of ours, and from the program."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.events import (
    Beside,
    CameraHealth,
    CameraState,
    Controls,
    Description,
    DeviceHealth,
    Observation,
    SinkHealth,
    StageTimes,
)
from device.system.notify import Notifier, Service
from tests.conftest import frame_of
from tests.sinks.examples import VITALS

ROOT = Path(__file__).resolve().parents[2]


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.environ = {"NOTIFY_SOCKET": address.replace("\0", "@")}

    def heard(self, timeout_s: float = 0.0) -> dict[str, str]:
        """The next message's assignments; none where nothing came."""
        self.socket.settimeout(timeout_s)
        try:
            message = self.socket.recv(4096).decode()
        except (BlockingIOError, TimeoutError):
            return {}
        return dict(line.split("=", 1) for line in message.splitlines())

    def wait_for(self, key: str, value: str | None = None) -> dict[str, str]:
        """The next message that assigns the key, and this value to it."""
        while message := self.heard(20):
            if key in message and value in (None, message[key]):
                return message
        raise AssertionError(f"{key} was not sent")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.socket.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


CONTROLS = Controls(enabled=True, enter=0.5, exit=0.3, max_fps=0.0, model="m")
ON = Description("m", "tflite-runtime", "2", "xnnpack", 60, 63, (), 1, (), ())


def health(state: CameraState = "live", **fields: Any) -> CameraHealth:
    start = CameraHealth("camera", "synthetic", state, 0, 0, 0, 12.0, {}, CONTROLS)
    return msgspec.structs.replace(start, **fields)


def snapshot(*cameras: CameraHealth, sinks: tuple[SinkHealth, ...] = ()) -> DeviceHealth:
    return DeviceHealth(uptime_s=1.0, cameras=cameras, interpreter=ON, vitals=VITALS, sinks=sinks)


def seen(label: str | None = "cat", camera: str = "camera") -> Observation:
    frame = frame_of(np.zeros((2, 2, 3), np.uint8))
    return Observation(camera, frame, (), label, 0.875, StageTimes(0, 0, 0), 1.0, 1.0)


def service(manager: Manager, clock: Clock, *, stall_s: float = 5.0) -> Service:
    environ = {**manager.environ, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    return Service([config.Camera(stall_s=stall_s)], environ, clock)


@pytest.mark.parametrize("address", ["notify", "\0labelcam-test"])
def test_messages_reach_both_kinds_of_socket(address: str, tmp_path: Path) -> None:
    manager = Manager(address if "\0" in address else str(tmp_path / address))
    Notifier(manager.environ).send("READY=1", "STATUS=well")
    assert manager.heard() == {"READY": "1", "STATUS": "well"}
    manager.socket.close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_nothing_is_sent(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    silent = Service([config.Camera()], environ)
    assert not silent.active
    silent.classified(seen())
    silent.report(snapshot(health(seen=1)))
    silent.reloading()
    silent.stopping()


def test_a_manager_that_is_gone_or_full_harms_nobody(manager: Manager) -> None:
    for _ in range(5000):
        Notifier(manager.environ).send("WATCHDOG=1")
    Notifier({"NOTIFY_SOCKET": "/nonexistent/notify"}).send("READY=1")
    assert manager.heard() == {"WATCHDOG": "1"}


def test_a_status_is_one_short_line(manager: Manager) -> None:
    Notifier(manager.environ).status("bad:\nREADY=1 " + 1000 * "x")
    message = manager.heard()
    assert list(message) == ["STATUS"]
    assert message["STATUS"].startswith("bad: READY=1 xxx")
    assert len(message["STATUS"]) == 300


def test_ready_with_the_first_report_whether_the_camera_is_there_or_not(manager: Manager) -> None:
    told = service(manager, Clock())
    told.report(snapshot(health("lost", problem="no camera found", openings=1)))
    message = manager.heard()
    assert message["READY"] == "1"
    assert message["STATUS"].startswith("camera lost no camera found")
    told.report(snapshot(health(seen=5, openings=2)))
    assert "READY" not in manager.heard()


def test_a_camera_that_is_told_to_classify_nothing_is_disabled(manager: Manager) -> None:
    told = service(manager, Clock())
    idle = msgspec.structs.replace(CONTROLS, enabled=False)
    told.report(snapshot(health(controls=idle)))
    assert "disabled" in manager.heard()["STATUS"]


def test_a_camera_outside_its_hours_is_off_duty(manager: Manager) -> None:
    told = service(manager, Clock())
    told.report(snapshot(health()))
    manager.heard()
    told.report(snapshot(health(look="off duty")))
    assert "off duty" in manager.heard()["STATUS"]


def fed(manager: Manager) -> bool:
    message = manager.heard()
    assert manager.heard() == {}
    return message.get("WATCHDOG") == "1"


def test_the_watchdog_is_fed_by_finished_frames_only(manager: Manager) -> None:
    clock = Clock()
    told = service(manager, clock)
    told.report(snapshot(health(seen=10, dropped=2, openings=1)))
    assert fed(manager)
    clock.now += 10
    # Nothing was taken out of the slot since, however much came into it.
    told.report(snapshot(health(seen=300, dropped=292, openings=1)))
    assert not fed(manager)
    clock.now += 100
    told.report(snapshot(health(seen=300, dropped=292, openings=1)))
    assert not fed(manager)
    told.report(snapshot(health(seen=301, dropped=292, openings=1)))
    assert fed(manager)
    # No more often than it needs, but what was finished counts at the next time.
    clock.now += 1
    told.report(snapshot(health(seen=302, dropped=292, openings=1)))
    assert not fed(manager)
    clock.now += 9
    told.report(snapshot(health(seen=302, dropped=292, openings=1)))
    assert fed(manager)


def test_the_watchdog_is_fed_while_a_lost_camera_is_tried_and_no_longer(manager: Manager) -> None:
    clock = Clock()
    told = service(manager, clock)
    for openings in range(2, 5):
        clock.now += 20
        told.report(snapshot(health("lost", seen=9, openings=openings)))
        assert fed(manager)
    for _ in range(3):
        clock.now += 20
        told.report(snapshot(health("lost", seen=9, openings=4)))
        assert not fed(manager)


def test_a_camera_that_may_be_silent_widens_the_watchdog(manager: Manager) -> None:
    clock = Clock()
    told = service(manager, clock, stall_s=60.0)
    told.report(snapshot(health("starting", openings=1)))
    message = manager.heard()
    assert message["WATCHDOG_USEC"] == "120000000"
    clock.now += 39
    told.report(snapshot(health("starting", openings=2)))
    assert not fed(manager)
    clock.now += 1
    told.report(snapshot(health("starting", openings=2)))
    message = manager.heard()
    assert message["WATCHDOG"] == "1"
    assert "WATCHDOG_USEC" not in message


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (snapshot(health()), "cat 0.88, 12.0 frames/s; tflite-runtime xnnpack"),
        (
            snapshot(health(), sinks=(SinkHealth("terminal"), SinkHealth("mqtt"))),
            "cat 0.88, 12.0 frames/s; tflite-runtime xnnpack; broker connected",
        ),
        (
            snapshot(
                health(), sinks=(SinkHealth("mqtt", "x:1: gone"), SinkHealth("web", "port taken"))
            ),
            "cat 0.88, 12.0 frames/s; tflite-runtime xnnpack; broker x:1: gone; web: port taken",
        ),
        (
            snapshot(health("lost", problem="gave no frame for 5 s")),
            "camera lost gave no frame for 5 s; tflite-runtime xnnpack",
        ),
        (
            snapshot(health(), health(name="yard")),
            "camera: cat 0.88, 12.0 frames/s; yard: no label yet, 12.0 frames/s; "
            "tflite-runtime xnnpack",
        ),
        (
            snapshot(health(beside=(Beside(ON), Beside(ON, None, "model p: failed")))),
            "cat 0.88, 12.0 frames/s; tflite-runtime xnnpack; model p: failed",
        ),
    ],
)
def test_the_status_is_a_line_for_people(manager: Manager, state: DeviceHealth, words: str) -> None:
    told = service(manager, Clock())
    told.classified(seen())
    told.report(state)
    assert manager.heard()["STATUS"] == words


def test_the_status_names_all_labels_that_are_in_force(manager: Manager) -> None:
    told = service(manager, Clock())
    told.classified(msgspec.structs.replace(seen(), active=("cat", "dog")))
    told.report(snapshot(health()))
    assert manager.heard()["STATUS"].startswith("cat 0.88 with dog, ")
    # Which of them is the best is no news.
    told.classified(msgspec.structs.replace(seen("dog"), active=("dog", "cat")))
    told.report(snapshot(health()))
    told.classified(msgspec.structs.replace(seen("dog"), active=("dog",)))
    told.report(snapshot(health()))
    assert "with" not in manager.heard()["STATUS"]


def test_the_status_is_sent_when_it_changed(manager: Manager) -> None:
    told = service(manager, Clock())
    told.classified(seen())
    told.report(snapshot(health()))
    assert "cat" in manager.heard()["STATUS"]
    told.report(snapshot(health(fps=11.0)))
    assert manager.heard() == {}
    told.classified(seen("dog"))
    told.report(snapshot(health()))
    assert "dog" in manager.heard()["STATUS"]


def test_a_refused_reload_is_ready_again_and_says_why(manager: Manager) -> None:
    told = service(manager, Clock())
    told.classified(seen())
    told.reloading()
    message = manager.heard()
    assert message["RELOADING"] == "1"
    assert int(message["MONOTONIC_USEC"]) > 0
    told.reloaded("config.toml: unknown key `enterr`")
    assert manager.heard() == {"READY": "1"}
    told.report(snapshot(health()))
    refused = "the new configuration is refused: config.toml: unknown key `enterr`; cat"
    assert manager.heard()["STATUS"].startswith(refused)
    manager.heard()
    told.reloaded()
    manager.heard()
    told.report(snapshot(health()))
    assert manager.heard()["STATUS"].startswith("cat")


@pytest.fixture
def program(manager: Manager, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The program as the unit runs it, READY."""
    file = tmp_path / "config.toml"
    file.write_text('camera.source = "synthetic"\n')
    with subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--config", str(file)],
        env={**os.environ, **manager.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            manager.wait_for("READY")
            yield process
        finally:
            process.kill()


@pytest.mark.slow
def test_the_program_reloads_and_stops_when_told(
    manager: Manager, program: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    file = tmp_path / "config.toml"

    # A bad configuration is refused, and the old one stays.
    file.write_text("decide.enter = 7.0\n")
    program.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    assert manager.wait_for("READY") == {"READY": "1"}
    assert "enter = 7.0" in manager.wait_for("STATUS")["STATUS"]

    # Nor is one taken that is valid and would end the device.
    file.write_text('camera.source = "synthetic"\nmodel.delegate = "edgetpu"\n')
    program.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    assert manager.wait_for("READY") == {"READY": "1"}
    assert "refused: delegate edgetpu: model" in manager.wait_for("STATUS")["STATUS"]

    # An unchanged one changes nothing, and clears the refusal.
    file.write_text('camera.source = "synthetic"\n')
    program.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    assert manager.wait_for("READY") == {"READY": "1"}
    assert "refused" not in manager.wait_for("STATUS")["STATUS"]

    # A good one is taken by the same process, which is ready when it stands.
    file.write_text(
        "".join(f'[[camera]]\nname = "{n}"\nsource = "synthetic"\n' for n in ("door", "yard"))
    )
    program.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING")
    manager.wait_for("READY")
    assert "yard: " in manager.wait_for("STATUS")["STATUS"]

    program.send_signal(signal.SIGTERM)
    manager.wait_for("STOPPING", "1")
    _, err = program.communicate(timeout=20)
    assert program.returncode == 0
    assert "going on with the old configuration" in err


@pytest.mark.slow
def test_the_last_status_says_why_it_ended(manager: Manager, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[camera]\nfps = 0\n")
    process = subprocess.run(
        [sys.executable, "-m", "device", "run", "--config", str(file)],
        env={**os.environ, **manager.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert process.returncode == 2
    assert "camera.0.fps = 0" in manager.wait_for("STATUS")["STATUS"]
