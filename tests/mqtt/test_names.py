"""Topics, ids, waits and the discovery message: what needs no broker."""

import json
import random
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import config
from device.config import Mqtt
from device.control import table
from device.events import Drift
from device.sinks import mqtt, retry
from device.sinks.mqtt import sink
from device.sinks.mqtt.announced import ANNOUNCED_FILE, Announced
from device.sinks.mqtt.discovery import Discovery
from device.sinks.mqtt.payloads import health_message
from device.sinks.mqtt.topics import Topics, machine_id, slug
from device.sinks.outlet import Run
from device.sinks.wire import Ids
from tests.mqtt.conftest import Device
from tests.sinks.examples import camera_health, device_health


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("garden", "garden"),
        ("Front door", "front-door"),
        ("door/left", "door-left"),
        ("cam_2", "cam_2"),
    ],
)
def test_a_plain_name_is_its_own_slug(name: str, expected: str) -> None:
    assert slug(name, "camera") == expected


@pytest.mark.parametrize("name", ["a#", "a+", "🦊", "", " ", "é", "health", "enter", "x" * 99])
def test_a_name_that_loses_letters_keeps_apart(name: str) -> None:
    found = slug(name, "camera")
    assert found != slug(name + "!", "camera")
    assert found == slug(name, "camera")
    assert len(found) <= 60


@given(st.text(max_size=80))
def test_a_slug_is_always_a_topic_level(name: str) -> None:
    found = slug(name, "node")
    assert found
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-")


def test_cameras_never_share_a_topic() -> None:
    names = ["Door 1", "door-1", "door/1", "DOOR 1", "set", "availability", *table.CONTROLS]
    topics = Topics("labelcam", "n", names, machine="m")
    assert len(set(topics.slugs.values())) == len(names)
    for name in names:
        topic = topics.command(name, "enter")
        assert topics.addressed(topic) == (name, "enter")
        assert topics.of(name, "state") not in (topics.availability, topics.health)
    assert topics.addressed(topics.command(None, "restart")) == (None, "restart")
    assert topics.addressed("labelcam/n/attic/set/enter") == ("attic", "enter")


def test_client_ids_tell_machines_and_nodes_apart() -> None:
    ids = {
        Topics("p", node, [], machine=machine).client_id
        for node in ("garden", "yard")
        for machine in ("4d2a", "4d2b")
    }
    assert len(ids) == 4
    for identity in ids:
        assert identity.isalnum()
        # What every broker must take, by MQTT 3.1.1.
        assert len(identity) <= 23
        assert "4d2" not in identity.removeprefix("labelcam")
    assert Topics("p", "yard", [], machine="m").client_id == Topics("q", "yard", [], "m").client_id


