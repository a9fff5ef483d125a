"""What is said of lessons after each: how good they are, and what they lack."""

import threading
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from device.config import Teach
from device.errors import TeachError
from device.teach import teacher as teaching
from device.teach.drawing import exam_png
from device.teach.exam import examine
from device.teach.head import read_head
from device.teach.learner import Lesson, Samples, learn
from device.teach.lessons import Lessons, Picture
from device.teach.report import report
from device.teach.selection import Selection
from device.teach.teacher import Teacher
from tests.teach.samples import clouds

MODEL = "0" * 64


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def pictures(samples: Samples, row: int, count: int = 1000, side: int = 224) -> list[Picture]:
    """Pictures of one class of the samples."""
    found = []
    for number in np.unique(samples.pictures[samples.classes == row])[:count]:
        features = samples.features[samples.pictures == number]
        found.append(Picture(features, f"{row} {number}".encode(), side, side))
    return found


def said(taught: dict[str, list[Picture]]) -> str:
    """The line about these lessons."""
    with Teacher("default", MODEL, Teach()) as teacher:
        for label, of_label in taught.items():
            teacher.lessons.add(label, of_label)
        return str(report(teacher.lessons, teacher.learn()))


def test_nothing_and_one_label_have_no_head() -> None:
    assert said({}) == "nothing is taught; the device says the model's own labels"
    assert said({"gate": pictures(clouds(1), 0)}).startswith("'gate' alone has 1 picture, and")


def test_good_lessons_are_told_with_their_accuracy_alone() -> None:
    samples = clouds(12, far=2.0)
    line = said({label: pictures(samples, row) for row, label in enumerate("abcd")})
    assert line.startswith("learned 4 labels from 48 pictures; about ")
    assert line.endswith("right on new pictures")


def test_with_one_picture_there_is_no_estimate() -> None:
    samples = clouds(12)
    line = said({"a": pictures(samples, 0), "b": pictures(samples, 1, 1)})
    assert "shows with 3 pictures or more of each: 'b'" in line
    assert "'b' needs more pictures, it has 1" in line
    assert "'a' has over 3 times the pictures of 'b'" in line


def test_what_is_mixed_up_most() -> None:
    samples = clouds(12)
    other = clouds(12, seed=1)
    line = said({"a": pictures(samples, 0), "b": pictures(samples, 1), "c": pictures(other, 1)})
    assert "mixes up 'b' and 'c' most" in line
    assert "needs more pictures, it has 12" in line


def test_duplicates_contradictions_and_tiny_ones() -> None:
    samples = clouds(12)
    one = pictures(samples, 0)
    again = [picture._replace(digest=picture.digest + b"!") for picture in one[:3]]
    line = said({"a": one + again, "b": pictures(samples, 1) + one[:1]})
    assert "3 nearly the same as another, which teach nothing" in line
    assert "'a' and 'b' have nearly the same picture; move or remove one" in line
    assert "under 64 pixels" not in line
    assert "1 picture under 64 pixels" in said({"c": pictures(samples, 2, 1, side=32)})


def test_near_ones_are_found_across_blocks() -> None:
    samples = clouds(300)
    one = pictures(samples, 0)
    far = [one[0]._replace(digest=b"far")]
    with Teacher("default", MODEL, Teach()) as teacher:
        for label, of_label in (("a", one), ("b", pictures(samples, 1)), ("a", far)):
            teacher.lessons.add(label, of_label)
        assert report(teacher.lessons, None).near_duplicates == 1


@pytest.mark.slow
def test_an_older_head_never_follows_a_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = clouds(5)
    reached, go_on = threading.Event(), threading.Event()
    first = threading.current_thread()

    def slow(*arguments: object, **options: object) -> Lesson:
        if threading.current_thread() is not first:
            reached.set()
            assert go_on.wait(20)
        return learn(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(teaching, "learn", slow)

    def teach_two() -> None:
        with Teacher("default", MODEL, Teach()) as teacher:
            teacher.lessons.add("a", pictures(samples, 0))
            teacher.add("b", pictures(samples, 1))

    thread = threading.Thread(target=teach_two)
    thread.start()
    assert reached.wait(20)
    with Teacher("default", MODEL, Teach()) as teacher:
        teacher.lessons.add("c", pictures(samples, 2))
        # Whoever learns now waits for the one that began before; let it go on meanwhile.
        threading.Timer(0.5, go_on.set).start()
        teacher.learn()
        thread.join(20)
        assert read_head(teacher.lessons.head_file).labels == ("a", "b", "c")


def test_the_most_different_are_kept() -> None:
    samples = clouds(10, far=2.0)
    selection = Selection(4)
    first = pictures(samples, 0)
    assert selection.offer(first[0])
    assert not selection.offer(first[0]._replace(digest=b"again"))
    for picture in first[1:] + [p for row in (1, 2, 3) for p in pictures(samples, row)]:
        selection.offer(picture)
    assert selection.is_full
    assert {picture.digest[:1] for picture in selection.pictures} == {b"0", b"1", b"2", b"3"}


def test_an_exam_counts_and_knows_strangers() -> None:
    samples, new = clouds(12), clouds(6, seed=5, views=1)
    head = learn(samples, tuple("abcd"), MODEL).head
    names = ["abcd"[row] for row in new.classes]
    strange = np.roll(clouds(20, seed=5, views=1).features, 48, axis=1)
    features = np.concatenate([new.features, strange])
    exam = examine(head, samples, features, [*names, *["else"] * 80])
    assert exam.pictures == 24
    assert sum(sum(row.values()) for row in exam.confusion.values()) == 24
    right = sum(exam.confusion[label][label] for label in "abcd")
    assert exam.accuracy == right / 24 > 0.5
    assert [point.pictures for point in exam.curve] == [1, 2, 5, 10]
    assert exam.strangers is not None
    assert exam.strangers.pictures == 80
    assert exam.strangers.area is not None
    assert exam.strangers.area > 0.8
    lost, found = zip(*exam.strangers.curve, strict=True)
    assert (lost[0], lost[-1], found[-1]) == (0.0, 1.0, 1.0)
    assert list(found) == sorted(found)
    # The area is that under the curve, but for what lies between its points.
    between = (np.array(found[1:]) + found[:-1]) / 2
    assert abs(between @ np.diff(lost) - exam.strangers.area) < 0.1
    picture = cv2.imdecode(np.frombuffer(exam_png(exam), np.uint8), cv2.IMREAD_COLOR)
    alone = exam_png(msgspec.structs.replace(exam, curve=(), strangers=None))
    # Beside the confusion there are the curves, in green where ours is.
    width = cv2.imdecode(np.frombuffer(alone, np.uint8), cv2.IMREAD_COLOR).shape[1]
    assert (picture[:, width:] == (70, 140, 30)).all(2).sum() > 100
    with pytest.raises(TeachError, match="no folder has the name of a label; there are 'a', 'b'"):
        examine(head, samples, strange, ["else"] * 80)


def test_lessons_without_end_are_learned_from_evenly(tmp_path: Path) -> None:
    samples = clouds(1500, classes=2, views=1)
    with Lessons(tmp_path / "many", MODEL) as lessons:
        lessons.add("a", pictures(samples, 0, 1500))
        lessons.add("b", pictures(samples, 1, 30))
        found, _ = lessons.samples()
    assert np.bincount(found.classes).tolist() == [1000, 30]
    of_a = np.sort(found.pictures[found.classes == 0])
    assert of_a[0] == 1
    assert of_a[-1] == 1500
