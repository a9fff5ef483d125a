"""The replay of many settings at once says what one decider says, setting by setting."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import Decide, Label
from device.pipeline.decider import Decider
from device.pipeline.words import Words
from device.recordings.scores import Source, Track
from device.tune.judge import Said
from device.tune.replay import Series, gaps, replay, series_of

NAMES = ("cat", "dog", "unknown", "cup", "rare")


def said_by(decider: Decider, series: Series) -> list[Said]:
    """What a decider says of the frames, as the node would put them to it."""
    said: list[Said] = []
    before: tuple[str, ...] = ()
    last: float | None = None
    for at, elapsed_s, scores in zip(series.at_s, series.elapsed_s, series.scores, strict=True):
        if last is not None and at - last > elapsed_s >= 0:
            decider.skip(float(at - elapsed_s))
        last = float(at)
        decider.update(scores, float(at))
        now = decider.active
        if set(now) != set(before):
            said.append(Said(float(at), now))
        before = now
    return said


def as_sets(said: Sequence[Said]) -> list[tuple[float, frozenset[str]]]:
    return [(one.at_s, frozenset(one.active)) for one in said]


shares = st.integers(0, 64).map(lambda n: n / 64)
seconds = st.integers(0, 40).map(lambda n: n / 8)


@st.composite
def decides(draw: st.DrawFn, mode: str) -> Decide:
    enter = draw(st.integers(2, 60)) / 64
    return Decide(
        mode=mode,  # type: ignore[arg-type]
        enter=enter,
        exit=draw(st.integers(0, round(enter * 64) - 1)) / 64,
        smoothing_s=draw(st.sampled_from((0.0, 0.1, 0.25, 0.7, 2.0))),
        min_frames=draw(st.integers(1, 4)),
        min_hold_s=draw(seconds),
        margin=draw(st.sampled_from((0.0, 0.1, 0.25))) if mode == "one" else 0.0,
    )


@st.composite
def recordings(draw: st.DrawFn) -> Series:
    count = draw(st.integers(1, 40))
    seed = draw(st.integers(0, 1 << 30))
    chance = np.random.default_rng(seed)
    # A step is a common one, none, back, or a gap; scores stay for a while, and meet thresholds.
    steps = chance.choice([0.125, 0.125, 0.125, 0.1, 0.0, -0.5, -30.0, 3.0], count)
    at_s = 100 + np.cumsum(steps)
    levels = chance.integers(0, 65, (count, len(NAMES))) / 64
    keep = chance.random((count, 1)) < 0.6
    for frame in range(1, count):
        if keep[frame]:
            levels[frame] = levels[frame - 1]
    levels[:, 4] /= 16
    elapsed_s = np.diff(at_s, prepend=at_s[:1])
    if draw(st.booleans()):
        elapsed_s[elapsed_s > 1] = 0.125
    return Series("camera", NAMES, at_s, elapsed_s, levels.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one", "any"])
@given(data=st.data())
def test_all_settings_at_once_are_each_decider_by_itself(mode: str, data: st.DataObject) -> None:
    series = data.draw(recordings())
    own = data.draw(
        st.sampled_from(
            (
                {},
                {"dog": Label(min_hold_s=2.0)},
                {"cat": Label(enter=0.99, exit=0.0), "dog": Label(cooldown_s=1.0)},
            )
        )
    )
    cooldown_s = data.draw(st.sampled_from((0.0, 0.0, 1.0)))
    settings = [
        msgspec.structs.replace(one, label=own, cooldown_s=cooldown_s)
        for one in data.draw(st.lists(decides(mode), min_size=1, max_size=6))
    ]
    words = Words(settings[0], NAMES)
    found = replay(series, settings, words)
    for one, said in zip(settings, found, strict=True):
        assert as_sets(said) == as_sets(said_by(Decider(one, NAMES), series)), one


def test_two_classes_of_one_name_are_one_label() -> None:
    names = ("crane", "crane", "dog")
    frames = np.array([[0.9, 0, 0]] * 4 + [[0, 0.9, 0]] * 4 + [[0, 0, 0.9]] * 4, np.float32)
    at_s = np.arange(12) / 8
    series = Series("camera", names, at_s, np.diff(at_s, prepend=0), frames)
    for margin in (0.0, 0.5):
        settings = Decide(smoothing_s=0, min_frames=1, min_hold_s=0, margin=margin)
        (said,) = replay(series, [settings], Words(settings, names))
        assert said == [Said(0.0, ("crane",)), Said(1.0, ("dog",))]
        assert as_sets(said) == as_sets(said_by(Decider(settings, names), series))


def track(at_s: Sequence[float], rows: Sequence[Sequence[float]], **more: Any) -> Track:
    """A track of these scores."""
    scores = np.array(rows, np.float32)
    counts = np.full(len(rows), scores.shape[1])
    return Track(
        Source("camera", "m", "k", NAMES[: scores.shape[1]], **more),
        np.array(at_s, np.float64),
        np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        np.tile(np.arange(scores.shape[1], dtype=np.uint32), len(rows)),
        scores.reshape(-1),
    )


def test_a_gap_that_the_gate_left_weighs_as_if_there_had_been_frames() -> None:
    at_s = [0.0, 0.125, 0.25, 5.25, 5.375]
    rows = [[n / 8, 0.5] for n in range(5)]
    words = Words(Decide(), NAMES[:2])
    plain = series_of(track(at_s, rows), words)
    assert plain.elapsed_s.tolist() == [0, 0.125, 0.125, 5, 0.125]
    assert plain.scores.tolist() == rows
    gated = track(at_s, rows, gated=True)
    assert series_of(gated, words).elapsed_s.tolist() == [0, 0.125, 0.125, 0.125, 0.125]
    assert (gaps(gated), gaps(track(at_s, rows))) == (1, 0)


def test_nothing_is_said_of_nothing() -> None:
    words = Words(Decide(), NAMES)
    none = np.zeros(0)
    empty = Series("camera", NAMES, none, none, np.zeros((0, 5), np.float32))
    assert replay(empty, [Decide(), Decide(enter=0.6)], words) == [[], []]
    one = Series("camera", NAMES, np.zeros(1), np.zeros(1), np.ones((1, 5), np.float32))
    assert replay(one, [Decide()], words) == [[]]
    assert replay(one, [Decide(min_frames=1)], words) == [[Said(0.0, ("cat",))]]
