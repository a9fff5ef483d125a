"""The outbox's file: a table of events in SQLite, written one flush for each transaction.

An event counts as kept once the log of the database was flushed to the card
(``synchronous = FULL``), so that neither a killed process nor a pulled plug takes it away.
NORMAL would save the flush and lose, with the plug, what the kernel had not written yet: up
to half a minute, and pulling the plug is how these devices are turned off. Label changes are
rare enough for a flush each.

A row outlives its event as an empty one while it is the newest of its camera: it carries the
camera's sequence number on, without a second table and thus a second page to write.
"""

import contextlib
import errno
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_log = logging.getLogger("labelcam.outbox")

_SCHEMA_VERSION = 1


class Row(NamedTuple):
    """An event as it lies in the file; ``since`` is by the clock of the boot."""

    number: int
    camera: str
    seq: int
    body: bytes
    boot: str
    since: float


class EventFile:
    """The table; its methods raise sqlite3.Error and OSError for what the disk does to it."""

    def __init__(self, path: Path, connect: Callable[..., sqlite3.Connection]) -> None:
        self._path = path
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

    def newest(self) -> list[tuple[str, int, int]]:
        """Of each camera the newest number and sequence number, also where the event has gone."""
        return self._opened.execute(
            "SELECT camera, max(number), max(seq) FROM events GROUP BY camera"
        ).fetchall()

    def totals(self, after: int, through: int) -> tuple[int, int]:
        """Number and bytes of the events between two numbers, the first excluded."""
        count, size = self._opened.execute(_TOTALS, (after, through)).fetchone()
        return count, size

    def rows(self, after: int, limit: int) -> list[Row]:
        """Up to ``limit`` events that follow a number, in order."""
        return [Row(*row) for row in self._opened.execute(_SELECT, (after, limit))]

    def write(self, rows: Iterable[Row], acknowledged: int, kept: list[int]) -> None:
        """Add rows, and take away those up to ``acknowledged`` but for the ``kept`` ones, which
        are emptied; in one transaction."""
        with self._transaction() as db:
            # OR REPLACE, because a commit that reported an error may have been made.
            db.executemany("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
            if acknowledged:
                marks = ",".join("?" * len(kept))
                db.execute(
                    f"DELETE FROM events WHERE number <= ? AND number NOT IN ({marks})",  # noqa: S608
                    (acknowledged, *kept),
                )
                db.execute(
                    "UPDATE events SET body = NULL WHERE number <= ? AND body IS NOT NULL",
                    (acknowledged,),
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
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version not in (0, _SCHEMA_VERSION):
        raise OSError(errno.EINVAL, f"it is of a newer labelcam (schema {version})")
    if version == 0:
        db.execute(
            "CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY, "
            "camera TEXT NOT NULL, seq INTEGER NOT NULL, body BLOB, "
            "boot TEXT NOT NULL, since REAL NOT NULL)"
        )
        db.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


_FROM = "FROM events WHERE body IS NOT NULL AND number > ?"
_SELECT = f"SELECT number, camera, seq, body, boot, since {_FROM} ORDER BY number LIMIT ?"
_TOTALS = f"SELECT count(*), coalesce(sum(length(body)), 0) {_FROM} AND number <= ?"
