"""Labels on the terminal: a live display, or a line for each change where there is none."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, TextIO

from device import config
from device.errors import OutputClosed
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.sinks.lines import backend, beside, write_text
from device.system.logs import is_journal
from device.system.text import printable

_KEPT_LOG_LINES = 100


class TerminalSink(Sink):
    """Shows what the cameras see, on stdout or on the stream it is given.

    On a terminal that is a live display: ``observe`` stores a reference, and a thread of
    the display's own draws from it ten times a second. Log lines that would go to a
    terminal are shown in it, and printed when it closes. Elsewhere it is a line for each
    change. ``started_at`` is the time from which changes are counted, ``cameras`` tell how
    their pictures are turned. Ctrl-Z gives the terminal to the shell. ``change`` and
    ``observe`` raise OutputClosed when nobody can read the output any more.
    """

    name = "terminal"

    def __init__(
        self,
        settings: config.Terminal,
        started_at: float,
        file: TextIO | None = None,
        cameras: Sequence[config.Camera] = (),
    ) -> None:
        self._file = file or sys.stdout
        self._started_at = started_at
        self._screen = None
        self._captures: list[_LogCapture] = []
        self._journal = is_journal(self._file)
        if not _can_draw(self._file):
            return
        # Plain lines do without rich, its memory and its time to load.
        from device.sinks.terminal.blocks import BlockPicture
        from device.sinks.terminal.dashboard import Dashboard
        from device.sinks.terminal.letters import glyphs_for
        from device.sinks.terminal.screen import Screen

        glyphs = glyphs_for(self._file.encoding, os.environ.get("TERM", ""))
        color = not os.environ.get("NO_COLOR")
        # Half blocks are nothing without colours, and not in every font.
        picture = BlockPicture(cameras) if settings.picture and color and glyphs.letters else None
        self._dashboard = Dashboard(settings.top, glyphs, color, picture)
        self._captures = [_LogCapture(handler, self._show_log) for handler in _terminal_handlers()]
        self._screen = Screen(self._dashboard, self._file.fileno(), self._file.encoding)
        # Before anything is drawn: a Ctrl-Z that comes sooner finds the terminal as it was.
        self._stopped_by = _on_stop(self._stop)
        self._screen.start()
        # The way out for whoever ends without closing.
        atexit.register(self.close)

    def observe(self, observation: Observation) -> None:
        """Show this frame in the next picture."""
        if self._screen:
            self._dashboard.observations[observation.camera] = observation
            if self._screen.error:
                raise OutputClosed from self._screen.error

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Show the change: as a line of its own, or in the display's list."""
        line = _change_line(change, None if self._journal else self._started_at)
        if self._screen:
            self._dashboard.change(change)
            self._dashboard.log.append(line)
        else:
            write_text(self._file, line)

    def report(self, health: DeviceHealth) -> None:
        """Show this state in the next picture."""
        if self._screen:
            self._dashboard.health = health

    def close(self) -> None:
        """Give the terminal back as it was, and print what was logged meanwhile."""
        if self._screen:
            self._screen.close()
            self._screen = None
            for capture in self._captures:
                capture.release()
            atexit.unregister(self.close)
            if self._stopped_by:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        """Leave the terminal to the shell, stop as anyone does, and come back when woken."""
        if self._screen:
            self._screen.hold()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self._stop)
        if self._screen:
            self._screen.resume()

    def _show_log(self, line: str) -> None:
        self._dashboard.note = line


def _on_stop(handler: Callable[[int, FrameType | None], None]) -> bool:
    """Have Ctrl-Z handled, unless a shell without job control or somebody else has a say."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTSTP) is not signal.SIG_DFL:
        return False
    signal.signal(signal.SIGTSTP, handler)
    return True


class _LogCapture:
    """A log handler's stream while the display has the terminal: shows and keeps its lines."""

    def __init__(self, handler: "logging.StreamHandler[Any]", show: Callable[[str], None]) -> None:
        self._lines: deque[str] = deque(maxlen=_KEPT_LOG_LINES)
        self._show = show
        self._handler = handler
        self._stream: TextIO = handler.stream
        handler.setStream(self)

    def write(self, text: str) -> None:
        self._lines.append(text)
        self._show(text.rstrip())

    def flush(self) -> None:
        """Nothing is buffered."""

    def release(self) -> None:
        self._handler.setStream(self._stream)
        with contextlib.suppress(OSError):
            self._stream.writelines(self._lines)
            self._stream.flush()


def _terminal_handlers() -> "list[logging.StreamHandler[Any]]":
    """Log handlers that would write across the display."""
    return [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream.isatty()
    ]


def print_summary(health: DeviceHealth, file: TextIO) -> None:
    """Print what a run came to: frames, milliseconds in each stage, and what ran it.

    Raises OutputClosed when nobody reads the stream any more.
    """
    for camera in health.cameras:
        write_text(
            file,
            f"{printable(camera.name)} ({printable(camera.source)}): {camera.seen} frames seen, "
            f"{camera.classified} classified, {camera.dropped} dropped, "
            f"{camera.fps:.1f} fps",
        )
        if camera.stages:
            write_text(file, f"  {'ms':<12}{'mean':>8}{'p99':>8}")
        for name, stage in camera.stages.items():
            write_text(file, f"  {name:<12}{stage.mean_ms:>8.2f}{stage.p99_ms:>8.2f}")
    interpreter = health.interpreter
    runtime, delegate, threads = backend(interpreter)
    write_text(file, f"{printable(interpreter.model)} on {runtime}, {delegate}, {threads}")
    for line in beside(health):
        write_text(file, f"  {line}")


def _can_draw(file: TextIO) -> bool:
    return file.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


def _change_line(change: LabelChange, started_at: float | None) -> str:
    """``  3.2 s  camera  espresso 0.93 (was unknown, 2.1 s)``; without time for the journal.

    Of many labels ``cat 0.93 with dog``, and ``cat ended (2.1 s)``.
    """
    line = f"{printable(change.camera)}  "
    if started_at is not None:
        # A frame may have been captured just before the program was ready to count.
        line = f"{max(0.0, change.at - started_at):5.1f} s  {line}"
    if not change.on:
        return f"{line}{printable(change.label)} ended ({change.held_s:.1f} s)"
    line += f"{printable(change.label)} {change.score:.2f}"
    if others := [printable(other) for other in change.active if other != change.label]:
        line += f" with {', '.join(others)}"
    if change.previous is not None:
        line += f" (was {printable(change.previous)}, {change.held_s:.1f} s)"
    return line
