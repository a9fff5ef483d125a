"""Lessons: every change and its undo, two who teach at once, kills, full and damaged disks."""

import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device.errors import TeachError
from device.teach.lessons import LABELS_MAX, Lessons, Picture, check_label

MODEL = "a" * 64
JPEG = b"\xff\xd8 not a picture to anybody"


def picture(number: int, *, jpeg: bool = False, views: int = 2) -> Picture:
    """One whose features are its number, exactly also in half precision."""
    features = np.full((views, 8), number % 2048, np.float32)
    return Picture(features, number.to_bytes(32, "big"), 64, 48, JPEG if jpeg else None)


def contents(lessons: Lessons) -> dict[tuple[str, int], int]:
    """How often each picture, by its number, stands under each label."""
    return Counter((e.label, int.from_bytes(e.digest, "big")) for e in lessons.entries())


def check_whole(lessons: Lessons) -> None:
    """Each entry has features of its own and, where it was kept, its picture."""
    entries = lessons.entries()
    assert lessons.labels() == Counter(entry.label for entry in entries)
    samples, labels = lessons.samples()
    assert len(samples.features) == 2 * len(entries)
    taught = Counter(
        (labels[row], int(value))
        for row, value in zip(samples.classes, samples.features.max(-1, initial=0), strict=True)
    )
    wanted: Counter[tuple[str, int]] = Counter()
    for (label, number), times in contents(lessons).items():
        wanted[label, number % 2048] += 2 * times
    assert taught == wanted
    assert all((lessons.picture(entry.id) == JPEG) is entry.kept for entry in entries)


class Changes(RuleBasedStateMachine):
    """Any changes and undoings, against lists of what must be there."""

    labels = st.sampled_from(["open", "shut", "a/b", "🐈‍⬛", "+/#"])

    @initialize()
    def start(self) -> None:
        import tempfile

        self.folder = Path(tempfile.mkdtemp(prefix="labelcam-lessons-"))
        self.lessons = Lessons(self.folder, MODEL)
        self.now: list[tuple[str, int]] = []
        self.before: list[list[tuple[str, int]]] = []
        self.count = 0

    def _changed(self, now: list[tuple[str, int]]) -> None:
        self.before.append(self.now)
        self.now = now

    def _ids(self, numbers: set[int]) -> list[int]:
        return [e.id for e in self.lessons.entries() if int.from_bytes(e.digest, "big") in numbers]

    @rule(label=labels, count=st.integers(1, 3), kept=st.booleans())
    def add(self, label: str, count: int, kept: bool) -> None:
        numbers = range(self.count, self.count + count)
        self.count += count
        assert self.lessons.add(label, [picture(n, jpeg=kept) for n in numbers]) == count
        self._changed(self.now + [(label, number) for number in numbers])

    @precondition(lambda self: self.now)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        taken = data.draw(st.sets(st.sampled_from([n for _, n in self.now]), min_size=1))
        assert self.lessons.remove(self._ids(taken)) == len(taken)
        self._changed([known for known in self.now if known[1] not in taken])

    @precondition(lambda self: self.now)
    @rule(data=st.data(), label=labels)
    def move(self, data: st.DataObject, label: str) -> None:
        moved = data.draw(st.sets(st.sampled_from([n for _, n in self.now]), min_size=1))
        assert self.lessons.move(self._ids(moved), label) == len(moved)
        self._changed([(label if n in moved else old, n) for old, n in self.now])

    @rule(label=labels, new=labels)
    def rename(self, label: str, new: str) -> None:
        if label not in (old for old, _ in self.now):
            with pytest.raises(TeachError, match="no label is called"):
                self.lessons.rename(label, new)
            return
        self.lessons.rename(label, new)
        self._changed([(new if old == label else old, n) for old, n in self.now])

    @rule(label=labels)
    def remove_label(self, label: str) -> None:
        if label not in (old for old, _ in self.now):
            with pytest.raises(TeachError, match="no label is called"):
                self.lessons.remove_label(label)
            return
        self.lessons.remove_label(label)
        self._changed([known for known in self.now if known[0] != label])

    @rule()
    def undo(self) -> None:
        if not self.before:
            with pytest.raises(TeachError, match="there is nothing to undo"):
                self.lessons.undo()
            return
        assert self.lessons.undo()
        self.now = self.before.pop()

    @rule()
    def reopen(self) -> None:
        self.lessons.close()
        self.lessons = Lessons(self.folder, MODEL)

    @invariant()
    def the_same(self) -> None:
        assert contents(self.lessons) == Counter(self.now)
        check_whole(self.lessons)

    def teardown(self) -> None:
        import shutil

        self.lessons.close()
        shutil.rmtree(self.folder)


