"""The sink against a real broker: what it says, and that it loses nothing."""

import functools
import logging
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from device import config
from device.events import OFF_DUTY, UNAVAILABLE, Controls
from device.frames import Frame, PixelFormat
from device.sinks.mqtt import delivery
from device.sinks.mqtt import sink as mqtt
from device.sinks.outbox import Outbox
from device.sinks.outbox.storage import Event
from device.system import audit
from tests.mqtt.conftest import CONTROLS, Listener, Rig, unique_labels
from tests.mqtt.mosquitto import Mosquitto
from tests.mqtt.test_outbox import Disk
from tests.sinks.examples import beside, observation

ROOT = "labelcam/garden"


def test_an_event_says_what_happened(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    rig.change("cat", previous="dog", held_s=2.10049, score=0.912345)
    message = listener.wait_for("/event")
    event = message.json
    assert message.topic == f"{ROOT}/camera/event"
    assert message.retained is False
    assert uuid.UUID(event.pop("id")).version == 7
    assert event.pop("at").endswith("Z")
    assert 0 <= event.pop("age_s") < 5
    assert event.pop("clock_synced") in (True, False)
    assert event == {
        "seq": 1,
        "camera": "camera",
        "label": "cat",
        "score": 0.9123,
        "previous": "dog",
        "held_s": 2.1,
        "model": "efficientnet-lite0-224-int8",
        "on": True,
        "active": ["cat"],
        "replayed": False,
    }


def test_state_and_availability_are_there_for_who_comes_later(
    rig: Rig, broker: Mosquitto, listener: Listener
) -> None:
    rig.open()
    rig.report()
    rig.change("cat", score=0.91)
    listener.wait(lambda: any(m.json["label"] == "cat" for m in listener.of("/state")))
    later = Listener(broker.port)
    state = later.wait_for("camera/state")
    assert state.retained
    assert state.json["label"] == "cat"
    assert (state.json["score"], state.json["state"]) == (0.91, "live")
    assert (state.json["camera"], state.json["model"]) == ("camera", "lite0")
    assert later.wait_for("/availability").payload == b"online"
    assert later.wait_for("camera/enter").json == {"value": 0.5, "error": None}
    assert later.wait_for("camera/enabled").json["value"] is True
    rig.close()
    # Nothing stays behind that would be taken for what is seen now.
    assert later.wait_for("/availability", 2).payload == b"offline"
    last = later.of("camera/state")[-1].json
    assert (last["label"], last["state"]) == (UNAVAILABLE, "ended")
    later.close()


def test_a_lost_camera_has_no_label(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    rig.change("cat")
    listener.wait(lambda: any(m.json["label"] == "cat" for m in listener.of("/state")))
    for different, state in (
        ({"state": "stalled"}, "stalled"),
        ({"state": "lost"}, "lost"),
        ({"controls": Controls(False, 0.5, 0.3, 0.0, "lite0")}, "disabled"),
    ):
        rig.report(**different)
        listener.wait(
            lambda state=state: listener.of("/state")[-1].json["state"] == state  # type: ignore[misc]
        )
        last = listener.of("/state")[-1].json
        assert (last["label"], last["score"], last["since"]) == (UNAVAILABLE, 0.0, None)


def test_off_duty_is_a_label_of_a_live_camera(rig: Rig, listener: Listener) -> None:
    rig.open(watched=("cat",))
    rig.report()
    rig.change("cat")
    rig.change(OFF_DUTY, score=0.0, previous="cat")
    listener.wait(lambda: any(m.json["label"] == OFF_DUTY for m in listener.of("/state")))
    last = listener.of("/state")[-1].json
    assert (last["state"], last["score"]) == ("live", 0.0)
    assert last["since"] is not None
    components = listener.wait_for("/config").json["components"]
    assert OFF_DUTY in components["camera-label"]["options"]
    # Neither on nor off while nobody looks.
    assert components["camera-is-cat"]["value_template"] == (
        "{{ None if value_json.label == 'off-duty' "
        "else 'ON' if 'cat' in value_json.active else 'OFF' }}"
    )


def test_of_many_labels_the_state_has_all_that_are_in_force(rig: Rig, listener: Listener) -> None:
    rig.open(nothing="nobody")
    rig.report()
    rig.change("cat", previous=None, active=("cat",))
    rig.change("dog", previous=None, active=("cat", "dog"))
    rig.change("cat", previous=None, on=False, active=("dog",))
    rig.change("dog", previous=None, on=False, active=())
    listener.wait(lambda: any(m.json["label"] == "nobody" for m in listener.of("/state")))
    last = listener.of("/state")[-1].json
    assert (last["label"], last["active"]) == ("nobody", [])
    listener.wait_for("/event", 4)
    events = [(m.json["label"], m.json["on"], m.json["active"]) for m in listener.of("/event")]
    assert events == [
        ("cat", True, ["cat"]),
        ("dog", True, ["cat", "dog"]),
        ("cat", False, ["dog"]),
        ("dog", False, []),
    ]


def test_health_tells_how_the_device_is(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report(fps=29.97999, dropped=7, beside=(beside(),))
    health = listener.wait_for("/health").json
    camera = health["cameras"]["camera"]
    assert (camera["fps"], camera["dropped"], camera["state"]) == (29.98, 7, "live")
    assert set(camera["stages"]["total"]) == {"mean_ms", "p50_ms", "p99_ms"}
    assert camera["enter"] == 0.5
    assert health["interpreter"]["delegate"] == "xnnpack"
    (other,) = camera["beside"]
    assert (other["interpreter"]["model"], other["problem"]) == ("mobilenet-v1-person-96", "")
    assert "inputs" not in other["interpreter"]
    assert health["backend"] == "tflite-runtime 2.14.0, xnnpack"
    nothing = {"events": 0, "bytes": 0, "dropped": 0, "damaged": 0, "trouble": ""}
    assert health["outbox"] == nothing
    assert health["mqtt"]["protocol"] == "MQTT 5"
    assert health["mqtt"]["reconnects"] == 0
    assert {
        "uptime_s", "version", "temperature_c", "throttling", "throttling_since_boot", "load",
        "memory_mb", "disk_mb", "wifi_dbm", "clock_synced", "interval_s", "board", "at",
    } <= set(health)  # fmt: skip


def test_health_and_state_come_again_after_their_interval(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report(interval_s=0.05)
    listener.wait_for("/health", 4)
    listener.wait_for("camera/state", 4)


def test_pictures_are_sent_only_where_they_are_asked_for(
    rig: Rig, broker: Mosquitto, listener: Listener
) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    rig.change("cat")
    rig.see("cat", snapshot=True)
    listener.wait_for("/event")
    rig.close()
    assert listener.of("/image") == []
    rig.cameras = [config.Camera(rotate=90)]
    rig.open(images=True)
    rig.report()
    rig.wait_until_up()
    rig.see("cat")
    rig.change("dog")
    rig.see("dog")
    image = listener.wait_for("/image")
    picture = cv2.imdecode(np.frombuffer(image.payload, np.uint8), cv2.IMREAD_COLOR)
    # Upright, as the camera hangs.
    assert picture.shape == (64, 48, 3)
    assert image.retained is False
    rig.see("dog")
    rig.see("dog", snapshot=True)
    listener.wait_for("/image", 2)
    rig.change(UNAVAILABLE)
    rig.see("dog")
    rig.change("cat")
    listener.wait_for("/event", 4)
    # And the last picture is not sent again to a broker that was away.
    listener.subscribed.clear()
    broker.kill()
    _wait(lambda: bool(rig.sink.problem))
    broker.start()
    listener.wait_for("/availability", 4)
    rig.change("dog")
    listener.wait(lambda: unique_labels(listener)[-1] == "dog")
    assert len(listener.of("/image")) == 2


def test_pictures_are_blurred_where_snapshots_are(rig: Rig, listener: Listener) -> None:
    rig.snapshots = config.Snapshots(blur=True)
    rig.device.looks_at = (0.0, 0.0, 0.5, 1.0)
    rig.open(images=True)
    rig.report()
    rig.wait_until_up()
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)
    frame = Frame(noise[::2, ::2].copy(), PixelFormat.BGR, 64, 48, 0, 0.0)
    still = Frame(noise, PixelFormat.BGR, 128, 96, 0, 0.0)
    rig.sink.observe(msgspec.structs.replace(observation(), frame=frame, snapshot=still))
    image = listener.wait_for("/image")
    picture = cv2.imdecode(np.frombuffer(image.payload, np.uint8), cv2.IMREAD_COLOR)
    # Not the larger still, of which the region is not known.
    assert picture.shape == (48, 64, 3)
    assert picture[:, :28].std() > 2 * picture[:, 36:].std()


def test_of_many_labels_the_end_of_one_is_no_picture(rig: Rig, listener: Listener) -> None:
    rig.open(images=True)
    rig.report()
    rig.wait_until_up()
    rig.change("cat", active=("cat",))
    rig.see("cat")
    listener.wait_for("/image")
    rig.change("cat", on=False, active=())
    rig.see("dog")
    rig.change("dog", active=("dog",))
    rig.see("dog")
    listener.wait_for("/image", 2)
    listener.wait_for("/event", 3)
    assert len(listener.of("/image")) == 2


def test_names_with_everything_in_them(rig: Rig, listener: Listener) -> None:
    rig.cameras = [config.Camera(name=name) for name in ("Front door", "a/+#", "🦊", "health")]
    rig.open(node="Garten/🌻 +#")
    rig.report()
    for camera in rig.cameras:
        rig.change("cat", camera=camera.name)
    for camera in rig.cameras:
        topic = rig.sink.topics.of(camera.name, "event")
        assert listener.wait_for(topic).json["camera"] == camera.name
        assert "+" not in topic
        assert "#" not in topic
        assert topic.count("/") == 3
        assert topic.isascii()
    assert rig.sink.topics.of("Front door", "event").endswith("/front-door/event")


# Outages.


def test_events_of_an_outage_come_in_order_and_say_that_they_are_late(
    rig: Rig, broker: Mosquitto, listener: Listener
) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    rig.change("1")
    listener.wait_for("/event")
    listener.subscribed.clear()
    broker.kill()
    for number in range(2, 12):
        rig.change(str(number))
    _wait(lambda: bool(rig.sink.problem))
    broker.start()
    listener.wait(lambda: unique_labels(listener) == rig.made)
    rig.wait_until_up()
    rig.change("12")
    listener.wait(lambda: unique_labels(listener) == rig.made)
    events = [message.json for message in listener.of("/event")]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert {event["replayed"] for event in events if event["seq"] == 12} == {False}
    assert {event["replayed"] for event in events if 2 <= event["seq"] <= 11} == {True}
    # A broker that kept nothing was told everything again.
    later = Listener(broker.port)
    assert later.wait_for("camera/state").json["label"] == "12"
    assert later.wait_for("/availability").payload == b"online"
    assert later.wait_for("/config").retained
    assert later.wait_for("camera/max_fps").json["value"] == 0.0
    later.close()


def test_events_that_no_broker_took_are_sent_by_the_next_run(
    rig: Rig, broker: Mosquitto, listener: Listener
) -> None:
    listener.subscribed.clear()
    broker.kill()
    rig.open()
    for number in range(5):
        rig.change(str(number))
    rig.close()
    broker.start()
    rig.open()
    rig.report()
    rig.change("5")
    listener.wait(lambda: unique_labels(listener) == rig.made)
    assert [message.json["seq"] for message in listener.of("/event")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_broker_that_hangs_past_keepalive_is_left_and_found_again(
    rig: Rig, broker: Mosquitto, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    rig.open(keepalive_s=1)
    rig.report()
    rig.wait_until_up()
    rig.change("1")
    listener.wait_for("/event")
    broker.pause()
    for number in range(2, 300):
        rig.change(str(number))
    _wait(lambda: "has not answered for 1 s" in caplog.text)
    broker.resume()
    listener.wait(lambda: unique_labels(listener) == rig.made)


@pytest.mark.slow
def test_ten_thousand_events_catch_up(rig: Rig, broker: Mosquitto, listener: Listener) -> None:
    listener.subscribed.clear()
    broker.kill()
    rig.open()
    for number in range(10_000):
        rig.change(str(number))
        if number % 1000 == 999:
            _wait(lambda: rig.stored > len(rig.made) - 100)
    broker.start()
    listener.wait(lambda: len(listener.messages) >= 10_000 and unique_labels(listener) == rig.made)


@pytest.mark.slow
def test_a_slow_subscriber_holds_nobody_up(rig: Rig, broker: Mosquitto, listener: Listener) -> None:
    slow = Listener(broker.port)
    slow._client.on_message = lambda *_: time.sleep(0.02)
    rig.open()
    rig.report()
    for number in range(300):
        rig.change(str(number))
    listener.wait(lambda: unique_labels(listener) == rig.made)
    slow._client.on_message = None
    slow.close()


def test_a_broker_that_takes_one_message_at_a_time_gets_every_event(
    rig: Rig, tmp_path: Path
) -> None:
    lines = ("allow_anonymous true", "max_inflight_messages 1")
    with Mosquitto(tmp_path / "one", *lines) as broker:
        listener = Listener(broker.port)
        rig.open(port=broker.port)
        rig.report()
        for number in range(50):
            rig.change(str(number))
        listener.wait(lambda: unique_labels(listener) == rig.made)
        listener.close()


@pytest.mark.slow
def test_another_client_with_our_id_is_named_and_makes_no_storm(
    rig: Rig, broker: Mosquitto, listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    rig.open()
    rig.report()
    rig.wait_until_up()
    twin = Listener(broker.port, client_id=rig.sink.topics.client_id)
    # This broker closes the connection without a word.
    _wait(lambda: "another client with our id, or" in caplog.text)
    attempts = caplog.text.count("connected to")
    twin.close()
    rig.change("cat")
    listener.wait(lambda: unique_labels(listener) == ["cat"])
    assert attempts < 10


def test_the_wall_clock_may_jump_by_years(
    rig: Rig, broker: Mosquitto, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.subscribed.clear()
    broker.kill()
    rig.open(outbox_days=1.0)
    real = time.time
    for number, years in enumerate((0, -50, 30, -1, 200)):
        monkeypatch.setattr(time, "time", lambda years=years: real() + years * 31_557_600)
        rig.change(str(number))
        _wait(lambda: rig.stored == len(rig.made))
    broker.start()
    listener.wait(lambda: unique_labels(listener) == rig.made)
    ids = [message.json["id"] for message in listener.of("/event")]
    assert ids == sorted(ids)


def test_a_node_that_is_killed_is_offline_by_its_will(
    rig: Rig, broker: Mosquitto, listener: Listener
) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    listener.wait_for("/availability")
    # As when the process dies: the socket closes, and no good-bye is said.
    rig.door.cut()
    listener.wait(lambda: any(m.payload == b"offline" for m in listener.of("/availability")))


def test_a_disk_that_hangs_costs_the_node_nothing(
    rig: Rig, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "MAX_INBOX", 20)
    hangs, entered = threading.Event(), threading.Event()

    class Hanging(Outbox):
        def add(self, events: Iterable[Event]) -> list[Event]:
            entered.set()
            hangs.wait(20)
            return super().add(events)

    rig.open(make_outbox=Hanging)
    rig.report()
    rig.wait_until_up()
    listener.wait_for("/health")
    rig.change("0")
    assert entered.wait(20)
    for number in range(1, 40):
        rig.change(str(number))
    hangs.set()
    listener.wait(lambda: unique_labels(listener) == rig.made[:21])
    rig.report(interval_s=61.0)
    listener.wait(lambda: listener.of("/health")[-1].json["outbox"]["dropped"] == 19)


@pytest.mark.slow
def test_a_fault_of_the_outbox_loses_no_change(
    rig: Rig, listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mqtt, "RETRY_S", 0.2)
    faults = iter(range(2))

    class Failing(Outbox):
        def add(self, events: Iterable[Event]) -> list[Event]:
            if next(faults, None) is not None:
                raise ZeroDivisionError("no")
            return super().add(events)

    rig.open(make_outbox=Failing)
    rig.report()
    for number in range(20):
        rig.change(str(number))
    listener.wait(lambda: unique_labels(listener) == rig.made)
    assert [message.json["seq"] for message in listener.of("/event")] == list(range(1, 21))
    assert "mqtt: the outbox fails (ZeroDivisionError: no); opened again in 0.2 s" in caplog.text


def test_a_fault_on_the_way_to_the_broker_keeps_no_change_from_the_outbox(
    rig: Rig, listener: Listener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    with monkeypatch.context() as broken:
        broken.setattr(delivery, "event_message", lambda *_, **__: 1 / 0)
        for number in range(20):
            rig.change(str(number))
        _wait(lambda: rig.stored == 20)
        _wait(lambda: "ZeroDivisionError" in rig.sink.problem)
    assert "mqtt: internal fault, please report it: ZeroDivisionError" in caplog.text
    listener.wait(lambda: unique_labels(listener) == rig.made)


def test_what_neither_disk_nor_broker_took_is_counted_and_said(
    rig: Rig, listener: Listener, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    listener.subscribed.clear()
    broker.kill()
    full = Disk()
    full.error = "database or disk is full"
    rig.open(make_outbox=functools.partial(Outbox, connect=full.connect))
    for number in range(64):
        rig.change(str(number))
    _wait(lambda: rig.stored == 64)
    rig.close()
    assert (
        f"outbox: 64 label changes are lost: {rig.state / 'outbox.db'} takes none "
        "(database or disk is full), and nobody else has them"
    ) in caplog.text


def test_what_waits_for_an_outbox_at_fault_is_counted_and_said(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Outbox):
        def add(self, _: Iterable[Event]) -> list[Event]:
            raise ZeroDivisionError("no")

    rig.open(make_outbox=Failing)
    for number in range(64):
        rig.change(str(number))
    rig.close()
    assert "mqtt: 64 label changes are lost: the outbox has not taken them" in caplog.text


# Commands.


def test_commands_reach_the_device_and_are_answered(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    listener.wait_for("camera/enter")
    listener.send(f"{ROOT}/camera/set/enter", "0.8")
    listener.send(f"{ROOT}/set/enabled", "false")
    listener.send(f"{ROOT}/set/restart", "PRESS")
    _wait(lambda: len(rig.device.commands) == 3)
    assert [(c.camera, c.key, c.value) for c in rig.device.commands] == [
        ("camera", "enter", 0.8),
        (None, "enabled", False),
        (None, "restart", None),
    ]
    assert listener.wait_for("garden/restart").json == {"value": None, "error": None}
    assert listener.wait_for("garden/enabled").json == {"value": False, "error": None}
    # The value in force is the node's word, and not what was asked for.
    assert listener.wait_for("camera/enter", 2).json["value"] == 0.5
    rig.report(controls=Controls(True, 0.8, 0.3, 0.0, "lite0"))
    assert listener.wait_for("camera/enter", 3).json == {"value": 0.8, "error": None}


@pytest.mark.parametrize(
    ("topic", "payload", "answer", "words"),
    [
        ("camera/set/enter", b"7", "camera/enter", "expected `float` <= 1.0, met '7'"),
        ("camera/set/enter", b"\x00\xff", "camera/enter", "expected a number"),
        ("camera/set/enter", b"[" * 100_000, "camera/enter", "has 100000 bytes; at most 1024"),
        ("camera/set/nothing", b"1", "garden/error", "'nothing': is no command"),
        ("roof/set/enter", b"1", "garden/error", "no camera is called 'roof'"),
        ("set/restart", b"", "garden/restart", "command restart: is empty; send a value, or PRESS"),
        ("set/snapshot", b"PRESS", "garden/snapshot", "pictures are not sent; set mqtt.images"),
        ("camera/set/", b"1", "garden/error", "'': is no command"),
    ],
)
def test_a_command_that_does_not_hold_is_answered_with_the_reason(
    rig: Rig, listener: Listener, topic: str, payload: bytes, answer: str, words: str
) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    listener.wait_for("camera/enter")
    before = len(listener.of(answer))
    listener.send(f"{ROOT}/{topic}", payload)
    said = listener.wait_for(answer, before + 1)
    assert words in said.json["error"]
    assert said.retained is False
    assert rig.device.commands == []
    rig.change("still here")
    listener.wait_for("/event")


def test_a_command_of_twenty_megabytes_is_answered_too(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    listener.wait_for("camera/enter")
    listener.send(f"{ROOT}/camera/set/enter", b"9" * 20_000_000)
    answer = listener.wait_for("camera/enter", 2)
    assert answer.json == {
        "value": 0.5,
        "error": "command enter: has 20000000 bytes; at most 1024 are taken",
    }


def test_a_refusal_of_the_device_is_passed_on(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    rig.wait_until_up()
    listener.wait_for("camera/exit")
    rig.device.refuses = "command exit: no"
    listener.send(f"{ROOT}/camera/set/exit", b"0.4")
    assert listener.wait_for("camera/exit", 2).json == {"value": 0.3, "error": "command exit: no"}
    rig.device.full = True
    listener.send(f"{ROOT}/camera/set/exit", b"0.4")
    assert "64 others wait" in listener.wait_for("camera/exit", 3).json["error"]


def test_what_bears_on_security_is_sent_where_it_is_asked_for(
    rig: Rig, listener: Listener, broker: Mosquitto
) -> None:
    rig.open(security=True)
    rig.report()
    rig.wait_until_up()
    audit.note("wrong-token", "for the web view, from 192.0.2.7")
    said = listener.wait_for("garden/security")
    assert said.retained is False
    assert said.json["event"] == "wrong-token"
    assert said.json["what"] == "for the web view, from 192.0.2.7"
    assert datetime.fromisoformat(said.json["at"]).tzinfo is not None
    rig.close()
    rig.open(security=False)
    audit.note("wrong-token", "that nobody asked for")
    rig.change("cat")
    listener.wait_for("/event")
    assert len(listener.of("/security")) == 1


def test_a_retained_command_is_not_obeyed_at_every_connection(rig: Rig, listener: Listener) -> None:
    listener.send(f"{ROOT}/set/restart", b"PRESS", retain=True)
    rig.open()
    rig.report()
    assert "was retained" in listener.wait_for("garden/restart").json["error"]
    assert rig.device.commands == []


def test_commands_can_be_turned_off(rig: Rig, listener: Listener) -> None:
    rig.open(commands=False)
    rig.report()
    rig.wait_until_up()
    listener.wait_for("camera/enter")
    listener.send(f"{ROOT}/camera/set/enter", b"0.8")
    rig.change("after it")
    listener.wait_for("/event")
    assert rig.device.commands == []
    components = listener.wait_for("/config").json["components"]
    assert {c["platform"] for c in components.values()} <= {"sensor", "binary_sensor", "image"}


# Home Assistant.


def test_the_device_announces_itself_again_at_home_assistants_birth(
    rig: Rig, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "BIRTH_JITTER_S", 0.0)
    rig.open()
    rig.report()
    first = listener.wait_for("/config")
    assert first.topic == "homeassistant/device/garden/config"
    listener.send("homeassistant/status", b"offline")
    listener.send("homeassistant/status", b"online")
    assert listener.wait_for("/config", 2).payload == first.payload


def test_what_is_no_more_is_taken_back(rig: Rig, listener: Listener) -> None:
    rig.open(watched=("cat", "dog"))
    rig.report()
    listener.wait_for("/config")
    rig.close()
    rig.open(watched=("cat",))
    rig.report()
    components = listener.wait_for("/config", 2).json["components"]
    assert components["camera-is-dog"] == {"platform": "binary_sensor"}
    assert components["camera-is-cat"]["name"] == "Cat"
    rig.close()
    # A new name: the old device goes.
    rig.open(node="yard")
    rig.report()
    listener.wait(
        lambda: any(m.payload == b"" for m in listener.of("device/garden/config")), "taken back"
    )
    listener.wait_for("device/yard/config")
    rig.close()
    rig.open(discovery=False)
    rig.report()
    listener.wait(lambda: any(m.payload == b"" for m in listener.of("device/yard/config")))


def test_another_model_or_interval_changes_the_entities(rig: Rig, listener: Listener) -> None:
    rig.open()
    rig.report()
    label = listener.wait_for("/config").json["components"]["camera-label"]
    assert (label["options"], label["expire_after"]) == (["cat", "dog", "unknown", "off-duty"], 180)
    rig.device.labels_of["camera"] = ("person", "unknown")
    rig.report(controls=Controls(True, 0.5, 0.3, 0.0, "v2"), interval_s=10.0)
    label = listener.wait_for("/config", 2).json["components"]["camera-label"]
    assert (label["options"], label["expire_after"]) == (["person", "unknown", "off-duty"], 30)
    assert CONTROLS.model == "lite0"


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)
