"""The head's file: what was written is read, and what was not is refused in a line."""

import hashlib
import os
import random
import resource
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device.errors import HeadError
from device.teach.head import Head, read_head, write_head
from device.teach.learner import learn
from tests.teach.samples import clouds

LABELS = ("gate open", "gate/shut", "🐈", "+/#")
MAGIC = 16
START = MAGIC + 32


def taught(shots: int = 8) -> Head:
    return learn(clouds(shots), LABELS, "a" * 64).head


@pytest.fixture(scope="module")
def data() -> bytes:
    return taught().encode()


@pytest.mark.parametrize("shots", [1, 2, 3, 8, 40])
def test_what_was_written_is_read(tmp_path: Path, shots: int) -> None:
    head = taught(shots)
    write_head(tmp_path / "set" / "head", head)
    read = read_head(tmp_path / "set" / "head")
    assert vars(read).keys() == vars(head).keys()
    for name, value in vars(head).items():
        np.testing.assert_array_equal(getattr(read, name), value)
    for features in clouds(20, seed=1).features:
        np.testing.assert_array_equal(read.scores(features), head.scores(features))
        assert read.distance(features) == head.distance(features)


@pytest.mark.parametrize("shots", [1, 8])
def test_scores_are_probabilities_or_none(shots: int) -> None:
    head = taught(shots)
    seen = list(clouds(20, seed=1).features)
    seen += [np.zeros(96, np.float32), np.full(96, -1, np.float32), np.full(96, 1e15, np.float32)]
    for features in seen:
        scores = head.scores(features)
        assert scores.dtype == np.float32
        assert scores.shape == (4,)
        assert (scores >= 0).all()
        assert float(scores.sum()) == pytest.approx(1, abs=1e-5) or not scores.any()


def test_a_stranger_has_no_score() -> None:
    head = taught(20)
    # As a network sees another kind of picture: other features answer.
    strange = np.zeros((20, 96), np.float32)
    strange[np.arange(20), np.arange(20)] = 5
    assert not any(head.scores(features).any() for features in strange)
    assert all(head.distance(features) > head.threshold for features in strange)


def test_the_caller_s_features_stay_as_they_are() -> None:
    features = clouds(1).features[0]
    before = features.copy()
    taught().scores(features)
    np.testing.assert_array_equal(features, before)


def test_cut_anywhere(data: bytes) -> None:
    for end in range(0, len(data), 997):
        with pytest.raises(HeadError, match="head it: is"):
            Head.decode(data[:end], "it")


def test_flipped_anywhere(data: bytes) -> None:
    chance = random.Random(0)
    for place in [*range(START), *(chance.randrange(len(data)) for _ in range(300))]:
        damaged = bytearray(data)
        damaged[place] ^= 1 << chance.randrange(8)
        with pytest.raises(HeadError, match="head it: is"):
            Head.decode(bytes(damaged), "it")


def forged(data: bytes, **changes: Any) -> bytes:
    """The head with other fields, and a hash that fits."""
    fields = msgspec.msgpack.decode(data[START:]) | changes
    body = msgspec.msgpack.encode({k: v for k, v in fields.items() if v is not None})
    return data[:MAGIC] + hashlib.sha256(body).digest() + body


def numbers(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"features": 0},
        {"features": -96},
        {"features": 95},
        {"features": 1 << 62},
        {"features": "96"},
        {"labels": []},
        {"labels": ["one"]},
        {"labels": ["x"] * 5},
        {"labels": ["", "b", "c", "d"]},
        {"labels": ["a\nb", "b", "c", "d"]},
        {"labels": ["a", "a", "c", "d"]},
        {"labels": ["a", 1, "c", "d"]},
        {"power": float("nan")},
        {"power": -1.0},
        {"power": float("inf")},
        {"temperature": float("inf")},
        {"temperature": -0.1},
        {"threshold": float("nan")},
        {"ridge": float("nan")},
        {"ridge": -1.0},
        {"mean": b""},
        {"mean": b"odd"},
        {"mean": numbers(*[float("nan")] * 96)},
        {"weights": numbers(*[float("inf")] * 384)},
        {"weights": numbers(1, 2, 3)},
        {"bias": numbers(0, 0, 0, float("-inf"))},
        {"bias": numbers(0)},
        {"basis": b""},
        {"gains": b""},
        {"gains": numbers(float("nan"))},
        {"model": 7},
        {"model": None},
        {"more": 1},
    ],
    ids=str,
)
def test_a_forged_hash_does_not_help(data: bytes, changes: dict[str, Any]) -> None:
    with pytest.raises(HeadError, match=r"head it: does not fit together: .*; teach it again") as e:
        Head.decode(forged(data, **changes), "it")
    assert "\n" not in str(e.value)


def test_a_forged_body_that_is_no_message(data: bytes) -> None:
    for body in (b"", b"\xc1", data[START:-1], b"\x80", b"[" * 5000, b"\x91" * 5000):
        with pytest.raises(HeadError, match="does not fit together"):
            Head.decode(data[:MAGIC] + hashlib.sha256(body).digest() + body, "it")


def test_extreme_numbers_that_are_numbers_give_scores_or_none(data: bytes) -> None:
    huge = forged(data, weights=numbers(*[3e38] * 384), temperature=1e300, ridge=1e-300)
    scores = Head.decode(huge, "it").scores(clouds(1).features[0])
    assert not np.isnan(scores).any()


def test_another_version_is_refused(data: bytes) -> None:
    with pytest.raises(HeadError, match="is no head of this version of labelcam; teach it again"):
        Head.decode(data.replace(b"head 1", b"head 2", 1), "it")


def test_files_that_are_no_head(tmp_path: Path) -> None:
    huge, fifo = tmp_path / "huge", tmp_path / "fifo"
    with huge.open("wb") as file:
        file.truncate(65 << 20)
    os.mkfifo(fifo)
    for path, problem in (
        (tmp_path / "none", "is not there; teach something first"),
        (huge, "has over 64 MB and is no head"),
        (tmp_path, "is no file"),
        (fifo, "is no file"),  # without waiting for one who writes
    ):
        with pytest.raises(HeadError, match=problem):
            read_head(path)


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HeadError, match=r"cannot be written: .*; make room"):
        write_head(tmp_path / "file" / "head", taught())


def test_the_old_head_stays_where_the_new_one_cannot_be_written(tmp_path: Path) -> None:
    write_head(tmp_path / "head", taught())
    before = (tmp_path / "head").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(HeadError, match="cannot be written: File too large"):
            write_head(tmp_path / "head", taught(20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["head"]
    assert (tmp_path / "head").read_bytes() == before
