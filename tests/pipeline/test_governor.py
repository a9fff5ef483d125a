"""The governor on simulated boards, and with readings that are missing or make no sense."""

import itertools
from dataclasses import dataclass

import pytest

from device.pipeline.governor import SHARES, Governor, governed_fps

FULL_FPS = 30.0
THROTTLE_C = 80.0


@dataclass
class Board:
    """A processor on a board in still air: two thermal masses, heated by what it classifies.

    The board is ``idle_k`` warmer than the air with nothing to do and ``full_k`` more at the full
    rate, with the time constant ``board_s``; the processor is warmer than the board by another
    ``core_k`` then, with ``core_s``. The sensor has steps of half a degree.
    """

    ambient_c: float
    idle_k: float
    full_k: float
    board_s: float
    core_k: float = 5.0
    core_s: float = 2.0

    def __post_init__(self) -> None:
        self._board_c = self.ambient_c + self.idle_k
        self._core_k = 0.0

    @property
    def celsius(self) -> float:
        return self._board_c + self._core_k

    @property
    def reading_c(self) -> float:
        return round(self.celsius * 2) / 2

    def steady_c(self, load: float) -> float:
        """Where it ends up at this share of the full rate."""
        return self.ambient_c + self.idle_k + (self.full_k + self.core_k) * load

    def run(self, load: float, for_s: float = 1.0, step_s: float = 0.1) -> float:
        """The highest temperature meanwhile."""
        highest = self.celsius
        for _ in range(round(for_s / step_s)):
            target_c = self.ambient_c + self.idle_k + self.full_k * load
            self._board_c += (target_c - self._board_c) * step_s / self.board_s
            self._core_k += (self.core_k * load - self._core_k) * step_s / self.core_s
            highest = max(highest, self.celsius)
        return highest


# From a small bare board in a closed box to one with a heat sink: kelvin over the air when idle,
# kelvin more at the full rate, time constant in seconds.
BOARDS = {
    "bare": (22.0, 35.0, 90.0),
    "boxed": (32.0, 50.0, 240.0),
    "quick": (25.0, 50.0, 30.0),
    "sink": (15.0, 12.0, 300.0),
}
MINUTES = 20


def governed(board: Board, seconds: int, full_fps: float = FULL_FPS) -> tuple[list[float], float]:
    """The share of each second, and the highest temperature."""
    governor, shares, highest = Governor(), list[float](), board.celsius
    for second in range(seconds):
        governor.update(board.reading_c, (), 0.0, float(second))
        shares.append(governor.share)
        highest = max(highest, board.run(governed_fps(governor.share, full_fps) / full_fps))
    return shares, highest


@pytest.mark.parametrize("name", BOARDS)
@pytest.mark.parametrize("full_fps", [10.0, 30.0, 60.0])
def test_the_firmware_never_has_to_throttle(name: str, full_fps: float) -> None:
    spared = 0
    for ambient_c in range(20, 46):
        board = Board(ambient_c, *BOARDS[name])
        shares, highest = governed(board, 60 * MINUTES, full_fps)
        if board.steady_c(1 / full_fps) < THROTTLE_C:
            assert highest < THROTTLE_C, f"at {ambient_c} °C"
        if board.steady_c(1.0) >= THROTTLE_C:
            spared += 1
            assert min(shares) < 1
        elif board.steady_c(1.0) < 74.5:
            assert set(shares) == {1.0}
    assert bool(spared) == (name != "sink")


def test_the_rate_settles() -> None:
    shares, _ = governed(Board(40.0, *BOARDS["bare"]), 3600)
    settled = shares[1200:]
    assert max(settled) < 1
    changes = sum(a != b for a, b in itertools.pairwise(settled))
    assert changes <= len(settled) / 60


def heated(*readings_c: float | None) -> list[float]:
    governor = Governor()
    shares = []
    for second, reading in enumerate(readings_c):
        governor.update(reading, (), 0.0, float(second))
        shares.append(governor.share)
    return shares


def test_each_half_degree_is_a_step_and_the_way_back_begins_three_degrees_lower() -> None:
    warming = [74.9, *(75.0 + 0.5 * n for n in range(len(SHARES)))]
    assert heated(*warming) == [1.0, *SHARES[1:], 0.0]
    assert heated(75.0, 74.0, 72.0, 71.9) == [0.75, 0.75, 0.75, 1.0]
    assert heated(78.5, 75.5, 75.4, 71.9) == [0.0, 0.0, 0.0625, 1.0]


