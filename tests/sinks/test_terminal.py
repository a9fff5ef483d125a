"""The terminal sink on a real pseudo-terminal, as plain lines, and at its end."""

import io
import logging
import os
import re
import select
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device.config import Terminal
from device.errors import OutputClosed
from device.sinks.terminal.sink import TerminalSink, print_summary
from tests.conftest import footage
from tests.sinks.examples import beside, camera_health, change, device_health, observation
from tests.sinks.pty import PATIENCE_S, Pty

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.fixture
def terminal() -> Iterator[Callable[..., tuple[TerminalSink, Pty]]]:
    """Makes a sink on a terminal of some size, showing one observation and a snapshot."""
    made: list[tuple[TerminalSink, Pty]] = []

    def make(
        columns: int = 80, rows: int = 24, encoding: str = "utf-8", **seen: Any
    ) -> tuple[TerminalSink, Pty]:
        pty = Pty(columns, rows, encoding)
        sink = TerminalSink(Terminal(), started_at=0.0, file=pty.file)
        made.append((sink, pty))
        sink.observe(observation(**seen))
        sink.report(device_health())
        return sink, pty

    yield make
    for sink, pty in made:
        sink.close()
        pty.hang_up()
        pty.file.close()


Make = Callable[..., tuple[TerminalSink, Pty]]


def test_live_at_eighty_columns(terminal: Make) -> None:
    sink, pty = terminal()
    sink.change(change())
    pty.wait_for_text("was unknown")
    assert pty.modes == {"1049": True, "25": False}
    assert pty.screen[0] == "  labelcam  camera · footage" + " " * 42 + "29.8 fps"
    assert pty.screen[2] == "  █▀▀ ▄▀▀ █▀█ █▀█ █▀▀ ▄▀▀ ▄▀▀ █▀█"
    assert pty.screen[5] == "  espresso  0.90  for 4.5 s"
    assert pty.screen[13].endswith("▇  0.90")
    assert pty.screen[22] == "    3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)"


def test_live_at_forty_columns(terminal: Make) -> None:
    _, pty = terminal(40, 24)
    pty.wait_for_text("1 thread")
    assert pty.screen[0] == "  labelcam  camera · footage  29.8 fps"
    assert max(len(line) for line in pty.screen) <= 40


def test_it_follows_what_is_observed(terminal: Make) -> None:
    sink, pty = terminal()
    pty.wait_for_text("espresso  0.90")
    sink.observe(observation("cup", 0.55))
    pty.wait_for_text("cup  0.55")
    assert not any("espresso  0.90" in line for line in pty.screen)


@pytest.mark.slow
def test_it_follows_the_terminal_s_size(terminal: Make) -> None:
    _, pty = terminal()
    pty.wait_for_text("29.8 fps")
    pty.resize(40, 12)
    pty.wait_for(lambda pty: len(pty.screen) == 12 and max(map(len, pty.screen)) <= 40)
    pty.resize(0, 0)
    pty.wait_for(lambda pty: pty.screen[0].endswith(" " * 42 + "29.8 fps"))


@pytest.mark.slow
def test_what_others_write_is_painted_over(terminal: Make) -> None:
    _, pty = terminal()
    pty.wait_for_text("1 thread")
    os.write(pty.file.fileno(), b"\x1b[1;1Hgarbage\x1b[K")
    pty.wait_for(lambda pty: pty.screen[0].startswith("garbage"))
    pty.wait_for(lambda pty: pty.screen[0].startswith("  labelcam"))


def test_the_terminal_is_given_back(terminal: Make) -> None:
    sink, pty = terminal()
    pty.wait_for_text("1 thread")
    sink.close()
    sink.close()
    pty.wait_for(lambda pty: pty.restored)


@pytest.mark.parametrize("ending", ["sys.exit(3)", "raise RuntimeError", "pass"])
@pytest.mark.slow
def test_the_terminal_is_given_back_by_whoever_forgets_to_close(ending: str) -> None:
    pty = Pty()
    program = (
        "import sys; from device.config import Terminal; "
        "from device.sinks.terminal.sink import TerminalSink; "
        f"sink = TerminalSink(Terminal(), 0.0)\n{ending}"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        stdout=pty.file,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        check=False,
    )
    pty.wait_for(lambda pty: pty.restored)
    pty.hang_up()
    pty.file.close()


def test_a_stopped_terminal_holds_up_nobody(terminal: Make) -> None:
    sink, pty = terminal()
    pty.wait_for_text("1 thread")
    termios.tcflow(pty.file.fileno(), termios.TCOOFF)
    sink.observe(observation("cup", 0.55))
    sink.close()
    assert not any(thread.name == "labelcam-terminal" for thread in threading.enumerate())
    termios.tcflow(pty.file.fileno(), termios.TCOON)


