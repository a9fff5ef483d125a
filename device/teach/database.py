"""A database of lessons in a folder: opened, checked, and what goes wrong with it explained."""

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from device.errors import TeachError

Row = TypeVar("Row")

_BUSY_S = 30.0
_TRY_S = 0.01
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pictures (
    id INTEGER PRIMARY KEY, digest BLOB NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL,
    views INTEGER NOT NULL, features BLOB NOT NULL, at REAL NOT NULL, kept INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, picture INTEGER NOT NULL REFERENCES pictures (id),
    label TEXT NOT NULL, added INTEGER NOT NULL, removed INTEGER);
CREATE TABLE IF NOT EXISTS changes (number INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entries_removed ON entries (removed, label);
"""


class Database:
    """The tables of one set of lessons; for one thread, and closed at the end.

    ``model`` is the SHA-256 of the model whose features are taught. Raises TeachError where
    the set belongs to another, and where the disk fails.
    """

    def __init__(self, folder: Path, model: str) -> None:
        self.folder = folder
        self.model = model
        with self._explained():
            folder.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(folder / "lessons.db", timeout=_BUSY_S, isolation_level=None)
            try:
                self._write_ahead()
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
                self._check_model(model)
            except BaseException:
                self._db.close()
                raise

    def _write_ahead(self) -> None:
        """Turn the log on; with a new file, SQLite waits here for nobody who does the same."""
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() >= deadline:
                    raise
            time.sleep(_TRY_S)

    def close(self) -> None:
        """Let the database go; may be called twice."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_model(self, model: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO about VALUES ('model', ?)", (model,))
        self._db.execute("INSERT OR IGNORE INTO about VALUES ('version', ?)", (str(_VERSION),))
        about = dict(self._db.execute("SELECT key, value FROM about"))
        if about["version"] != str(_VERSION):
            raise TeachError(f"{self.folder} is of another version of labelcam; teach anew")
        if about["model"] == model:
            return
        if self._db.execute("SELECT 1 FROM entries LIMIT 1").fetchone():
            raise TeachError(
                f"{self.folder} was taught on another model; go back to that model, or remove "
                "the folder and teach anew"
            )
        self._db.execute("UPDATE about SET value = ? WHERE key = 'model'", (model,))

    def _read(self, kind: type[Row], query: str, *values: object) -> list[Row]:
        """The rows of a query as ``kind``; SQLite keeps any type in any column.

        Raises TeachError where a value is of another.
        """
        with self._explained():
            rows = self._db.execute(query, values).fetchall()
            return msgspec.convert(rows, list[kind], strict=False)  # type: ignore[valid-type]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the disk and the database raise into TeachError."""
        try:
            yield
        except sqlite3.OperationalError as error:
            reason = "somebody else is teaching" if "locked" in str(error) else str(error)
            raise TeachError(f"{self.folder}: {reason}; try again") from None
        # What SQLite says of a damaged file may quote its bytes.
        except (sqlite3.Error, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise TeachError(
                f"{self.folder}: the lessons are damaged ({error}); remove the folder, or put a "
                "copy in its place"
            ) from None
        except OSError as error:
            raise TeachError(f"{self.folder} cannot be written: {error.strerror}") from None
