"""The outbox's file: a table of events in SQLite, written one flush for each transaction.

An event counts as kept once the log of the database was flushed to the card
(``synchronous = FULL``), so that neither a killed process nor a pulled plug takes it away.
NORMAL would save the flush and lose, with the plug, what the kernel had not written yet: up
to half a minute, and pulling the plug is how these devices are turned off. Label changes are
rare enough for a flush each.

A row outlives its event as an empty one while it is the newest of its camera: it carries the
camera's sequence number on, without a second table and thus a second page to write.

Cards forget bits, and SQLite does not see them in a value. So each row has a checksum; one that
does not hold is moved to a file beside, where a person may look at it, and the rest goes on.
"""

import contextlib
import errno
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from device.system.text import from_json

_log = logging.getLogger("labelcam.outbox")

# Version 1 had no checksums.
_SCHEMA_VERSION = 2
# Rows that are read at once where all are.
_PORTION = 500
_MAX_NUMBER = 1 << 62


class Event(msgspec.Struct, frozen=True):
    """One label change as it is stored; ``at`` is wall time, ISO 8601 in UTC.

    ``seq`` counts the camera's events from 1, over restarts; the outbox gives it.
    """

    id: str
    camera: str
    at: str
    clock_synced: bool
    label: str
    score: float
    previous: str | None
    held_s: float
    model: str
    seq: int = 0
    on: bool = True
    active: tuple[str, ...] = ()


class Row(NamedTuple):
    """An event as it lies in the file; ``since`` is by the clock of the boot."""

    number: int
    camera: str
    seq: int
    body: bytes
    boot: str
    since: float

    @property
    def checksum(self) -> int:
        """Of all but the number, which only gives the order and may become another."""
        # repr would be another where Python learns of new letters.
        head = ascii((self.camera, self.seq, self.boot, self.since)).encode()
        return zlib.crc32(self.body, zlib.crc32(head))


