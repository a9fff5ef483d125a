"""What several commands take, written once; each is a parent for ``add_parser(parents=...)``."""

import argparse
import re
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from device.errors import UsageError

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

_SOURCES = (
    "where pictures come from: auto, footage (the clip that ships), synthetic, pi, a "
    "device such as /dev/video0 or usb:046d:0825, a video, a picture, a folder of pictures, an "
    "rtsp:// or http:// address, or replay:FOLDER"
)
# Control characters, and what stands for bytes that are not UTF-8.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments. Raises UsageError."""
        raise UsageError(f"{message}; see {self.prog} --help")


def group(commands: Commands, name: str, text: str) -> Commands:
    """The commands of a command, such as ``models list``."""
    parser = commands.add_parser(name, help=text)
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def parent(name: str, **options: Any) -> Parser:
    """A parent with one argument."""
    parser = Parser(add_help=False)
    parser.add_argument(name, **options)
    return parser


def source(more: str = "") -> Parser:
    """``--source``, None where it is not given."""
    return parent("--source", metavar="S", type=_source, help=_SOURCES + more)


def config_file(more: str = "") -> Parser:
    """``--config``, None where it is not given."""
    return parent("--config", metavar="FILE", type=Path, help="the configuration file" + more)


def as_json(text: str) -> Parser:
    """``--json``; ``text`` says what of it."""
    return parent("--json", action="store_true", help=text)


VERBOSE = parent("--verbose", action="store_true", help="say more on stderr")
SET = parent(
    "--set",
    metavar="SECTION.KEY=VALUE",
    action="append",
    default=[],
    help="set a key of the configuration; may be given again",
)
MODEL = parent("--model", metavar="M", help="a model's name or .tflite file")
LABELS = parent("--labels", metavar="FILE", default="", help="the label file of the model")


def count(text: str) -> int:
    """A whole number over 0."""
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return number


def duration_s(text: str) -> float:
    """``90``, ``90s``, ``5m`` or ``1h`` in seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)?", text)
    if found is None or not float(found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 60s, 5m or 1h")
    return float(found[1]) * {"m": 60, "h": 3600}.get(found[2] or "s", 1)


def _source(text: str) -> str:
    if found := _UNPRINTABLE.search(text):
        raise argparse.ArgumentTypeError(f"{text!r} has the control character {found[0]!r}")
    return text
