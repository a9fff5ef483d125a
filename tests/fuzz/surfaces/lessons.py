"""What was taught: on its way from another device, as a head, and as it lies on the card."""

import contextlib
import hashlib
import io
import sqlite3
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from device.errors import HeadError, TeachError
from device.teach import lessons
from device.teach.archive import export_lessons, export_pictures, import_lessons
from device.teach.head import Head, read_head
from tests.fuzz import mutation
from tests.fuzz.surface import Surface

MODEL = "a" * 64
_FEATURES = 8


def _picture(number: int) -> lessons.Picture:
    features = np.full((2, _FEATURES), number, np.float32)
    jpeg = b"\xff\xd8 nobody decodes it" if number % 2 else None
    return lessons.Picture(features, number.to_bytes(32, "big"), 64, 48, jpeg)


def _teach(folder: Path) -> lessons.Lessons:
    taught = lessons.Lessons(folder, MODEL)
    taught.add("gate open", [_picture(1), _picture(2)])
    taught.add("🐈/dog", [_picture(3)])
    return taught


class Archives(Surface):
    """A file of lessons, taken in by a device that has lessons already."""

    name = "archives"
    share = 40

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._own = _teach(folder / "own")
        self._before = self._own.labels()
        export_lessons(self._own, folder / "seed.lessons")
        with zipfile.ZipFile(folder / "seed.lessons") as archive:
            self._members = {name: archive.read(name) for name in archive.namelist()}
        self._seed = _packed(Random(0), self._members)

    def make(self, chance: Random) -> bytes:
        """Changed as a file, or by its members, whose hashes may be right again."""
        if chance.random() < 0.5:
            return mutation.mutated(chance, self._seed)
        members = dict(self._members)
        manifest: Any = msgspec.json.decode(members.pop("manifest.json"))
        for name in chance.sample(sorted(members), chance.randrange(3)):
            members[name] = mutation.mutated(chance, members[name])
        for number, item in enumerate(manifest["pictures"]):
            parts = (members[f"{number}.f2"], members.get(f"{number}.jpg", b""))
            digest = hashlib.sha256(b"".join(parts)).digest()
            item["sha256"] = msgspec.to_builtins(digest)
        members["manifest.json"] = mutation.as_json(chance, manifest)
        return _packed(chance, members)

    def feed(self, data: bytes) -> None:
        """Take it in: whole or not at all."""
        file = self.folder / "given.lessons"
        file.write_bytes(data)
        try:
            added = import_lessons(self._own, file)
        except TeachError:
            pass
        else:
            for count in added.values():
                if count:
                    self._own.undo()
        assert self._own.labels() == self._before

    def close(self) -> None:
        """Close the device's own lessons."""
        self._own.close()


