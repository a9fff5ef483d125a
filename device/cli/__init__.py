"""The command line: arguments to calls, errors to exit codes.

Exit 0: done. 1: a fault. 2: usage or configuration. Each command imports what it needs
when it runs, so that ``labelcam --help`` loads no model runtime.
"""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from device import __version__
from device.errors import DependencyError, LabelcamError, UsageError
from device.system import logs

_SOURCES = (
    "where pictures come from: auto, footage (the clip that ships), synthetic, pi, a "
    "device such as /dev/video0 or usb:046d:0825, a video, a picture, a folder of pictures, an "
    "rtsp:// or http:// address, or replay:FOLDER"
)


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``labelcam`` with these arguments, by default the process's; returns the exit code."""
    _quiet_opencv()
    # Where nobody else waits for what a thread could not cope with, it is said as here.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _complain_of_thread
    try:
        options = _parser().parse_args(arguments)
        logs.configure(verbose=options.verbose)
        code: int = options.command(options)
    except LabelcamError as error:
        logs.complain(str(error))
        _tell_service_manager(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as in ``labelcam classify … | head -1``. What is
        # still buffered has nowhere to go either; without this Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        _complain_of_fault(error)
        return 1
    return code


def _complain_of_fault(error: BaseException) -> None:
    logging.getLogger("labelcam").debug("fault", exc_info=error)
    logs.complain(
        f"internal fault: {type(error).__name__}: {error}; "
        "please report it with the output of the same command with --verbose"
    )


def _complain_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        _complain_of_fault(ended.exc_value)


def _tell_service_manager(problem: str) -> None:
    """Leave it to ``systemctl status`` why the service ended."""
    if "NOTIFY_SOCKET" in os.environ:
        from device.system.notify import Notifier

        Notifier().status(problem)


def _quiet_opencv() -> None:
    """Keep OpenCV's and FFmpeg's own messages off the terminal; read when they are loaded."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


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

    bench = commands.add_parser(
        "bench",
        parents=[common],
        help="measure what runs a model fastest on this machine",
        allow_abbrev=False,
    )
    bench.add_argument(
        "--source", metavar="S", help=f"{_SOURCES}; without it 640×480 and 1920×1080 synthetic"
    )
    bench.add_argument("--model", metavar="M", help="a model's name or .tflite file")
    bench.add_argument("--labels", metavar="FILE", help="the label file of the model")
    bench.add_argument(
        "--threads", metavar="N,N", type=_threads, default=(), help="numbers of threads (1,2,4)"
    )
    bench.add_argument(
        "--runtime", choices=("tflite-runtime", "ai-edge-litert"), help="only this (all installed)"
    )
    bench.add_argument(
        "--seconds", metavar="S", type=_count, default=30, help="how long to measure, in all (30)"
    )
    bench.add_argument("--json", action="store_true", help="one JSON object on stdout")
    bench.add_argument("--config", metavar="FILE", type=Path, help="the configuration file")
    bench.add_argument(
        "--write",
        action="store_true",
        help="use what is best: remember it for auto, and put it into the file of --config",
    )
    bench.add_argument(
        "--against",
        metavar="PYTHON",
        default="",
        help="also measure tflite-support, mediapipe and openvino, as far as they are installed "
        "for this Python",
    )
    bench.set_defaults(command=_bench)
    _add_record(commands, common)
    _add_models(commands, common)
    _add_web(commands, common)
    _add_doctor(commands, common)
    _add_config(commands, common)
    _add_mqtt(commands, common)
    return parser


def _add_record(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    record = commands.add_parser(
        "record",
        parents=[common],
        help="write what a camera sees to disk, to be played with --source replay:OUT",
        allow_abbrev=False,
    )
    record.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    record.add_argument(
        "--for", metavar="TIME", dest="for_s", type=_duration, required=True, help="as 60s, 5m, 1h"
    )
    record.add_argument("--source", metavar="S", help=_SOURCES)
    record.add_argument("--config", metavar="FILE", type=Path, help="the configuration file")
    record.add_argument(
        "--set",
        metavar="SECTION.KEY=VALUE",
        action="append",
        default=[],
        help="set a key of the configuration; may be given again",
    )
    record.add_argument(
        "--lossless", action="store_true", help="keep every bit, as PNG; else JPEG of quality 95"
    )
    record.add_argument(
        "--max-mb", metavar="N", type=_count, default=1024, help="end at so many megabytes (1024)"
    )
    record.set_defaults(command=_record)


def _add_models(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    models = commands.add_parser(
        "models", help="the models there are, and having them here", allow_abbrev=False
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    whats = {
        "list": "the catalogue",
        "show": "what a model is, and what is wrong with it",
        "fetch": "download a model of the catalogue, with its labels and Edge TPU twin",
        "verify": "compare the files that are here with the catalogue",
        "remove": "remove what was fetched",
    }
    for what, text in whats.items():
        parser = models.add_parser(what, parents=[common], help=text, allow_abbrev=False)
        if what == "show":
            parser.add_argument("name", metavar="NAME-or-FILE", help="a name or .tflite file")
            parser.add_argument("--labels", metavar="FILE", default="", help="its label file")
        elif what in ("fetch", "remove"):
            parser.add_argument("name", metavar="NAME", help="its name in the catalogue")
        parser.set_defaults(command=_models, what=what)


def _add_mqtt(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    mqtt = commands.add_parser(
        "mqtt", help="the way to the broker, by hand", allow_abbrev=False
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    for what, text in (
        ("check", "go to the broker step by step, and say which step fails and what to do"),
        ("forget", "take the device out of Home Assistant and its messages off the broker"),
    ):
        parser = mqtt.add_parser(what, parents=[common], help=text, allow_abbrev=False)
        parser.add_argument("--config", metavar="FILE", type=Path, help="the configuration file")
        parser.add_argument(
            "--set",
            metavar="SECTION.KEY=VALUE",
            action="append",
            default=[],
            help="set a key of the configuration; may be given again",
        )
        parser.set_defaults(command=_mqtt, what=what)


def _add_web(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    web = commands.add_parser(
        "web", help="the page in the browser", allow_abbrev=False
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    token = web.add_parser(
        "token",
        parents=[common],
        help="make the token that the page asks for, in place of the old one",
        allow_abbrev=False,
    )
    token.add_argument("--config", metavar="FILE", type=Path, help="the configuration file")
    token.set_defaults(command=_web_token)


def _add_doctor(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    doctor = commands.add_parser(
        "doctor",
        parents=[common],
        help="tell what is wrong with this machine, and what mends it",
        allow_abbrev=False,
    )
    doctor.add_argument(
        "--config", metavar="FILE", type=Path, help="the configuration file, if not the service's"
    )
    doctor.add_argument("--json", action="store_true", help="all findings as one JSON array")
    doctor.add_argument(
        "--self-test",
        action="store_true",
        help="only whether this release works here, whatever is plugged in",
    )
    doctor.set_defaults(command=_doctor)


def _add_config(commands: "argparse._SubParsersAction[_Parser]", common: _Parser) -> None:
    settings = commands.add_parser(
        "config", help="the configuration file", allow_abbrev=False
    ).add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = settings.add_parser(
        "check", parents=[common], help="tell whether a file is valid", allow_abbrev=False
    )
    check.add_argument("file", metavar="FILE", type=Path)
    check.set_defaults(command=_config_check)
    adopt = settings.add_parser(
        "adopt",
        parents=[common],
        help="move labelcam.toml from the boot partition to its place; the service does so itself",
        allow_abbrev=False,
    )
    adopt.set_defaults(command=_config_adopt)


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number over 0")
    return number


def _duration(text: str) -> float:
    from device.sinks.record import as_seconds

    try:
        return as_seconds(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 60s, 5m or 1h") from None


def _threads(text: str) -> tuple[int, ...]:
    """Whole numbers that may be numbers of threads, ascending."""
    numbers = [int(n) if n.isascii() and n.isdecimal() else 0 for n in text.split(",")]
    if not all(1 <= n <= 64 for n in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers from 1 to 64, such as 1,2,4"
        )
    return tuple(sorted(set(numbers)))


def _run(options: argparse.Namespace) -> int:
    from device import config
    from device.node import Node

    settings = list(options.set)
    if options.source is not None:
        # As a TOML literal string, so that no character of a path or address means anything.
        settings.append(f"camera.source='''{options.source}'''")

    def read() -> config.Config:
        return config.load(options.config, settings)

    # A service waits for its camera; who names one sees at once that it is not there.
    patient = options.config is not None and options.source is None
    node = Node(read(), frames=options.frames, reload=read, patient=patient)
    code = node.run()
    if node.wants_restart:
        # A driver may have opened files that would outlive the process image, and keep the
        # camera busy for the one that follows.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        # Another reload must not end the program before it has a handler again.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - no shell is wanted
    return code


def _models(options: argparse.Namespace) -> int:
    from device.cli import models

    match options.what:
        case "list":
            return models.list_models()
        case "show":
            return models.show_model(options.name, options.labels)
        case "fetch":
            return models.fetch_model(options.name)
        case "verify":
            return models.verify_models()
    return models.remove_model(options.name)


def _mqtt(options: argparse.Namespace) -> int:
    from device import config
    from device.system.paths import state_directory

    settings = config.load(options.config, options.set).mqtt
    try:
        from device.sinks.mqtt.announced import ANNOUNCED_FILE, Announced
        from device.sinks.mqtt.check import check, forget
    except ModuleNotFoundError as error:
        if error.name != "paho":
            raise
        raise DependencyError("mqtt: paho-mqtt is not installed; pip install paho-mqtt") from None
    if options.what == "check":
        return 0 if check(settings, print) else 1
    forget(settings, Announced(state_directory() / ANNOUNCED_FILE), print)
    return 0


def _web_token(options: argparse.Namespace) -> int:
    from device import config
    from device.sinks.web import token as web_token

    path = web_token.token_path(config.load(options.config).web.token_file)
    token = web_token.make(path)
    # Alone on stdout, so that it can be piped to where it is needed.
    print(token)
    print(
        f"labelcam: this is shown once; its hash is in {path}. "
        "What runs takes it at its next start",
        file=sys.stderr,
    )
    return 0


def _record(options: argparse.Namespace) -> int:
    from device import config
    from device.sinks.record import record

    settings = list(options.set)
    if options.source is not None:
        settings.append(f"camera.source='''{options.source}'''")
    return record(
        config.load(options.config, settings),
        options.out,
        options.for_s,
        options.max_mb << 20,
        lossless=options.lossless,
    )


def _classify(options: argparse.Namespace) -> int:
    from device.cli.classify import classify

    return classify(
        options.files,
        model=options.model,
        labels=options.labels,
        top=options.top,
        as_json=options.json,
    )


def _bench(options: argparse.Namespace) -> int:
    import msgspec

    from device import config
    from device.bench.bench import bench

    settings = config.load(options.config)
    if options.model or options.labels:
        model = msgspec.structs.replace(
            settings.model,
            name=options.model or settings.model.name,
            labels=options.labels or "",
        )
        settings = msgspec.structs.replace(settings, model=model)
    return bench(
        settings,
        source=options.source,
        threads=options.threads,
        runtime=options.runtime,
        seconds=options.seconds,
        against=options.against,
        as_json=options.json,
        write=options.write,
        config_file=options.config,
    )


def _doctor(options: argparse.Namespace) -> int:
    from device.doctor import doctor

    return doctor(options.config, as_json=options.json, self_test=options.self_test)


def _config_check(options: argparse.Namespace) -> int:
    from device import config

    config.load(options.file)
    print(f"{options.file}: is valid")
    return 0


def _config_adopt(_options: argparse.Namespace) -> int:
    from device.system.adopt import adopt

    return adopt()
