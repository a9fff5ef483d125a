"""The rate gate: how many frames it lets through, and which."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from device.config import Gate as Settings
from device.events import GovernedBy
from device.frames import Frame, PixelFormat
from device.pipeline.gate import RateGate
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
