"""How long and how often a label was there today: from the history, to Home Assistant."""

import time
from pathlib import Path

import pytest

from device.history.hours import day_of
from device.sinks.mqtt import today
from tests.history.story import Story, change
from tests.mqtt.conftest import Listener, Rig

HOUR_S = 3600.0


@pytest.fixture
def noon(monkeypatch: pytest.MonkeyPatch) -> float:
    """Whatever the time is, it is noon for the numbers of today."""
    found = day_of(time.time()) + 12 * HOUR_S
    monkeypatch.setattr(time, "time", lambda: found)
    return found


@pytest.fixture
def story(tmp_path: Path, noon: float) -> Story:
    """A boot at midnight of the day before."""
    made = Story(tmp_path / "history.db")
    made.wall_offset = noon - 36 * HOUR_S
    made.start()
    return made


def test_the_numbers_of_today_are_those_of_the_history(
    rig: Rig, listener: Listener, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(today, "WRITTEN_S", 0.01)
    # Two hours of yesterday, an hour over midnight, half an hour of today.
    for begin, end in ((10, 12), (23.5, 24.5), (30, 30.5)):
        story.tell(
            change(begin * HOUR_S, "cat", camera="camera"),
            change(end * HOUR_S, camera="camera"),
            now=end * HOUR_S,
        )
    rig.open(("cat", "dog", "zebra"), history=story.path)
    rig.report()
    rig.wait_until_up()
    said = listener.wait_for("camera/today")
    assert said.json["since"].endswith("Z")
    assert said.json["labels"] == {
        "cat": {"label": "cat", "hours": 1.0, "times": 1},
        "dog": {"label": "dog", "hours": 0.0, "times": 0},
    }
    story.tell(change(35 * HOUR_S, "dog", camera="camera"), now=35.5 * HOUR_S)
    rig.change("dog")
    listener.wait(lambda: listener.of("camera/today")[-1].json["labels"]["dog"]["times"])
    # It is in force, and noon is an hour later.
    assert listener.of("camera/today")[-1].json["labels"]["dog"]["hours"] == 1.0


def test_home_assistant_is_told_how_to_read_them(
    rig: Rig, listener: Listener, story: Story
) -> None:
    rig.open(("cat",), history=story.path)
    rig.report()
    found = listener.wait_for("/config").json["components"]
    spent, times = found["camera-time-cat"], found["camera-times-cat"]
    assert (spent["device_class"], spent["unit_of_measurement"]) == ("duration", "h")
    assert (spent["state_class"], times["state_class"]) == ("total", "total")
    assert spent["last_reset_value_template"] == "{{ value_json.since }}"
    assert times["value_template"] == "{{ value_json.labels['cat'].times }}"
    assert (spent["name"], times["name"]) == ("Cat time today", "Cat times today")
    assert spent["expire_after"] == 180


def test_without_a_history_there_are_none(rig: Rig, listener: Listener) -> None:
    rig.open(("cat",))
    rig.report()
    found = listener.wait_for("/config").json["components"]
    assert "camera-is-cat" in found
    assert not [key for key in found if "time" in key]
    listener.wait_for("/health")
    assert listener.of("/today") == []


def test_a_damaged_history_says_nothing_and_stops_nothing(
    rig: Rig, listener: Listener, tmp_path: Path
) -> None:
    damaged = tmp_path / "history.db"
    damaged.write_text("a letter to my aunt, " * 100)
    rig.open(("cat",), history=damaged)
    rig.report()
    rig.change("cat")
    listener.wait_for("/event")
    listener.wait_for("/health")
    assert listener.of("/today") == []
