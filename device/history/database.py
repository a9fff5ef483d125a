"""The history's file: its tables, how it is opened, and what is done with one that is damaged.

A Raspberry Pi has no clock. So every moment is stored by the clock of its boot, and the table of
boots says how far that was from the wall clock, as it was last known. Once a time server has set
the clock, all that was seen in this boot has the right time, also what was seen before.
"""

import contextlib
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from device.errors import HistoryError

_log = logging.getLogger("labelcam.history")

# What a damaged one is called since, after the name of the file.
DAMAGED_SUFFIX = ".damaged"
_VERSION = 1
_BUSY_S = 5.0
# A day's worth of waiting for somebody who reads would fill the disk.
_WAL_BYTES = 4 << 20
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SCHEMA = """
CREATE TABLE boots (
    id INTEGER PRIMARY KEY, boot TEXT NOT NULL UNIQUE, wall_offset REAL NOT NULL,
    synced INTEGER NOT NULL);
CREATE TABLE runs (
    id INTEGER PRIMARY KEY, boot INTEGER NOT NULL, begin REAL NOT NULL, alive REAL NOT NULL);
CREATE TABLE intervals (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, camera TEXT NOT NULL, label TEXT NOT NULL,
    begin REAL NOT NULL, end REAL, score REAL NOT NULL, model TEXT NOT NULL);
CREATE TABLE actions (
    id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL, action TEXT NOT NULL,
    kind TEXT NOT NULL, camera TEXT NOT NULL, label TEXT NOT NULL, "on" INTEGER NOT NULL,
    done INTEGER NOT NULL, detail TEXT NOT NULL, took_ms REAL NOT NULL);
CREATE TABLE hours (
    camera TEXT NOT NULL, label TEXT NOT NULL, hour INTEGER NOT NULL, seconds REAL NOT NULL,
    times INTEGER NOT NULL, PRIMARY KEY (hour, camera, label)) WITHOUT ROWID;
CREATE TABLE names (
    camera TEXT NOT NULL, label TEXT NOT NULL, PRIMARY KEY (camera, label)) WITHOUT ROWID;
CREATE INDEX intervals_ended ON intervals (run, end);
CREATE INDEX actions_done ON actions (run, at);
"""


def open_to_write(path: Path) -> sqlite3.Connection:
    """The history in this file, made where there is none.

    One that is damaged is put aside, in place of the one that was before, and a new one begun;
    that is logged. Raises sqlite3.Error and OSError for what the disk does to it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _opened(path)
    except sqlite3.DatabaseError as error:
        if not put_aside(path, error):
            raise
    return _opened(path)


def put_aside(path: Path, error: sqlite3.Error) -> bool:
    """Rename a file of which the error says that it is damaged; whether it was."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
        return False
    aside = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        path.replace(aside)
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError:
        return False
    _log.warning("history: %s is damaged (%s); kept as %s, a new one is begun", path, error, aside)
    return True


def open_to_read(path: Path) -> sqlite3.Connection:
    """The history in this file, which somebody else may be writing.

    Raises HistoryError where there is none, or none that can be read.
    """
    try:
        if not path.exists():
            raise HistoryError(f"{path} is not there: nothing was seen yet, or history is off")
        # A database in WAL mode is read through its index, which lies beside it.
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
    except (sqlite3.Error, OSError) as error:
        raise explained(path, error) from None
    db.text_factory = lambda text: text.decode(errors="replace")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        db.close()
        raise explained(path, error) from None
    if version != _VERSION:
        db.close()
        raise HistoryError(f"{path} is of another version of labelcam (schema {version})")
    return db


def explained(path: Path, error: Exception) -> HistoryError:
    """What went wrong, in a line."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        return HistoryError(f"{path} is damaged ({error}); a start of the device begins a new one")
    reason = getattr(error, "strerror", None) or error
    return HistoryError(f"{path} cannot be read: {reason}; is it another user's?")


def _opened(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db)
    except UnicodeDecodeError as error:  # in what SQLite says of a broken schema
        db.close()
        raise _damaged(str(error)) from None
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.text_factory = lambda text: text.decode(errors="replace")
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    db.execute("PRAGMA journal_mode = WAL")
    # What a commit holds is seconds old and many rows: a flush for each wears no card.
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -256")
    db.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if version > _VERSION:
        raise sqlite3.OperationalError(f"it is of a newer labelcam (schema {version})")
    if version == 0:
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT")
    faults = [fault for (fault,) in db.execute("PRAGMA quick_check")]
    if faults != ["ok"]:
        raise _damaged(faults[0])


def _damaged(reason: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(" ".join(reason.split()))
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All that is done within, or nothing of it."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            db.execute("ROLLBACK")
        raise
