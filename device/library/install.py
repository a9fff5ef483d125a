"""The models of the catalogue on this device: which files are here, and right; taking them away."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from device.errors import FetchError, UsageError
from device.library import catalog
from device.library.catalog import Entry, LabelFile, ModelFile


def entry_of(name: str) -> Entry:
    """The model of that name. Raises UsageError where the catalogue has none."""
    entry = catalog.entries().get(name)
    if entry is None:
        raise UsageError(f"models: {name!r} is not one of {', '.join(catalog.entries())}")
    return entry


def missing(entry: Entry) -> Iterator[ModelFile | LabelFile]:
    """The files of the model that are not here, or are not as pinned."""
    for file in _files(entry):
        path = catalog.locate(file.file)
        if not path.exists() or not _is(path, file.sha256):
            yield file


def verify() -> Iterator[tuple[Path, bool]]:
    """Every file of the catalogue that is here, and whether it is as pinned."""
    pinned = {f.file: f.sha256 for entry in catalog.entries().values() for f in _files(entry)}
    for file, sha256 in pinned.items():
        path = catalog.locate(file)
        if path.exists():
            yield path, _is(path, sha256)


def remove(name: str) -> Iterator[Path]:
    """Remove the fetched files of the model, and tell each; what ships stays.

    Raises UsageError for a name that is not in the catalogue, FetchError on disk.
    """
    entry = entry_of(name)
    # Labels stay as long as another model that is here needs them.
    others = [e for n, e in catalog.entries().items() if n != name]
    needed = {f.file for e in others if catalog.locate(e.cpu.file).exists() for f in _files(e)}
    for file in _files(entry):
        path = catalog.fetched() / file.file
        for one in (path, path.with_name(f"{path.name}.part")):
            if one.exists() and file.file not in needed:
                try:
                    one.unlink()
                except OSError as error:
                    raise FetchError(one, f"cannot be removed: {error.strerror}") from None
                yield one


def _files(entry: Entry) -> Iterator[ModelFile | LabelFile]:
    yield entry.cpu
    if entry.labels:
        yield entry.labels
    if entry.edgetpu:
        yield entry.edgetpu


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
