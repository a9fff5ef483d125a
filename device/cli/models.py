"""``labelcam models``: what there is, what it is, and having it here."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from device.cli.arguments import LABELS, VERBOSE, Commands, config_file, group
from device.cli.service import OWN
from device.errors import FetchError, LabelcamError, UnknownModel
from device.system.text import printable

if TYPE_CHECKING:
    from rich.table import Table

    from device.config import Model
    from device.library.catalog import Entry
    from device.library.fetch import Fetcher, Progress

# Columns of a table for a program.
_WIDE = 2000


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "models", "the models there are, and having them here")
    parser = ways.add_parser(
        "list", parents=[VERBOSE, OWN, config_file(", if not the service's")], help="the catalogue"
    )
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


def _list(options: argparse.Namespace) -> int:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from device import config
    from device.library import catalog, install
    from device.pipeline.plan import model_of

    settings = config.load(options.config)
    in_use = {model_of(settings, camera).name for camera in settings.camera}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "here", "input"):
        table.add_column(heading, no_wrap=True)
    for heading in ("MB", "top-1 %", "ms here"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("what it tells", overflow="fold")
    for name, entry in catalog.entries().items():
        here = not any(install.missing(entry))
        absent = "fetch" if entry.cpu.url else "build"
        state = "in use" if name in in_use else "yes" if here else absent
        size = f"{entry.input.width}x{entry.input.height}"
        tpu = "; has a twin for the Edge TPU" if entry.edgetpu else ""
        table.add_row(
            name,
            state,
            size,
            f"{entry.cpu.bytes / 1e6:.1f}",
            _accuracy(entry),
            _speed_ms(name, settings.model) if here else "",
            f"{entry.summary}{tpu}",
        )
    _print(table)
    print("top-1: m measured, p published, of INT8 files. ms here: what a run measured.")
    return 0


def _print(table: "Table") -> None:
    """Print it; whole lines where nobody looks, since a program may read them."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = _WIDE
    console.print(table)


def _accuracy(entry: "Entry") -> str:
    for letter, facts in (("m", entry.measured), ("p", entry.published)):
        for key in ("top1_int8", "top1"):
            if key in facts:
                return f"{facts[key]} {letter}"
    return ""


def _speed_ms(name: str, settings: "Model") -> str:
    """What a run or a bench measured here of one frame; empty where none did."""
    from device.inference.choice import choose
    from device.library import catalog

    try:
        choice = choose(catalog.find(name).file, settings)
    except LabelcamError:
        return ""
    return f"{choice.invoke_ms:.2f}" if choice and choice.invoke_ms else ""


def _show(options: argparse.Namespace) -> int:
    from rich.table import Table

    from device.inference.explain import explain
    from device.library import catalog
    from device.pipeline.words import nearest

    known = catalog.entries()
    if options.name not in known and not Path(options.name).exists():
        raise UnknownModel(
            options.name,
            f"no such file, and no model of the catalogue{nearest(options.name, known)}",
        )
    facts, problems = explain(options.name, options.labels)
    facts += [("problem", problem) for problem in problems] or [("problems", "none")]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for key, said in facts:
        table.add_row(key, printable(said))
    _print(table)
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
