"""The gates: how many frames they let through, and which."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import Gate as Settings
from device.events import GovernedBy, Look
from device.frames import Frame, PixelFormat
from device.pipeline.gate import GovernorGate, MotionGate, RateGate
from device.pipeline.motion import COLUMNS, ROWS, Area, Motion


class SceneOf:
    """What a channel would say of a frame, as a test has it."""

    def __init__(self) -> None:
        self.wanted = False
        self.steady = True
        self.moves = False
        self.gated = True
        self.governed: tuple[float, GovernedBy] = 0.0, ""
        self.level = 100.0
        self.flicker = 0.0

    def motion(self, _frame: Frame) -> Motion | None:
        blocks = np.full((ROWS, COLUMNS), self.moves)
        return Motion(blocks, self.level, self.flicker) if self.gated else None

    def area(self, _frame: Frame) -> Area:
        return 0.0, 0.0, 1.0, 1.0


def frame(at: float) -> Frame:
    return Frame(np.zeros((1, 1), np.uint8), PixelFormat.GREY, 1, 1, 0, at)


def rate_gate(max_fps: float) -> RateGate:
    return RateGate(Settings(max_fps=max_fps), SceneOf())


def admitted(gate: RateGate, times: list[float]) -> list[float]:
    return [at for at in times if gate.admits(frame(at))]


def test_zero_admits_every_frame() -> None:
    gate = rate_gate(0)
    assert all(gate.admits(frame(at)) for at in (0.0, 0.0, 0.001, -5.0))


def test_a_limit_that_does_not_divide_the_camera_rate_is_still_met() -> None:
    times = [number / 30 for number in range(30 * 60)]
    assert len(admitted(rate_gate(20), times)) == 20 * 60


def test_a_camera_slower_than_the_limit_loses_nothing() -> None:
    times = [number / 10 for number in range(100)]
    assert admitted(rate_gate(20), times) == times


def test_a_jittering_camera_at_the_limit_loses_one_frame_at_most() -> None:
    times = [number / 20 + (0.003 if number % 3 == 0 else 0.0) for number in range(1000)]
    assert len(admitted(rate_gate(20), times)) >= 999


def test_no_burst_follows_a_pause() -> None:
    gate = rate_gate(1)
    assert gate.admits(frame(0.0))
    later = [1000 + number / 30 for number in range(90)]
    assert len(admitted(gate, later)) <= 3 + 1


def test_a_clock_that_jumps_back_does_not_close_the_gate() -> None:
    gate = rate_gate(10)
    assert gate.admits(frame(1e6))
    assert not gate.admits(frame(0.0))
    assert not gate.admits(frame(0.05))
    assert gate.admits(frame(0.101))


def test_two_frames_of_one_time_are_not_both_admitted() -> None:
    # In floats (at + 1 / 3) - at is more than 1 / 3.
    gate = rate_gate(3)
    assert [gate.admits(frame(2.5)) for _ in range(3)] == [True, False, False]


@given(
    max_fps=st.floats(0.1, 240),
    gaps_s=st.lists(st.floats(0, 3), min_size=1, max_size=200),
    data=st.data(),
)
def test_no_stretch_of_time_holds_more_than_its_share(
    max_fps: float, gaps_s: list[float], data: st.DataObject
) -> None:
    times, at = [], 0.0
    for gap_s in gaps_s:
        at += gap_s
        times.append(at)
    kept = admitted(rate_gate(max_fps), times)
    first = data.draw(st.integers(0, len(kept) - 1))
    stretch = kept[first:]
    assert len(stretch) <= max_fps * (stretch[-1] - stretch[0]) + 2 + 1e-6


STEP_S = 1 / 8  # exact in binary, so that what is due is due on a frame and not beside it


class Watched:
    """A motion gate over frames that are STEP_S apart, and what its channel says of them."""

    def __init__(self, **settings: float) -> None:
        self.scene = SceneOf()
        self.gate = MotionGate(Settings(**settings), self.scene)  # type: ignore[arg-type]
        self.at = 100.0

    def see(self, step_s: float = STEP_S) -> bool:
        self.at += step_s
        return self.gate.admits(frame(self.at))

    def rest(self, frames: int) -> list[float]:
        """How long after the call frames were admitted."""
        begun = self.at
        return [self.at - begun for _ in range(frames) if self.see()]


def test_every_frame_while_something_moves_or_the_label_is_in_doubt() -> None:
    watched = Watched()
    watched.scene.moves = True
    assert all(watched.see() for _ in range(50))
    looks: list[Look] = [watched.gate.look]
    watched.scene.moves, watched.scene.steady = False, False
    assert all(watched.see() for _ in range(50))
    assert [*looks, watched.gate.look] == ["moving", "settling"]


def test_at_rest_the_distance_doubles_up_to_the_idle_rate() -> None:
    watched = Watched(idle_fps=0.5)
    watched.scene.moves = True
    watched.see()
    watched.scene.moves = False
    assert watched.rest(81) == [STEP_S, 0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert watched.gate.look == "settled"


def test_without_an_idle_rate_the_re_checks_are_left() -> None:
    watched = Watched(idle_fps=0, recheck_s=4)
    watched.rest(300)
    times = watched.rest(300)
    assert {after - before for before, after in pairwise(times)} == {4.0}


@pytest.mark.parametrize(
    "change", [{"moves": True}, {"steady": False}, {"wanted": True}, {"level": 110.0}]
)
def test_what_is_new_is_looked_at_at_once(change: dict[str, Any]) -> None:
    watched = Watched()
    watched.rest(205)
    assert not watched.see()
    for name, value in change.items():
        setattr(watched.scene, name, value)
    assert watched.see()


def test_a_lamp_that_flickers_is_nothing_new() -> None:
    watched = Watched()
    watched.rest(205)
    watched.see()
    watched.scene.flicker, watched.scene.level = 8.0, 110.0
    assert not watched.see()


def test_motion_brings_the_full_rate_back() -> None:
    watched = Watched()
    watched.rest(205)
    watched.scene.moves = True
    assert watched.see()
    watched.scene.moves = False
    assert watched.rest(9) == [STEP_S, 0.25, 0.5, 1.0]


def test_what_is_not_gated_is_classified_and_says_nothing() -> None:
    watched = Watched()
    watched.rest(205)
    watched.scene.gated = False
    assert all(watched.see() for _ in range(5))
    assert watched.gate.look == ""


def test_a_clock_that_stands_still_does_not_shut_the_gate() -> None:
    watched = Watched()
    watched.rest(205)
    admitted = [watched.see(0.0) for _ in range(2000)]
    assert 2 <= sum(admitted) <= 3


@pytest.mark.parametrize("jump_s", [-1e6, 1e9])
def test_a_clock_that_jumps_is_a_re_check_and_then_time_goes_on(jump_s: float) -> None:
    watched = Watched(idle_fps=0.5)
    watched.rest(205)
    assert watched.see(jump_s)
    assert watched.rest(80)[-4:] == [4.0, 6.0, 8.0, 10.0]


def test_a_rate_that_is_governed_says_why() -> None:
    scene = SceneOf()
    gate = GovernorGate(Settings(), scene)
    assert all(gate.admits(frame(number / 10)) for number in range(20))
    scene.governed = 2.0, "hot"
    assert sum(gate.admits(frame(2 + number / 10)) for number in range(100)) == 20
    assert gate.look == "hot"
