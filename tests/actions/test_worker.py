"""The thread of an action: order, what waits while it is busy, faults, the end."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from device import config
from device.errors import ActionError
from device.events import ActionResult
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.sinks.actions.worker import MAX_WAITING, Worker
from tests.actions.moments import moment

LIMIT_S = 10.0


class Scripted(Performer):
    """Notes what it is told; ``gate`` holds it up, ``fails`` and ``opens`` make it fail."""

    wants_score = True

    def __init__(self) -> None:
        self.told: queue.Queue[str] = queue.Queue()
        self.gate = threading.Event()
        self.gate.set()
        self.fails: Exception | None = None
        self.opens: Exception | None = None
        self.threads: set[str] = set()

    def open(self) -> None:
        if self.opens:
            raise self.opens

    def begin(self, occurrence: Occurrence) -> str | None:
        self.told.put(f"+{occurrence.label}")
        self.threads.add(threading.current_thread().name)
        assert self.gate.wait(LIMIT_S)
        if self.fails:
            raise self.fails
        return "done"

    def end(self, occurrence: Occurrence) -> str | None:
        self.told.put(f"-{occurrence.label}")
        return "done"

    def update(self, occurrence: Occurrence) -> None:
        self.told.put(f"{occurrence.label}={occurrence.score}")

    def close(self) -> None:
        self.told.put("closed")

    def next(self, count: int = 1) -> list[str]:
        return [self.told.get(timeout=LIMIT_S) for _ in range(count)]


class Tried:
    """A worker with what it makes known."""

    def __init__(self, **conditions: Any) -> None:
        usual: dict[str, Any] = {"name": "lamp", "kind": "gpio", "on": 17}
        settings = config.Action(**(usual | conditions))
        self.performer = Scripted()
        self.results: queue.Queue[ActionResult] = queue.Queue()
        self.worker = Worker(settings, "node", self.open_action, self.results.put)

    def open_action(self, _settings: config.Action, _report: Report) -> Performer:
        return self.performer

    def put(self, *active: str) -> None:
        self.worker.put(moment(time.monotonic(), *active))

    def result(self) -> ActionResult:
        return self.results.get(timeout=LIMIT_S)

    def close(self) -> None:
        self.worker.stop()
        self.worker.join(time.monotonic() + LIMIT_S)


@pytest.fixture
def tried() -> Iterator[Callable[..., Tried]]:
    made: list[Tried] = []

    def make(**conditions: Any) -> Tried:
        made.append(Tried(**conditions))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., Tried]


def test_it_is_done_on_its_own_thread_and_told(tried: Make) -> None:
    lamp = tried()
    lamp.put("cat")
    result = lamp.result()
    assert (result.action, result.kind, result.label, result.on) == ("lamp", "gpio", "cat", True)
    assert (result.done, result.detail) == (True, "")
    assert 0 <= result.took_ms < LIMIT_S * 1e3
    assert lamp.performer.threads == {"labelcam-action-lamp"}


def test_a_busy_action_keeps_nobody_waiting_and_misses_nothing_that_stays(tried: Make) -> None:
    lamp = tried()
    lamp.performer.gate.clear()
    lamp.put("cat")
    assert lamp.performer.next() == ["+cat"]
    for number in range(3 * MAX_WAITING):
        lamp.put(f"label {number}")
    lamp.put("dog")
    lamp.performer.gate.set()
    told = lamp.performer.next(2 * MAX_WAITING)
    # What came first in order, and what is in force in the end.
    assert told[:4] == ["-cat", "+label 0", "-label 0", "+label 1"]
    assert told[-1] == "+dog"
    passed_over = 0
    while (result := lamp.result()).label != "dog":
        passed_over += result.detail == "was busy"
        assert result.done == (not result.detail)
    assert passed_over == 3 * MAX_WAITING + 1 - MAX_WAITING


def test_min_held_s_is_waited_for_without_another_change(tried: Make) -> None:
    lamp = tried(min_held_s=0.05)
    lamp.put("cat")
    assert lamp.performer.next() == ["+cat"]


def test_a_label_that_went_while_the_action_was_busy_was_not_held_long_enough(tried: Make) -> None:
    lamp = tried(min_held_s=0.01)
    lamp.performer.gate.clear()
    now = time.monotonic()
    lamp.worker.put(moment(now - 9, "cat"))
    assert lamp.performer.next() == ["+cat"]
    lamp.worker.put(moment(now - 8, "dog"))
    lamp.worker.put(moment(now - 7.995, "cow"))
    lamp.performer.gate.set()
    assert lamp.performer.next(2) == ["-cat", "+cow"]


def test_what_it_cannot_do_is_told_and_the_next_is_tried(
    tried: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    lamp = tried()
    lamp.performer.fails = ActionError("lamp", "the fuse has blown")
    lamp.put("cat")
    result = lamp.result()
    assert (result.done, result.detail) == (False, "the fuse has blown")
    assert lamp.worker.problem == "the fuse has blown"
    lamp.performer.fails = None
    # Its end works; of its beginning nothing is known by that.
    lamp.put()
    assert lamp.result().done
    assert lamp.worker.problem == "the fuse has blown"
    lamp.put("cat")
    assert lamp.result().done
    assert lamp.worker.problem == ""
    assert [record.message for record in caplog.records] == [
        "action lamp: the fuse has blown",
        "action lamp: works again",
    ]


def test_a_fault_of_its_code_stays_with_it(tried: Make) -> None:
    lamp = tried()
    lamp.performer.fails = ZeroDivisionError("by zero")
    lamp.put("cat")
    assert lamp.result().detail == "ZeroDivisionError: by zero"
    lamp.performer.fails = None
    lamp.put()
    assert lamp.result().done


def test_what_cannot_be_opened_is_tried_again_when_it_is_needed(tried: Make) -> None:
    lamp = tried()
    lamp.performer.opens = ActionError("lamp", "the pin is taken")
    lamp.worker._open = False
    lamp.put("cat")
    assert lamp.result().detail == "the pin is taken"
    lamp.performer.opens = None
    lamp.put()
    assert lamp.result().done


def test_scores_go_to_what_is_in_force(tried: Make) -> None:
    lamp = tried(labels=("cat",))
    lamp.worker.score("camera", {"cat": 0.1})
    lamp.put("cat")
    assert lamp.performer.next() == ["+cat"]
    lamp.result()
    lamp.worker.score("camera", {"cat": 0.9, "dog": 0.5})
    assert lamp.performer.next() == ["cat=0.9"]


def test_the_end_of_the_run_ends_what_is_in_force(tried: Make) -> None:
    lamp = tried()
    lamp.put("cat")
    lamp.performer.next()
    lamp.close()
    assert lamp.performer.next(2) == ["-cat", "closed"]
    lamp.put("dog")
    assert lamp.performer.told.empty()
