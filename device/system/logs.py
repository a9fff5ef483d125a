"""Log lines to stderr: for a person with the program's name, for the journal with priorities.

The journal adds program and time by itself. The same message over and over is counted and
not written: a fault that comes with every frame must not push all else out of the log.
"""

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from device.system.text import one_line, printable

# sd-daemon(3): a line's priority, as syslog numbers them, stands before it.
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
BURST = 10
REFILL_S = 3600.0
_MAX_KINDS = 500


def configure(*, verbose: bool) -> None:
    """Have the log written to stderr, from INFO on, or all of it."""
    handler = logging.StreamHandler()
    handler.setFormatter(JournalFormatter() if is_journal(sys.stderr) else PersonFormatter())
    if not verbose:
        handler.addFilter(RateLimit())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def complain(message: str) -> None:
    """Write the line with which the program ends, on stderr."""
    start = f"<{_PRIORITIES[logging.ERROR]}>" if is_journal(sys.stderr) else "labelcam: "
    try:
        print(start + one_line(message), file=sys.stderr)
    except OSError:  # full: it takes no complaint about itself either
        discard(sys.stderr)


def discard(stream: TextIO) -> None:
    """Have what a broken stream still holds go nowhere, or Python would complain at its exit."""
    with contextlib.suppress(OSError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def is_journal(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether what is written to the stream goes straight to the journal (systemd.exec(5))."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JournalFormatter(logging.Formatter):
    """``<4>camera door: lost``: the priority, then the message on one line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return f"<{_PRIORITIES.get(record.levelno, 6)}>{one_line(super().format(record))}"


class PersonFormatter(logging.Formatter):
    """``labelcam: camera door: lost``, and the lines of a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The lines."""
        lines = [f"labelcam: {one_line(record.getMessage())}"]
        if record.exc_info:
            lines += map(printable, self.formatException(record.exc_info).split("\n"))
        return "\n".join(lines)


class RateLimit(logging.Filter):
    """Lets BURST messages of a kind through, then one each REFILL_S, and counts the others.

    Of a kind are those with the same text before what varies is put in. The last before the
    silence announces it, the first after it tells how many were left out. So that a trouble
    that lasts costs a card and its journal one line an hour.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._kinds: dict[object, _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written; adds to it what was left out."""
        now = self._clock()
        if len(self._kinds) >= _MAX_KINDS:
            self._kinds.clear()
        kind = self._kinds.setdefault((record.name, record.levelno, record.msg), _Kind(now))
        kind.left = min(float(BURST), kind.left + (now - kind.at) / REFILL_S)
        kind.at = now
        if kind.left < 1:
            kind.silent += 1
            return False
        kind.left -= 1
        if kind.silent:
            _add(record, f"{kind.silent} more of these were left out")
            kind.silent = 0
        elif kind.left < 1:
            _add(record, "from here on one of these an hour")
        return True


class _Kind:
    __slots__ = ("at", "left", "silent")

    def __init__(self, at: float) -> None:
        self.at = at
        self.left = float(BURST)
        self.silent = 0


def _add(record: logging.LogRecord, note: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({note})", ()
