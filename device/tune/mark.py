"""``labelcam tune --mark``: the truth by keys, while the recording plays in the terminal."""

import contextlib
import logging
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

import numpy as np

from device import config
from device.errors import CameraError, UsageError
from device.system.text import json_line
from device.tune.marks import Marks
from device.tune.player import Player
from device.tune.recordings import Stream, read_streams
from device.tune.tracks import picture_entries
from device.tune.truth import TRUTH, find_truth, write_truth

_log = logging.getLogger("labelcam.tune")

_PERIOD_S = 0.1
_SEEK_S = 2.0
_KEYS = 9
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"
_ARROWS = {
    b"\x1b[D": -_SEEK_S,
    b"\x1bOD": -_SEEK_S,
    b"\x1b[C": _SEEK_S,
    b"\x1bOC": _SEEK_S,
    b"\x1b[B": -15.0,
    b"\x1b[A": 15.0,
}


def mark(folder: Path, settings: config.Config, truth: Path | None, labels: Sequence[str]) -> int:
    """Play the recording, and write what was marked. Returns the exit code.

    Raises UsageError where there is no terminal, the recording has several cameras, or the truth
    could not be written.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("tune: --mark needs a terminal for its keys; give --truth, or use --html")
    path = truth or find_truth(folder) or folder / TRUTH
    if path.suffix == ".toml":
        raise UsageError(f"tune: --mark writes JSON lines, and {path} is TOML; give --truth")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UsageError(f"tune: {path} cannot be written; give another with --truth FILE")
    streams = read_streams([folder], settings, path if path.exists() else None, labels)
    if len(streams) > 1:
        raise UsageError(
            f"tune: {folder} has {len(streams)} cameras; mark them on the page of --html FILE"
        )
    stream = streams[0]
    one = settings.decide.mode == "one"
    marks = Marks(stream.truth or (), one_at_a_time=one)
    try:
        entries = picture_entries(folder)
    except CameraError:
        entries = []
    chosen = tuple(labels[:_KEYS]) or _best(stream)
    player = Player(stream, entries, settings.camera[0], chosen, sys.stdout.encoding)
    with _terminal():
        kept = _play(player, marks)
    if not kept:
        _log.info("tune: left without saving; %s is as it was", path)
        return 0
    intervals = marks.finish(player.at_s)
    try:
        write_truth(path, intervals)
    except UsageError:
        # What somebody has marked for an hour must not be lost.
        print("\n".join(json_line(interval) for interval in intervals))
        raise
    _log.info("tune: %d intervals in %s; now `labelcam tune %s`", len(intervals), path, folder)
    return 0


def _best(stream: Stream) -> tuple[str, ...]:
    """The labels that are most to be seen: those of the truth, then by their best second."""
    series = stream.series
    named = [interval.label for interval in stream.truth or ()]
    # What is high in one frame alone is noise.
    count = min(10, len(series.at_s))
    high = np.partition(series.scores, -count, axis=0)[-count]
    rows = np.argsort(-high, kind="stable")[:_KEYS]
    return tuple(dict.fromkeys([*named, *(series.names[row] for row in rows)]))[:_KEYS]


class _Ended(BaseException):
    """The process was told to end."""


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Have the keys one by one and the other screen; both are given back whatever happens."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    previous = signal.signal(signal.SIGTERM, _end)
    try:
        tty.setcbreak(fd)
        # Ctrl-Z would leave the shell a terminal that is not its own.
        changed = termios.tcgetattr(fd)
        changed[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(fd, termios.TCSANOW, changed)
        sys.stdout.write(_ENTER)
        yield
    except _Ended:
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.write(_LEAVE)
            sys.stdout.flush()
        with contextlib.suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSAFLUSH, before)
        signal.signal(signal.SIGTERM, previous)


def _end(_: int, __: FrameType | None) -> NoReturn:
    raise _Ended


def _play(player: Player, marks: Marks) -> bool:
    """Play until somebody saves, or leaves without: False."""
    last = time.monotonic()
    shown: list[str] = []
    shape = (0, 0)
    while True:
        now = time.monotonic()
        player.advance(now - last)
        last = now
        size = os.get_terminal_size(sys.stdout.fileno())
        columns, rows = size.columns or 80, size.lines or 24
        lines = player.lines(columns, rows, marks)
        if (columns, rows) != shape or len(lines) != len(shown):
            shape, shown = (columns, rows), [""] * len(lines)
            sys.stdout.write("\x1b[2J")
        for row, (line, before) in enumerate(zip(lines, shown, strict=True), 1):
            if line != before:
                sys.stdout.write(f"\x1b[{row};1H{line}\x1b[K")
        shown = lines
        sys.stdout.flush()
        wait_s = max(0.0, now + _PERIOD_S - time.monotonic()) if player.playing else 1.0
        for key in _keys(wait_s):
            if key in (b"q", b"Q"):
                return True
            if key in (b"x", b"X"):
                return False
            _press(key, player, marks)


def _keys(wait_s: float) -> list[bytes]:
    """The keys that were pressed within a time, at once where there are any."""
    fd = sys.stdin.fileno()
    if not select.select([fd], [], [], wait_s)[0]:
        return []
    data = os.read(fd, 1024)
    if not data:
        raise _Ended
    keys = []
    while data:
        length = 3 if data[:3] in _ARROWS else 1
        keys.append(data[:length])
        data = data[length:]
    return keys


def _press(key: bytes, player: Player, marks: Marks) -> None:
    if key == b" ":
        player.playing = not player.playing
        if player.playing and player.at_s >= player.length_s:
            player.seek(0.0)
    elif key in _ARROWS:
        player.seek(player.at_s + _ARROWS[key])
    elif key in (b"[", b"]"):
        player.step(1 if key == b"]" else -1)
    elif key in (b"+", b"="):
        player.speed = min(16.0, player.speed * 2)
    elif key == b"-":
        player.speed = max(0.125, player.speed / 2)
    elif key == b"u":
        marks.undo()
    elif key.isdigit() and 1 <= int(key) <= len(player.labels):
        marks.toggle(player.labels[int(key) - 1], player.at_s)
