"""The log: priorities under the journal, and the same thing not for ever."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from device.system import logs

ROOT = Path(__file__).resolve().parents[2]


def record(message: str, level: int = logging.INFO, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("labelcam.x", level, __file__, 1, message, arguments, None)


@pytest.mark.parametrize(
    ("level", "priority"),
    [("DEBUG", 7), ("INFO", 6), ("WARNING", 4), ("ERROR", 3), ("CRITICAL", 2)],
)
def test_the_journal_gets_a_priority_and_one_line(level: str, priority: int) -> None:
    number = logging.getLevelNamesMapping()[level]
    line = logs.JournalFormatter().format(record("camera %s:\n lost", number, "door"))
    assert line == f"<{priority}>camera door: lost"


def labelcam(path: Path, *, journal: bool) -> str:
    """What the program writes on stderr for a file that is not there."""
    with path.open("w") as file:
        found = os.fstat(file.fileno())
        stream = f"{found.st_dev}:{found.st_ino}" if journal else "8:12345"
        subprocess.run(
            [sys.executable, "-m", "device", "run", "--config", "/nonexistent.toml"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "JOURNAL_STREAM": stream},
            stderr=file,
            check=False,
            timeout=30,
        )
    return path.read_text()


@pytest.mark.slow
def test_the_program_sees_whether_it_writes_to_the_journal(tmp_path: Path) -> None:
    said = "/nonexistent.toml: no such file\n"
    assert labelcam(tmp_path / "log", journal=True) == f"<3>{said}"
    assert labelcam(tmp_path / "log", journal=False) == f"labelcam: {said}"


def test_what_is_no_file_is_not_the_journal() -> None:
    assert not logs.is_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_same_message_is_written_once_an_hour_after_a_burst_and_counted() -> None:
    clock = Clock()
    limit = logs.RateLimit(clock)

    def said(count: int) -> list[str]:
        records = [record("frame %d is broken", logging.WARNING, i) for i in range(count)]
        return [r.getMessage() for r in records if limit.filter(r)]

    lines = said(25)
    assert len(lines) == logs.BURST
    assert lines[0] == "frame 0 is broken"
    assert lines[-1] == "frame 9 is broken (from here on one of these an hour)"
    clock.now += 3599
    assert said(1) == []
    clock.now += 1
    assert said(1) == ["frame 0 is broken (16 more of these were left out)"]
    assert said(1) == []


def test_a_trouble_that_lasts_costs_a_line_an_hour() -> None:
    clock = Clock()
    limit = logs.RateLimit(clock)
    written = 0
    for _ in range(24 * 60):
        clock.now += 60
        lost, back = record("camera %s: lost", logging.WARNING, "door"), record("camera %s: back")
        written += limit.filter(lost) + limit.filter(back)
    assert written <= 2 * (logs.BURST + 24)
    clock.now += 3600 * logs.BURST
    assert sum(
        limit.filter(record("camera %s: lost", logging.WARNING, "x")) for _ in range(99)
    ) == (logs.BURST)


def test_one_kind_of_message_does_not_silence_another() -> None:
    limit = logs.RateLimit(Clock())
    for _ in range(2 * logs.BURST):
        limit.filter(record("a"))
    assert not limit.filter(record("a"))
    assert limit.filter(record("b"))
    assert limit.filter(record("a", logging.ERROR))


def test_texts_without_end_take_no_memory_without_end() -> None:
    limit = logs.RateLimit(Clock())
    for number in range(5000):
        assert limit.filter(record(f"text {number}"))
    assert len(limit._kinds) <= 500


def test_the_program_limits_its_log_unless_it_is_to_say_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for verbose in (False, True):
        made: list[logging.Handler] = []
        keep = made.extend
        monkeypatch.setattr(logging, "basicConfig", lambda keep=keep, **k: keep(k["handlers"]))
        logs.configure(verbose=verbose)
        assert any(isinstance(f, logs.RateLimit) for f in made[-1].filters) is not verbose
