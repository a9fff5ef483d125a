"""Events until the other end has them: a label change that was made is not lost.

A change counts as made once ``add`` has come back: it is then in a file that a pulled plug
does not take away. The card is spared otherwise. What the other end acknowledged is struck out
together with the next event's insertion, in the same page and the same flush; only where no
event follows within ``TRIM_S`` does it cost a write of its own. A process killed in between
sends those events again, with the ids they had.
"""

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from device.health.vitals import boot_id
from device.sinks.outbox.storage import Event, EventFile, Row

_log = logging.getLogger("labelcam.outbox")

TRIM_S = 5.0
# While events stream, what was acknowledged is struck out in portions of this many.
TRIM_EVENTS = 500
# What is kept in memory while the disk takes nothing; about 5 MB.
MEMORY_EVENTS = 10_000
RETRY_S = 30.0


class Stored(NamedTuple):
    """An event in the outbox; ``number`` orders those of all cameras.

    ``since`` is seconds on the clock of the boot, or None where it is of an earlier boot.
    """

    number: int
    event: Event
    since: float | None


class Limits(NamedTuple):
    """How much is kept: whichever is reached first, the oldest goes."""

    events: int
    size_bytes: int
    age_s: float


class Outbox:
    """A queue of events in a file, for one thread at a time; ``kind`` is their type.

    Without a usable disk it goes on in memory, bounded, and tries the disk again;
    ``trouble`` says why. ``dropped`` counts what the limits took since the start.
    """

    def __init__(
        self,
        path: Path,
        limits: Limits,
        *,
        kind: type[Event] = Event,
        boot: str | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect,
    ) -> None:
        self.trouble = ""
        self.dropped = 0
        self._path = path
        self._file = EventFile(path, connect)
        self._limits = limits
        self._kind = kind
        self._boot = boot_id() if boot is None else boot
        self._clock = clock
        self._opened_at = clock()
        # Of each camera the newest row: its number and sequence number.
        self._newest: dict[str, tuple[int, int]] = {}
        self._number = 0
        # Rows that no disk has taken yet; their numbers are higher than all that are in the file.
        self._unwritten: deque[Row] = deque()
        # All numbers up to this one are delivered or dropped; the file may not know it yet.
        self._acknowledged = 0
        self._acknowledged_in_file = 0
        self._has_seen_file = False
        self._trim_due: float | None = None
        self._retry_at = 0.0
        self._count = 0
        self._bytes = 0
        self._write()

    def __len__(self) -> int:
        """How many events wait for their acknowledgement."""
        return self._count

    @property
    def damaged(self) -> int:
        """How many rows of the file were damaged and set aside since the start."""
        return self._file.damaged

    @property
    def size_bytes(self) -> int:
        """How many bytes those events have."""
        return self._bytes

    @property
    def newest(self) -> int:
        """The number of the newest event, whether it still waits or not."""
        return self._number

    def add(self, events: Iterable[Event]) -> list[Event]:
        """Take the events; when this returns they are on disk, or ``trouble`` says why not.

        Returns them with their sequence numbers.
        """
        taken = []
        now = self._clock()
        for event in events:
            self._number += 1
            _, seq = self._newest.get(event.camera, (0, 0))
            numbered = msgspec.structs.replace(event, seq=seq + 1)
            self._newest[event.camera] = (self._number, seq + 1)
            body = msgspec.json.encode(numbered)
            self._unwritten.append(Row(self._number, event.camera, seq + 1, body, self._boot, now))
            self._count += 1
            self._bytes += len(body)
            taken.append(numbered)
        self._write()
        self._trim(now)
        return taken

    def pending(self, after: int, limit: int) -> list[Stored]:
        """Up to ``limit`` events that follow number ``after``, in order."""
        return [
            Stored(
                row.number,
                msgspec.json.decode(row.body, type=self._kind),
                row.since if row.boot == self._boot else None,
            )
            for row in self._rows(max(after, self._acknowledged), limit)
        ]

    def acknowledge(self, through: int) -> None:
        """Everything up to this number was acknowledged: forget it, in time."""
        self._discard(through)
        if self._acknowledged - self._acknowledged_in_file >= TRIM_EVENTS:
            self._write()

    def tick(self) -> None:
        """Write what has waited long enough; to be called every second or so."""
        now = self._clock()
        retry = bool(self.trouble) and now >= self._retry_at
        if retry or (self._trim_due is not None and now >= self._trim_due):
            self._write()

    def close(self) -> None:
        """Write what is due and let the file go; may be called twice."""
        if self._unwritten or self._trim_due is not None:
            self._retry_at = 0.0
            self._write()
        if self._unwritten:
            _log.error(
                "outbox: %d label changes are lost: %s takes none (%s), and nobody else has them",
                len(self._unwritten),
                self._path,
                self.trouble,
            )
            self._unwritten.clear()
        self._file.close()

    def _discard(self, through: int) -> int:
        """Count everything up to this number as gone; returns how many events that were."""
        if through <= self._acknowledged:
            return 0
        count, size = self._totals(self._acknowledged, through)
        while self._unwritten and self._unwritten[0].number <= through:
            size += len(self._unwritten.popleft().body)
            count += 1
        self._acknowledged = through
        self._count -= count
        self._bytes -= size
        if self._trim_due is None:
            self._trim_due = self._clock() + TRIM_S
        return count

    def _trim(self, now: float) -> None:
        """Drop the oldest events until the limits hold, and count them."""
        dropped = 0
        while oldest := self._rows(self._acknowledged, 1):
            if not (
                self._count > self._limits.events
                or self._bytes > self._limits.size_bytes
                or self._is_old(oldest[0], now)
            ):
                break
            dropped += self._discard(oldest[0].number)
        while len(self._unwritten) > MEMORY_EVENTS:
            self._bytes -= len(self._unwritten.popleft().body)
            self._count -= 1
            dropped += 1
        if dropped and not self.dropped:
            _log.warning("outbox: full; the oldest events are dropped and counted")
        self.dropped += dropped

    def _is_old(self, row: Row, now: float) -> bool:
        """Whether a row is over the age limit, by a clock that no time server turns.

        What an earlier boot left behind is as old as this run: how long the device was off
        cannot be known before its wall clock is right, and perhaps not then.
        """
        since = row.since if row.boot == self._boot else self._opened_at
        return now - since > self._limits.age_s

    # The file from here on.

    def _write(self) -> None:
        """Bring the file up to date, in one transaction; on failure remember why."""
        if self.trouble and self._clock() < self._retry_at:
            return
        try:
            if not self._file.is_open:
                self._open()
            self._commit()
        except (sqlite3.Error, OSError) as error:
            if self._file.set_aside(error):
                self._write()
            else:
                self._fail(error)
        else:
            if self.trouble:
                _log.info("outbox: %s is written again", self._path)
            self.trouble = ""

    def _fail(self, error: Exception) -> None:
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        if "locked" in reason:
            reason = "another labelcam uses it"
        if not self.trouble:
            _log.warning(
                "outbox: %s cannot be written (%s); going on in memory with at most %d events",
                self._path,
                reason,
                MEMORY_EVENTS,
            )
        self.trouble = reason
        self._retry_at = self._clock() + RETRY_S

    def _commit(self) -> None:
        if not self._unwritten and self._acknowledged <= self._acknowledged_in_file:
            return
        trim = self._acknowledged if self._acknowledged > self._acknowledged_in_file else 0
        kept = {camera: row for camera, row in self._newest.items() if row[0] <= trim}
        self._file.write(self._unwritten, trim, kept)
        self._unwritten.clear()
        self._acknowledged_in_file = self._acknowledged
        self._trim_due = None

    def _open(self) -> None:
        self._file.open()
        try:
            self._adopt()
        except BaseException:
            self._file.close()
            raise

    def _adopt(self) -> None:
        """Take up what an earlier run left in the file."""
        if not self._has_seen_file and self._number:
            # It could not be opened at first, and this run has numbered events without it:
            # what it holds comes after those.
            self._file.renumber(self._number)
        self._has_seen_file = True
        for camera, (number, seq) in self._file.newest().items():
            known = self._newest.get(camera, (0, 0))
            self._newest[camera] = (max(number, known[0]), max(seq, known[1]))
            self._number = max(self._number, number)
        before = self._count
        self._count_all()
        # What was there before and is not now went with a file that had to be set aside.
        self.dropped += max(0, before - self._count)
        self._acknowledged_in_file = 0

    def _count_all(self) -> None:
        count, size = self._file.totals(self._acknowledged, self._number)
        self._count = count + len(self._unwritten)
        self._bytes = size + sum(len(row.body) for row in self._unwritten)

    def _totals(self, after: int, through: int) -> tuple[int, int]:
        """Number and bytes of the file's events between two numbers, the first excluded."""
        if self._file.is_open:
            try:
                return self._file.totals(after, through)
            except sqlite3.Error as error:
                self._lose_file(error)
        return 0, 0

    def _rows(self, after: int, limit: int) -> list[Row]:
        """Up to ``limit`` events that follow a number, in order, from the file and from memory."""
        rows: list[Row] = []
        if self._file.is_open:
            damaged = self.damaged
            try:
                rows = self._file.rows(after, limit)
                if self.damaged > damaged:
                    self._count_all()
            except sqlite3.Error as error:
                self._lose_file(error)
        rows += [row for row in self._unwritten if row.number > after][:limit]
        rows.sort()
        return rows[:limit]

    def _lose_file(self, error: sqlite3.Error) -> None:
        """Go on without what is in a file that cannot be read any more."""
        if not self._file.set_aside(error):
            self._fail(error)
        lost = self._count - len(self._unwritten)
        if lost:
            _log.warning("outbox: %d events in %s cannot be read", lost, self._path)
        self.dropped += lost
        self._count = len(self._unwritten)
        self._bytes = sum(len(row.body) for row in self._unwritten)
        self._file.close()
