"""``labelcam history``: what somebody types, and what is told."""

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device.cli import main
from device.cli.history import length, moment
from device.errors import UsageError
from device.events import UNAVAILABLE
from device.history.hours import day_of
from tests.history.story import Story, change, result

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["history", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def seen(tmp_path: Path) -> Story:
    """Three minutes ago a cat came for a minute, was lost, and came again."""
    story = Story(tmp_path / "history.db")
    story.wall_offset = time.time() - 180
    story.start()
    story.tell(
        change(0, "cat"),
        result(0.1),
        change(60, label=UNAVAILABLE),
        change(90, "cat"),
        result(90.1, done=False, detail="no such pin"),
        now=100,
    )
    return story


def test_a_table_with_what_it_adds_up_to(run: Run, seen: Story) -> None:
    code, out, err = run("--since", "1h")
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[1].split() == ["from", "to", "for", "camera", "label", "score"]
    first, second = (line.split() for line in lines[3:5])
    assert first[2:] == ["60", "s", "door", "cat", "0.75"]
    assert second[1] == "…"
    assert lines[-1].startswith("door: cat 2 times, ")


def test_json_and_csv(run: Run, seen: Story) -> None:
    _, out, _ = run("--since", "1h", "--json", "--label", "cat")
    first, second = map(json.loads, out.splitlines())
    assert set(first) == {"camera", "label", "begin", "end", "score", "model", "clock_set"}
    assert first["end"] - first["begin"] == pytest.approx(60)
    assert second["end"] is None
    _, out, _ = run("--since", "1h", "--csv")
    header, *rows = csv.reader(io.StringIO(out))
    assert header == list(first)
    assert rows[0][:2] == ["door", "cat"]
    assert rows[0][2][10] == "T"
    assert rows[1][3] == ""


def test_hours_days_actions_and_gaps(run: Run, seen: Story) -> None:
    (total,) = map(json.loads, run("--since", "1d", "--by", "day", "--json")[1].splitlines()[-1:])
    assert set(total) == {"camera", "label", "at", "seconds", "times"}
    assert "cat" in run("--since", "2d", "--by", "hour")[1]
    assert "no such pin" in run("--since", "1h", "--actions")[1]
    (gap,) = map(json.loads, run("--since", "1h", "--gaps", "--json")[1].splitlines())
    assert (gap["camera"], gap["reason"]) == ("door", "camera lost")
    assert "camera lost" in run("--since", "1h", "--gaps")[1]


def test_what_a_spreadsheet_would_calculate_is_text(run: Run, tmp_path: Path) -> None:
    story = Story(tmp_path / "history.db")
    story.wall_offset = time.time() - 10
    story.start()
    story.tell(change(1, "=1+1"), now=2)
    assert "'=1+1" in run("--since", "1h", "--csv")[1]


def test_nothing_of_that(run: Run, seen: Story) -> None:
    code, out, _ = run("--since", "1m", "--until", "0.9m", "--gaps")
    assert code == 0
    assert out.startswith("history: nothing of that since ")
    assert "it begins" in out


def test_only_the_newest(run: Run, seen: Story) -> None:
    _, out, _ = run("--since", "1h", "--limit", "1")
    assert "…" in out
    assert "only the newest 1; --limit shows more" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--since", "whenever"], "--since 'whenever' is no time; give today, yesterday"),
        (["--since", "9999999d"], "is no time"),
        (["--since", "1m", "--until", "2h"], "--since 1m is not before --until 2h"),
        (["--since", "1h", "--label", "cta"], "--label 'cta' was never there; did you mean 'cat'?"),
        (["--since", "1h", "--camera", "dor"], "--camera 'dor' was never there"),
        (["--json", "--csv"], "--json or --csv, not both"),
        (["--by", "minute"], "invalid choice"),
        (["--actions", "--gaps"], "not allowed with"),
    ],
)
def test_wrong_usage(run: Run, seen: Story, arguments: list[str], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err


def test_where_there_is_no_history(run: Run) -> None:
    code, _, err = run()
    assert code == 1
    assert "is not there: nothing was seen yet, or history is off" in err


def test_an_empty_history(run: Run, tmp_path: Path) -> None:
    Story(tmp_path / "history.db").start()
    assert "it is empty" in run("--since", "2d")[1]


def test_times_as_people_type_them() -> None:
    now = 1_795_560_000.0
    assert moment("--since", "90m", now) == now - 5400
    assert moment("--since", "1.5h", now) == now - 5400
    assert moment("--since", "today", now) == day_of(now)
    assert moment("--since", "yesterday", now) == day_of(day_of(now) - 1)
    assert moment("--since", "2026-11-24T10:00+00:00", now) == 1_795_514_400
    assert day_of(moment("--since", "2026-11-24", now)) == moment("--since", "2026-11-24", now)
    for text in ("", "-1h", "1y", "2026-13-01", "24.11.2026"):
        with pytest.raises(UsageError, match="is no time"):
            moment("--since", text, now)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (61, "61 s"),
        (3000, "50 min"),
        (7500, "2 h 05"),
        (273_600, "3 d 04 h"),
    ],
)
def test_lengths(seconds: float, words: str) -> None:
    assert length(seconds) == words
