"""Labels that come and go by themselves; cooldown and margin; scores and clocks that are none."""

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import Decide, Label
from device.pipeline.decider import Decider
from device.pipeline.rules import Decision
from tests.pipeline.test_decider import ALL, FRAME_S, row, settings, some_frames, some_settings

NAMES = ("cat", "dog", "cup")
BOTH, CAT, DOG, NOTHING = row(0.9, 0.8, 0), row(0.9, 0, 0), row(0, 0.8, 0), row(0.1, 0.2, 0)
MODES = ["one", "any"]


def any_decider(names: tuple[str, ...] = NAMES, **changes: Any) -> Decider:
    return Decider(settings(mode="any", **changes), names)


def feed(decider: Decider, rows: Iterable[Any], start: float = 0.0) -> list[list[str]]:
    """What each frame changes, as ``+cat`` and ``-cat``; the word for nothing as it is."""
    told = []
    for number, scores in enumerate(rows):
        decisions = decider.update(scores, start + number * FRAME_S)
        told.append([said(decision) for decision in decisions])
    return told


def said(decision: Decision) -> str:
    if decision.label == "unknown":
        return "unknown"
    return f"{'+' if decision.on else '-'}{decision.label}"


def test_labels_begin_and_end_by_themselves() -> None:
    decider = any_decider()
    assert feed(decider, [CAT, BOTH, DOG, NOTHING]) == [["+cat"], ["+dog"], ["-cat"], ["-dog"]]
    assert (decider.label, decider.active) == ("unknown", ())


def test_the_change_says_what_is_active_since_and_how_long_it_was() -> None:
    decider = any_decider()
    decisions = [d for n, r in enumerate([BOTH, DOG, NOTHING]) for d in decider.update(r, float(n))]
    assert decisions == [
        Decision("cat", float(BOTH[0]), None, 0.0, 0.0, active=("cat",)),
        Decision("dog", float(BOTH[1]), None, 0.0, 0.0, active=("cat", "dog")),
        Decision("cat", 0.0, None, 1.0, 1.0, on=False, active=("dog",)),
        Decision("dog", decisions[3].score, None, 2.0, 2.0, on=False, active=()),
    ]


def test_the_label_is_the_best_that_is_active() -> None:
    decider = any_decider()
    feed(decider, [BOTH])
    assert (decider.label, decider.active) == ("cat", ("cat", "dog"))
    feed(decider, [row(0.4, 0.8, 0)], 1)
    assert (decider.label, decider.active) == ("dog", ("dog", "cat"))
    assert decider.score == pytest.approx(0.8)


def test_each_counts_its_own_frames() -> None:
    decider = any_decider(min_frames=3)
    told = feed(decider, [CAT, BOTH, BOTH, BOTH, DOG, CAT, DOG, DOG, DOG])
    assert told == [[], [], ["+cat"], ["+dog"], [], [], [], [], ["-cat"]]


def test_it_stays_between_exit_and_enter() -> None:
    decider = any_decider()
    assert feed(decider, [CAT, row(0.4, 0, 0), row(0.3, 0, 0), row(0.29, 0, 0)]) == [
        ["+cat"],
        [],
        [],
        ["-cat"],
    ]


def test_it_is_held() -> None:
    decider = any_decider(min_hold_s=0.5, label={"dog": Label(min_hold_s=0.25)})
    told = feed(decider, [BOTH, NOTHING, NOTHING, NOTHING, NOTHING])
    assert told == [["+cat", "+dog"], [], ["-dog"], [], ["-cat"]]


def test_nothing_is_said_once_and_is_the_label_whenever_the_last_has_ended() -> None:
    decider = any_decider(min_frames=2)
    assert feed(decider, [NOTHING] * 3) == [[], ["unknown"], []]
    assert feed(decider, [CAT] * 2, 1) == [[], ["+cat"]]
    assert feed(decider, [NOTHING] * 3, 2) == [[], ["-cat"], []]
    assert decider.label == "unknown"


