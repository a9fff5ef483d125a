"""The soak itself: its script, its figures, and a short run of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest

from tests.mqtt.mosquitto import MISSING, PROGRAM
from tests.soak.figures import Sample, judge, slope, summarize
from tests.soak.plot import draw
from tests.soak.script import DAY_S, MOMENTS, Action, write


@pytest.mark.parametrize("days", [1, 30])
def test_the_script_has_everything_happen_and_all_be_well_at_the_end(days: int) -> None:
    events = write(days * DAY_S, seed=1, turns_clock=True)
    assert events == sorted(events, key=lambda event: event.at_s)
    assert {event.action for event in events} == set(get_args(Action))
    last = {event.action.partition(" ")[2]: event.action for event in events}
    assert last["disk"] == "free disk"
    assert last["camera"] == "return camera"
    assert last["broker"] == "start broker"


def test_the_wall_clock_passes_every_moment() -> None:
    """Each is set to come in the middle of its part, by steps of the clock of up to an hour."""
    length_s = 30 * DAY_S
    set_at = [event for event in write(length_s, 1, turns_clock=True) if event.action == "set wall"]
    for event, moment in zip(set_at, MOMENTS.values(), strict=True):
        assert event.value <= moment.timestamp() < event.value + length_s / len(MOMENTS)


def test_a_run_in_real_time_leaves_the_clock_alone() -> None:
    assert not [event for event in write(600, 1, turns_clock=False) if "wall" in event.action]


def samples(growth_mb: float, descriptors: int = 18) -> list[Sample]:
    """A run of two days, whose first hours take 20 MB, which its slope is not to see.

    It has so many descriptors at its worst, for a moment.
    """
    rng = np.random.default_rng(1)
    shares = np.linspace(0, 1, 200)
    memory = 80 + 20 * np.minimum(1, shares * 4) + growth_mb * shares + rng.normal(0, 0.1, 200)
    return [
        Sample(share * 2 * DAY_S, rss, 18 if share else descriptors, 6, 1080, share * 1000, 0)
        for share, rss in zip(shares.tolist(), memory.tolist(), strict=True)
    ]


def test_a_slope_is_the_growth_over_the_run_without_its_beginning() -> None:
    assert slope(samples(0.0), "rss_mb") == pytest.approx(0, abs=0.2)
    assert slope(samples(3.0), "rss_mb") == pytest.approx(3, abs=0.2)
    assert slope(samples(3.0), "descriptors") == pytest.approx(0, abs=1e-6)


def figures(**different: Any) -> dict[str, Any]:
    found = {
        "exit": 0, "received": 5, "lost": 2, "dropped": 2, "out_of_order": 0, "ids_in_order": True,
        "duplicates_other_id": 0, "damaged": 0, "web_failures": 0, "off_duty": 2,
        "off_duty_by_the_clock": 2,
    }  # fmt: skip
    run = samples(different.pop("growth_mb", 0.5), different.pop("descriptors", 18))
    return summarize(run) | found | different


@pytest.mark.parametrize(
    ("different", "faults"),
    [
        ({}, []),
        ({"growth_mb": 1.5}, ["memory grows"]),
        ({"descriptors": 79}, ["descriptors grow"]),
        ({"lost": 3}, ["events are lost uncounted"]),
        ({"dropped": 3}, ["events are lost uncounted"]),
        ({"received": 0}, ["no event came"]),
        ({"exit": -9}, ["the device failed"]),
        ({"failed": "OSError"}, ["the device failed"]),
        ({"ids_in_order": False}, ["events are out of order"]),
        ({"off_duty": 1}, ["hours are not kept"]),
        ({"web_failures": 1}, ["the page fails"]),
    ],
)
def test_what_is_judged(different: dict[str, Any], faults: list[str]) -> None:
    assert judge(figures(**different)) == faults


def test_the_plot_shows_what_grows() -> None:
    flat, steep = (
        cv2.imdecode(np.frombuffer(draw(samples(growth)), np.uint8), cv2.IMREAD_COLOR)
        for growth in (0.0, 100.0)
    )
    assert flat.shape == steep.shape
    assert (flat != steep).any()


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not PROGRAM, reason=MISSING)
def test_a_day_costs_nothing_and_loses_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--days", "1", "--json"],
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    found = json.loads(run.stdout)
    assert found["faults"] == []
    assert found["frames"] > 7000
    # The outage of four hours is longer than what the outbox may keep.
    assert found["sent"] > found["dropped"] > 0
    assert found["visits"] > 20
    # Each of the moments that the clock passes lies at midnight or in the hour of a change.
    assert found["off_duty_by_the_clock"] >= 5