# Twenty changes can be undone; a run of fewer steps never meets that end.
Changes.TestCase.settings = settings(max_examples=12, stateful_step_count=18, deadline=None)
TestChanges = pytest.mark.slow(Changes.TestCase)


def test_the_oldest_change_can_no_longer_be_undone(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        for number in range(25):
            lessons.add("open", [picture(number)])
        for _ in range(20):
            lessons.undo()
        assert lessons.labels() == {"open": 5}
        with pytest.raises(TeachError, match="there is nothing to undo"):
            lessons.undo()


def test_what_can_no_longer_be_undone_is_gone_from_the_disk(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        lessons.add("open", [picture(0, jpeg=True), picture(1, jpeg=True)])
        lessons.remove([lessons.entries()[0].id])
        assert len(list((tmp_path / "pictures").iterdir())) == 2
        for number in range(2, 22):
            lessons.add("shut", [picture(number)])
        assert len(list((tmp_path / "pictures").iterdir())) == 1
        check_whole(lessons)


def test_pictures_are_forgotten_and_what_was_learned_stays(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        lessons.add("open", [picture(0, jpeg=True), picture(1)])
        assert lessons.forget_pictures() == 1
        assert [entry.kept for entry in lessons.entries()] == [False, False]
        check_whole(lessons)
        assert not list((tmp_path / "pictures").iterdir())


def test_without_mirrors_each_picture_counts_once(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        assert lessons.samples()[1] == ()
        lessons.add("open", [picture(3), picture(4, views=1)])
        samples, labels = lessons.samples(mirror=False)
        assert (samples.features[:, 0].tolist(), labels) == ([3, 4], ("open",))


@pytest.mark.parametrize(
    "label", ["cat", "a/b", "+/#", "🐈", "🐈‍⬛", "👨‍👩‍👧", "中文", "é" * 64, "0", ".."]
)
def test_labels_that_people_give(tmp_path: Path, label: str) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        lessons.add(label, [picture(0)])
        assert lessons.labels() == {label: 1}


@pytest.mark.parametrize(
    "label",
    ["", " ", " cat", "cat ", "a\nb", "a\x00b", "a\u202eb", "x" * 65, "unavailable", "off-duty"],
)
def test_labels_that_cannot_be(label: str) -> None:
    with pytest.raises(TeachError, match=r"teach: label .*: give|give another") as told:
        check_label(label)
    assert str(told.value).isprintable()


@pytest.mark.slow
def test_there_are_no_more_labels_than_a_head_takes(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        for number in range(LABELS_MAX):
            lessons.add(f"label {number}", [picture(number), picture(number + LABELS_MAX)])
        first = lessons.entries()[0].id
        with pytest.raises(TeachError, match="there are 200 labels already"):
            lessons.add("more", [picture(2 * LABELS_MAX)])
        with pytest.raises(TeachError, match="there are 200 labels already"):
            lessons.move([first], "more")
        assert len(lessons.labels()) == LABELS_MAX
        lessons.rename("label 0", "renamed")
        assert len(lessons.labels()) == LABELS_MAX


def test_an_error_halfway_leaves_nothing(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        lessons.add("open", [picture(0, jpeg=True)])
        with pytest.raises(ValueError, match="no more"):
            lessons.add("open", (picture(n) if n < 3 else _fail() for n in range(1, 5)))
        assert contents(lessons) == {("open", 0): 1}
        assert lessons.undo() == "added pictures to 'open'"
        with pytest.raises(TeachError, match="nothing to undo"):
            lessons.undo()


def _fail() -> Picture:
    raise ValueError("no more")


def test_another_model_starts_anew_or_is_refused(tmp_path: Path) -> None:
    Lessons(tmp_path, MODEL).close()
    with Lessons(tmp_path, "b" * 64) as lessons:  # nothing was taught yet
        lessons.add("open", [picture(0)])
    with pytest.raises(TeachError, match="was taught on another model; go back to that model"):
        Lessons(tmp_path, MODEL)


def test_another_version_is_refused(tmp_path: Path) -> None:
    Lessons(tmp_path, MODEL).close()
    with sqlite3.connect(tmp_path / "lessons.db") as db:
        db.execute("UPDATE about SET value = '2' WHERE key = 'version'")
    db.close()
    with pytest.raises(TeachError, match="is of another version of labelcam"):
        Lessons(tmp_path, MODEL)


@pytest.mark.slow
def test_two_teach_at_once(tmp_path: Path) -> None:
    problems: list[BaseException] = []

    def teach(label: str, first: int) -> None:
        try:
            with Lessons(tmp_path, MODEL) as lessons:
                for number in range(first, first + 20):
                    lessons.add(label, [picture(number, jpeg=True)])
        except BaseException as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=teach, args=(f"l{n}", 100 * n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    with Lessons(tmp_path, MODEL) as lessons:
        assert lessons.labels() == {"l0": 20, "l1": 20, "l2": 20}
        check_whole(lessons)


def test_many_may_be_the_first_at_once(tmp_path: Path) -> None:
    problems: list[BaseException] = []
    for number in range(20):
        folder, together = tmp_path / str(number), threading.Barrier(4)

        def begin(folder: Path = folder, together: threading.Barrier = together) -> None:
            together.wait()
            try:
                Lessons(folder, MODEL).close()
            except BaseException as error:  # noqa: BLE001
                problems.append(error)

        threads = [threading.Thread(target=begin) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


ENDLESS = """
    import itertools, sys
    from pathlib import Path
    from device.teach.lessons import Lessons
    from tests.teach.test_lessons import MODEL, picture

    with Lessons(Path(sys.argv[1]), MODEL) as lessons:
        start = sum(lessons.labels().values()) * 1000
        print("ready", flush=True)
        for n in itertools.count(start, 3):
            lessons.add("open", [picture(k, jpeg=True) for k in range(n, n + 3)])
            lessons.move([e.id for e in lessons.entries("open")][:2], "shut")
            lessons.remove([lessons.entries()[0].id])
            lessons.undo()
            lessons.rename("shut", "open")
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    chance = random.Random(0)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(ENDLESS), tmp_path],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        with process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            threading.Event().wait(chance.uniform(0.0, 0.25))
            process.send_signal(signal.SIGKILL)
        with Lessons(tmp_path, MODEL) as lessons:
            check_whole(lessons)
            # No picture is in two places, whatever was under way.
            assert set(contents(lessons).values()) <= {1}
    with sqlite3.connect(tmp_path / "lessons.db") as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_a_full_disk(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        lessons.add("open", [picture(0)])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        size = max(file.stat().st_size for file in tmp_path.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, hard))
        try:
            with pytest.raises(TeachError, match=r"lessons|teach: .*(full|I/O error|disk)"):
                lessons.add("open", [picture(n, views=500) for n in range(1, 40)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert contents(lessons) == {("open", 0): 1}
        lessons.add("open", [picture(1)])
        check_whole(lessons)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TeachError, match="cannot be written: "):
        Lessons(tmp_path / "file" / "set", MODEL)


def test_no_database(tmp_path: Path) -> None:
    (tmp_path / "lessons.db").write_bytes(b"labelcam" * 1000)
    with pytest.raises(TeachError, match="the lessons are damaged"):
        Lessons(tmp_path, MODEL)


@pytest.mark.slow
def test_a_damaged_database_is_a_word_and_no_crash(tmp_path: Path) -> None:
    with Lessons(tmp_path, MODEL) as lessons:
        for number in range(30):
            lessons.add("open" if number % 2 else "shut", [picture(number)])
    whole = (tmp_path / "lessons.db").read_bytes()
    chance, told = random.Random(0), []
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(4):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / "lessons.db").write_bytes(damaged)
        for name in ("lessons.db-wal", "lessons.db-shm"):
            (tmp_path / name).unlink(missing_ok=True)
        try:
            with Lessons(tmp_path, MODEL) as lessons:
                lessons.entries()
                lessons.samples()
                lessons.add("open", [picture(99)])
                lessons.undo()
        except TeachError as error:
            told.append(str(error))
    assert told
    assert all(str(tmp_path) in line for line in told)