def test_after_an_absence_the_first_decision_says_what_is_there() -> None:
    decider = any_decider()
    feed(decider, [BOTH])
    decider.reset(3.0)
    assert (decider.label, decider.active, decider.score) == (None, (), 0.0)
    first, second = decider.update(BOTH, 5.0)
    # The first says how long there was nothing.
    assert (first.held_s, second.held_s) == (2.0, 0.0)
    decider.reset(7.0)
    assert [said(d) for d in decider.update(NOTHING, 8.0)] == ["unknown"]


def test_what_ended_cools_down() -> None:
    decider = any_decider(cooldown_s=1.0, label={"dog": Label(cooldown_s=0)})
    assert feed(decider, [BOTH, NOTHING, BOTH]) == [["+cat", "+dog"], ["-cat", "-dog"], ["+dog"]]
    assert feed(decider, [BOTH], 1.0) == [[]]
    assert feed(decider, [BOTH], 1.125) == [["+cat"]]


def test_with_one_label_at_a_time_what_ended_cools_down_too() -> None:
    decider = Decider(settings(cooldown_s=1.0), NAMES)
    assert feed(decider, [CAT, DOG, CAT]) == [["+cat"], ["+dog"], ["unknown"]]
    assert feed(decider, [DOG], 1.0) == [[]]
    assert feed(decider, [DOG], 1.25) == [["+dog"]]


@pytest.mark.parametrize("mode", MODES)
def test_an_absence_is_no_way_round_the_cooldown(mode: str) -> None:
    decider = Decider(settings(mode=mode, cooldown_s=10.0), NAMES)
    feed(decider, [CAT])
    decider.reset(1.0)
    assert feed(decider, [CAT], 2.0) == [["unknown"]]
    assert feed(decider, [CAT], 11.0) == [["+cat"]]


def test_two_classes_of_one_name_are_one_label() -> None:
    decider = any_decider(("crane", "cup", "crane"))
    assert decider.names == ("crane", "cup")
    assert feed(decider, [row(0.4, 0, 0.4), row(0.4, 0, 0), row(0, 0, 0.1)]) == [
        ["+crane"],
        [],
        ["-crane"],
    ]


def test_a_class_named_as_nothing_never_begins() -> None:
    decider = any_decider(("cat", "unknown"))
    assert feed(decider, [row(0, 0.9), row(0, 0.9), row(0.9, 0.9)]) == [["unknown"], [], ["+cat"]]


def test_a_label_stands_out_by_the_margin_or_does_not_begin() -> None:
    decider = Decider(settings(enter=0.4, margin=0.2), NAMES)
    close, clear = row(0.5, 0.4, 0), row(0.65, 0.4, 0)
    assert feed(decider, [close, clear, close, row(0.1, 0.5, 0.45)]) == [
        ["unknown"],
        ["+cat"],
        [],
        ["unknown"],
    ]


def test_a_scene_that_is_torn_between_two_labels_may_rest() -> None:
    decider = Decider(settings(enter=0.4, margin=0.3), NAMES)
    assert all(steady_after(decider, [row(0.55, 0.5, 0)] * 40)[30:])
    # Nearly stands out.
    assert not any(steady_after(decider, [row(0.55, 0.3, 0)] * 40))


def test_two_classes_of_one_name_are_no_runners_up() -> None:
    decider = Decider(settings(enter=0.4, margin=0.2), ("crane", "cup", "crane"))
    assert feed(decider, [row(0.5, 0.1, 0.45)]) == [["+crane"]]


def test_settings_of_a_label_hold_with_one_label_at_a_time() -> None:
    own = {"cat": Label(enter=0.95), "dog": Label(enter=0.2, exit=0.1, min_hold_s=1.0)}
    decider = Decider(settings(label=own), NAMES)
    assert feed(decider, [CAT, row(0.9, 0.2, 0), row(0.96, 0, 0)]) == [["unknown"], ["+dog"], []]
    assert feed(decider, [row(0.96, 0, 0)], 2.0) == [["+cat"]]


def steady_after(decider: Decider, rows: Iterable[Any]) -> list[bool]:
    steady = []
    for number, scores in enumerate(rows):
        decider.update(scores, number * FRAME_S)
        steady.append(decider.steady)
    return steady


