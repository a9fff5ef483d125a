"""Lessons go from one device to another whole, or not at all; pictures into folders."""

import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from device.errors import TeachError
from device.teach.archive import export_lessons, export_pictures, import_lessons
from device.teach.lessons import Lessons, Picture
from tests.teach.test_lessons import JPEG, MODEL, contents, picture


@pytest.fixture
def lessons(tmp_path: Path) -> Iterator[Lessons]:
    with Lessons(tmp_path / "mine", MODEL) as mine:
        mine.add("gate open", [picture(n, jpeg=n % 2 == 0) for n in range(4)])
        mine.add("🐈/dog", [picture(n, jpeg=True) for n in range(4, 7)])
        mine.add("gone", [picture(7)])
        mine.remove_label("gone")
        yield mine


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Lessons]:
    with Lessons(tmp_path / "other", MODEL) as theirs:
        yield theirs


def test_another_device_has_all_of_it(lessons: Lessons, other: Lessons, tmp_path: Path) -> None:
    assert export_lessons(lessons, tmp_path / "mine.lessons") == 7
    assert import_lessons(other, tmp_path / "mine.lessons") == {"gate open": 4, "🐈/dog": 3}
    assert contents(other) == contents(lessons)
    for mine, theirs in zip(lessons.entries(), other.entries(), strict=True):
        assert mine._replace(at=0) == theirs._replace(at=0)
        assert lessons.picture(mine.id) == other.picture(theirs.id)
    for ours, found in zip(lessons.samples()[0], other.samples()[0], strict=True):
        np.testing.assert_array_equal(ours, found)


def test_it_is_added_to_what_is_there_and_can_be_undone(
    lessons: Lessons, other: Lessons, tmp_path: Path
) -> None:
    other.add("gate open", [picture(100)])
    export_lessons(lessons, tmp_path / "mine.lessons")
    import_lessons(other, tmp_path / "mine.lessons")
    assert other.labels() == {"gate open": 5, "🐈/dog": 3}
    assert other.undo() == "added pictures to '🐈/dog'"
    assert other.undo() == "added pictures to 'gate open'"
    assert contents(other) == {("gate open", 100): 1}


def test_lessons_of_another_model_are_refused(lessons: Lessons, tmp_path: Path) -> None:
    export_lessons(lessons, tmp_path / "mine.lessons")
    with (
        Lessons(tmp_path / "theirs", "b" * 64) as theirs,
        pytest.raises(TeachError, match="was taught on another model; choose that one first"),
    ):
        import_lessons(theirs, tmp_path / "mine.lessons")


def test_cut_anywhere_it_is_refused_and_nothing_is_added(
    lessons: Lessons, other: Lessons, tmp_path: Path
) -> None:
    export_lessons(lessons, tmp_path / "mine.lessons")
    whole = (tmp_path / "mine.lessons").read_bytes()
    for end in range(0, len(whole), 61):
        (tmp_path / "cut.lessons").write_bytes(whole[:end])
        with pytest.raises(TeachError, match=r"cut\.lessons"):
            import_lessons(other, tmp_path / "cut.lessons")
    assert not other.labels()