class EventFile:
    """The table; its methods raise sqlite3.Error and OSError for what the disk does to it.

    ``damaged`` counts the rows whose checksum did not hold, and which were set aside.
    """

    def __init__(self, path: Path, connect: Callable[..., sqlite3.Connection]) -> None:
        self.damaged = 0
        self._path = path
        # Numbers of rows that were written into the file beside and are to be deleted here.
        self._copied: set[int] = set()
        self._connect = connect
        self._db: sqlite3.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether the file can be read and written; without that it has no rows."""
        return self._db is not None

    def open(self) -> None:
        """Open the file, and make it where there is none."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = self._connect(self._path, timeout=0.0, isolation_level=None, check_same_thread=False)
        try:
            _prepare(db)
        except UnicodeDecodeError as error:  # in what SQLite says of a broken schema
            db.close()
            raise _broken(str(error)) from None
        except BaseException:
            db.close()
            raise
        self._db = db

    def renumber(self, after: int) -> None:
        """Have all rows follow this number, in their order."""
        with self._transaction() as db:
            # By way of negative numbers, so that no two rows have the same one meanwhile.
            db.execute("UPDATE events SET number = -number")
            db.execute("UPDATE events SET number = ? - number", (after,))

    def newest(self) -> dict[str, tuple[int, int]]:
        """Of each camera the newest number and sequence number, also where the event has gone.

        Reads every row, and sets the damaged ones aside.
        """
        newest: dict[str, tuple[int, int]] = {}
        for portion in _portions(self._opened):
            damaged = []
            for found in portion:
                number, camera, seq, *_ = found
                if _is_sound(found):
                    newest[camera] = (number, max(seq, newest.get(camera, (0, 0))[1]))
                    continue
                damaged.append(found)
                if camera in newest and number < _MAX_NUMBER:
                    # Its number is not given away again: a gap says that an event is missing.
                    newest[camera] = (newest[camera][0], newest[camera][1] + 1)
            self._set_rows_aside(damaged)
        return newest

    def totals(self, after: int, through: int) -> tuple[int, int]:
        """Number and bytes of the events between two numbers, the first excluded."""
        count, size = self._opened.execute(_TOTALS, (after, through)).fetchone()
        return count, size

    def rows(self, after: int, limit: int) -> list[Row]:
        """Up to ``limit`` events that follow a number, in order; sets the damaged ones aside."""
        rows: list[Row] = []
        while len(rows) < limit:
            events = f"{_SELECT} AND body IS NOT NULL ORDER BY number LIMIT ?"
            found = _in_order(self._opened.execute(events, (after, limit - len(rows))), after)
            if not found:
                break
            after = found[-1][0]
            rows += [Row(*row[:-1]) for row in found if _is_sound(row)]
            self._set_rows_aside([row for row in found if not _is_sound(row)])
        return rows

    def write(
        self, rows: Iterable[Row], acknowledged: int, kept: dict[str, tuple[int, int]]
    ) -> None:
        """Add rows, and take away those up to ``acknowledged``, in one transaction.

        ``kept`` are numbers and sequence numbers by camera: their rows are emptied and stay,
        and are made where an event was acknowledged before the disk had taken it.
        """
        with self._transaction() as db:
            # OR REPLACE, because a commit that reported an error may have been made.
            db.executemany(
                "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(*row, row.checksum) for row in rows],
            )
            if acknowledged:
                numbers = [number for number, _ in kept.values()]
                marks = ",".join("?" * len(numbers))
                db.execute(
                    f"DELETE FROM events WHERE number <= ? AND number NOT IN ({marks})",  # noqa: S608
                    (acknowledged, *numbers),
                )
                db.executemany(
                    _EMPTY,
                    [
                        (number, camera, seq, _emptied(camera, seq))
                        for camera, (number, seq) in kept.items()
                    ],
                )

    def set_aside(self, error: Exception) -> bool:
        """Close and rename the file where the error says that it is broken; False where it does
        not, or where that is impossible."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code not in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return False
        self.close()
        aside = self._path.with_name(f"{self._path.name}.broken-{time.time_ns() // 10**9}")
        try:
            self._path.replace(aside)
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        except OSError:
            return False
        _log.warning("outbox: %s is broken (%s); set aside as %s", self._path, error, aside.name)
        return True

    def _set_rows_aside(self, rows: list[Any]) -> None:
        """Move damaged rows to a file beside; where the disk is full they stay, and are skipped."""
        if not rows:
            return
        fresh = [row for row in rows if row[0] not in self._copied]
        aside = self._path.with_name(f"{self._path.name}.damaged")
        with contextlib.suppress(sqlite3.OperationalError, OSError):
            if fresh:
                with aside.open("a") as file:
                    file.writelines(json.dumps(row, default=_shown) + "\n" for row in fresh)
                    file.flush()
                    os.fsync(file.fileno())
                self._copied |= {row[0] for row in fresh}
                self.damaged += len(fresh)
                _log.warning(
                    "outbox: damaged rows in %s: %d; set aside in %s",
                    self._path,
                    len(fresh),
                    aside.name,
                )
            with self._transaction() as db:
                db.executemany("DELETE FROM events WHERE number = ?", [(row[0],) for row in rows])
            self._copied -= {row[0] for row in rows}

    def close(self) -> None:
        """Let the file go; may be called twice."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(sqlite3.Error):
                db.close()

    @property
    def _opened(self) -> sqlite3.Connection:
        assert self._db is not None
        return self._db

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._opened as db:
            db.execute("BEGIN IMMEDIATE")
            yield db