def test_labels_that_have_settled_stand() -> None:
    decider = any_decider(smoothing_s=0.5, min_frames=3)
    steady = steady_after(decider, [BOTH] * 40)
    assert not any(steady[:3])
    assert all(steady[15:])


@pytest.mark.parametrize(
    ("before", "scores"),
    [
        ([CAT], row(0.9, 0.48, 0)),  # nearly begins
        ([BOTH, CAT], row(0.9, 0.9, 0)),  # would begin, but cools down
        ([CAT], row(0.32, 0, 0)),  # is nearly over
        ([BOTH], row(0.9, 0.28, 0)),  # would be over, but is held
    ],
)
def test_a_label_that_may_soon_begin_or_end_does_not_stand(before: list[Any], scores: Any) -> None:
    decider = any_decider(cooldown_s=60, label={"dog": Label(min_hold_s=60 * (len(before) == 1))})
    told = feed(decider, before)
    assert feed(decider, [scores] * 40, 1) == [[]] * 40
    assert told[0]
    assert not decider.steady


def test_frames_that_are_skipped_weigh_nothing() -> None:
    always, gated = (any_decider(smoothing_s=0.5, min_hold_s=4) for _ in range(2))
    told: list[list[tuple[str, float]]] = [[], []]
    for number in range(200):
        scores = BOTH if number < 100 else DOG
        skips = gated.steady and number < 100
        for decider, events in zip((always, gated), told, strict=True):
            if decider is gated and skips:
                decider.skip(number * FRAME_S)
                continue
            events.extend((said(d), d.at) for d in decider.update(scores, number * FRAME_S))
    assert told[0] == told[1]
    assert [event for event, _ in told[0]] == ["+cat", "+dog", "-cat"]


# Scores that are no probabilities.

HUGE = np.float32(3e38)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, HUGE, -HUGE])
def test_a_score_that_is_none_counts_as_0(mode: str, bad: float) -> None:
    decider = Decider(settings(mode=mode), NAMES)
    assert feed(decider, [row(bad, 0.1, 0)]) == [["unknown"]]
    assert feed(decider, [row(bad, 0.8, 0)], 1) == [["+dog"]]
    # What was there ends as if it had not been seen, and comes back with the first sound score.
    assert feed(decider, [row(0, bad, 0), DOG], 2) == [
        [{"one": "unknown", "any": "-dog"}[mode]],
        ["+dog"],
    ]
    assert decider.faults == 3
    assert np.isfinite(decider.score)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("first", [True, False])
def test_scores_that_are_none_at_all_leave_no_trace(mode: str, first: bool) -> None:
    decider = Decider(settings(mode=mode, smoothing_s=0.5), NAMES, {"pet": ("cat", "dog")})
    feed(decider, [] if first else [CAT])
    feed(decider, [row(np.nan, np.nan, np.nan)], 1)
    assert np.isfinite(decider.score)
    feed(decider, [CAT] * 20, 2)
    assert decider.label == "pet"
    assert decider.score == pytest.approx(0.9, abs=0.01)


# Clocks.


@pytest.mark.parametrize("mode", MODES)
def test_while_time_stands_still_frames_are_counted_all_the_same(mode: str) -> None:
    decider = Decider(settings(mode=mode, min_frames=3, smoothing_s=0.5), NAMES)
    told = [said(d) for _ in range(9) for d in decider.update(CAT, 7.0)]
    assert told == ["+cat"]
    assert not [d for _ in range(50) for d in decider.update(DOG, 7.0)]


@pytest.mark.parametrize("mode", MODES)
def test_a_clock_that_runs_back_neither_ends_a_hold_nor_a_cooldown(mode: str) -> None:
    decider = Decider(settings(mode=mode, min_hold_s=1.0, cooldown_s=2.0), NAMES)
    year = 365 * 86_400.0
    assert feed(decider, [CAT], year) == [["+cat"]]
    assert feed(decider, [NOTHING], 5.0) == [[]]
    assert feed(decider, [NOTHING], 6.0) == [[{"one": "unknown", "any": "-cat"}[mode]]]
    assert feed(decider, [CAT], 3.0) == [[]]
    assert feed(decider, [CAT], 4.875) == [[]]
    assert feed(decider, [CAT], 5.0) == [["+cat"]]


