"""When an action is done: labels, cameras, how long held, hours, how often."""

import time
from typing import Any

import pytest

from device import config
from device.sinks.actions.trigger import Limit, Trigger
from tests.actions.moments import moment


class Tried:
    """A trigger, and all that it had done: sign, label and the time at which."""

    def __init__(self, wall: float = 0.0, **conditions: Any) -> None:
        usual: dict[str, Any] = {"name": "lamp", "kind": "gpio", "on": 17}
        settings = config.Action(**(usual | conditions))
        self.wall = wall
        self.trigger = Trigger(settings, "node", lambda: self.wall)

    def see(self, at: float, *active: str, camera: str = "camera") -> list[str]:
        """What is done at the moment, and before it."""
        due = self.at(at)
        self.trigger.see(moment(at, *active, camera=camera))
        return due + self.at(at)

    def at(self, now: float) -> list[str]:
        found = []
        while step := self.trigger.next_step(now):
            sign = "?" if step.refused else "+" if step.occurrence.on else "-"
            found.append(f"{sign}{step.occurrence.label}")
        return found


def test_a_label_that_takes_anothers_place_ends_one_and_begins_the_other() -> None:
    tried = Tried()
    assert tried.see(1, "cat") == ["+cat"]
    assert tried.see(2, "dog") == ["-cat", "+dog"]
    assert tried.see(3) == ["-dog"]


def test_what_stays_in_force_is_not_done_again() -> None:
    tried = Tried()
    tried.see(1, "cat")
    assert tried.see(2, "cat", "dog") == ["+dog"]
    assert tried.see(3, "dog", "cat") == []
    assert tried.see(4, "dog") == ["-cat"]


def test_only_its_labels_and_cameras() -> None:
    tried = Tried(labels=("cat",), cameras=("door",))
    assert tried.see(1, "dog", camera="door") == []
    assert tried.see(2, "dog", "cat", camera="door") == ["+cat"]
    assert tried.trigger.concerns("door")
    assert not tried.trigger.concerns("yard")


def test_each_camera_has_labels_of_its_own() -> None:
    tried = Tried()
    assert tried.see(1, "cat", camera="door") == ["+cat"]
    assert tried.see(2, "cat", camera="yard") == ["+cat"]
    assert tried.see(3, camera="door") == ["-cat"]


def test_it_is_done_only_once_the_label_was_held_so_long() -> None:
    tried = Tried(min_held_s=3.0)
    assert tried.see(1, "cat") == []
    assert tried.trigger.wait_s(1.5) == pytest.approx(2.5)
    assert tried.at(3.9) == []
    assert tried.at(4.0) == ["+cat"]
    assert tried.trigger.wait_s(4.0) is None
    assert tried.see(5) == ["-cat"]


def test_a_label_that_ends_sooner_is_not_acted_on_at_all() -> None:
    tried = Tried(min_held_s=3.0)
    tried.see(1, "cat")
    assert tried.see(2) == []
    assert tried.at(10) == []


def test_how_long_it_was_held_is_in_the_occurrence() -> None:
    tried = Tried(min_held_s=3.0)
    tried.see(1, "cat")
    begun = tried.trigger.next_step(4.0)
    assert begun is not None
    assert begun.occurrence.fields == {
        "action": "lamp",
        "node": "node",
        "camera": "camera",
        "label": "cat",
        "on": True,
        "score": 0.8,
        "held_s": 3.0,
        "active": ["cat"],
        "model": "model",
        "at": "1970-01-01T00:16:41.000Z",
    }
    tried.trigger.see(moment(9.5))
    ended = tried.trigger.next_step(9.5)
    assert ended is not None
    assert (ended.occurrence.on, ended.occurrence.held_s) == (False, 8.5)


def wall(text: str) -> float:
    return time.mktime(time.strptime(f"2026-11-24 {text}", "%Y-%m-%d %H:%M"))


def test_outside_its_hours_nothing_is_done_and_at_their_end_what_began_ends() -> None:
    tried = Tried(hours=("08:00-20:00",), wall=wall("07:00"))
    assert tried.see(1, "cat") == []
    assert tried.trigger.wait_s(1) == 1.0
    tried.wall = wall("08:00")
    assert tried.at(3601) == ["+cat"]
    tried.wall = wall("20:00")
    assert tried.at(46_801) == ["-cat"]
    assert tried.see(46_900) == []
    assert tried.see(46_901, "dog") == []


def test_over_the_limit_neither_beginning_nor_end_is_done_and_it_is_told_once() -> None:
    tried = Tried(limit="2/minute")
    done = []
    for at in range(0, 30, 10):
        done += tried.see(at, "cat") + tried.see(at + 5)
    assert done == ["+cat", "-cat", "+cat", "-cat", "?cat"]
    assert tried.see(60.0, "cat") == ["+cat"]


def test_a_limit_holds_in_any_span_and_not_only_from_full_hours() -> None:
    limit = Limit("2/minute")
    assert [at for at in (0, 59, 60, 61, 119, 120) if limit.admits(at)] == [0, 59, 60, 119, 120]
    assert all(Limit("").admits(0.0) for _ in range(1000))


def test_an_end_of_the_run_ends_what_was_begun_alone() -> None:
    tried = Tried(labels=("cat", "dog"), limit="1/hour")
    tried.see(1, "cat", "dog")
    assert [(o.label, o.on, o.held_s) for o in tried.trigger.end_all(3.0)] == [("cat", False, 2.0)]
    assert tried.trigger.end_all(4.0) == []
