"""``labelcam models``: what there is, what it is, and having it here."""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device.errors import FetchError, UsageError
from device.library import catalog
from device.library.catalog import Entry, LabelFile, ModelFile
from device.library.fetch import Fetcher, Progress


def list_models() -> int:
    """Print the catalogue, a line a model; returns the exit code."""
    width = max(len(name) for name in catalog.entries())
    for name, entry in catalog.entries().items():
        state = "here" if not list(_missing(entry)) else "fetch" if entry.cpu.url else "build"
        size = f"{entry.input.width}x{entry.input.height}"
        tpu = "Edge TPU" if entry.edgetpu else ""
        print(f"{name:{width}}  {state:5}  {size:7}  {tpu:8}  {entry.summary}")
    return 0


def show_model(name: str, labels: str) -> int:
    """Print what the model is; returns the exit code, 1 where something is wrong with it."""
    from device.inference.explain import explain

    lines, problems = explain(name, labels)
    print("\n".join(lines))
    for problem in problems:
        print(f"{'problem':10} {problem}")
    if not problems:
        print(f"{'problems':10} none")
    return 1 if problems else 0


def fetch_model(name: str, fetcher: Fetcher | None = None) -> int:
    """Have the model's files here, its twin for the Edge TPU too; returns the exit code.

    What is here and right already is not fetched again. Raises UsageError for a name that
    is not in the catalogue, FetchError.
    """
    entry = _entry(name)
    wanted = list(_missing(entry))
    if not wanted:
        print(f"{name}: is here already")
        return 0
    if not entry.cpu.url:
        raise FetchError(name, f"has no address; {catalog.how_to_get(name)}")
    fetcher = fetcher or Fetcher()
    for file in wanted:
        with _progress_bar(file.file) as progress:
            fetcher.fetch(file, catalog.fetched() / file.file, progress)
        print(f"{file.file}: {file.bytes:,} bytes, SHA-256 is right")
    print(f'{name}: is here; use it as model.name = "{name}"')
    return 0


def verify_models() -> int:
    """Hash every file that is here; returns the exit code, 1 where one is not as pinned."""
    pinned = {f.file: f.sha256 for entry in catalog.entries().values() for f in _files(entry)}
    code = 0
    for file, sha256 in pinned.items():
        path = catalog.locate(file)
        if path.exists():
            right = _is(path, sha256)
            print(f"{path}: {'right' if right else 'NOT the file of the catalogue'}")
            code = code if right else 1
    return code


def remove_model(name: str) -> int:
    """Remove the fetched files of the model; what ships stays. Returns the exit code."""
    entry = _entry(name)
    # Labels stay as long as another model that is here needs them.
    others = [e for n, e in catalog.entries().items() if n != name]
    needed = {f.file for e in others if catalog.locate(e.cpu.file).exists() for f in _files(e)}
    gone = []
    for file in _files(entry):
        path = catalog.fetched() / file.file
        for one in (path, path.with_name(f"{path.name}.part")):
            if one.exists() and file.file not in needed:
                try:
                    one.unlink()
                except OSError as error:
                    raise FetchError(one, f"cannot be removed: {error.strerror}") from None
                gone.append(one)
    for path in gone:
        print(f"removed {path}")
    if not gone:
        print(f"{name}: has no fetched files")
    return 0


def _entry(name: str) -> Entry:
    entry = catalog.entries().get(name)
    if entry is None:
        raise UsageError(f"models: {name!r} is not one of {', '.join(catalog.entries())}")
    return entry


def _files(entry: Entry) -> Iterator[ModelFile | LabelFile]:
    yield entry.cpu
    if entry.labels:
        yield entry.labels
    if entry.edgetpu:
        yield entry.edgetpu


def _missing(entry: Entry) -> Iterator[ModelFile | LabelFile]:
    """The files of the model that are not here, or are not as pinned."""
    for file in _files(entry):
        path = catalog.locate(file.file)
        if not path.exists() or not _is(path, file.sha256):
            yield file


def _is(path: Path, sha256: str) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


@contextmanager
def _progress_bar(file: str) -> Iterator[Progress]:
    """A bar on stderr while a file is fetched; where that is no terminal, nothing."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(
        "{task.description}", *columns, console=console, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(file, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