@pytest.mark.parametrize("mode", MODES)
def test_a_clock_that_jumps_a_year_ahead_changes_nothing_that_is_there(mode: str) -> None:
    decider = Decider(settings(mode=mode, smoothing_s=0.5, min_hold_s=1.0), NAMES)
    feed(decider, [CAT] * 9)
    assert feed(decider, [CAT] * 9, 365 * 86_400.0) == [[]] * 9
    assert decider.label == "cat"


# Any settings, any scores.


@st.composite
def any_settings(draw: st.DrawFn) -> Decide:
    cooldown = draw(st.sampled_from([0.0, 0.25, 2.0]))
    own = draw(st.dictionaries(st.sampled_from("cd"), some_labels(), max_size=2))
    plain = draw(some_settings())
    for name, label in own.items():
        low = plain.exit if label.exit is None else label.exit
        high = plain.enter if label.enter is None else label.enter
        if not low < high:
            own[name] = Label(cooldown_s=label.cooldown_s)
    return msgspec.structs.replace(plain, mode="any", cooldown_s=cooldown, label=own)


@st.composite
def some_labels(draw: st.DrawFn) -> Label:
    share = st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])
    seconds = st.none() | st.sampled_from([0.0, 0.5, 1.0])
    return Label(draw(share), draw(share), draw(seconds), draw(seconds))


@given(decide=any_settings(), frames=some_frames())
@pytest.mark.slow
def test_each_label_goes_on_and_off_by_turns_and_the_active_ones_follow(
    decide: Decide, frames: list[tuple[Any, float]]
) -> None:
    decider = Decider(decide, ALL)
    active: set[str] = set()
    changed: dict[str, float] = {}
    for scores, at in frames:
        for decision in decider.update(scores, at):
            assert decision.at == at
            if decision.label == "unknown":
                assert not active
                assert decision.active == ()
                continue
            assert decision.on == (decision.label not in active)
            active ^= {decision.label}
            assert set(decision.active) == active
            assert len(decision.active) == len(active)
            own = decide.label.get(decision.label, Label())
            before = changed.get(decision.label)
            if not decision.on:
                least = decide.min_hold_s if own.min_hold_s is None else own.min_hold_s
                assert before is not None
                assert decision.held_s == at - before >= least
            elif before is not None:
                least = decide.cooldown_s if own.cooldown_s is None else own.cooldown_s
                assert at - before >= least
            changed[decision.label] = at
        assert set(decider.active) == active
        assert decider.label in active or (not active and decider.label in (None, "unknown"))


@given(decide=any_settings(), frames=some_frames())
@pytest.mark.slow
def test_among_others_a_label_does_what_it_does_alone(
    decide: Decide, frames: list[tuple[Any, float]]
) -> None:
    for name in sorted(set(ALL) - set(decide.deny)):
        together = Decider(decide, ALL)
        alone = Decider(msgspec.structs.replace(decide, allow=(name,), deny=()), ALL)
        for scores, at in frames:
            here, there = (
                [(d.on, d.score, d.at) for d in decider.update(scores, at) if d.label == name]
                for decider in (together, alone)
            )
            assert here == there


@given(
    decide=any_settings(),
    mode=st.sampled_from(MODES),
    margin=st.sampled_from([0.0, 0.25]),
    scores=st.lists(st.tuples(*[st.floats(width=32)] * len(ALL)), max_size=30),
    times=st.lists(st.floats(-1e9, 1e9), max_size=30),
)
@pytest.mark.slow
def test_no_settings_scores_or_clock_are_too_wild(
    decide: Decide,
    mode: Any,
    margin: float,
    scores: list[tuple[float, ...]],
    times: list[float],
) -> None:
    margin = margin if mode == "one" else 0.0
    decider = Decider(msgspec.structs.replace(decide, mode=mode, margin=margin), ALL)
    for frame, at in zip(scores, times, strict=False):
        for decision in decider.update(np.array(frame, np.float32), at):
            assert decision.held_s >= 0
        assert -0.01 <= decider.score <= 1.01
        assert decider.steady in (True, False)
