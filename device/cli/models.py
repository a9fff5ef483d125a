"""``labelcam models``: what there is, what it is, and having it here."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from device.cli.arguments import LABELS, VERBOSE, Commands, group
from device.cli.service import OWN
from device.errors import FetchError
from device.system.text import printable

if TYPE_CHECKING:
    from device.library.fetch import Fetcher, Progress


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "models", "the models there are, and having them here")
    parser = ways.add_parser("list", parents=[VERBOSE, OWN], help="the catalogue")
    parser.set_defaults(command=_list)
    parser = ways.add_parser(
        "show", parents=[VERBOSE, LABELS], help="what a model is, and what is wrong with it"
    )
    parser.add_argument("name", metavar="NAME-or-FILE", help="a name or .tflite file")
    parser.set_defaults(command=_show)
    parser = ways.add_parser(
        "fetch",
        parents=[VERBOSE, OWN],
        help="download a model of the catalogue, with its labels and Edge TPU twin",
    )
    parser.add_argument("name", metavar="NAME", help="its name in the catalogue")
    parser.set_defaults(command=lambda options: fetch(options.name))
    parser = ways.add_parser(
        "verify", parents=[VERBOSE, OWN], help="compare the files that are here with the catalogue"
    )
    parser.set_defaults(command=_verify)
    parser = ways.add_parser("remove", parents=[VERBOSE, OWN], help="remove what was fetched")
    parser.add_argument("name", metavar="NAME", help="its name in the catalogue")
    parser.set_defaults(command=_remove)


def _list(_options: argparse.Namespace) -> int:
    from device.library import catalog, install

    width = max(len(name) for name in catalog.entries())
    for name, entry in catalog.entries().items():
        here = not any(install.missing(entry))
        state = "here" if here else "fetch" if entry.cpu.url else "build"
        size = f"{entry.input.width}x{entry.input.height}"
        tpu = "Edge TPU" if entry.edgetpu else ""
        print(f"{name:{width}}  {state:5}  {size:7}  {tpu:8}  {entry.summary}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from device.inference.explain import explain

    lines, problems = explain(options.name, options.labels)
    print("\n".join(map(printable, lines)))
    for problem in problems or ["none"]:
        print(f"{'problem' if problems else 'problems':10} {printable(problem)}")
    return 1 if problems else 0


def fetch(name: str, fetcher: "Fetcher | None" = None) -> int:
    """Have the model's files here, its twin for the Edge TPU too; returns the exit code.

    What is here and right already is not fetched again. Raises UsageError for a name that
    is not in the catalogue, FetchError.
    """
    from device.library import catalog, install
    from device.library.fetch import Fetcher

    entry = install.entry_of(name)
    wanted = list(install.missing(entry))
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


def _verify(_options: argparse.Namespace) -> int:
    from device.library import install

    code = 0
    for path, right in install.verify():
        print(f"{path}: {'right' if right else 'NOT the file of the catalogue'}")
        code = code if right else 1
    return code


def _remove(options: argparse.Namespace) -> int:
    from device.library import install

    gone = [f"removed {path}" for path in install.remove(options.name)]
    print("\n".join(gone) or f"{options.name}: has no fetched files")
    return 0


@contextmanager
def _progress_bar(file: str) -> "Iterator[Progress]":
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
