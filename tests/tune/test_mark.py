"""Marking: what a key begins and ends, on a real terminal, which is as before afterwards."""

import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device.cli import main
from device.events import Observation, Scored, StageTimes
from device.frames import Frame, PixelFormat
from device.sinks.record import RecordSink, ScoresSink
from device.tune.marks import Marks
from device.tune.truth import Interval, read_truth
from tests.sinks.pty import Pty

ROOT = Path(__file__).parents[2]


def test_a_key_begins_and_the_next_one_ends() -> None:
    marks = Marks(one_at_a_time=True)
    marks.toggle("cat", 1.0)
    assert marks.at(5.0) == {"cat"}
    marks.toggle("cat", 3.5)
    assert (marks.at(2.0), marks.at(3.5)) == ({"cat"}, set())
    assert marks.finish(9.0) == [Interval(1.0, 3.5, "cat")]


def test_where_one_is_there_at_a_time_another_ends_it_and_covers_what_was_marked() -> None:
    marks = Marks([Interval(0, 10, "cup")], one_at_a_time=True)
    marks.toggle("cat", 2.0)
    marks.toggle("dog", 4.0)
    marks.toggle("dog", 3.0)  # after a jump back
    assert marks.finish(9.0) == [
        Interval(0, 2, "cup"),
        Interval(2, 3, "cat"),
        Interval(3, 4, "dog"),
        Interval(4, 10, "cup"),
    ]


def test_labels_that_come_and_go_by_themselves_leave_each_other_alone() -> None:
    marks = Marks([Interval(0, 10, "cup"), Interval(4, 6, "cat")], one_at_a_time=False)
    marks.toggle("cat", 3.0)
    marks.toggle("cat", 5.0)
    marks.toggle("dog", 8.0)
    found = marks.finish(9.0)
    assert sorted(found, key=lambda one: (one.label, one.from_s)) == [
        Interval(3, 5, "cat"),
        Interval(5, 6, "cat"),
        Interval(0, 10, "cup"),
        Interval(8, 9, "dog"),
    ]


def test_undo_takes_back_and_a_key_that_bounces_is_nothing() -> None:
    marks = Marks(one_at_a_time=True)
    marks.undo()
    marks.toggle("cat", 1.0)
    marks.toggle("cat", 3.0)
    marks.undo()
    assert marks.open == {"cat": 1.0}
    marks.toggle("cat", 1.01)
    assert marks.finish(9.0) == []


def observation(number: int, scores: list[float]) -> Observation:
    """A frame whose middle is red."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 2] = 255
    return Observation(
        camera="camera",
        frame=Frame(pixels, PixelFormat.BGR, 64, 48, number, number / 10),
        predictions=(),
        label=None,
        score=0.0,
        stages=StageTimes(0, 0, 0),
        latency_ms=0.0,
        at=number / 10,
        scored=Scored(
            ("red", "green", "blue"), np.array(scores, np.float32), "colours", "0", taught=False
        ),
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A minute of scores."""
    folder = tmp_path / "recording"
    sink = ScoresSink(folder, 1e6, 1 << 30)
    for number in range(600):
        sink.observe(observation(number, [0.75, 0.25 * (number > 300), 0.125]))
    sink.close()
    return folder


Start = Callable[..., tuple["subprocess.Popen[bytes]", Pty]]


@pytest.fixture
def start(colours: Callable[..., Path], tmp_path: Path) -> Iterator[Start]:
    """Starts the command on a terminal."""
    ways: list[tuple[subprocess.Popen[bytes], Pty]] = []
    model = colours(softmax=True)

    def make(*arguments: str, rows: int = 24) -> tuple["subprocess.Popen[bytes]", Pty]:
        pty = Pty(80, rows)
        options = ["--set", f"model.name='{model}'"]
        process = subprocess.Popen(
            [sys.executable, "-m", "device", "tune", *arguments, "--mark", *options],
            stdin=pty.file,
            stdout=pty.file,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | {"TERM": "xterm-256color", "LABELCAM_STATE": str(tmp_path)},
        )
        ways.append((process, pty))
        return process, pty

    yield make
    for process, pty in ways:
        process.kill()
        process.communicate()
        pty.hang_up()
        pty.file.close()


def press(pty: Pty, keys: str) -> None:
    os.write(pty._master, keys.encode())


def flags(pty: Pty) -> list[object]:
    return termios.tcgetattr(pty.file.fileno())[:4]


@pytest.mark.slow
def test_keys_mark_what_was_there(start: Start, recording: Path) -> None:
    process, pty = start(str(recording))
    before = flags(pty)
    pty.wait_for_text("0:00.0 of 0:59.9, stands, 1x")
    assert any(line.startswith("1 red") for line in pty.screen)
    press(pty, "2")
    pty.wait_for_text("begun")
    press(pty, "\x1b[C\x1b[C")
    pty.wait_for_text("0:04.0 of")
    press(pty, "2\x1b[C1")
    pty.wait_for_text("0:06.0 of")
    press(pty, "\x1b[C]")
    pty.wait_for_text("0:08.1 of")
    press(pty, "q")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0, said
    pty.wait_for(lambda pty: pty.restored)
    assert flags(pty) == before
    found = [line.interval for line in read_truth(recording / "truth.jsonl")]
    assert found == [Interval(0, 4, "green"), Interval(6, 8.1, "red")]
    assert b"2 intervals in" in said


@pytest.mark.slow
def test_it_plays_and_what_is_left_is_not_saved(start: Start, recording: Path) -> None:
    process, pty = start(str(recording), "--labels", "blue")
    pty.wait_for_text("1 blue")
    assert not any("red" in line for line in pty.screen)
    press(pty, "++++ ")
    pty.wait_for_text("plays, 16x")
    pty.wait_for_text("0:59.9 of 0:59.9, stands")
    press(pty, "1x")
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert b"left without saving" in said
    assert not (recording / "truth.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_the_terminal_is_given_back_whatever_happens(
    start: Start, recording: Path, way: signal.Signals
) -> None:
    process, pty = start(str(recording))
    before = flags(pty)
    pty.wait_for_text("stands, 1x")

    process.send_signal(way)
    process.communicate(timeout=30)
    assert process.returncode == (143 if way == signal.SIGTERM else 130)
    pty.wait_for(lambda pty: pty.restored)
    assert flags(pty) == before


@pytest.mark.slow
def test_pictures_are_shown_where_there_are_any(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    sink = RecordSink(folder, 1e6, 1 << 30, lossless=True)
    for number in range(20):
        sink.observe(observation(number, []))
    sink.close()
    process, pty = start(str(folder))
    pty.wait_for_text("▀▀▀▀▀▀▀▀")
    press(pty, "x")
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_without_a_terminal_it_says_what_else_there_is(
    recording: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(recording), "--mark"]) == 2
    assert "needs a terminal for its keys; give --truth, or use --html" in capsys.readouterr().err
