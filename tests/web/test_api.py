"""What the web view answers to programs, and the two streams."""

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from device import config
from device.events import DeviceHealth, Prediction, SinkHealth
from device.frames import Frame, PixelFormat, Pixels
from device.sinks.web import server, state
from tests.conftest import frame_of
from tests.sinks.examples import (
    VITALS,
    camera_health,
    change,
    description,
    device_health,
    observation,
)
from tests.web.conftest import CONTROLS, PATIENCE_S, Open, View, read_until


def test_the_state(view: View) -> None:
    found = view.ask("/api/state").json
    (camera,) = found["cameras"]
    assert (camera["name"], camera["label"], camera["score"]) == ("camera", "espresso", 0.9)
    assert camera["active"] == ["espresso"]
    assert camera["predictions"][0] == {"label": "espresso", "index": 0, "score": 0.9375}
    assert camera["region"] == [0, 0, 1, 1]
    assert found["health"]["interpreter"]["delegate"] == "xnnpack"
    assert found["changes"][0]["previous"] == "unknown"
    assert found["changes"][0]["at"].endswith("Z")
    assert 0 <= found["changes"][0]["age_s"] < PATIENCE_S
    assert found["health"]["vitals"]["rss_mb"] > 1


def test_what_moved_is_told_upright(open_view: Open) -> None:
    view = open_view(config.Camera(name="camera", rotate=90, mirror=True))
    moved = np.zeros((30, 40), np.bool_)
    moved[0, 0] = moved[29, 1] = True
    view.sink.observe(msgspec.structs.replace(observation(), look="moving", moved=moved))
    (camera,) = view.ask("/api/state").json["cameras"]
    assert camera["moved_columns"] == 30
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(camera["moved"]), np.uint8)).reshape(40, 30)
    # A quarter clockwise the first row is the last column, in a mirror the first again.
    assert {tuple(at) for at in np.argwhere(bits).tolist()} == {(0, 0), (1, 29)}
    view.sink.observe(observation())
    (camera,) = view.ask("/api/state").json["cameras"]
    assert (camera["moved"], camera["moved_columns"]) == ("", 0)


def test_before_anything_was_seen(open_view: Open) -> None:
    found = open_view().ask("/api/state").json
    assert found["health"] is None
    assert found["cameras"][0]["label"] is None
    assert found["cameras"][0]["since_s"] is None


def test_it_is_ready_when_every_camera_is_live(open_view: Open) -> None:
    view = open_view(config.Camera(name="door"), config.Camera(name="yard"))
    assert (view.ask("/readyz").status, view.ask("/readyz").body) == (503, b"starting\n")
    yard = camera_health(name="yard", state="stalled", controls=CONTROLS)
    view.sink.report(device_health(camera_health(name="door"), yard))
    assert view.ask("/readyz").body == b"a camera is not live\n"
    off = CONTROLS.__class__(False, 0.5, 0.3, 0.0, "m")
    view.sink.report(device_health(camera_health(name="yard", state="stalled", controls=off)))
    assert (view.ask("/readyz").status, view.ask("/readyz").body) == (200, b"ok\n")