def _prepare(db: sqlite3.Connection) -> None:
    # Alone in the file: its index then lies in memory, and a second node that would share the
    # outbox by mistake is told so.
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    # Each event writes a page to the log, from somewhere within a block of the disk. Four to
    # the block were measured to wear it least: 5.2 MB for a thousand events, where SQLite's
    # own size of a block makes 8.2.
    db.execute("PRAGMA page_size = 1024")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -256")
    # A byte that is not UTF-8 makes a text another, and no error of the whole query.
    db.text_factory = lambda text: text.decode(errors="surrogateescape")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > _SCHEMA_VERSION:
        raise OSError(errno.EINVAL, f"it is of a newer labelcam (schema {version})")
    if version < _SCHEMA_VERSION:
        with db:
            db.execute("BEGIN IMMEDIATE")
            if version == 0:
                db.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
            else:
                _add_checksums(db)
            db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
    # With another type of a column, what is written would not come back as it was.
    made = db.execute("SELECT sql FROM sqlite_master WHERE name = 'events'").fetchone()
    if made != (f"CREATE TABLE {_TABLE}",):
        raise _broken("its table is not as it was made")
    # What is written into a broken tree may be lost with it. A row with a wrong value is no fault
    # of the tree, and is told without the stars.
    faults = [fault for (fault,) in db.execute("PRAGMA quick_check") if fault.startswith("***")]
    if faults:
        raise _broken(faults[0])


def _add_checksums(db: sqlite3.Connection) -> None:
    """Give the rows of version 1 their checksums, where they are as they were written."""
    db.execute("ALTER TABLE events ADD COLUMN checksum INTEGER")
    for portion in _portions(db):
        sums = []
        for number, camera, seq, body, boot, since, _ in portion:
            with contextlib.suppress(msgspec.MsgspecError, TypeError):
                if body is None:
                    msgspec.convert((camera, seq), tuple[str, int], strict=True)
                    sums.append((_emptied(camera, seq), number))
                    continue
                event = from_json(body, Event)
                if (event.camera, event.seq) == (camera, seq):
                    sums.append((Row(number, camera, seq, body, boot, since).checksum, number))
        db.executemany("UPDATE events SET checksum = ? WHERE number = ?", sums)


def _portions(db: sqlite3.Connection) -> Iterator[list[Any]]:
    """All rows in their order, a list of at most _PORTION after the other."""
    after = -_MAX_NUMBER
    rows = f"{_SELECT} ORDER BY number LIMIT ?"
    while portion := _in_order(db.execute(rows, (after, _PORTION)), after):
        yield portion
        after = portion[-1][0]


def _broken(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(reason)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _in_order(found: Iterable[Any], after: int) -> list[Any]:
    """The rows, whose numbers rise from ``after``.

    In a damaged tree they may not, and who goes on from the last of them reads for ever. Raises
    sqlite3.DatabaseError.
    """
    rows = list(found)
    for row in rows:
        if not isinstance(row[0], int) or row[0] <= after:
            raise _broken("its rows are out of order")
        after = row[0]
    return rows


def _is_sound(found: Any) -> bool:
    """Whether a row, checksum last, is as it was written."""
    number, camera, seq, body, boot, since, checksum = found
    if body is None:
        expected = _emptied(camera, seq)
    elif isinstance(body, bytes):
        expected = Row(number, camera, seq, body, boot, since).checksum
    else:
        return False
    return bool(checksum == expected and 0 < number < _MAX_NUMBER)


def _emptied(camera: str, seq: int) -> int:
    """The checksum of a row that only carries a sequence number on."""
    return Row(0, camera, seq, b"", "", 0.0).checksum


def _shown(value: bytes) -> str:
    return value.decode(errors="backslashreplace")


_TABLE = (
    "events (number INTEGER PRIMARY KEY, camera TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB, "
    "boot TEXT NOT NULL, since REAL NOT NULL, checksum INTEGER)"
)
_SELECT = "SELECT number, camera, seq, body, boot, since, checksum FROM events WHERE number > ?"
_EMPTY = (
    "INSERT INTO events VALUES (?, ?, ?, NULL, '', 0, ?) ON CONFLICT (number) DO UPDATE "
    "SET seq = excluded.seq, body = NULL, boot = '', since = 0, checksum = excluded.checksum "
    "WHERE body IS NOT NULL"
)
_TOTALS = (
    "SELECT count(*), coalesce(sum(length(body)), 0) FROM events "
    "WHERE body IS NOT NULL AND number > ? AND number <= ?"
)
