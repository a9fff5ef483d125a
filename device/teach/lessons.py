"""What was taught: the features of pictures by label, on disk, and every change of it.

One SQLite database for each set of lessons, so that a loss of power leaves the change before or
the change after, and two who teach at once wait for each other. A change adds and removes
entries; ``undo`` takes the last one back, whichever it was.
"""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device.errors import TeachError
from device.events import OFF_DUTY, UNAVAILABLE
from device.system.files import replace_file
from device.system.text import printable
from device.teach.database import Database
from device.teach.head import Features
from device.teach.learner import Samples

DEFAULT_SET = "default"
# The label of pictures that wait to be named; none that is taught is empty.
UNNAMED = ""

# So many changes can be undone; what they removed is kept as long.
_UNDO_MAX = 20
# Pictures written together: half a second's worth of embedding.
_BATCH = 32
# With their mirrors 40 MB of float64, of which learning takes a few times as much.
_LEARNED_MAX = 2000
_LABEL_MAX = 64
LABELS_MAX = 200


class Picture(NamedTuple):
    """A picture to learn from.

    ``features`` is float32 (views, features), the picture itself first and then its mirror and
    crops; ``digest`` is a hash of its pixels; ``jpeg`` is what to keep of it, None for nothing.
    """

    features: Features
    digest: bytes
    width: int
    height: int
    jpeg: bytes | None = None


class Entry(NamedTuple):
    """A picture under its label; ``kept`` says whether the picture itself is there to be seen."""

    id: int
    label: str
    digest: bytes
    width: int
    height: int
    at: float
    kept: bool


