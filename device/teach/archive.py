"""Lessons on their way to another device, in one file, and pictures on theirs to a training.

The file is a zip archive: the features of each picture and, where it was kept, the picture;
and a manifest with the hash of each, so that what is damaged is noticed before any of it is
taught.
"""

import contextlib
import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from device.errors import TeachError
from device.system.text import from_json
from device.teach.lessons import Lessons, Picture, check_label

_MANIFEST = "manifest.json"
_MANIFEST_MAX_BYTES = 64 << 20
_PICTURE_MAX_BYTES = 16 << 20
# Bytes of a name: file systems take 255.
_NAME_MAX = 200
_DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error)


class _Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A picture; ``sha256`` is of its features and then its JPEG."""

    label: str
    digest: bytes
    width: int
    height: int
    views: int
    kept: bool
    sha256: bytes


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is in a file; the features of picture n are ``n.f2``, its JPEG is ``n.jpg``."""

    model: str
    pictures: tuple[_Item, ...]
    version: Literal[1] = 1


def export_lessons(lessons: Lessons, path: Path) -> int:
    """Write all that is taught into one file; returns how many pictures. Raises TeachError."""
    beside = path.with_name(f".{path.name}.part")
    items: list[_Item] = []
    with _written(path):
        try:
            with zipfile.ZipFile(beside, "w") as archive:
                for label in lessons.labels():
                    for picture in lessons.pictures(label):
                        items.append(_pack(archive, len(items), label, picture))
                manifest = msgspec.json.encode(_Manifest(lessons.model, tuple(items)))
                archive.writestr(_MANIFEST, manifest, zipfile.ZIP_DEFLATED)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    return len(items)


def import_lessons(lessons: Lessons, path: Path) -> dict[str, int]:
    """Add what another device has taught; how many pictures of each label were new.

    Each label is a change of its own. Raises TeachError where the file is damaged or was
    taught on another model, and then nothing is added.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _manifest(archive, path)
            if manifest.model != lessons.model:
                raise TeachError(f"{path} was taught on another model; choose that one first")
            labels = dict.fromkeys(item.label for item in manifest.pictures)
            for label in labels:
                check_label(label)
            widths = {picture.features.shape[1] for picture in _unpacked(archive, manifest, path)}
            widths.update(p.features.shape[1] for p in islice(_all_pictures(lessons), 1))
            if len(widths) > 1:
                raise TeachError(f"{path} does not fit together; export it again")
            return {
                label: lessons.add(label, _unpacked(archive, manifest, path, label))
                for label in labels
            }
    except (NotImplementedError, UnicodeDecodeError, *_DAMAGE):
        raise TeachError(f"{path} holds no lessons, or is damaged; export them again") from None
    except OSError as error:
        raise TeachError(f"{path} cannot be read: {error.strerror}") from None


def export_pictures(lessons: Lessons, folder: Path) -> dict[str, int]:
    """Write the kept pictures into a folder for each label; how many there are of each.

    A label's folder has its name, with ``%2F`` and its like for what a name cannot hold.
    Raises TeachError where none were kept, and where the folder has something in it.
    """
    counts: dict[str, int] = {}
    names: set[str] = set()
    with _written(folder):
        if folder.exists() and any(folder.iterdir()):
            raise TeachError(f"{folder} is not empty; name a new folder")
        for label in lessons.labels():
            name = _folder_name(label)
            while name.casefold() in names:  # cards of cameras do not tell A from a
                name += "_"
            names.add(name.casefold())
            for entry in lessons.entries(label):
                jpeg = lessons.picture(entry.id)
                if jpeg is None:
                    continue
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / f"{entry.id:06d}.jpg").write_bytes(jpeg)
                counts[label] = counts.get(label, 0) + 1
    if not counts:
        raise TeachError("no pictures were kept; set teach.keep_pictures = true and teach again")
    return counts


def _pack(archive: zipfile.ZipFile, number: int, label: str, picture: Picture) -> _Item:
    features, jpeg = picture.features.astype("<f2").tobytes(), picture.jpeg
    archive.writestr(f"{number}.f2", features)
    if jpeg is not None:
        archive.writestr(f"{number}.jpg", jpeg)
    return _Item(
        label,
        picture.digest,
        picture.width,
        picture.height,
        len(picture.features),
        jpeg is not None,
        hashlib.sha256(features + (jpeg or b"")).digest(),
    )


def _manifest(archive: zipfile.ZipFile, path: Path) -> _Manifest:
    try:
        return from_json(_read(archive, _MANIFEST, _MANIFEST_MAX_BYTES), _Manifest)
    except (msgspec.MsgspecError, ValueError) as error:
        raise TeachError(f"{path} holds no lessons of this version: {error}") from None


def _all_pictures(lessons: Lessons) -> Iterator[Picture]:
    for label in lessons.labels():
        yield from lessons.pictures(label)


def _unpacked(
    archive: zipfile.ZipFile, manifest: _Manifest, path: Path, label: str | None = None
) -> Iterator[Picture]:
    """The pictures of a label, or all."""
    for number, item in enumerate(manifest.pictures):
        if label not in (None, item.label):
            continue
        try:
            data = _read(archive, f"{number}.f2", _PICTURE_MAX_BYTES)
            jpeg = _read(archive, f"{number}.jpg", _PICTURE_MAX_BYTES) if item.kept else None
            if hashlib.sha256(data + (jpeg or b"")).digest() != item.sha256:
                raise ValueError("is damaged")
            features = np.frombuffer(data, "<f2").reshape(item.views, -1).astype(np.float32)
            if not features.size or not np.isfinite(features).all():
                raise ValueError("holds no features")
        except ValueError as error:
            raise TeachError(f"{path}: picture {number} {error}; export them again") from None
        yield Picture(features, item.digest, item.width, item.height, jpeg)


def _read(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """A member that is within ``limit``; raises ValueError."""
    try:
        # The archive says how much that is before anything is unpacked.
        if archive.getinfo(name).file_size > limit:
            raise ValueError(f"has over {limit >> 20} MB")
        return archive.read(name)
    except (KeyError, RuntimeError, EOFError, *_DAMAGE) as error:
        raise ValueError(f"cannot be unpacked: {error}") from None


def _folder_name(label: str) -> str:
    name = re.sub(r'[%/\\:*?"<>|]|^\.', lambda found: f"%{ord(found[0]):02X}", label)
    return name.encode()[:_NAME_MAX].decode(errors="ignore")


@contextlib.contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TeachError(f"{path} cannot be written: {error.strerror}") from None
