"""``labelcam record``: write what a camera sees to disk."""

import argparse
import logging
from pathlib import Path

from device.cli.arguments import SET, VERBOSE, Commands, config_file, count, duration_s, source
from device.errors import SinkError, UsageError

_log = logging.getLogger("labelcam.record")


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "record",
        parents=[VERBOSE, source(), config_file(), SET],
        help="write what a camera sees to disk, to be played with --source replay:OUT, or its "
        "scores for tune",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    parser.add_argument(
        "--for",
        metavar="TIME",
        dest="for_s",
        type=duration_s,
        required=True,
        help="how long: seconds, or a number with s, m or h, such as 90, 60s, 5m or 1.5h",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="keep the scores of every frame and no picture, for tune: some 3 MB an hour",
    )
    parser.add_argument(
        "--lossless", action="store_true", help="keep every bit, as PNG; else JPEG of quality 95"
    )
    parser.add_argument(
        "--max-mb", metavar="N", type=count, default=1024, help="end at so many megabytes (1024)"
    )
    parser.set_defaults(command=_record, loads=("device.node",))


def _record(options: argparse.Namespace) -> int:
    from device import config
    from device.node import Node
    from device.sinks.record import RecordSink, ScoresSink

    if options.scores and options.lossless:
        raise UsageError("record: --scores keeps no picture, and --lossless is of pictures")
    # Of a scene at rest the gate would leave out the very frames on which thresholds are tried.
    every = ["gate.motion='off'"] if options.scores else []
    settings = config.load(options.config, [*every, *options.set], source=options.source)
    if len(settings.camera) != 1:
        raise UsageError(
            f"record: records one camera, and the configuration has {len(settings.camera)}; "
            "give --source"
        )
    limit = options.max_mb << 20
    sink = (
        ScoresSink(options.out, options.for_s, limit)
        if options.scores
        else RecordSink(options.out, options.for_s, limit, lossless=options.lossless)
    )
    try:
        Node(settings, sinks=(lambda: sink,), for_s=options.for_s, scores=options.scores).run()
    finally:
        sink.close()
    if sink.failure:
        raise SinkError(sink.failure)
    end = f"; it ended at its limit of {options.max_mb} MB" if sink.full else ""
    written_mb = sink.bytes / (1 << 20)
    _log.info("record: %d frames, %.1f MB, in %s%s", sink.frames, written_mb, options.out, end)
    return 0