@pytest.mark.slow
def test_flipped_anywhere_it_is_refused_or_the_same(
    lessons: Lessons, other: Lessons, tmp_path: Path
) -> None:
    export_lessons(lessons, tmp_path / "mine.lessons")
    whole = (tmp_path / "mine.lessons").read_bytes()
    chance, refused = random.Random(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        (tmp_path / "bad.lessons").write_bytes(damaged)
        try:
            import_lessons(other, tmp_path / "bad.lessons")
        except TeachError:
            refused += 1
            assert not other.labels()
        else:  # what is not read in a zip: dates, attributes
            assert contents(other) == contents(lessons)
            other.undo()
            other.undo()
    assert refused > 150


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"version": 2}, "holds no lessons of this version"),
        ({"more": 1}, "holds no lessons of this version"),
        ({"label": "a\nb"}, "printable characters"),
        ({"views": 0}, "picture 0 .*; export them again"),
        ({"views": 1 << 40}, "picture 0 .*; export them again"),
        ({"views": -3}, "picture 0 .*; export them again"),
        ({"views": 1}, "does not fit together"),
        ({"sha256": ""}, "picture 0 is damaged"),
    ],
)
def test_forged(
    lessons: Lessons, other: Lessons, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    export_lessons(lessons, tmp_path / "mine.lessons")
    with (
        zipfile.ZipFile(tmp_path / "mine.lessons") as whole,
        zipfile.ZipFile(tmp_path / "forged.lessons", "w") as forged,
    ):
        for name in whole.namelist():
            data = whole.read(name)
            if name == "manifest.json":
                manifest = msgspec.json.decode(data)
                first = manifest["pictures"][0]
                for key, value in change.items():
                    (first if key in first else manifest)[key] = value
                data = msgspec.json.encode(manifest)
            forged.writestr(name, data)
    with pytest.raises(TeachError, match=problem):
        import_lessons(other, tmp_path / "forged.lessons")
    assert not other.labels()


def test_a_bomb_is_not_unpacked(lessons: Lessons, other: Lessons, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", b" " * (65 << 20))
    with pytest.raises(TeachError, match="has over 64 MB"):
        import_lessons(other, tmp_path / "bomb")


def test_features_of_another_width_are_refused(
    lessons: Lessons, other: Lessons, tmp_path: Path
) -> None:
    export_lessons(lessons, tmp_path / "mine.lessons")
    wide = Picture(np.ones((2, 16), np.float32), b"wide", 64, 48)
    other.add("wide", [wide])
    with pytest.raises(TeachError, match="does not fit together"):
        import_lessons(other, tmp_path / "mine.lessons")
    assert other.labels() == {"wide": 1}


@pytest.mark.parametrize("kind", ["missing", "folder", "text"])
def test_no_archive(other: Lessons, tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("no lessons")
    with pytest.raises(TeachError, match=f"{kind} (cannot be read|holds no lessons)"):
        import_lessons(other, path)


def test_nothing_stays_of_an_export_that_fails(lessons: Lessons, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(TeachError, match="taken cannot be written: "):
        export_lessons(lessons, tmp_path / "taken")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mine", "taken"]


def test_a_folder_for_each_label(lessons: Lessons, tmp_path: Path) -> None:
    for number, label in enumerate(["..", "Gate Open", "a:b", "100%"], start=20):
        lessons.add(label, [picture(number, jpeg=True)])
    counts = export_pictures(lessons, tmp_path / "out" / "put")
    assert counts == {"gate open": 2, "🐈/dog": 3, "..": 1, "Gate Open": 1, "a:b": 1, "100%": 1}
    folders = {
        folder.name: len(list(folder.iterdir())) for folder in (tmp_path / "out/put").iterdir()
    }
    assert folders == {
        "Gate Open": 1, "gate open_": 2, "🐈%2Fdog": 3, "%2E.": 1, "a%3Ab": 1, "100%25": 1,
    }  # fmt: skip
    assert all(file.read_bytes() == JPEG for file in (tmp_path / "out").rglob("*.jpg"))


def test_long_labels_that_begin_alike_keep_their_own_folders(tmp_path: Path) -> None:
    with Lessons(tmp_path / "mine", MODEL) as lessons:
        for number in range(2):
            lessons.add("🐈" * 63 + str(number), [picture(number, jpeg=True)])
        assert len(export_pictures(lessons, tmp_path / "out")) == 2
        assert len(list((tmp_path / "out").iterdir())) == 2


def test_a_folder_with_something_in_it_is_left_alone(lessons: Lessons, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(TeachError, match="out is not empty; name a new folder"):
        export_pictures(lessons, tmp_path / "out")


def test_without_pictures_there_is_nothing_to_write(lessons: Lessons, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "mine" / "pictures")
    with pytest.raises(TeachError, match=r"no pictures were kept; set teach\.keep_pictures"):
        export_pictures(lessons, tmp_path / "out")
    assert not (tmp_path / "out").exists()
