"""The command line: arguments to calls, errors to exit codes.

Exit 0: done. 1: a fault. 2: usage or configuration. Each command imports what it needs
when it runs, so that ``labelcam --help`` loads no model runtime.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from device import __version__
from device.errors import LabelcamError, UsageError

_SOURCES = (
    "where pictures come from: auto, footage (the clip that ships), synthetic, a device such "
    "as /dev/video0, a video, a picture, a folder of pictures, or an rtsp:// or http:// address"
)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``labelcam`` with these arguments, by default the process's; returns the exit code."""
    _quiet_opencv()
    try:
        options = _parser().parse_args(arguments)
        _log_to_stderr(verbose=options.verbose)
        code: int = options.command(options)
    except LabelcamError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as in ``labelcam classify … | head -1``. What is
        # still buffered has nowhere to go either; without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # the last line of defence: no traceback reaches a user
        logging.getLogger("labelcam").debug("fault", exc_info=True)
        _complain(
            f"internal fault: {type(error).__name__}: {error}; "
            "please report it with the output of the same command with --verbose"
        )
        return 1
    return code


def _complain(message: str) -> None:
    print("labelcam:", " ".join(message.split()), file=sys.stderr)


def _quiet_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own messages off the terminal; read when they are loaded."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


def _log_to_stderr(*, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("labelcam: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="labelcam", description="A camera that says what it sees.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"labelcam {__version__}")
    parser.set_defaults(verbose=False)
    common = _Parser(add_help=False)
    common.add_argument("--verbose", action="store_true", help="say more on stderr")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run", parents=[common], help="classify a camera until it is stopped", allow_abbrev=False
    )
    run.add_argument("--source", metavar="S", help=_SOURCES)
    run.add_argument("--config", metavar="FILE", type=Path, help="the configuration file")
    run.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="set a key of the configuration; may be given again",
    )
    run.add_argument("--frames", metavar="N", type=_count, help="stop after N classified frames")
    run.set_defaults(command=_run)

    classify = commands.add_parser(
        "classify", parents=[common], help="classify pictures", allow_abbrev=False
    )
    classify.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a picture or folder")
    classify.add_argument("--model", metavar="M", help="a model's name or .tflite file")
    classify.add_argument("--labels", metavar="FILE", help="the label file of the model")
    classify.add_argument(
        "--top", metavar="K", type=_count, default=5, help="how many labels a picture (5)"
    )
    classify.add_argument("--json", action="store_true", help="one JSON object a picture")
    classify.set_defaults(command=_classify)
    return parser


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return number


def _run(options: argparse.Namespace) -> int:
    from device import config
    from device.node import Node

    settings = list(options.set)
    if options.source is not None:
        # As a TOML literal string, so that no character of a path or address means anything.
        settings.append(f"camera.source='''{options.source}'''")
    return Node(config.load(options.config, settings), frames=options.frames).run()


def _classify(options: argparse.Namespace) -> int:
    from device.classify import classify

    return classify(
        options.files,
        model=options.model,
        labels=options.labels,
        top=options.top,
        as_json=options.json,
    )
