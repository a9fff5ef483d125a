"""Pictures of changes on disk: as many as fit its limits, of which the oldest go first.

Each is a file of its own, named by a number that only grows, whatever the clock does, then its
time, camera and label. What else is known of it stands in the file, in a comment of the JPEG, so
that no index can be lost or be wrong. Whatever else lies in the folder is left alone.
"""

import contextlib
import errno
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from device import config
from device.sinks.captions import Caption, Moment, age_s, caption_of, captioned, moment, slug
from device.system.files import read_file, replace_file

# What the ring leaves free of the disk: room for as much as the outbox takes, its journal, and the
# log of a device that wants to say why.
RESERVE_MB = 50.0
LIST_MAX = 100

_ID = r"\d{10}-\d{8}T\d{6}Z"
_NAME = re.compile(rf"({_ID})_[a-z0-9-]+_[a-z0-9-]+\.jpg")
# What a loss of power left of a picture that was being written.
_UNFINISHED = re.compile(rf"\.{_NAME.pattern}\.\d+")
_LABEL_CHARACTERS = 1000
_PICTURE_BYTES = 64 << 20


class Limits(NamedTuple):
    """How much is kept: whichever is reached first, the oldest goes."""

    pictures: int
    size_bytes: int
    age_s: float


class Snapshot(msgspec.Struct, frozen=True):
    """A picture that is kept; ``at`` is wall time, ``age_s`` None where no clock can tell it.

    ``score`` is None where the file does not say it.
    """

    id: str
    at: str
    age_s: float | None
    camera: str
    label: str
    score: float | None


class _File(NamedTuple):
    name: str
    size: int


