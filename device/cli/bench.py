"""``labelcam bench``: measure what runs a model fastest on this machine."""

import argparse
import contextlib

from device.cli.arguments import (
    LABELS,
    MODEL,
    VERBOSE,
    Commands,
    as_json,
    config_file,
    count,
    source,
)


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        parents=[
            VERBOSE,
            source("; without it 640×480 and 1920×1080 synthetic"),
            MODEL,
            LABELS,
            as_json("one JSON object on stdout"),
            config_file(),
        ],
        help="measure what runs a model fastest on this machine",
    )
    parser.add_argument(
        "--threads", metavar="N,N", type=_threads, default=(), help="numbers of threads (1,2,4)"
    )
    parser.add_argument(
        "--runtime", choices=("tflite-runtime", "ai-edge-litert"), help="only this (all installed)"
    )
    parser.add_argument(
        "--seconds", metavar="S", type=count, default=30, help="how long to measure, in all (30)"
    )
    parser.add_argument(
        "--pace",
        metavar="FPS",
        type=_rate,
        help="measure at so many frames a second, as a camera gives them (as fast as can be)",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="use what is best: remember it for auto, and put it into the file of --config",
    )
    parser.add_argument(
        "--against",
        metavar="PYTHON",
        action="append",
        default=[],
        help="also measure tflite-support, mediapipe and openvino, as far as they are installed "
        "for this Python; may be given for each of several",
    )
    parser.set_defaults(command=_bench, loads=("device.bench.bench",))


def _threads(text: str) -> tuple[int, ...]:
    """Whole numbers that may be numbers of threads, ascending."""
    numbers = [int(n) if n.isascii() and n.isdecimal() else 0 for n in text.split(",")]
    if not all(1 <= n <= 64 for n in numbers):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of numbers from 1 to 64, such as 1,2,4"
        )
    return tuple(sorted(set(numbers)))


def _rate(text: str) -> float:
    """Frames a second, of which there may be so many."""
    with contextlib.suppress(ValueError):
        rate = float(text)
        if 1 <= rate <= 240:
            return rate
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of frames a second from 1 to 240")


def _bench(options: argparse.Namespace) -> int:
    import msgspec

    from device import config
    from device.bench.bench import bench

    settings = config.load(options.config)
    if options.model or options.labels:
        name = options.model or settings.model.name
        model = msgspec.structs.replace(settings.model, name=name, labels=options.labels)
        settings = msgspec.structs.replace(settings, model=model)
    return bench(
        settings,
        source=options.source,
        threads=options.threads,
        runtime=options.runtime,
        seconds=options.seconds,
        pace_fps=options.pace,
        against=options.against,
        as_json=options.json,
        write=options.write,
        config_file=options.config,
    )
