"""Texts that people and other programs write: configuration, labels, groups, indexes, commands."""

import contextlib
import io
import json
import struct
import threading
import tomllib
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import cv2
import msgspec
import numpy as np

from device import config
from device.cameras import Request
from device.cameras.replay import open_source
from device.control.commands import parse
from device.control.table import CONTROLS
from device.errors import (
    CameraError,
    CommandError,
    ConfigError,
    LabelcamError,
    LabelsError,
    UsageError,
)
from device.library.labels import embedded_labels, read_labels
from device.pipeline.groups import EVERYDAY, Rollup, read_groups
from device.pipeline.plan import check_labels
from device.recordings.format import INDEX
from device.recordings.scores import MAGIC, read_scores
from device.system.config_file import set_keys
from device.tune.judge import true_changes
from device.tune.truth import check_truth, read_truth
from tests.fuzz import mutation
from tests.fuzz.surface import Surface

_SHIPPED = Path(__file__).parents[3] / "systemd" / "config.toml"


class Config(Surface):
    """A configuration file, checked as ``config check`` does, and edited as ``bench --write``."""

    name = "config"
    share = 50

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tables = tomllib.loads(_SHIPPED.read_text(encoding="utf-8"))
        self._lines = [
            line
            for line in _SHIPPED.read_text(encoding="utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        ]

    def make(self, chance: Random) -> bytes:
        """The shipped file with other values, or lines of it with other bytes."""
        if chance.random() < 0.3:
            lines = chance.sample(self._lines, chance.randint(1, 12))
            return mutation.mutated(chance, "\n".join(lines).encode())
        tree: dict[str, Any] = {}
        for section in chance.sample(sorted(self._tables), chance.randint(1, 3)):
            tree[section] = mutation.changed(chance, self._tables[section])
        lines = _toml(tree)
        if chance.random() < 0.1:
            lines.append(f"more = {mutation.text(chance)}")
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
        return mutation.mutated(chance, data) if chance.random() < 0.2 else data

    def feed(self, data: bytes) -> None:
        """Check it, and where it holds, change a key of it."""
        file = self.folder / "config.toml"
        file.write_bytes(data)
        with contextlib.suppress(LabelcamError):
            check_labels(config.load(file))
            set_keys(file, "model", {"threads": 2, "delegate": "none"})
            config.load(file)


def _toml(tables: dict[str, Any]) -> list[str]:
    """The tables as TOML, what is no table first."""
    plain, lines = [], []
    for section, table in tables.items():
        name = json.dumps(section, ensure_ascii=False)
        several = isinstance(table, list) and bool(table) and isinstance(table[0], dict)
        if not several and not isinstance(table, dict):
            plain.append(f"{name} = {_inline(table)}")
            continue
        for one in table if several else [table]:
            lines.append(f"[[{name}]]" if several else f"[{name}]")
            items = one.items() if isinstance(one, dict) else [("more", one)]
            lines += [f"{json.dumps(key, ensure_ascii=False)} = {_inline(v)}" for key, v in items]
    return plain + lines


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        inner = (f"{json.dumps(key)} = {_inline(found)}" for key, found in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower()


class Labels(Surface):
    """A label file, and labels packed behind a model."""

    name = "labels"
    share = 100

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._texts = [
            b"red\ngreen\nblue\n",
            b"0 red\n1 green\n2 blue\n",
            "\ufeffcrane\nheron\ncrane\n".encode(),
        ]
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.txt", b"red\ngreen\nblue\n" * 20)
        self._packed = packed.getvalue()

    def make(self, chance: Random) -> bytes:
        """A few lines, or an archive, with other bytes."""
        if chance.random() < 0.5:
            return mutation.mutated(chance, self._packed)
        lines = mutation.text(chance).encode("utf-8", "surrogatepass")
        return mutation.mutated(chance, chance.choice(self._texts) + lines)

    def feed(self, data: bytes) -> None:
        """Read it as both."""
        file = self.folder / "labels"
        file.write_bytes(data)
        for read in (read_labels, embedded_labels):
            with contextlib.suppress(LabelsError):
                read(file)


class Groups(Surface):
    """A file of groups, and its words with the labels of a model."""

    name = "groups"
    share = 60

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tables = dict(tomllib.loads(EVERYDAY.read_text(encoding="utf-8")))

    def make(self, chance: Random) -> bytes:
        """A few of the shipped groups, changed."""
        names = chance.sample(sorted(self._tables), 3)
        tree = mutation.changed(chance, {name: self._tables[name] for name in names})
        lines = _toml(tree) if isinstance(tree, dict) else [f"more = {tree}"]
        data = "\n".join(lines).encode("utf-8", "surrogatepass")
        return mutation.mutated(chance, data) if chance.random() < 0.4 else data

    def feed(self, data: bytes) -> None:
        """Read it and roll a model's scores up."""
        file = self.folder / "groups.toml"
        file.write_bytes(data)
        with contextlib.suppress(ConfigError):
            groups = read_groups(file)
            labels = ["tench", *(member for members in groups.values() for member in members)]
            Rollup(labels, groups)(np.zeros(len(labels), np.float32))


class Recording(Surface):
    """The index of a recording whose two frames are there."""

    name = "recording"
    share = 80

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for suffix in ("jpg", "png"):
            cv2.imwrite(str(folder / f"000000.{suffix}"), np.zeros((12, 8, 3), np.uint8))
        self._header = {"recording": 1, "model": "m", "source": "synthetic"}
        self._entry = {
            "file": "000000.jpg",
            "at_s": 0.5,
            "width": 8,
            "height": 12,
            "layout": "BGR",
            "camera": "camera",
            "label": None,
            "score": 0.5,
            "predictions": [{"label": "tench", "index": 0, "score": 0.5}],
        }

    def make(self, chance: Random) -> bytes:
        """A header and up to three frames, changed."""
        lines = [self._header]
        for _ in range(chance.randrange(4)):
            entry = self._entry | {"file": f"000000.{chance.choice(('jpg', 'png'))}"}
            entry["layout"] = chance.choice(("BGR", "BGR", "RGB", "GREY", "YUV420", "NV12"))
            lines.append(entry)
        return b"\n".join(mutation.as_json(chance, line) for line in lines)

    def feed(self, data: bytes) -> None:
        """Play it to its end."""
        (self.folder / INDEX).write_bytes(data)
        source = f"replay:{self.folder}?pace=max"
        request = Request(source, config.Camera(source=source), threading.Event(), None)
        with contextlib.suppress(CameraError):
            camera = open_source(request)
            while camera.read() is not None:
                pass
            camera.close()


class RecordedScores(Surface):
    """A file of scores, most of whose sums are right."""

    name = "recorded-scores"
    share = 60

    def make(self, chance: Random) -> bytes:
        """What the scores are of, and up to two blocks of them, changed."""
        source = {"type": "source", "camera": "c", "model": "m", "key": "k", "names": ["a", "b"]}
        arrays = {"ticks": bytes(16), "counts": b"\1\0\0\0" * 2, "rows": b"\0\0\0\0\1\0\0\0"}
        block = {"type": "block", "camera": "c", "scores": struct.pack("<ff", 0.5, 1), **arrays}
        data = bytearray(MAGIC)
        for value in (source, block, block)[: chance.randint(1, 3)]:
            plain = msgspec.msgpack.encode(value)
            if chance.random() < 0.6:
                plain = mutation.mutated(chance, plain)
            body = zlib.compress(plain)
            data += struct.pack("<II", len(body), zlib.crc32(body)) + body
        return mutation.mutated(chance, bytes(data)) if chance.random() < 0.3 else bytes(data)

    def feed(self, data: bytes) -> None:
        """Read it; what came out of it holds together."""
        file = self.folder / "it.scores"
        file.write_bytes(data)
        with contextlib.suppress(CameraError):
            tracks, _ = read_scores(file)
            for track in tracks:
                assert len(track.starts) == len(track.at_s) + 1
                assert track.starts[-1] == len(track.rows) == len(track.scores)
                assert np.isfinite(track.scores).all()


class Truth(Surface):
    """What was there in a recording, as lines of JSON."""

    name = "truth"
    share = 60

    def make(self, chance: Random) -> bytes:
        """Up to four intervals, changed."""
        lines = []
        for _ in range(chance.randrange(5)):
            begin = chance.choice((0, 1.5, 3, 1e9, -1))
            line: dict[str, Any] = {"from_s": begin, "to_s": begin + chance.choice((0, 1, 2))}
            lines.append(line | {"label": chance.choice(("cat", "dog", "kat", ""))})
        return b"\n".join(mutation.as_json(chance, line) for line in lines)

    def feed(self, data: bytes) -> None:
        """Read and check it, in both forms; what is left of it is in order and in the recording."""
        for suffix in ("jsonl", "toml"):
            file = self.folder / f"truth.{suffix}"
            file.write_bytes(data)
            for one in (True, False):
                with contextlib.suppress(UsageError):
                    found = check_truth(
                        file,
                        read_truth(file),
                        {"camera": 9.0},
                        {"camera": ("cat", "dog")},
                        one_at_a_time=one,
                    )["camera"]
                    assert found == sorted(found, key=lambda interval: interval.from_s)
                    assert all(0 <= i.from_s < i.to_s <= 14 for i in found)
                    true_changes(found, one_at_a_time=one, length_s=9.0)


class Commands(Surface):
    """A command's camera, key and payload, as a broker's topic and message give them."""

    name = "commands"
    share = 160

    _PAYLOADS: ClassVar[tuple[bytes, ...]] = (
        b"PRESS",
        b"0.5",
        b"true",
        b'"efficientnet-lite0-224-int8"',
        b"[0.1, 0.2, 0.3, 0.4]",
        b"null",
        b"60",
    )

    def make(self, chance: Random) -> bytes:
        """``camera NUL key NUL payload``."""
        camera = chance.choice(("", "camera", mutation.text(chance))).replace("\0", "")
        key = chance.choice((*CONTROLS, mutation.text(chance))).replace("\0", "")
        payload = chance.choice(self._PAYLOADS)
        if chance.random() < 0.3:
            payload = mutation.as_json(chance, mutation.value(chance))
        elif chance.random() < 0.8:
            payload = mutation.mutated(chance, payload)
        return b"\0".join((camera.encode(), key.encode(), payload))

    def feed(self, data: bytes) -> None:
        """Parse it."""
        camera, key, payload = [*data.split(b"\0", 2), b"", b""][:3]
        with contextlib.suppress(CommandError):
            named = camera.decode(errors="replace") or None
            parse(named, key.decode(errors="replace"), payload, ("camera",))
