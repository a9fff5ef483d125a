"""What every outlet owes the node: any order of calls, any frame, any name, and no waiting."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from device import config
from device.events import UNAVAILABLE, Observation, Sink
from device.frames import Frame, PixelFormat
from device.sinks import outlet as outlets
from device.sinks.jsonl import JsonlSink
from device.sinks.mqtt.sink import MqttSink
from device.sinks.outlet import Outlet
from device.sinks.photos import Photos
from device.sinks.record import RecordSink
from device.sinks.ring import open_ring
from device.sinks.snapshots import SnapshotSink
from device.sinks.terminal.sink import TerminalSink
from device.sinks.window.sink import WindowSink
from tests.mqtt.mosquitto import MISSING, PROGRAM, Mosquitto
from tests.sinks.examples import camera_health, change, device_health, observation
from tests.sinks.pty import Pty
from tests.web.conftest import FakeDevice, View

# No outlet may take longer for a call, whatever its other end does.
CALL_WITHIN_S = 0.5
# Ends a string in C, sets a title, colours by the eighth bit, turns the writing direction.
HOSTILE = "\0\x1b]0;owned\x07\x9b31m\u202e\n"
ESCAPED = r"\u0000\u001b]0;owned\u0007\u009b31m\u202e"
CAMERAS = [config.Camera(), config.Camera(name=f"yard{HOSTILE}", rotate=90, mirror=True)]
HEALTH = device_health(*(camera_health(name=c.name, source=HOSTILE) for c in CAMERAS))


class Subject(NamedTuple):
    """An outlet: how it is opened, and what somebody reads of it with a terminal.

    ``draws_within_s`` is how soon its own thread has shown what it got, where it has one.
    """

    open: Callable[[], Sink]
    read: Callable[[], str] = lambda: ""
    opens_again: bool = True
    draws_within_s: float = 0.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    if not PROGRAM:
        pytest.skip(MISSING)
    with Mosquitto(tmp_path_factory.mktemp("broker")) as started:
        yield started


@pytest.fixture(params=["jsonl", "plain", "live", "web", "window", "record", "mqtt", "snapshots"])
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Subject]:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("TERM", "xterm-256color")
    with contextlib.ExitStack() as stack:
        yield globals()[f"make_{request.param}"](request, tmp_path, stack)


def make_jsonl(_request: object, folder: Path, stack: contextlib.ExitStack) -> Subject:
    file = stack.enter_context((folder / "out").open("w"))
    return Subject(lambda: JsonlSink(file), (folder / "out").read_text)


def make_plain(_request: object, folder: Path, stack: contextlib.ExitStack) -> Subject:
    file = stack.enter_context((folder / "out").open("w", encoding="utf-8"))
    return Subject(lambda: TerminalSink(config.Terminal(), 0.0, file), (folder / "out").read_text)


def make_live(_request: object, _folder: Path, stack: contextlib.ExitStack) -> Subject:
    pty = Pty(160, 60)
    stack.callback(pty.file.close)
    stack.callback(pty.hang_up)
    settings = config.Terminal(picture=True)

    def read() -> str:
        pty.wait_for_text("owned")
        # The display's own ways to draw are no text.
        return re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "\n", pty.raw.decode("utf-8", "ignore"))

    return Subject(
        lambda: TerminalSink(settings, 0.0, pty.file, CAMERAS), read, draws_within_s=0.12
    )


def make_web(_request: object, _folder: Path, _stack: object) -> Subject:
    opened: list[View] = []

    def open_view() -> Sink:
        opened.append(View(config.Web(enabled=True, port=0), CAMERAS))
        return opened[-1].sink

    def read() -> str:
        paths = ("/api/state", "/metrics")
        return "".join(opened[-1].ask(path).body.decode() for path in paths)

    return Subject(open_view, read, draws_within_s=0.04)


def make_window(_request: object, _folder: Path, _stack: object) -> Subject:
    settings = config.Window(max_fps=60)
    return Subject(lambda: WindowSink(settings, CAMERAS, FakeDevice()), draws_within_s=0.04)


def make_record(_request: object, folder: Path, _stack: object) -> Subject:
    index = folder / "recording" / "recording.jsonl"
    return Subject(
        lambda: RecordSink(folder / "recording", 60.0, 1 << 26, lossless=False),
        index.read_text,
        opens_again=False,
    )


def make_mqtt(request: pytest.FixtureRequest, folder: Path, _stack: object) -> Subject:
    port = request.getfixturevalue("broker").port
    settings = config.Mqtt(host="127.0.0.1", port=port, images=True)
    photos = Photos(config.Snapshots(), CAMERAS, FakeDevice())
    return Subject(
        lambda: MqttSink(settings, CAMERAS, FakeDevice(), photos, state=folder),
        draws_within_s=0.04,
    )


def make_snapshots(_request: object, folder: Path, _stack: object) -> Subject:
    photos = Photos(config.Snapshots(blur=True), CAMERAS, FakeDevice())
    ring = open_ring(config.Snapshots(), folder)

    return Subject(lambda: SnapshotSink(ring, photos))


def in_time(call: Callable[..., Any], *arguments: Any) -> None:
    started = time.monotonic()
    call(*arguments)
    assert time.monotonic() - started < CALL_WITHIN_S


def seen(frame: Frame | None = None, camera: str = "camera", **more: Any) -> Observation:
    made = observation(camera=camera, at=time.monotonic(), **more)
    return msgspec.structs.replace(made, frame=frame or made.frame)


def settle(subject: Subject, sink: Sink) -> None:
    """Give what draws on a thread of its own the time for a fault, and hear of it."""
    time.sleep(subject.draws_within_s)
    sink.report(HEALTH)
    sink.observe(seen())


@pytest.mark.parametrize("order", list(permutations(("observe", "change", "report"))), ids="-".join)
def test_calls_come_in_any_order_for_several_cameras(
    subject: Subject, order: tuple[str, ...]
) -> None:
    sink = subject.open()
    for name in order:
        for camera in CAMERAS:
            match name:
                case "observe":
                    in_time(sink.observe, seen(camera=camera.name))
                case "change":
                    in_time(sink.change, change(camera=camera.name, at=time.monotonic()))
                case "report":
                    in_time(sink.report, HEALTH)
    sink.close()
    sink.close()


def test_it_may_be_closed_before_it_was_told_anything(subject: Subject) -> None:
    sink = subject.open()
    sink.close()
    sink.close()


def test_a_camera_that_goes_makes_a_change_without_a_frame(subject: Subject) -> None:
    sink = subject.open()
    in_time(sink.change, change(label=UNAVAILABLE, score=0.0, previous=None, at=time.monotonic()))
    in_time(sink.report, device_health(camera_health(state="lost", stages={})))
    settle(subject, sink)
    in_time(sink.change, change(label=UNAVAILABLE, score=0.0, at=time.monotonic()))
    settle(subject, sink)
    sink.close()


def frames() -> Iterator[Frame]:
    for layout, shape, width, height in (
        (PixelFormat.GREY, (48, 64), 64, 48),
        (PixelFormat.GREY, (1, 1), 1, 1),
        (PixelFormat.YUV420, (72, 80), 64, 48),  # rows padded by a quarter
        (PixelFormat.RGB, (7, 1001, 3), 1001, 7),
        (PixelFormat.BGR, (1001, 7, 3), 7, 1001),
    ):
        yield Frame(np.full(shape, 99, np.uint8), layout, width, height, 0, time.monotonic())


@pytest.mark.slow
def test_frames_of_every_layout_and_shape(subject: Subject) -> None:
    sink = subject.open()
    in_time(sink.report, HEALTH)
    for frame in frames():
        for camera in CAMERAS:
            in_time(sink.observe, seen(frame, camera.name))
        settle(subject, sink)
    sink.close()


def test_an_observation_without_a_label_or_a_prediction(subject: Subject) -> None:
    sink = subject.open()
    in_time(sink.observe, seen(label=None, score=0.0, scores={}))
    settle(subject, sink)
    sink.close()


def test_no_name_is_obeyed_by_a_terminal(subject: Subject) -> None:
    sink = subject.open()
    sink.report(HEALTH)
    hostile = {HOSTILE: 0.9}
    for camera in CAMERAS:
        changed = change(camera=camera.name, label=HOSTILE, previous=HOSTILE, model=HOSTILE)
        sink.change(changed)
        sink.observe(seen(camera=camera.name, label=HOSTILE, scores=hostile))
    logging.getLogger("labelcam").warning("camera door: answers %s", HOSTILE)
    settle(subject, sink)
    text = subject.read()
    sink.close()
    assert not re.search(r"[\x00-\x09\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202e]", text)
    # What it is stays legible, where there is text at all.
    assert not text or ESCAPED in text.replace(r"\\u", r"\u")


def test_a_fault_stays_with_it_and_it_is_opened_again(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, "RETRY_S", 0.0)
    one, other = Outlet(subject.open), Outlet(JsonlSink)

    def fail(_sink: Sink) -> None:
        raise ZeroDivisionError(HOSTILE)

    one.deliver(lambda sink: sink.report(HEALTH))
    one.deliver(fail)
    assert one.look().problem == ESCAPED
    other.deliver(lambda sink: sink.change(change()))
    assert other.look().problem == ""
    if subject.opens_again:
        one.deliver(lambda sink: sink.report(HEALTH))
        assert one.look().problem in ("", "not connected yet")
    one.close()
    one.close()