def test_a_terminal_that_is_stopped_at_first_is_drawn_on_when_it_goes_on() -> None:
    pty = Pty()
    termios.tcflow(pty.file.fileno(), termios.TCOOFF)
    sink = TerminalSink(Terminal(), 0.0, pty.file)
    termios.tcflow(pty.file.fileno(), termios.TCOON)
    pty.wait_for(lambda pty: pty.screen[-1:] == ["  ▀▀   ▀  ▀ ▀ ▀ ▀  ▀  ▀▀▀ ▀  ▀  ▀▀"])
    assert pty.raw.startswith(b"\x1b[?1049h")
    sink.close()
    pty.hang_up()
    pty.file.close()


def test_a_terminal_that_has_gone_ends_it(terminal: Make) -> None:
    sink, pty = terminal()
    pty.wait_for_text("1 thread")
    (drawing,) = (t for t in threading.enumerate() if t.name == "labelcam-terminal")
    pty.hang_up()
    drawing.join(PATIENCE_S)
    with pytest.raises(OutputClosed):
        sink.observe(observation())


@pytest.mark.slow
def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import threading; from device.config import Terminal; "
        "from device.sinks.terminal.sink import TerminalSink; "
        "sink = TerminalSink(Terminal(), 0.0)\nwhile True: threading.Event().wait(0.05)"
    )
    master, slave = os.openpty()
    # A shell of its own session, whose terminal this is: only such a one has jobs to stop.
    shell = subprocess.Popen(
        [sys.executable, "-c", "import os, fcntl, signal, termios; "
         "fcntl.ioctl(0, termios.TIOCSCTTY); signal.signal(signal.SIGINT, signal.SIG_DFL); "
         "os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])"],
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color", "PS1": "$ ", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(slave)
    seen = b""

    def wait_for(wanted: bytes) -> None:
        nonlocal seen
        deadline = time.monotonic() + PATIENCE_S
        while wanted not in seen:
            assert select.select([master], [], [], max(0.0, deadline - time.monotonic()))[0], seen
            seen += os.read(master, 65536)
        seen = seen.partition(wanted)[2]

    try:
        os.write(master, f"{sys.executable} {program}\n".encode())
        wait_for(b"\x1b[?1049h")
        wait_for(b"\x1b[1;1H")
        os.write(master, b"\x1a")
        wait_for(b"\x1b[?25h\x1b[?1049l")
        wait_for(b"Stopped")
        os.write(master, b"fg\n")
        wait_for(b"\x1b[?1049h\x1b[?25l")
        wait_for(b"\x1b[1;1H")
        os.write(master, b"\x03")
        wait_for(b"\x1b[?1049l")
        os.write(master, b"exit\n")
        shell.wait(PATIENCE_S)
    finally:
        # What it runs ends with its terminal.
        os.close(master)
        shell.kill()
        shell.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("colours", "cell"), [("truecolor", b"\x1b[38;2;"), ("", b"\x1b[38;5;")], ids=["24bit", "256"]
)
def test_a_coarse_picture(monkeypatch: pytest.MonkeyPatch, colours: str, cell: bytes) -> None:
    monkeypatch.setenv("COLORTERM", colours)
    pty = Pty()
    sink = TerminalSink(Terminal(picture=True), started_at=0.0, file=pty.file)
    seen = observation()
    frame = footage("coffee")
    sink.observe(
        type(seen)("camera", frame, seen.predictions, "espresso", 0.9, seen.stages, 12.0, 7.7)
    )
    pty.wait_for(lambda pty: sum(line.count("▀" * 20) for line in pty.screen) >= 8)
    assert cell in pty.raw
    sink.close()
    pty.hang_up()
    pty.file.close()


