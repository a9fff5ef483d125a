"""The truth of a recording: what a file may hold, and which line of it is wrong."""

from pathlib import Path

import pytest

from device.errors import UsageError
from device.tune.truth import Interval, check_truth, find_truth, read_truth, write_truth

LABELS = {"camera": ("cat", "dog", "cup", "tiger cat")}


def checked(path: Path, *, one: bool = True, length_s: float = 100.0) -> list[Interval]:
    lines = read_truth(path)
    return check_truth(path, lines, {"camera": length_s}, LABELS, one_at_a_time=one)["camera"]


def refusal(path: Path, text: str, *, one: bool = True, length_s: float = 100.0) -> str:
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        checked(path, one=one, length_s=length_s)
    said = str(caught.value)
    assert said.startswith(f"truth {path}: ")
    assert "\n" not in said
    return said.removeprefix(f"truth {path}: ")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "truth.jsonl"


def test_lines_of_json_are_read_in_the_order_of_time(file: Path) -> None:
    file.write_text(
        '{"from_s": 20, "to_s": 30.5, "label": "dog"}\n\n'
        '{"label": "cat", "from_s": 1, "to_s": 20, "camera": "camera"}\n'
    )
    assert checked(file) == [
        Interval(1, 20, "cat", "camera"),
        Interval(20, 30.5, "dog", "camera"),
    ]


def test_toml_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "truth.toml"
    path.write_text('# mine\n[[truth]]\nfrom_s = 1\nto_s = 20.5\nlabel = "cat"\n')
    assert checked(path) == [Interval(1, 20.5, "cat", "camera")]
    path.write_text('[[truth]]\nfrom_s=1\nto_s=2\nlabel="cat"\n\n[[truth]]\nto_s = 1\n')
    with pytest.raises(UsageError, match="line 6 is no interval: Object missing"):
        read_truth(path)
    path.write_text("other = 1\n")
    with pytest.raises(UsageError, match=r"holds more or other than \[\[truth\]\] tables"):
        read_truth(path)
    path.write_text("truth = [[[[")
    with pytest.raises(UsageError, match="is not TOML"):
        read_truth(path)


def test_what_is_written_is_read_again(file: Path) -> None:
    intervals = [Interval(0.0, 1.25, "cat"), Interval(3, 4, "dog", "door")]
    write_truth(file, intervals)
    assert [line.interval for line in read_truth(file)] == intervals
    assert file.read_text().splitlines()[0] == '{"from_s":0.0,"to_s":1.25,"label":"cat"}'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "line 1 is no interval: Input data was truncated"),
        ('\n{"from_s":1,"to_s":2}', "line 2 is no interval: Object missing required field `label`"),
        (
            '{"from_s":1,"to_s":2,"label":"cat","colour":1}',
            "line 1 is no interval: Object contains unknown field `colour`",
        ),
        ('{"from_s":-1,"to_s":2,"label":"cat"}', "line 1 begins at -1 s; the first frame is at 0"),
        (
            '{"from_s":5,"to_s":5,"label":"cat"}',
            "line 1 ends at 5 s, not after its begin at 5 s",
        ),
        ('{"from_s":5,"to_s":6,"label":""}', "line 1 has no label"),
        (
            '{"from_s":5,"to_s":6,"label":"kat"}',
            "line 1 has 'kat', which is never said; did you mean 'cat'?",
        ),
        (
            '{"from_s":5,"to_s":6,"label":"cat","camera":"door"}',
            "line 1 names camera 'door'; the recording has 'camera'",
        ),
        (
            '{"from_s":500,"to_s":600,"label":"cat"}',
            "line 1 begins at 500 s, and the recording ends at 100.0 s; is it the truth of "
            "another?",
        ),
        (
            '{"from_s":5,"to_s":600,"label":"cat"}',
            "line 1 ends at 600 s, and the recording at 100.0 s; is it the truth of another?",
        ),
        (
            '{"from_s":5,"to_s":9,"label":"cat"}\n{"from_s":8,"to_s":12,"label":"dog"}',
            "line 2 ('dog' from 8 s) begins before line 1 ('cat') ends at 9 s; "
            'decide.mode = "any" has several labels at a time',
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_line(file: Path, text: str, reason: str) -> None:
    said = refusal(file, text)
    assert said.startswith(reason)


def test_labels_that_come_and_go_by_themselves_may_overlap_others_alone(file: Path) -> None:
    both = '{"from_s":5,"to_s":9,"label":"cat"}\n{"from_s":8,"to_s":12,"label":"dog"}\n'
    file.write_text(both)
    assert len(checked(file, one=False)) == 2
    said = refusal(file, both + '{"from_s":8.5,"to_s":8.7,"label":"cat"}', one=False)
    assert said == "line 3 ('cat' from 8.5 s) begins before line 1 ('cat') ends at 9 s"


def test_the_last_frame_may_be_a_little_before_the_end_of_the_truth(file: Path) -> None:
    file.write_text('{"from_s":99,"to_s":103,"label":"cat"}')
    assert len(checked(file)) == 1


def test_several_cameras_want_their_name(file: Path) -> None:
    file.write_text('{"from_s":1,"to_s":2,"label":"cat"}')
    with pytest.raises(UsageError, match="names no camera; the recording has 'a', 'b'"):
        check_truth(
            file,
            read_truth(file),
            {"a": 5.0, "b": 5.0},
            {"a": ("cat",), "b": ("cat",)},
            one_at_a_time=True,
        )


@pytest.mark.slow
def test_a_huge_file_is_read_in_its_time(file: Path) -> None:
    file.write_text(
        "".join(f'{{"from_s":{n},"to_s":{n + 1},"label":"cat"}}\n' for n in range(100_000))
    )
    assert len(checked(file, length_s=1e6)) == 100_000


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_truth(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="cannot be written"):
        write_truth(tmp_path, [])
    assert find_truth(tmp_path) is None
    (tmp_path / "truth.toml").touch()
    assert find_truth(tmp_path) == tmp_path / "truth.toml"