def test_it_is_well_while_the_node_reports(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (view.ask("/healthz").status, view.ask("/healthz").body) == (200, b"ok\n")
    monkeypatch.setattr(state, "SILENT_AFTER_S", -1.0)
    assert (view.ask("/healthz").status, view.ask("/readyz").status) == (503, 503)


def test_a_snapshot_is_the_newest_frame_upright(open_view: Open) -> None:
    view = open_view(config.Camera(rotate=90, mirror=True))
    assert view.ask("/api/snapshot.jpg").status == 503
    view.start()
    answer = view.ask("/api/snapshot.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    expected = cv2.flip(cv2.rotate(view.photo.pixels, cv2.ROTATE_90_CLOCKWISE), 1)
    assert picture.shape == expected.shape
    assert cv2.absdiff(picture, expected).mean() < 4
    assert view.ask("/api/snapshot.jpg?camera=camera").body == answer.body
    assert view.ask("/api/snapshot.jpg?camera=yard").error == "no camera has that name"


@pytest.mark.parametrize("path", ["/api/video.mjpg", "/api/snapshot.jpg"])
def test_without_pictures_no_pixel_is_served(open_view: Open, path: str) -> None:
    view = open_view(pictures=False)
    view.start()
    answer = view.ask(path)
    assert answer.status == 403
    assert answer.error == "pictures are turned off; see web.pictures"
    assert view.ask("/api/state").json["pictures"] is False


def test_live_pictures_are_encoded_once_for_all_and_only_while_watched(open_view: Open) -> None:
    view = open_view(max_fps=50)
    view.start()
    ask = b"GET /api/video.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
    watchers = [view.send(ask) for _ in range(3)]
    end = b"\r\n--labelcam-frame\r\n"
    # The boundary before the first picture, and the one right behind it.
    first = [read_until(watcher, b"--labelcam-frame\r\n", 2) for watcher in watchers]
    assert all(data.count(b"\xff\xd8\xff") == 1 and end in data for data in first)
    assert view.metric("labelcam_web_pictures_encoded_total") == 1
    view.see("cup")
    for watcher in watchers:
        assert b"\xff\xd8\xff" in read_until(watcher, end)
    assert view.metric("labelcam_web_pictures_encoded_total") == 2
    assert view.metric("labelcam_web_watchers") == 3
    for watcher in watchers:
        watcher.close()
    _wait_for(lambda: view.metric("labelcam_web_watchers") == 0)
    view.see("soup bowl")
    assert view.metric("labelcam_web_pictures_encoded_total") == 2


@pytest.mark.slow
def test_events(view: View) -> None:
    listener = view.send(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    first = read_until(listener, b"event: live")
    assert b"content-type: text/event-stream" in first
    assert b"event: state\n" in first
    logging.getLogger("labelcam.cameras").warning("camera door: reopened\x1b[2J")
    view.sink.change(change(label="cup", previous="espresso", at=time.monotonic()))
    view.sink.report(device_health())
    data = read_until(listener, b"event: health")
    changed = next(e for e in data.split(b"\n\n") if b"event: change" in e)
    assert json.loads(changed.partition(b"data: ")[2])["label"] == "cup"
    logged = next(e for e in data.split(b"\n\n") if b"event: log" in e)
    line = json.loads(logged.partition(b"data: ")[2])
    assert (line["level"], line["text"]) == ("warning", r"camera door: reopened\u001b[2J")


@pytest.mark.slow
def test_a_listener_that_takes_nothing_is_dropped_and_slows_nobody(
    view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TAKEN_WITHIN_S", 0.3)
    other = view.send(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    view.send(b"GET /api/video.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
    _wait_for(lambda: view.metric("labelcam_web_watchers") == 1)
    deadline = time.monotonic() + PATIENCE_S
    while view.metric("labelcam_web_watchers") and time.monotonic() < deadline:
        view.see()
        assert read_until(other, b"event: ")
    assert view.metric("labelcam_web_watchers") == 0


def test_commands(view: View) -> None:
    assert view.order({"camera": "camera", "key": "enter", "value": 0.7}).json == {"done": True}
    assert view.order({"key": "restart"}).status == 200
    region = [0.1, 0.2, 0.5, 0.6]
    assert view.order({"camera": "camera", "key": "region", "value": region}).status == 200
    assert [(c.camera, c.key, c.value) for c in view.device.commands] == [
        ("camera", "enter", 0.7),
        (None, "restart", None),
        ("camera", "region", tuple(region)),
    ]


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ({"camera": "camera", "key": "enter", "value": 7}, "command enter: expected `float` <= 1"),
        ({"camera": "yard", "key": "enter", "value": 0.5}, "no camera is called 'yard'"),
        ({"key": "explode"}, "is no command"),
        ({"key": "enter", "value": 0.5, "more": 1}, "unknown field `more`"),
        ({}, "missing required field `key`"),
        ([], "Expected `object`, got `array`"),
        ({"camera": "camera", "key": "region", "value": [0, 0, 2, 1]}, "command region: expected"),
    ],
)
def test_commands_that_are_none(view: View, order: object, reason: str) -> None:
    answer = view.order(order)
    assert answer.status == 422
    assert reason in answer.error
    assert view.device.commands == []


def test_a_command_that_the_device_refuses(view: View) -> None:
    view.device.error = "command enter: Expected `exit` < `enter` (0.2), met 0.3"
    answer = view.order({"camera": "camera", "key": "enter", "value": 0.2})
    assert (answer.status, answer.error) == (409, view.device.error)
    view.device.full = True
    assert view.order({"key": "restart"}).error.endswith("64 others wait; try again later")


def test_a_device_that_does_not_answer(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.sinks.web.app._ANSWER_WITHIN_S", 0.05)
    view.device.deaf = True
    assert view.order({"key": "restart"}).status == 503


def test_commands_can_be_turned_off(open_view: Open) -> None:
    view = open_view(commands=False)
    answer = view.order({"key": "restart"})
    assert (answer.status, answer.error) == (403, "commands are turned off; see web.commands")
    assert view.device.commands == []


def test_metrics(view: View) -> None:
    view.sink.observe(observation())
    troubled = camera_health(picture=("blurred",), reopenings=3)
    sinks = (SinkHealth("web"), SinkHealth("mqtt", "no broker"))
    view.sink.report(DeviceHealth(18.0, (troubled,), description(), VITALS, sinks=sinks))
    view.ask("/api/state", headers={"Host": "evil.example"})
    text = view.ask("/metrics").body.decode()
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["labelcam_frames_captured_total", "camera"] == 540
    assert samples["labelcam_latency_seconds_count", "camera"] == 2
    assert samples["labelcam_latency_seconds_sum", "camera"] == pytest.approx(0.024)
    # Twelve milliseconds are not under ten and are under twenty-five.
    assert samples["labelcam_latency_seconds_bucket", "0.01", "camera"] == 0
    assert samples["labelcam_latency_seconds_bucket", "0.025", "camera"] == 2
    assert samples["labelcam_latency_seconds_bucket", "+Inf", "camera"] == 2
    assert samples["labelcam_stage_seconds_sum", "camera", "invoke"] == pytest.approx(0.02)
    assert samples["labelcam_label_changes_total", "camera", "espresso"] == 1
    assert samples["labelcam_label_score_ratio", "camera", "espresso"] == pytest.approx(0.9)
    assert samples["labelcam_camera_state", "camera", "live"] == 1
    assert samples["labelcam_camera_state", "camera", "lost"] == 0
    assert samples["labelcam_picture_trouble", "blurred", "camera"] == 1
    assert samples["labelcam_camera_reopenings_total", "camera"] == 3
    assert samples["labelcam_sink_up", "mqtt"] == 0
    assert samples["labelcam_sink_up", "web"] == 1
    assert samples["labelcam_web_requests_refused_total", "421"] == 1
    assert samples["process_resident_memory_bytes",] > 1e6


@pytest.mark.parametrize(
    ("layout", "pixels"),
    [
        (PixelFormat.GREY, np.full((4, 6), 90, np.uint8)),
        (PixelFormat.RGB, np.full((4, 6, 3), (10, 90, 200), np.uint8)),
        (PixelFormat.YUV420, np.full((6, 8), 128, np.uint8)),
    ],
)
def test_pictures_of_every_layout(view: View, layout: PixelFormat, pixels: Pixels) -> None:
    frame = Frame(pixels, layout, 6, 4, 1, 0.0)
    seen = observation()
    view.sink.observe(
        type(seen)(
            "camera",
            frame,
            (Prediction("x", 0, 1.0),),
            "x",
            1.0,
            seen.stages,
            1.0,
            time.monotonic(),
        )
    )
    answer = view.ask("/api/snapshot.jpg")
    picture = cv2.imdecode(np.frombuffer(answer.body, np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (4, 6, 3)
    expected = {
        PixelFormat.GREY: (90, 90, 90),
        PixelFormat.RGB: (200, 90, 10),
        PixelFormat.YUV420: (130, 130, 130),
    }[layout]
    assert np.abs(picture.mean((0, 1)) - expected).max() < 6


def test_the_page_weighs_little(view: View) -> None:
    names = ["", "style.css", "app.js", "command.js", "controls.js", "show.js", "timeline.js"]
    names += ["teach.js", "snapshots.js"]  # history.js comes when it is looked at
    answers = [view.ask(f"/{name}") for name in [*names, "icon.svg"]]
    assert all(answer.status == 200 for answer in answers)
    assert sum(len(answer.body) for answer in answers) <= 60_000
    etag = answers[1].headers["etag"]
    again = view.ask("/style.css", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")


def _wait_for(happened: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.slow
def test_who_asks_for_pictures_and_takes_none_costs_little(view: View) -> None:
    """Large pictures, each another, for as many as may connect."""
    view.photo = frame_of(
        np.random.default_rng(0).integers(0, 256, (1080, 1920, 3)).astype(np.uint8)
    )
    view.see()
    assert len(view.ask("/api/snapshot.jpg").body) > 1_500_000
    before_mb, asked = resident_mb(), []
    for _ in range(server.MAX_CONNECTIONS - 10):
        view.photo.pixels[0] ^= 255
        view.see()
        asked.append(view.send(b"GET /api/snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        asked[-1].recv(1)
    assert resident_mb() - before_mb < 80
    for connection in asked:
        connection.close()
    until(lambda: view.ask("/api/snapshot.jpg").status == 200)


def resident_mb() -> float:
    """The memory of this process, in which the view runs."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)