class Lessons(Database):
    """One set of lessons in ``folder``; for one thread.

    ``model`` is the SHA-256 of the model whose features are taught. Raises TeachError where
    the set belongs to another, and where the disk fails.
    """

    def __init__(self, folder: Path, model: str) -> None:
        super().__init__(folder, model)
        self.head_file = folder / "head"

    def add(self, label: str, pictures: Iterable[Picture]) -> int:
        """Put pictures under a label, as one change; returns how many were new to it.

        Pictures are written as they come, so that any number takes little memory and nobody
        waits long for the other; what fails halfway is taken back. Raises TeachError.
        """
        check_label(label)
        number, count, left = 0, 0, iter(pictures)
        try:
            while batch := list(islice(left, _BATCH)):
                with self._transaction():
                    number = number or self._begin(f"added pictures to {label!r}")
                    count += self._insert(label, batch, number)
                    self._check_room()
        except BaseException:
            self._take_back(number)
            raise
        if count:
            self._drop_unused()
        else:
            self._take_back(number)
        return count

    def add_doubt(self, picture: Picture, most: int) -> None:
        """Keep a picture to be named, and of those at most so many; no change to undo."""
        with self._transaction():
            self._insert(UNNAMED, [picture], 0)
            self._db.execute(
                "DELETE FROM entries WHERE label = '' AND id NOT IN "
                "(SELECT id FROM entries WHERE label = '' ORDER BY id DESC LIMIT ?)",
                (most,),
            )
        self._drop_unused()

    def forget_doubts(self) -> None:
        """Delete every picture that waits to be named."""
        with self._transaction():
            self._db.execute("DELETE FROM entries WHERE label = ''")
        self._drop_unused()

    def remove(self, entries: Sequence[int]) -> int:
        """Take entries out, as one change; returns how many there were."""
        with self._change(f"took {len(entries)} pictures out") as number:
            return sum(self._take_out(entry, number) for entry in entries)

    def remove_label(self, label: str) -> int:
        """Take a label out with all its pictures; raises TeachError where there is none."""
        found = self._of_label(label)
        with self._change(f"removed {label!r}") as number:
            return sum(self._take_out(entry, number) for entry in found)

    def move(self, entries: Sequence[int], label: str) -> int:
        """Put entries under another label, as one change; returns how many there were."""
        check_label(label)
        with self._change(f"moved {len(entries)} pictures to {label!r}") as number:
            return self._move(entries, label, number)

    def rename(self, label: str, new: str) -> int:
        """Give a label another name, or join it with one that is there already."""
        check_label(new)
        found = self._of_label(label)
        with self._change(f"renamed {label!r} to {new!r}") as number:
            return self._move(found, new, number)

    def undo(self) -> str:
        """Take the last change back; what it was. Raises TeachError where there is none."""
        with self._transaction():
            newest = self._read(
                tuple[int, str], "SELECT number, what FROM changes ORDER BY number DESC LIMIT 1"
            )
            if not newest:
                raise TeachError("there is nothing to undo")
            number, what = newest[0]
            self._delete_change(number)
        self._drop_unused()
        return what

    def labels(self) -> dict[str, int]:
        """How many pictures each label has, in the order of the labels."""
        return dict(
            self._read(
                tuple[str, int],
                "SELECT label, count(*) FROM entries WHERE removed IS NULL AND label <> '' "
                "GROUP BY label ORDER BY label",
            )
        )

    def entries(self, label: str | None = None) -> list[Entry]:
        """What is taught, oldest first; of UNNAMED what waits to be named."""
        return self._read(
            Entry,
            "SELECT entries.id, label, digest, width, height, at, kept FROM entries "
            "JOIN pictures ON pictures.id = picture WHERE removed IS NULL "
            "AND (label = ?1 OR ?1 IS NULL AND label <> '') ORDER BY entries.id",
            label,
        )

    def samples(self, *, mirror: bool = True) -> tuple[Samples, tuple[str, ...]]:
        """All that is taught, and the labels that its classes are rows of.

        Without ``mirror`` only the pictures as they are.
        """
        labels = tuple(self.labels())
        # Of many pictures an even choice: more would only take memory, and time to learn.
        most = max(_LEARNED_MAX // max(len(labels), 1), 10)
        chosen = {label: _spread(count, most) for label, count in self.labels().items()}
        seen = dict.fromkeys(labels, 0)
        features: list[Features] = []
        classes: list[int] = []
        pictures: list[int] = []
        with self._explained():
            rows = self._db.execute(
                "SELECT label, pictures.id, views, features FROM entries "
                "JOIN pictures ON pictures.id = picture "
                "WHERE removed IS NULL AND label <> '' ORDER BY entries.id"
            )
            for label, picture, views, data in rows:
                seen[label] += 1
                if seen[label] - 1 not in chosen[label]:
                    continue
                found = _features(views, data)
                found = found if mirror else found[:1]
                features.append(found)
                classes += [labels.index(label)] * len(found)
                pictures += [picture] * len(found)
            if len({found.shape[1] for found in features}) > 1:
                raise sqlite3.DataError("its features do not fit together")
        width = features[0].shape[1] if features else 0
        stacked = np.concatenate(features) if features else np.zeros((0, width), np.float32)
        return Samples(stacked, np.array(classes, np.intp), np.array(pictures, np.intp)), labels

    def picture(self, entry: int) -> bytes | None:
        """The JPEG of an entry, None where it was not kept."""
        found = self._read(tuple[int], "SELECT picture FROM entries WHERE id = ?", entry)
        with contextlib.suppress(OSError):
            return self._file(found[0][0]).read_bytes() if found else None
        return None

    def pictures(self, label: str) -> Iterator[Picture]:
        """All that is known of the pictures of a label, oldest first."""
        for entry in self.entries(label):
            with self._explained():
                row = self._db.execute(
                    "SELECT views, features FROM pictures JOIN entries ON pictures.id = picture "
                    "WHERE entries.id = ?",
                    (entry.id,),
                ).fetchone()
                if row is None:  # somebody has removed it since
                    continue
                features = _features(*row)
            jpeg = self.picture(entry.id)
            yield Picture(features, entry.digest, entry.width, entry.height, jpeg)

    def forget_pictures(self) -> int:
        """Delete the pictures of every label and keep what was learned of them; how many."""
        with self._transaction():
            rows = self._read(
                tuple[int],
                "SELECT DISTINCT picture FROM entries JOIN pictures ON pictures.id = picture "
                "WHERE label <> '' AND kept",
            )
            for (picture,) in rows:
                self._file(picture).unlink(missing_ok=True)
                self._db.execute("UPDATE pictures SET kept = 0 WHERE id = ?", (picture,))
        return len(rows)

    def _insert(self, label: str, pictures: Sequence[Picture], number: int) -> int:
        """Put pictures under a label unless they are there; returns how many were not."""
        known = {entry.digest for entry in self.entries(label)}
        before = len(known)
        for picture in pictures:
            if picture.digest in known:
                continue
            known.add(picture.digest)
            cursor = self._db.execute(
                "INSERT INTO pictures (digest, width, height, views, features, at, kept) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    picture.digest,
                    picture.width,
                    picture.height,
                    len(picture.features),
                    picture.features.astype("<f2").tobytes(),
                    time.time(),
                    picture.jpeg is not None,
                ),
            )
            assert cursor.lastrowid is not None
            if picture.jpeg is not None:
                replace_file(self._file(cursor.lastrowid), picture.jpeg)
            self._db.execute(
                "INSERT INTO entries (picture, label, added) VALUES (?, ?, ?)",
                (cursor.lastrowid, label, number),
            )
        return len(known) - before

    def _take_back(self, number: int) -> None:
        """Undo a change that has begun; 0 is none."""
        if number:
            with self._transaction():
                self._delete_change(number)
            self._drop_unused()

    def _delete_change(self, number: int) -> None:
        self._db.execute("DELETE FROM entries WHERE added = ?", (number,))
        self._db.execute("UPDATE entries SET removed = NULL WHERE removed = ?", (number,))
        self._db.execute("DELETE FROM changes WHERE number = ?", (number,))

    def _take_out(self, entry: int, number: int) -> int:
        return self._db.execute(
            "UPDATE entries SET removed = ? WHERE id = ? AND removed IS NULL", (number, entry)
        ).rowcount

    def _move(self, entries: Sequence[int], label: str, number: int) -> int:
        moved = 0
        for entry in entries:
            if self._take_out(entry, number):
                self._db.execute(
                    "INSERT INTO entries (picture, label, added) "
                    "SELECT picture, ?, ? FROM entries WHERE id = ?",
                    (label, number, entry),
                )
                moved += 1
        self._check_room()
        return moved

    def _check_room(self) -> None:
        if len(self.labels()) > LABELS_MAX:
            raise TeachError(f"there are {LABELS_MAX} labels already; remove one first")

    def _of_label(self, label: str) -> list[int]:
        found = [entry.id for entry in self.entries(label)]
        if not found:
            there = ", ".join(map(repr, self.labels())) or "none yet"
            raise TeachError(f"no label is called {label!r}; there are {there}")
        return found

    def _file(self, picture: int) -> Path:
        return self.folder / "pictures" / f"{picture:06d}.jpg"

    @contextlib.contextmanager
    def _change(self, what: str) -> Iterator[int]:
        """A change with a number, made whole or not at all."""
        with self._transaction():
            yield self._begin(what)
        self._drop_unused()

    def _begin(self, what: str) -> int:
        """Number a change, and forget how to undo the oldest."""
        number = self._db.execute("INSERT INTO changes (what) VALUES (?)", (what,)).lastrowid
        assert number is not None
        self._db.execute("DELETE FROM changes WHERE number <= ?", (number - _UNDO_MAX,))
        self._db.execute("DELETE FROM entries WHERE removed <= ?", (number - _UNDO_MAX,))
        return number

    def _drop_unused(self) -> None:
        """Delete pictures that no entry names, and files that no picture names."""
        with self._transaction():
            self._db.execute("DELETE FROM pictures WHERE id NOT IN (SELECT picture FROM entries)")
        # In a transaction of its own: a file of another's that is not committed has no name yet,
        # and a file whose deletion is not committed may still be wanted.
        with self._transaction():
            named = {
                self._file(id_) for (id_,) in self._read(tuple[int], "SELECT id FROM pictures")
            }
            for file in (self.folder / "pictures").glob("*.jpg"):
                if file not in named:
                    file.unlink(missing_ok=True)


def _features(views: int, data: bytes) -> Features:
    try:
        return np.frombuffer(data, "<f2").reshape(views, -1).astype(np.float32)
    except (TypeError, ValueError) as error:
        raise sqlite3.DataError(str(error)) from None


def _spread(count: int, most: int) -> set[int]:
    """At most so many of the numbers from 0 to ``count``, evenly."""
    return set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist())


def check_label(label: str) -> None:
    """Raise TeachError unless this can be a label."""
    if not label.strip() or label != label.strip():
        raise TeachError(f"label {label!r}: give a word without blanks around it")
    if len(label) > _LABEL_MAX or printable(label) != label:
        raise TeachError(
            f"label {label[:_LABEL_MAX]!r}: give {_LABEL_MAX} printable characters at most"
        )
    if label in (UNAVAILABLE, OFF_DUTY):
        raise TeachError(f"label {label!r} is what a camera that does not look says; give another")