def test_a_temperature_that_vanishes_governs_nothing() -> None:
    assert heated(None, 90.0, None, None, 76.0) == [1.0, 0.0, 1.0, 1.0, 0.375]


def test_a_share_is_a_frame_a_second_at_least() -> None:
    assert governed_fps(1.0, 30.0) == 30.0
    assert governed_fps(0.5, 30.0) == 15.0
    assert governed_fps(0.0625, 10.0) == 1.0
    assert governed_fps(0.0, 240.0) == 1.0
    assert governed_fps(0.0, 0.2) == governed_fps(1.0, 0.2) == 0.2


def shares_with(governor: Governor, words: tuple[str, ...], seconds: range) -> list[float]:
    """The shares of the ends of periods of ten seconds."""
    shares = []
    for second in seconds:
        governor.update(60.0, words, 0.0, float(second))
        shares.append(governor.share)
    return shares[9::10]


def test_a_firmware_that_throttles_sooner_is_heeded() -> None:
    governor = Governor()
    assert shares_with(governor, ("throttled",), range(31))[:3] == [1.0, 0.75, 0.5]
    assert governor.reason == "hot"
    lasting = shares_with(governor, (), range(31, 31 + 600))
    assert lasting == sorted(lasting)
    assert (lasting[0], lasting[-1]) == (0.375, 1.0)
    # Calm for a minute before each step.
    assert lasting.count(0.5) == 6


@pytest.mark.parametrize(
    "words", [("under-voltage", "throttled", "frequency capped"), ("soft temperature limit",), ()]
)
def test_what_no_rate_mends_is_not_fought(words: tuple[str, ...]) -> None:
    assert set(shares_with(Governor(), words, range(120))) == {1.0}


class Process:
    """One that uses ``base`` percent of a core, and ``full`` more at its full rate."""

    def __init__(self, budget: float, base: float, full: float) -> None:
        self.governor = Governor(budget)
        self.base, self.full = base, full
        self.used = 0.0
        self._cpu_s = 0.0
        self._at = 0.0

    def run(self, minutes: float) -> list[float]:
        """The shares, a second each."""
        shares = []
        for _ in range(round(60 * minutes)):
            self.governor.update(None, None, self._cpu_s, self._at)
            share = self.governor.share
            shares.append(share)
            self.used = self.base + self.full * governed_fps(share, FULL_FPS) / FULL_FPS
            self._cpu_s += self.used / 100
            self._at += 1
        return shares


@pytest.mark.parametrize("budget", [3.0, 5.0, 10.0, 17.0])
def test_a_budget_is_kept_and_the_rate_settles(budget: float) -> None:
    process = Process(budget, base=2.0, full=20.0)
    shares = process.run(10)
    assert process.used <= budget
    assert process.governor.reason == "cpu budget"
    assert len(set(shares[-300:])) == 1


def test_a_budget_that_is_not_used_limits_nothing_and_frees_what_it_held() -> None:
    process = Process(30.0, base=2.0, full=20.0)
    assert set(process.run(2)) == {1.0}
    process.full = 60.0
    assert process.run(2)[-1] < 0.5
    process.full = 5.0
    assert process.run(3)[-1] == 1.0


def test_a_budget_of_nothing_is_none_and_one_too_small_is_a_frame_a_second() -> None:
    assert set(Process(0.0, base=50.0, full=50.0).run(2)) == {1.0}
    assert Process(1.0, base=50.0, full=50.0).run(2)[-1] == 0.0


def test_heat_and_budget_are_told_apart() -> None:
    process = Process(12.0, base=2.0, full=20.0)
    process.run(2)
    held = process.governor.share
    process.governor.update(78.5, (), 0.0, 0.0)
    assert (process.governor.share, process.governor.reason) == (0.0, "hot")
    process.governor.update(50.0, (), 0.0, 0.0)
    assert (process.governor.share, process.governor.reason) == (held, "cpu budget")


@pytest.mark.parametrize("times", [[5.0] * 100, [100.0 - n for n in range(100)], [0.0, 1e9]])
def test_a_clock_that_stands_still_or_jumps_ends_in_no_nonsense(times: list[float]) -> None:
    governor = Governor(10.0)
    for n, at in enumerate(times):
        governor.update(60.0, ("throttled",), n * 1.0, at)
        assert governor.share >= 0.75
    # From then on as ever: cool and within its budget, it comes back.
    for n in range(300):
        governor.update(60.0, (), 200.0 + n * 0.05, times[-1] + n)
    assert governor.share == 1.0
