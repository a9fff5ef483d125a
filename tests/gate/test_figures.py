"""The goals of the figures that take seconds: labels of a scene that changes, objects, a wake."""

import numpy as np
import pytest

from tests.conftest import classifier_of
from tests.gate import figures
from tests.gate.clips import EVENTS, STILL


@pytest.mark.slow
def test_every_change_of_label_is_told_as_soon_for_less_work() -> None:
    clip = next(clip for clip in EVENTS if clip.name == "something else before the camera")
    with classifier_of(figures.MODEL.name, figures.MODEL) as classifier:
        row = figures.labels(clip, classifier, 30.0)
    assert row["changes"] >= 3
    assert (row["missing"], row["extra"]) == (0, 0)
    assert row["latest_frames"] <= 1
    assert row["classified_share"] < 0.5


@pytest.mark.slow
def test_every_object_of_two_percent_is_seen_within_a_frame() -> None:
    assert figures.objects_seen() == figures.OBJECTS


@pytest.mark.slow
def test_a_room_at_night_wakes_nobody() -> None:
    assert figures.false_wakes(STILL[-1], 0.5) == 0


def test_a_goal_that_is_missed_is_told() -> None:
    row = {"missing": 0, "extra": 1, "latest_frames": 2}
    result = {
        "labels": [row],
        "processor_time_share": {"a room": 0.05},
        "false_wakes_per_hour": {"a room": 0.0, "rain": 1.0},
        "objects_seen": figures.OBJECTS,
        "gate_ms": {"stage": 0.2, "loop": 0.3, "share": 0.03},
    }
    missed = [goal["goal"] for goal in figures.reached(result) if not goal["met"]]
    assert missed == [
        "label changes too many",
        "latest change, in frames",
        "gate, ms a frame more in the loop",
    ]


def test_the_plot_has_a_pair_of_bars_for_each_clip() -> None:
    row = {"clip": "a room", "classified_share": 0.0, "mog2_moving_share": 1.0}
    panel = figures.drawn([row, row])
    # A bar is a block of one colour: the share of 1 takes all of its width, twice.
    orange = np.all(panel == (60, 140, 230), axis=-1)
    assert (orange.sum(axis=1) == 561).sum() == 2 * 10