@pytest.mark.parametrize("host", ["raspberrypi", "localhost.localdomain"])
def test_a_host_name_that_many_have_is_made_ones_own(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    one, two = (Topics("p", "", [], machine=machine) for machine in "12")
    assert one.root != two.root
    assert one.node.startswith(host.partition(".")[0])
    monkeypatch.setattr("socket.gethostname", lambda: "attic.lan")
    assert Topics("p", " ", [], machine="1").root == "p/attic"


def test_the_machine_id_or_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "machine-id"
    monkeypatch.setattr("socket.gethostname", lambda: "attic")
    assert machine_id([str(file)]) == "attic"
    file.write_text("uninitialized\n")
    assert machine_id([str(file)]) == "attic"
    file.write_text("4d2a\n")
    assert machine_id([str(file)]) == "4d2a"


def test_ids_grow_even_where_the_clock_is_set_back() -> None:
    ids = Ids()
    found = [ids.next(now) for now in (1e9, 2e9, 1.5e9, 2e9, -1.0, *([2e9] * 9000), 3e9)]
    assert found == sorted(set(found))
    for text in (found[0], found[-1]):
        made = uuid.UUID(text)
        assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert uuid.UUID(found[0]).int >> 80 == 1_000_000_000_000


def test_waits_grow_at_random_up_to_two_minutes() -> None:
    waits = retry.Retry(random.Random(1))
    found = [waits.wait_s(float(at), slow=False) for at in range(200)]
    assert all(retry.FIRST_S <= wait_s <= 120 for wait_s in found)
    assert found[0] <= 3 * retry.FIRST_S
    assert max(found) == 120
    assert len(set(found)) > 50


@pytest.fixture
def real_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_S", 1.0)
    monkeypatch.setattr(retry, "SLOW_S", 30.0)


@pytest.mark.usefixtures("real_waits")
def test_a_refusal_waits_long_and_a_lost_connection_does_not() -> None:
    waits = retry.Retry(random.Random(1))
    assert 30 <= waits.wait_s(0.0, slow=True) <= 120
    waits.came_up(100.0)
    assert 1 <= waits.wait_s(200.0, slow=False) <= 3
    assert not waits.contested


@pytest.mark.usefixtures("real_waits")
def test_a_place_that_is_contested_is_not_fought_for() -> None:
    waits = retry.Retry(random.Random(1))
    now = 0.0
    for _ in range(retry.SHORT_LIVED):
        waits.came_up(now)
        wait_s = waits.wait_s(now + 0.5, slow=False)
        now += 2
    assert waits.contested
    assert wait_s >= 30
    # A broker that was away in between is no rival.
    waits = retry.Retry(random.Random(1))
    for _ in range(3 * retry.SHORT_LIVED):
        waits.came_up(now)
        waits.wait_s(now + 0.5, slow=False)
        assert waits.wait_s(now + 1.0, slow=False) < 30
    assert not waits.contested


LABELS = ("cat", "it's a dog", "unknown")
TOPICS = Topics("labelcam", "Garden", ["Front door"], machine="m")
NOWHERE = Path("/dev/null/nowhere")


def announce(
    announced: Path = NOWHERE,
    *,
    labels: tuple[str, ...] = LABELS,
    interval_s: float = 60.0,
    commands: bool = True,
    images: bool = True,
    taught: tuple[str, ...] = (),
    drift: Drift | None = None,
) -> tuple[str, dict[str, Any]]:
    """Where the discovery message goes, and what it says."""
    device = Device()
    device.labels_of["Front door"] = labels
    device.known_by_lesson = taught
    settings = Mqtt(commands=commands, images=images)
    found = Discovery(settings, TOPICS, device, LABELS[:2], Announced(announced))
    health = device_health(camera_health(name="Front door", drift=drift))
    vitals = msgspec.structs.replace(health.vitals, board="Raspberry Pi 5")
    health = msgspec.structs.replace(health, vitals=vitals, interval_s=interval_s)
    ((topic, message),) = found.messages(health)
    return topic, json.loads(message)


def entities(**different: Any) -> dict[str, Any]:
    found: dict[str, Any] = announce(**different)[1]["components"]
    return found


def test_the_discovery_message_has_what_home_assistant_wants(tmp_path: Path) -> None:
    told = tmp_path / ANNOUNCED_FILE
    topic, _ = announce(told)
    Announced(told).update(topic, {"old": {"platform": "sensor"}})
    _, message = announce(told)
    found = message["components"]
    assert found.pop("old") == {"platform": "sensor"}
    assert message["device"]["identifiers"] == [TOPICS.client_id]
    assert message["device"]["name"] == "Garden"
    assert message["device"]["model"] == "Raspberry Pi 5"
    assert message["origin"]["name"] == "labelcam"
    assert message["availability"] == [{"topic": "labelcam/garden/availability"}]
    assert {entity["platform"] for entity in found.values()} == {
        "sensor", "binary_sensor", "image", "switch", "number", "select", "button",
    }  # fmt: skip
    for key, entity in found.items():
        assert entity["unique_id"] == f"{TOPICS.client_id}-{key}"
        kind, _, name = entity["default_entity_id"].partition(".")
        assert kind == entity["platform"]
        assert name.replace("_", "").isalnum()
        assert "object_id" not in entity
    assert len({entity["unique_id"] for entity in found.values()}) == len(found)


def test_what_was_taught_is_watched_and_can_be_taught_more() -> None:
    labels = ("gate open", "gate shut", "unknown")
    found = entities(labels=labels, taught=labels[:2])
    choice, button = found["front-door-teach-label"], found["front-door-teach"]
    assert (choice["platform"], choice["options"]) == ("select", ["gate open", "gate shut"])
    assert (button["platform"], button["name"]) == ("button", "Learn this")
    watched = [e["name"] for e in found.values() if e["platform"] == "binary_sensor"]
    assert watched == ["Gate open", "Gate shut"]


def test_every_entity_that_is_told_regularly_expires_and_no_other() -> None:
    for entity in entities(interval_s=20.0).values():
        told = entity["platform"] in ("sensor", "binary_sensor")
        assert entity.get("expire_after") == (60 if told else None)


def addressed(topic: str) -> tuple[str | None, str]:
    found = TOPICS.addressed(topic)
    assert found is not None, topic
    return found


@pytest.mark.parametrize(
    "rest",
    ["hello", "ROOT", "ROOT/", "ROOT/set", "ROOT/garden/x/set/enter", "x/ROOT/set/enter",
     "ROOT/set/enter/x", "ROOTset/enter", ""],
)  # fmt: skip
def test_a_topic_outside_the_subscription_is_nobodys_command(rest: str) -> None:
    assert TOPICS.addressed(rest.replace("ROOT", TOPICS.root)) is None


def test_entities_command_what_there_is_to_command() -> None:
    for entity in entities().values():
        if "command_topic" in entity:
            camera, key = addressed(entity["command_topic"])
            assert key in table.CONTROLS
            press = entity["platform"] == "button"
            # The button teaches the label that was chosen; the command takes any.
            assert (table.CONTROLS[key].type is None or key == "teach") == press
            assert press or entity["state_topic"] == TOPICS.of(camera, key)
    commanded = [addressed(e["command_topic"])[1] for e in entities().values()
                 if "command_topic" in e]  # fmt: skip
    # A region is drawn on a picture, which is not a thing that Home Assistant has.
    # Where nothing was taught yet, no label can be chosen to teach.
    assert set(table.CONTROLS) - set(commanded) == {"region", "teach", "teach_label"}
    assert not [e for e in entities(commands=False).values() if "command_topic" in e]
    assert not [e for e in entities(images=False).values() if e["platform"] == "image"]


def test_labels_in_templates_are_quoted() -> None:
    template = entities()[f"front-door-is-{slug(LABELS[1], 'label')}"]["value_template"]
    assert template == (
        "{{ None if value_json.label == 'off-duty' "
        r"else 'ON' if 'it\'s a dog' in value_json.active else 'OFF' }}"
    )


def test_what_is_not_as_usual_is_a_problem_with_the_words_as_attributes() -> None:
    assert "front-door-drift" not in entities()
    found = entities(drift=Drift())["front-door-drift"]
    assert (found["platform"], found["device_class"]) == ("binary_sensor", "problem")
    own = "value_json.cameras['front-door'].drift"
    assert found["value_template"] == f"{{{{ 'ON' if {own}.change else 'OFF' }}}}"
    assert found["json_attributes_template"] == f"{{{{ {own} | tojson }}}}"
    assert found["state_topic"] == found["json_attributes_topic"] == TOPICS.health
    health = device_health(camera_health(name="Front door", drift=Drift("darker", 3600.0)))
    told = json.loads(health_message(health, TOPICS, 0.0, {}, {}))
    assert told["cameras"]["front-door"]["drift"] == {
        "change": "darker", "since": 3600.0, "learning": "", "pictures": False,
    }  # fmt: skip
    accept = entities()["front-door-accept-drift"]
    assert (accept["platform"], accept["name"]) == ("button", "Accept as normal")


def test_many_labels_are_no_enumeration() -> None:
    found = entities(labels=tuple(f"label {n}" for n in range(1000)))
    assert "options" not in found["front-door-label"]
    assert entities()["front-door-label"]["options"] == [*LABELS, "off-duty"]


def test_what_was_told_is_remembered_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / ANNOUNCED_FILE
    found = entities()
    assert Announced(path).update("topic/1", found) == ""
    announced = Announced(path)
    assert announced.gone({}) == {key: entity["platform"] for key, entity in found.items()}
    assert announced.gone(found) == {}
    assert announced.update("topic/2", {}) == "topic/1"
    Announced(path).forget()
    assert Announced(path).gone({}) == {}
    path.write_text("[")
    assert Announced(path).topic == ""
    assert msgspec.json.decode(b"{}") == {}


@pytest.mark.parametrize(
    ("decide", "watch", "watched"),
    [
        (config.Decide(), (), []),
        (config.Decide(), ("cat",), ["cat"]),
        (config.Decide(groups="everyday"), (), ["cat", "dog"]),
        (config.Decide(allow=("tabby",)), (), ["tabby"]),
        (config.Decide(alias={"cat": "Minka"}, groups="everyday"), (), ["Minka", "dog"]),
    ],
)
def test_words_get_a_sensor_where_somebody_named_them(
    monkeypatch: pytest.MonkeyPatch,
    decide: config.Decide,
    watch: tuple[str, ...],
    watched: list[str],
) -> None:
    opened: list[Any] = []
    monkeypatch.setattr(sink, "MqttSink", lambda *given, **named: opened.append((given, named)))
    settings = config.Config(decide=decide, mqtt=config.Mqtt(watch=watch))
    mqtt.open_sink(Run(settings, settings.camera, Device(), ("cat", "dog"), 0.0))
    ((given, named),) = opened
    assert given[-1] == watched
    assert named == {"nothing": config.Decide().unknown, "history": None}