def test_no_color_is_respected(terminal: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    _, colored = terminal()
    colored.wait_for_text("1 thread")
    assert b"\x1b[32m" in colored.raw
    monkeypatch.setenv("NO_COLOR", "1")
    _, plain = terminal()
    plain.wait_for_text("1 thread")
    assert set(re.findall(rb"\x1b\[([\d;]*)m", plain.raw)) <= {b"0", b"1", b"2", b"1;7"}


def test_a_terminal_without_unicode_gets_ascii(terminal: Make) -> None:
    _, pty = terminal(encoding="ascii", label="café", scores={"café": 0.5})
    pty.wait_for_text("1 thread")
    assert pty.raw.isascii()
    assert pty.screen[2] == "   caf?"
    assert pty.screen[5] == "  caf?                    " + "#" * 23 + "." * 23 + "  0.50"


def test_log_lines_are_shown_and_printed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pty = Pty()
    handler = logging.StreamHandler(pty.file)
    handler.setFormatter(logging.Formatter("labelcam: %(message)s"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    sink = TerminalSink(Terminal(), 0.0, pty.file)
    logging.getLogger("labelcam.node").warning("camera door: reopened")
    pty.wait_for(lambda pty: pty.screen[-1:] == ["  labelcam: camera door: reopened"])
    sink.close()
    pty.wait_for(lambda pty: pty.raw.endswith(b"\x1b[?1049llabelcam: camera door: reopened\r\n"))
    logging.getLogger("labelcam.node").warning("as ever")
    pty.wait_for(lambda pty: pty.raw.endswith(b"labelcam: as ever\r\n"))
    pty.hang_up()
    handler.close()
    pty.file.close()


def plain(encoding: str = "utf-8") -> tuple[TerminalSink, io.BytesIO, io.TextIOWrapper]:
    out = io.BytesIO()
    file = io.TextIOWrapper(out, encoding=encoding)
    return TerminalSink(Terminal(), started_at=100.0, file=file), out, file


def test_plain_lines() -> None:
    sink, out, _file = plain()
    sink.observe(observation())
    sink.report(device_health())
    sink.change(change(label="unknown", score=0.21, previous=None, held_s=0.4, at=99.9))
    sink.change(change(at=103.2))
    sink.change(change(label="Egyptian cat", previous="espresso", held_s=3600.0, at=3703.2))
    sink.close()
    sink.close()
    assert out.getvalue().decode() == (
        "  0.0 s  camera  unknown 0.21\n"
        "  3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)\n"
        "3603.2 s  camera  Egyptian cat 0.93 (was espresso, 3600.0 s)\n"
    )


def test_plain_lines_of_labels_that_come_and_go_by_themselves() -> None:
    sink, out, _file = plain()
    sink.change(change(label="cat", previous=None, at=100.0, active=("cat",)))
    sink.change(change(label="dog", previous=None, at=101.0, active=("cat", "dog")))
    sink.change(change(label="cat", previous=None, at=103.0, on=False, held_s=3.0, active=("dog",)))
    assert out.getvalue().decode() == (
        "  0.0 s  camera  cat 0.93\n"
        "  1.0 s  camera  dog 0.93 with cat\n"
        "  3.0 s  camera  cat ended (3.0 s)\n"
    )


def test_plain_lines_are_literal_and_of_one_line() -> None:
    sink, out, _file = plain(encoding="ascii")
    sink.change(change(label="[red]\x1b[2J\ncafé", previous=None, at=103.2))
    assert out.getvalue() == b"  3.2 s  camera  [red]\\u001b[2J\\u000acaf? 0.93\n"


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_terminal_that_cannot_move_its_cursor_gets_plain_lines(
    term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", term)
    pty = Pty()
    sink = TerminalSink(Terminal(), 0.0, pty.file)
    sink.change(change())
    pty.wait_for(lambda pty: pty.raw.endswith(b"\n"))
    assert pty.raw == b"  3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)\r\n"
    pty.hang_up()
    pty.file.close()


def test_without_a_stream_it_writes_to_stdout(capfd: pytest.CaptureFixture[str]) -> None:
    TerminalSink(Terminal(), 0.0).change(change())
    assert capfd.readouterr().out == "  3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)\n"


def test_plain_lines_need_no_rich() -> None:
    program = (
        "import sys; from device.config import Terminal; "
        "from device.sinks.terminal.sink import TerminalSink; "
        "TerminalSink(Terminal(), 0.0); print('rich' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=True
    )
    assert result.stdout == b"False\n"


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    program = (
        "import sys; from device.config import Terminal; "
        "from device.errors import OutputClosed; "
        "from device.sinks.terminal.sink import TerminalSink; "
        "from tests.sinks.examples import change\n"
        "try: TerminalSink(Terminal(), 0.0).change(change())\n"
        "except OutputClosed as error: sys.exit(str(error))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(
        [sys.executable, "-c", program],
        stdout=writer,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        check=False,
    )
    os.close(writer)
    # Not a word from Python about what was left in the buffer.
    assert (result.returncode, result.stderr) == (1, b"the output was closed by its reader\n")


def test_the_summary() -> None:
    out = io.BytesIO()
    door = camera_health(name="door", source="/dev/video0", classified=0, fps=0.0, stages={})
    file = io.TextIOWrapper(out, encoding="utf-8")
    print_summary(device_health(camera_health(beside=(beside(),)), door), file)
    assert out.getvalue().decode() == (
        "camera (footage): 540 frames seen, 533 classified, 7 dropped, 29.8 fps\n"
        "  ms              mean     p99\n"
        "  preprocess      0.41    0.62\n"
        "  invoke         10.21   12.80\n"
        "  postprocess     0.08    0.11\n"
        "  decide          0.02    0.03\n"
        "  total          12.30   15.90\n"
        "door (/dev/video0): 540 frames seen, 0 classified, 7 dropped, 0.0 fps\n"
        "efficientnet-lite0-224-int8 on tflite-runtime 2.14.0, xnnpack 63/64 operators, 1 thread\n"
        "  mobilenet-v1-person-96 beside it, xnnpack 31/31 operators\n"
    )