class Ring:
    """The ring in a folder, for any thread; it touches no disk before it is asked for something.

    ``version`` grows with each picture that came or went.
    """

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        now: Callable[[], Moment] | None = None,
        reserve_mb: float = RESERVE_MB,
    ) -> None:
        self.folder = folder
        self.version = 0
        self._limits = limits
        self._reserve_bytes = int(reserve_mb * 2**20)
        self._now = now or (lambda: moment(time.monotonic()))
        self._opened = self._now()
        self._lock = threading.Lock()
        # By id, the oldest first.
        self._files: OrderedDict[str, _File] = OrderedDict()
        self._size = 0
        self._number = 0
        # The oldest file and when it was taken, so that it is read once.
        self._oldest: tuple[str, Caption | None] = "", None
        self._looked_at: tuple[int, ...] = ()
        # Whether the disk is so full that a picture takes the place of others.
        self.is_cramped = False
        # What went for a picture that the disk has not taken yet: it must not cost others.
        self._freed = 0

    def prepare(self) -> tuple[int, int]:
        """Have the folder, with nothing in it that is over the limits by now.

        Returns how many pictures there are, and their bytes. Raises OSError where the folder
        cannot be had or written.
        """
        with self._lock:
            self._open()
            self._trim()
            return len(self._files), self._size

    def add(self, picture: bytes, camera: str, label: str, score: float, taken: Moment) -> str:
        """Keep a JPEG, which is on disk when this returns; returns its id.

        Raises OSError; what had to go for it has gone then, and for the next try no more goes.
        """
        caption = Caption(
            camera,
            label[:_LABEL_CHARACTERS],
            round(score, 4),
            datetime.fromtimestamp(round(taken.wall, 3), UTC),
            taken.synced,
            taken.boot,
            round(taken.since, 3),
        )
        data = captioned(picture, caption)
        if len(data) > self._limits.size_bytes:
            raise OSError(errno.EFBIG, f"a picture of {len(data):,} bytes is over snapshots.mb")
        with self._lock:
            self._open()
            self._trim(count=1, size=len(data))
            self._make_room(len(data))
            self._number += 1
            made = f"{self._number:010d}-{caption.at:%Y%m%dT%H%M%SZ}"
            name = f"{made}_{slug(camera)}_{slug(label)}.jpg"
            replace_file(self.folder / name, data, mode=0o600, durable=True)
            self._note()
            self._files[made] = _File(name, len(data))
            self._size += len(data)
            self._freed = 0
            self.version += 1
        return made

    @property
    def cramped(self) -> str:
        """What is to be said where the disk has no room for more pictures."""
        return f"less than {self._reserve_bytes / 2**20:g} MB of the disk are free"

    def newest(self, limit: int, before: str = "", camera: str = "") -> list[Snapshot]:
        """The newest pictures, newest first: of one camera where it is named, before an id."""
        found: list[Snapshot] = []
        with self._lock:
            with contextlib.suppress(OSError):
                self._look()
            now = self._now()
            names = [(key, file.name) for key, file in reversed(self._files.items())]
        wanted = f"_{slug(camera)}_" if camera else "_"
        for key, name in names:
            if len(found) >= limit:
                break
            if wanted not in name or (before and key >= before):
                continue
            shown = self._describe(key, name, now)
            if shown and camera in ("", shown.camera):
                found.append(shown)
        return found

    def picture(self, key: str) -> bytes | None:
        """The JPEG with this id, None where there is none, or none that can be read."""
        with self._lock:
            file = self._files.get(key)
            if file is None:
                with contextlib.suppress(OSError):
                    self._look()
                file = self._files.get(key)
        if file is None:
            return None
        try:
            return read_file(self.folder / file.name, _PICTURE_BYTES)
        except OSError:
            return None

    def remove(self, key: str) -> bool:
        """Throw a picture away; whether there was one. Raises OSError."""
        with self._lock:
            self._look()
            if key not in self._files:
                return False
            self._remove(key)
            return True

    def clear(self) -> int:
        """Throw all pictures away and return how many there were. Raises OSError."""
        with self._lock:
            self._look()
            count = len(self._files)
            for key in list(self._files):
                self._remove(key)
            return count

    # With the lock held, from here on.

    def _open(self) -> None:
        """Have a folder that can be written, for its owner alone."""
        if self.folder.exists() and not self.folder.is_dir():
            raise OSError(errno.ENOTDIR, "is a file and should be a folder")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            # What lies on a card of another file system has no owner.
            with contextlib.suppress(OSError):
                self.folder.chmod(0o700)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "is read-only, or another user's")
        self._look()

    def _look(self) -> None:
        """Know what is in the folder, also after somebody else has changed that."""
        stamp = self._stamp()
        if stamp == self._looked_at:
            return
        before = list(self._files)
        found = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                match = _NAME.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(FileNotFoundError):
                        size = entry.stat(follow_symlinks=False).st_size
                        found.append((match[1], _File(entry.name, size)))
                elif _UNFINISHED.fullmatch(entry.name):
                    with contextlib.suppress(OSError):
                        (self.folder / entry.name).unlink()
        self._files = OrderedDict(sorted(found))
        self._size = sum(file.size for file in self._files.values())
        if self._files:
            self._number = max(self._number, int(next(reversed(self._files))[:10]))
        self._looked_at = self._stamp()
        if before != list(self._files):
            self.version += 1

    def _stamp(self) -> tuple[int, ...]:
        """What tells the folder as it is from what it was, and from another in its place."""
        try:
            found = self.folder.stat()
        except FileNotFoundError:
            return (0,)
        return found.st_dev, found.st_ino, found.st_mtime_ns

    def _note(self) -> None:
        """Count what was changed in the folder as ours, where it is still the same folder."""
        stamp = self._stamp()
        self._looked_at = stamp if stamp[:2] == self._looked_at[:2] else ()

    def _make_room(self, size: int) -> None:
        """Where the reserve of the disk is reached, the ring turns and does not grow."""
        disk = os.statvfs(self.folder)
        short = min(size, self._reserve_bytes + size - disk.f_bavail * disk.f_frsize)
        self.is_cramped = short > 0
        if short > self._freed + self._size:
            raise OSError(errno.ENOSPC, self.cramped)
        while short > self._freed:
            key, file = next(iter(self._files.items()))
            self._remove(key)
            self._freed += file.size

    def _trim(self, count: int = 0, size: int = 0) -> None:
        """Make room for so many more pictures and bytes."""
        now = self._now()
        while self._files and (
            len(self._files) + count > self._limits.pictures
            or self._size + size > self._limits.size_bytes
            or self._oldest_age_s(now) > self._limits.age_s
        ):
            self._remove(next(iter(self._files)))

    def _remove(self, key: str) -> None:
        (self.folder / self._files[key].name).unlink(missing_ok=True)
        self._size -= self._files.pop(key).size
        self._note()
        self.version += 1

    def _oldest_age_s(self, now: Moment) -> float:
        key, file = next(iter(self._files.items()))
        if self._oldest[0] != key:
            self._oldest = key, caption_of(self.folder / file.name)
        old_s = age_s(self._oldest[1], now)
        # At least as old as this run, and how much older nobody knows.
        return now.since - self._opened.since if old_s is None else old_s

    def _describe(self, key: str, name: str, now: Moment) -> Snapshot | None:
        """What is told of a picture; None where it has gone."""
        path = self.folder / name
        caption = caption_of(path)
        if caption is not None:
            at = caption.at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            old_s = age_s(caption, now)
            old_s = None if old_s is None else round(old_s, 1)
            return Snapshot(key, at, old_s, caption.camera, caption.label, caption.score)
        if not path.is_file():
            return None
        t = key[11:]
        at = f"{t[:4]}-{t[4:6]}-{t[6:8]}T{t[9:11]}:{t[11:13]}:{t[13:15]}.000Z"
        camera, label = name.removesuffix(".jpg").split("_")[1:]
        return Snapshot(key, at, None, camera, label, None)


def open_ring(settings: config.Snapshots, state: Path) -> Ring:
    """The ring of the device in its state directory."""
    limits = Limits(settings.count, int(settings.mb * 2**20), settings.days * 86_400)
    return Ring(state / "snapshots", limits)