def _packed(chance: Random, members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in members.items():
            kind = chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            archive.writestr(zipfile.ZipInfo(name), data, kind)
    return packed.getvalue()


class Heads(Surface):
    """A head file, and what it makes of features."""

    name = "heads"
    share = 100

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        some = np.linspace(0.01, 1, 2 * _FEATURES, dtype=np.float32).reshape(2, _FEATURES)
        head = Head(
            MODEL,
            ("red", "green"),
            power=0.5,
            temperature=10.0,
            threshold=9.0,
            ridge=0.1,
            mean=some[0],
            weights=some,
            bias=some[:, 0],
            basis=some,
            gains=some[0, :2],
        )
        self._whole = head.encode()
        self._start = len(self._whole) - len(self._body(self._whole))
        self._stored: dict[str, Any] = msgspec.msgpack.decode(self._body(self._whole))

    @staticmethod
    def _body(whole: bytes) -> bytes:
        return whole[whole.index(b"\n") + 1 + hashlib.sha256().digest_size :]

    def make(self, chance: Random) -> bytes:
        """With other bytes, or with other fields and the right hash."""
        if chance.random() < 0.2:
            return mutation.mutated(chance, self._whole)
        tree = mutation.changed(chance, self._stored)
        if isinstance(tree, dict) and chance.random() < 0.3:
            name = chance.choice(("mean", "weights", "bias", "basis", "gains"))
            tree[name] = mutation.mutated(chance, self._stored[name])
        try:
            body = msgspec.msgpack.encode(tree)
        except (OverflowError, UnicodeEncodeError):
            body = b"\xc0"
        if chance.random() < 0.2:
            body = mutation.mutated(chance, body)
        magic = self._whole[: self._whole.index(b"\n") + 1]
        return magic + hashlib.sha256(body).digest() + body

    def feed(self, data: bytes) -> None:
        """Read it, and have it score."""
        file = self.folder / "head"
        file.write_bytes(data)
        with contextlib.suppress(HeadError):
            head = read_head(file)
            features = np.linspace(0, 4, len(head.mean), dtype=np.float32)
            scores = head.scores(features)
            head.distance(features)
            assert scores.shape == (len(head.labels),)
            assert scores.dtype == np.float32


class Lessons(Surface):
    """The database of lessons, damaged on the card."""

    name = "lessons"
    share = 6

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        with _teach(folder / "seed"):
            pass
        with contextlib.closing(sqlite3.connect(folder / "seed" / "lessons.db")) as db:
            db.execute("UPDATE pictures SET at = 0")
            db.commit()
            db.execute("PRAGMA journal_mode = DELETE")
            db.execute("PRAGMA page_size = 512")
            db.execute("VACUUM")
            self._seed = db.serialize()

    def make(self, chance: Random) -> bytes:
        """With other bytes, or with other values in its tables."""
        if chance.random() < 0.5:
            return mutation.mutated(chance, self._seed)
        return changed_rows(
            chance,
            self._seed,
            {
                "about": ("key", "value"),
                "pictures": (
                    "id",
                    "digest",
                    "width",
                    "height",
                    "views",
                    "features",
                    "at",
                    "kept",
                ),
                "entries": ("id", "picture", "label", "added", "removed"),
                "changes": ("number", "what"),
            },
        )

    def feed(self, data: bytes) -> None:
        """Read all of it, add to it and take the last change back."""
        folder = self.folder / "damaged"
        folder.mkdir(exist_ok=True)
        for file in folder.glob("lessons.db*"):
            file.unlink()
        (folder / "lessons.db").write_bytes(data)
        with contextlib.suppress(TeachError), lessons.Lessons(folder, MODEL) as damaged:
            for act in (
                damaged.samples,
                damaged.entries,
                lambda: damaged.picture(1),
                lambda: damaged.add("more", [_picture(5)]),
                lambda: damaged.rename("gate open", "gate"),
                damaged.undo,
                damaged.forget_pictures,
                lambda: export_lessons(damaged, self.folder / "out.lessons"),
                lambda: export_pictures(damaged, self.folder / "out"),
            ):
                with contextlib.suppress(TeachError):
                    act()


def changed_rows(chance: Random, seed: bytes, columns: dict[str, tuple[str, ...]]) -> bytes:
    """A database with other values in a few places, of whatever type."""
    # A database in memory knows no log: its header must not ask for one.
    plain = seed[:18] + b"\1\1" + seed[20:]
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(plain)
        db.text_factory = bytes
        for _ in range(chance.randint(1, 4)):
            table = chance.choice(list(columns))
            column = chance.choice(columns[table])
            value = mutation.value(chance, 0)
            if isinstance(value, str):
                value = value.encode("utf-8", "replace")
                if chance.random() < 0.3:
                    value = mutation.mutated(chance, value)
            elif isinstance(value, int) and abs(value) >= 1 << 63:
                value = (1 << 63) - 1
            put = chance.choice(("?", "?", "CAST(? AS TEXT)", "CAST(? AS BLOB)"))
            rows = [row for (row,) in db.execute(f"SELECT {columns[table][0]} FROM {table}")]
            if not rows:
                continue
            with contextlib.suppress(sqlite3.Error):
                db.execute(
                    f"UPDATE {table} SET {column} = {put} WHERE {columns[table][0]} = ?",
                    (value, chance.choice(rows)),
                )
        db.commit()
        data = db.serialize()
    return data[:18] + seed[18:20] + data[20:]
