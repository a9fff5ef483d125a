"""The decider: examples with exact changes, and properties that hold for any scores."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import Decide
from device.errors import ConfigError
from device.pipeline.decider import Decider
from device.pipeline.rules import Decision
from device.pipeline.words import Scores

NAMES = ("cat", "dog", "cup")
FRAME_S = 1 / 8  # exact in binary, so that holds end on a frame and not beside it


def settings(**changes: Any) -> Decide:
    """Thresholds 0.5 and 0.3 without smoothing or hold, unless told otherwise."""
    plain = {"enter": 0.5, "exit": 0.3, "smoothing_s": 0.0, "min_frames": 1, "min_hold_s": 0.0}
    return Decide(**(plain | changes))


def row(*scores: float) -> Scores:
    return np.array(scores, np.float32)


def feed(decider: Decider, rows: Iterable[Scores], start: float = 0.0) -> list[Decision | None]:
    """What the decider says to frames that are FRAME_S apart."""
    return [said(decider, scores, start + n * FRAME_S) for n, scores in enumerate(rows)]


def said(decider: Decider, scores: Scores, at: float) -> Decision | None:
    """The one change of a frame, if any."""
    (decision,) = decider.update(scores, at) or (None,)
    return decision


def labels(decisions: Sequence[Decision | None]) -> list[str | None]:
    return [decision.label if decision else None for decision in decisions]


CAT, DOG, NOTHING = row(0.9, 0.0, 0.0), row(0.0, 0.8, 0.0), row(0.2, 0.1, 0.0)
BETWEEN = row(0.4, 0.0, 0.0)


def test_a_label_becomes_active_after_min_frames() -> None:
    decider = Decider(settings(min_frames=3), NAMES)
    assert decider.label is None
    assert feed(decider, [CAT] * 5) == [
        None,
        None,
        Decision("cat", float(CAT[0]), None, 2 * FRAME_S, 2 * FRAME_S, active=("cat",)),
        None,
        None,
    ]
    assert decider.label == "cat"


def test_one_frame_below_enter_starts_the_count_again() -> None:
    decider = Decider(settings(min_frames=3), NAMES)
    feed(decider, [NOTHING] * 3)
    said = labels(feed(decider, [CAT, CAT, BETWEEN, CAT, CAT, CAT], start=1))
    assert said == [None] * 5 + ["cat"]


def test_unknown_is_said_when_nothing_qualifies() -> None:
    decider = Decider(settings(min_frames=2), NAMES)
    assert labels(feed(decider, [NOTHING] * 4)) == [None, "unknown", None, None]
    assert decider.label == "unknown"
    assert decider.score == pytest.approx(0.2)


def test_the_word_for_unknown_can_be_chosen() -> None:
    decider = Decider(settings(unknown="nobody"), NAMES)
    assert labels(feed(decider, [NOTHING, CAT, NOTHING])) == ["nobody", "cat", "nobody"]


def test_a_label_stays_between_exit_and_enter_and_ends_below_exit() -> None:
    decider = Decider(settings(), NAMES)
    said = labels(feed(decider, [CAT, BETWEEN, row(0.3, 0, 0), row(0.29, 0, 0)]))
    assert said == ["cat", None, None, "unknown"]


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.7, 0.9])
def test_a_score_exactly_at_a_threshold_counts_as_over_it(threshold: float) -> None:
    at_threshold = row(threshold, 0, 0)
    entering = Decider(settings(enter=threshold, exit=0.1), NAMES)
    assert labels(feed(entering, [at_threshold])) == ["cat"]
    leaving = Decider(settings(enter=0.95, exit=threshold), NAMES)
    assert labels(feed(leaving, [row(1, 0, 0), at_threshold])) == ["cat", None]


def test_unknown_waits_min_frames_so_that_a_successor_can_follow_directly() -> None:
    decider = Decider(settings(min_frames=3), NAMES)
    feed(decider, [CAT] * 3)
    assert labels(feed(decider, [DOG] * 3, start=1)) == [None, None, "dog"]
    assert labels(feed(decider, [NOTHING] * 3, start=2)) == [None, None, "unknown"]


def test_a_better_challenger_takes_over_and_a_worse_one_does_not() -> None:
    decider = Decider(settings(enter=0.4), NAMES)
    said = feed(decider, [row(0.5, 0.0, 0), row(0.5, 0.45, 0), row(0.45, 0.5, 0)])
    assert labels(said) == ["cat", None, "dog"]
    assert said[2] is not None
    assert (said[2].previous, said[2].held_s) == ("cat", 2 * FRAME_S)


def test_a_tie_goes_to_the_lowest_row_and_never_dethrones() -> None:
    decider = Decider(settings(enter=0.4), NAMES)
    assert labels(feed(decider, [row(0.1, 0.5, 0.5), row(0.5, 0.5, 0.5)])) == ["dog", None]


def test_an_active_label_is_held() -> None:
    decider = Decider(settings(min_hold_s=0.5), NAMES)
    said = feed(decider, [CAT, DOG, DOG, DOG, DOG, DOG])
    assert labels(said) == ["cat", None, None, None, "dog", None]
    assert said[4] is not None
    assert said[4].held_s == 0.5


def test_unknown_is_held_too() -> None:
    decider = Decider(settings(min_hold_s=0.5), NAMES)
    assert labels(feed(decider, [NOTHING] + [CAT] * 5)) == ["unknown", *[None] * 3, "cat", None]


def test_smoothing_is_in_seconds_and_not_in_frames() -> None:
    decider = Decider(settings(smoothing_s=2.0), NAMES)
    decider.update(row(0, 0, 0), 0.0)
    decider.update(row(0, 1, 0), 2.0)
    assert decider.score == pytest.approx(1 - np.exp(-1))


def test_the_first_frame_is_not_smoothed() -> None:
    decider = Decider(settings(smoothing_s=60), NAMES)
    assert labels(feed(decider, [CAT])) == ["cat"]


def test_a_lost_camera_leaves_no_label_behind() -> None:
    decider = Decider(settings(smoothing_s=60, min_hold_s=3600, min_frames=2), NAMES)
    feed(decider, [CAT] * 3)
    decider.reset(10.0)
    assert decider.label is None
    assert decider.score == 0.0
    said = feed(decider, [DOG] * 2, start=12)
    assert said == [None, Decision("dog", float(DOG[1]), None, 2.125, 12.125, active=("dog",))]


def test_a_clock_that_jumps_back_neither_blocks_nor_releases_a_label() -> None:
    decider = Decider(settings(min_hold_s=1.0, smoothing_s=0.01), NAMES)
    decider.update(CAT, 1e9)
    assert said(decider, DOG, 5.0) is None
    assert said(decider, DOG, 5.0) is None
    assert said(decider, DOG, 5.75) is None
    decision = said(decider, DOG, 6.0)
    assert decision is not None
    assert (decision.label, decision.held_s) == ("dog", 1.0)


def test_moving_between_two_classes_of_one_name_is_no_change() -> None:
    decider = Decider(settings(), ("crane", "cup", "crane"))
    said = feed(decider, [row(0.9, 0, 0), row(0, 0, 0.9), row(0, 0, 0.1)])
    assert labels(said) == ["crane", None, "unknown"]
    assert said[2] is not None
    assert said[2].held_s == 2 * FRAME_S


def test_a_class_named_unknown_is_the_same_as_nothing() -> None:
    decider = Decider(settings(), ("cat", "unknown"))
    said = feed(decider, [row(0, 0.9), row(0, 0), row(0, 0.9), row(0.9, 0)])
    assert labels(said) == ["unknown", None, None, "cat"]


def test_a_denied_label_is_never_active() -> None:
    decider = Decider(settings(deny=("cat",)), NAMES)
    assert labels(feed(decider, [CAT, row(0.9, 0.6, 0)])) == ["unknown", "dog"]


def test_only_allowed_labels_become_active() -> None:
    decider = Decider(settings(allow=("dog", "cup")), NAMES)
    assert labels(feed(decider, [CAT, DOG])) == ["unknown", "dog"]


IMAGENET_LIKE = ("tabby", "tiger cat", "Egyptian cat", "espresso", "black-and-gold spider")


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (
            {"allow": ("cat",)},
            "decide.allow: 'cat' is no label of the model but an everyday word; "
            'set decide.groups = "everyday"',
        ),
        (
            {"allow": ("cat",), "groups": ""},
            "decide.allow: 'cat' is no label of the model; "
            "did you mean 'tiger cat' or 'Egyptian cat'?",
        ),
        (
            {"deny": ("Expresso",)},
            "decide.deny: 'Expresso' is no label of the model; did you mean 'espresso'?",
        ),
        (
            {"deny": ("Gold",)},
            "decide.deny: 'Gold' is no label of the model; did you mean 'black-and-gold spider'?",
        ),
        ({"deny": ("xyzzy",)}, "decide.deny: 'xyzzy' is no label of the model"),
        (
            {"allow": ("tabby", "espresso"), "deny": ("espresso",)},
            "decide.deny: 'espresso' is in decide.allow too; keep one of them",
        ),
        (
            {"deny": IMAGENET_LIKE},
            "decide.deny: names every label, so that none is left to report",
        ),
    ],
)
def test_lists_that_do_not_hold_are_refused(lists: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Decider(settings(**lists), IMAGENET_LIKE)
    assert str(caught.value) == message


def test_scores_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected scores of shape \(3,\), met \(1,\)"):
        Decider(settings(), NAMES).update(row(0.5), 0.0)


def test_scores_are_neither_kept_nor_changed() -> None:
    decider = Decider(settings(), NAMES)
    scores = row(0.9, 0.0, 0.0)
    decider.update(scores, 0.0)
    scores[:] = 0
    assert decider.score == pytest.approx(0.9)


# From here on: any settings, any scores, any frame distances.

ALL = ("a", "b", "c", "d", "c")  # two classes of one name, as ImageNet has them
share = st.integers(0, 64).map(lambda n: n / 64)  # exact in float32


@st.composite
def some_settings(draw: st.DrawFn) -> Decide:
    low, high = sorted(draw(st.lists(share, min_size=2, max_size=2, unique=True)))
    return settings(
        enter=high,
        exit=low,
        smoothing_s=draw(st.sampled_from([0.0, 0.1, 1.0])),
        min_frames=draw(st.integers(1, 4)),
        min_hold_s=draw(st.sampled_from([0.0, 0.25, 2.0])),
        deny=tuple(draw(st.sets(st.sampled_from("ab")))),
    )


@st.composite
def some_frames(draw: st.DrawFn) -> list[tuple[Scores, float]]:
    """Scores and times; a scene lasts a few frames, or nothing would ever qualify."""
    frames, at = [], 0.0
    for scores in draw(st.lists(st.tuples(*[share] * len(ALL)), min_size=1, max_size=8)):
        for _ in range(draw(st.integers(1, 5))):
            frames.append((row(*scores), at))
            at += draw(st.sampled_from([0.0, 0.125, 0.5]))
    return frames


@given(decide=some_settings(), frames=some_frames())
@pytest.mark.slow
def test_changes_chain_and_name_only_what_may_be_named(
    decide: Decide, frames: list[tuple[Scores, float]]
) -> None:
    decider = Decider(decide, ALL)
    label, changed_at = None, 0.0
    for scores, at in frames:
        decision = said(decider, scores, at)
        if decision is None:
            assert decider.label == label
            continue
        assert decision.previous == label
        assert decision.label != label
        assert decision.label == decider.label
        assert decision.label in (set(ALL) | {"unknown"}) - set(decide.deny)
        assert decision.score == decider.score
        assert decision.at == at
        assert decision.held_s == at - changed_at
        assert label is None or decision.held_s >= decide.min_hold_s
        if decision.label != "unknown":
            assert decision.score >= np.float32(decide.enter)
        label, changed_at = decision.label, at


@given(decide=some_settings(), frames=some_frames())
@pytest.mark.slow
def test_nothing_changes_while_scores_are_between_exit_and_enter(
    decide: Decide, frames: list[tuple[Scores, float]]
) -> None:
    decider = Decider(decide, ALL)
    for scores, at in frames:
        decider.update(scores, at)
    if decider.label in {None, "unknown"} or decider.score < np.float32(decide.exit):
        return
    last = frames[-1][1]
    between = np.full(len(ALL), (decide.enter + decide.exit) / 2, np.float32)
    # The average reaches the band within this step; only then is it held there.
    settle = said(decider, between, last + 1000)
    label = settle.label if settle else decider.label
    assert [said(decider, between, last + 1000 + n) for n in range(1, 20)] == [None] * 19
    assert decider.label == label


@given(
    decide=some_settings(),
    frames=some_frames(),
    offset=st.integers(-1000, 1_000_000),
)
@pytest.mark.slow
def test_only_differences_of_time_matter(
    decide: Decide, frames: list[tuple[Scores, float]], offset: int
) -> None:
    here, there = Decider(decide, ALL), Decider(decide, ALL)
    for scores, at in frames:
        one, other = said(here, scores, at), said(there, scores, at + offset)
        assert (one is None) == (other is None)
        if one and other:
            assert (one.label, one.score, one.previous, one.held_s) == (
                other.label,
                other.score,
                other.previous,
                other.held_s,
            )


@given(
    first=share,
    second=share,
    elapsed_s=st.floats(0, 10),
    smoothing_s=st.floats(0.01, 10),
)
def test_two_half_steps_of_smoothing_are_one_step(
    first: float, second: float, elapsed_s: float, smoothing_s: float
) -> None:
    whole = Decider(settings(smoothing_s=smoothing_s), ["a"])
    halves = Decider(settings(smoothing_s=smoothing_s), ["a"])
    for decider in (whole, halves):
        decider.update(row(first), 0.0)
    halves.update(row(second), elapsed_s / 2)
    for decider in (whole, halves):
        decider.update(row(second), elapsed_s)
    assert whole.score == pytest.approx(halves.score, abs=1e-6)


@given(decide=some_settings(), frames=some_frames(), times=st.lists(st.floats(-1e9, 1e9)))
@pytest.mark.slow
def test_no_clock_is_too_wild(
    decide: Decide, frames: list[tuple[Scores, float]], times: list[float]
) -> None:
    decider = Decider(decide, ALL)
    for (scores, _), at in zip(frames, times, strict=False):
        decision = said(decider, scores, at)
        assert decision is None or decision.held_s >= 0
        assert 0 <= decider.score <= 1 + 1e-6


@given(decide=some_settings(), scores=st.tuples(*[share] * len(ALL)))
def test_a_steady_picture_is_decided_once_and_for_its_best_label(
    decide: Decide, scores: tuple[float, ...]
) -> None:
    decider = Decider(decide, ALL)
    told = [d for d in (said(decider, row(*scores), n / 8) for n in range(40)) if d]
    over = [
        (score, -index, name)
        for index, (name, score) in enumerate(zip(ALL, scores, strict=True))
        if name not in decide.deny and score >= decide.enter
    ]
    expected = max(over)[2] if over else "unknown"
    assert [d.label for d in told] == [expected]
    assert told[0].at == (decide.min_frames - 1) / 8


def steady_after(decider: Decider, scores: Sequence[Scores]) -> list[bool]:
    """Whether the label stands, after each of the frames."""
    steady = []
    for number, one in enumerate(scores):
        decider.update(one, number * FRAME_S)
        steady.append(decider.steady)
    return steady


def test_a_label_that_has_settled_stands() -> None:
    decider = Decider(settings(smoothing_s=0.5, min_frames=3), NAMES)
    steady = steady_after(decider, [CAT] * 40)
    assert not any(steady[:3])
    assert all(steady[15:])


def test_no_label_stands_while_the_scores_move() -> None:
    decider = Decider(settings(smoothing_s=0.5), NAMES)
    steady = steady_after(decider, [CAT] * 40 + [DOG] * 60)
    assert steady[39]
    assert not any(steady[40:52])
    assert all(steady[80:])


@pytest.mark.parametrize("scores", [row(0.52, 0.48, 0), row(0.47, 0, 0), row(0.32, 0, 0)])
def test_a_label_that_is_near_its_end_does_not_stand(scores: Scores) -> None:
    # A rival as high, nothing that nearly qualifies, a label that is nearly over.
    decider = Decider(settings(), NAMES)
    decider.update(CAT if scores[0] < 0.4 else NOTHING, 0.0)
    assert not any(steady_after(decider, [scores] * 40))


def test_what_is_held_for_now_does_not_stand() -> None:
    decider = Decider(settings(min_hold_s=60), NAMES)
    steady_after(decider, [CAT] * 20)
    assert decider.steady
    feed(decider, [DOG] * 40, start=3)
    assert decider.label == "cat"
    assert not decider.steady


def test_frames_that_are_skipped_weigh_nothing() -> None:
    always, gated = (Decider(settings(smoothing_s=0.5, min_hold_s=4), NAMES) for _ in range(2))
    told: list[list[Decision]] = [[], []]
    for number in range(200):
        scores = CAT if number < 100 else DOG
        skips = gated.steady and number < 100
        for decider, decisions in zip((always, gated), told, strict=True):
            if decider is gated and skips:
                decider.skip(number * FRAME_S)
            elif decision := said(decider, scores, number * FRAME_S):
                decisions.append(decision)
    assert [(d.label, d.at) for d in told[0]] == [(d.label, d.at) for d in told[1]]
    assert len(told[0]) == 2


def test_nothing_stands_after_a_reset() -> None:
    decider = Decider(settings(), NAMES)
    steady_after(decider, [CAT] * 40)
    decider.reset(9.0)
    assert not decider.steady
