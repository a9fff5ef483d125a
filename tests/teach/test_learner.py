"""What is learned from features: how good it is, how sure it says to be, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from device.teach.head import Head
from device.teach.learner import Samples, learn
from tests.teach.samples import clouds

MODEL = "a" * 64


def named(count: int) -> tuple[str, ...]:
    return tuple(f"label {row}" for row in range(count))


def part(samples: Samples, kept: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]") -> Samples:
    return Samples(samples.features[kept], samples.classes[kept], samples.pictures[kept])


def judged(head: Head, samples: Samples) -> tuple[float, float, float]:
    """Of one view of each picture: how many are right, how sure it is, and how many are strangers.

    How many are right and how sure it is are of those that are no strangers.
    """
    first = np.unique(samples.pictures, return_index=True)[1]
    scores = np.stack([head.scores(features) for features in samples.features[first]])
    known = scores.any(1)
    right = scores[known].argmax(1) == samples.classes[first][known]
    return float(right.mean()), float(scores[known].max(1).mean()), float(1 - known.mean())


@pytest.mark.parametrize("shots", [1, 2, 3, 10, 60])
def test_the_same_samples_give_the_same_head_to_the_bit(shots: int) -> None:
    heads = [learn(clouds(shots), named(4), MODEL).head.encode() for _ in range(2)]
    assert heads[0] == heads[1]


@pytest.mark.slow
def test_the_same_samples_give_the_same_head_in_another_process() -> None:
    program = (
        "import hashlib; from tests.teach.samples import clouds;"
        "from device.teach.learner import learn;"
        "print(hashlib.sha256(learn(clouds(10), 'abcd', 'a' * 64).head.encode()).hexdigest())"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            check=True,
            capture_output=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


# 60 pictures with their mirrors are more rows than features, and the other way of solving it.
@pytest.mark.parametrize("shots", [5, 10, 20, 60])
def test_it_is_right_and_knows_how_often(shots: int) -> None:
    lesson = learn(clouds(shots), named(4), MODEL)
    right, sure, strangers = judged(lesson.head, clouds(200, seed=1))
    assert right > 0.8
    assert lesson.estimate
    assert abs(lesson.estimate.accuracy - right) < 3 * lesson.estimate.spread
    assert abs(sure - right) < 0.1 + lesson.estimate.spread
    assert strangers < 0.2


def test_both_ways_of_solving_it_agree() -> None:
    # 12 pictures a class with their mirrors are 96 rows of 96 features, 13 are more.
    seen = clouds(200, seed=1)
    few, more = (learn(clouds(shots), named(4), MODEL).head for shots in (12, 13))
    assert judged(few, seen)[0] == pytest.approx(judged(more, seen)[0], abs=0.05)
    assert few.ridge == pytest.approx(more.ridge, rel=0.5)


@pytest.mark.parametrize("strictness", [0.01, 0.05, 0.2])
def test_strictness_is_the_share_that_is_let_go(strictness: float) -> None:
    lesson = learn(clouds(100), named(4), MODEL, strictness=strictness)
    _, _, strangers = judged(lesson.head, clouds(500, seed=1))
    assert strangers == pytest.approx(strictness, abs=0.02 + strictness / 3)


def test_other_features_are_strangers() -> None:
    head = learn(clouds(20), named(4), MODEL).head
    other = clouds(50, seed=1)
    turned = other._replace(features=np.roll(other.features, 48, axis=1))
    assert judged(head, other)[2] < 0.2
    distances = [
        [head.distance(features) for features in samples.features[::2]]
        for samples in (other, turned)
    ]
    assert np.mean(np.array(distances[1])[:, None] > np.array(distances[0])) > 0.9


@pytest.mark.parametrize("shots", [1, 2])
def test_with_one_or_two_pictures_their_direction_is_all(shots: int) -> None:
    lesson = learn(clouds(shots, far=2), named(4), MODEL)
    assert lesson.estimate is None
    assert lesson.head.power == 1.0
    right, _, strangers = judged(lesson.head, clouds(100, seed=1, far=2))
    assert right > 0.9
    assert strangers == 0


def test_one_class_of_few_pictures_is_enough_for_that() -> None:
    samples = clouds(10)
    kept = (samples.classes > 0) | (samples.pictures < 2)
    few = part(samples, kept)
    assert learn(few, named(4), MODEL).estimate is None


def test_a_class_much_larger_than_the_others_takes_no_more_than_its_own() -> None:
    samples = clouds(60)
    kept = (samples.classes == 0) | (samples.pictures % 60 < 6)
    lesson = learn(part(samples, kept), named(4), MODEL)
    assert judged(lesson.head, clouds(200, seed=1))[0] > 0.75


def test_the_estimate_counts_each_picture_once() -> None:
    estimate = learn(clouds(7), named(4), MODEL).estimate
    assert estimate
    assert estimate.confusion.sum(1).tolist() == [7] * 4
    assert len(estimate.predicted) == 28
    assert estimate.accuracy == np.trace(estimate.confusion) / 28


@pytest.mark.parametrize("rows", [[], [0], [0, 1], [0, 2]])
def test_every_label_needs_a_picture_and_there_must_be_two(rows: list[int]) -> None:
    samples = clouds(5, classes=3)
    kept = np.isin(samples.classes, rows)
    count = 1 if rows == [0] else 3
    with pytest.raises(ValueError, match="needs two labels or more, and a picture of each"):
        learn(part(samples, kept), named(count), MODEL)


def test_one_picture_a_hundred_times() -> None:
    """The scatter is then nothing, and yet there is a head that works."""
    samples = clouds(1, classes=2)
    hundred = Samples(
        np.repeat(samples.features[::2], 100, 0), np.repeat([0, 1], 100), np.arange(200)
    )
    head = learn(hundred, named(2), MODEL).head
    for row, features in enumerate(samples.features[::2]):
        scores = head.scores(features)
        assert np.isfinite(scores).all()
        assert scores.argmax() == row
        assert scores.any()


def test_the_same_pictures_under_both_labels() -> None:
    samples = clouds(10, classes=1)
    both = Samples(
        np.tile(samples.features, (2, 1)),
        np.repeat([0, 1], 20),
        np.concatenate([samples.pictures, samples.pictures + 10]),
    )
    lesson = learn(both, named(2), MODEL)
    assert lesson.estimate
    assert lesson.estimate.accuracy <= 0.6
    scores = lesson.head.scores(samples.features[0])
    assert np.isfinite(scores).all()


def test_features_that_are_all_nothing() -> None:
    nothing = Samples(np.zeros((20, 96), np.float32), np.repeat([0, 1], 10), np.arange(20))
    lesson = learn(nothing, named(2), MODEL)
    assert np.isfinite(lesson.head.scores(np.zeros(96, np.float32))).all()


@pytest.mark.slow
def test_two_hundred_labels() -> None:
    lesson = learn(clouds(5, classes=200, width=256, far=2), named(200), MODEL)
    assert len(lesson.head.labels) == 200
    assert judged(lesson.head, clouds(2, classes=200, width=256, seed=1, far=2))[0] > 0.9
    assert Head.decode(lesson.head.encode(), "it").labels == named(200)


def test_frames_of_a_still_camera_leave_room_for_those_of_tomorrow() -> None:
    chance = np.random.default_rng(5)
    scenes = chance.gamma(0.4, 1.0, (2, 1280))
    still = [scene * chance.normal(1, 0.01, (6, 1280)) for scene in scenes]
    samples = Samples(
        np.concatenate(still).astype(np.float32),
        np.repeat(np.arange(2), 6),
        np.arange(12),
    )
    head = learn(samples, ("open", "shut"), "m").head
    for row, scene in enumerate(scenes):
        tomorrow = (scene * chance.normal(1, 0.15, 1280)).clip(0).astype(np.float32)
        assert head.scores(tomorrow)[row] > 0.5
    stranger = chance.gamma(0.4, 1.0, 1280).astype(np.float32)
    assert head.scores(stranger).max() == 0
