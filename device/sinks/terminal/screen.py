"""The thread that keeps the live display on the terminal."""

import contextlib
import itertools
import os
import select
import threading
from collections.abc import Iterable

from rich.color import ColorSystem
from rich.segment import Segment

from device.sinks.terminal.dashboard import PERIOD_S, Dashboard

_REPAIR_EVERY = 10  # pictures: once a second all lines are sent again
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"


class Screen:
    """Has the terminal from start to close: its other screen, no cursor, one drawing thread.

    The thread is what keeps inference from waiting: it draws while the interpreter, which
    lets go of Python's lock, works; and a terminal that has been stopped, or an ssh
    connection that stalls, holds up nobody but itself.
    """

    def __init__(self, dashboard: Dashboard, fd: int, encoding: str) -> None:
        self.error: OSError | None = None
        self._dashboard = dashboard
        self._fd = fd
        self._encoding = encoding
        self._stop = threading.Event()
        self._entered = False
        self._shown: list[str] = []
        self._size = (0, 0)
        self._held = threading.Event()
        self._left = threading.Event()
        # A daemon: a terminal that never takes another byte must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-terminal", daemon=True)

    def start(self) -> None:
        """Take the terminal and begin to draw."""
        self._thread.start()

    def hold(self) -> None:
        """Give the terminal back as it was until ``resume``; waits a moment until it is done."""
        self._held.set()
        self._left.wait(1.0)

    def resume(self) -> None:
        """Go on drawing, once the terminal is ours again."""
        self._held.clear()

    def close(self) -> None:
        """Stop drawing and give the terminal back as it was."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            for picture in itertools.count():
                if self._is_ours():
                    self._draw(whole=picture % _REPAIR_EVERY == 0)
                if self._stop.wait(PERIOD_S):
                    break
        except OSError as error:
            self.error = error
        finally:
            with contextlib.suppress(OSError):
                self._leave()

    def _is_ours(self) -> bool:
        """Whether the terminal is to be drawn on now; enters and leaves it as that changes."""
        if self._held.is_set() or not self._in_foreground():
            self._leave()
            self._left.set()
            return False
        self._left.clear()
        if not self._entered and self._write(_ENTER):
            self._entered, self._size = True, (0, 0)
        return self._entered

    def _leave(self) -> None:
        if self._entered and self._write(_LEAVE):
            self._entered = False

    def _in_foreground(self) -> bool:
        """Whether the shell has given us the terminal; it has not after Ctrl-Z and ``bg``."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            # A terminal, but not the one that we were started from.
            return True

    def _draw(self, *, whole: bool) -> None:
        self._dashboard.sample()
        size = os.get_terminal_size(self._fd)
        # Serial lines and some emulators say 0 by 0.
        width, height = size.columns or 80, size.lines or 24
        lines = [_ansi(line) for line in self._dashboard.lines(width, height)]
        # Only lines that changed are sent; now and then all, should something else have
        # written to the terminal.
        out = []
        if size != self._size:
            # A terminal that was made narrower has wrapped what it had.
            out.append("\x1b[2J")
            self._shown, self._size = [], size
        elif whole or len(lines) < len(self._shown):
            self._shown = []
            if len(lines) < height:
                out.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        for row, line in enumerate(lines):
            if row >= len(self._shown) or self._shown[row] != line:
                out.append(f"\x1b[{row + 1};1H{line}\x1b[K")
        if out and self._write("".join(out)):
            self._shown = lines

    def _write(self, text: str) -> bool:
        """Whether the terminal took the text; it does not when it is stopped, by Ctrl-S say."""
        if not select.select([], [self._fd], [], PERIOD_S)[1]:
            return False
        data = text.encode(self._encoding, "replace")
        while data:
            data = data[os.write(self._fd, data) :]
        return True


def _ansi(line: Iterable[Segment]) -> str:
    return "".join(
        style.render(text, color_system=ColorSystem.STANDARD) if style else text
        for text, style, _ in line
    )
