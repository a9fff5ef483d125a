"""``labelcam tune``: thresholds by trial on recordings whose truth is known."""

import argparse
from pathlib import Path

from device.cli.arguments import SET, VERBOSE, Commands, as_json, config_file
from device.errors import UsageError


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "tune",
        parents=[VERBOSE, config_file(), SET, as_json("one JSON object on stdout")],
        help="try settings of [decide] on recordings, and show which are best",
    )
    parser.add_argument(
        "recordings", metavar="RECORDING", nargs="+", type=Path, help="what `record` made"
    )
    parser.add_argument(
        "--truth",
        metavar="FILE",
        type=Path,
        help="what was there and when, as JSON lines or TOML (truth.jsonl in the recording)",
    )
    parser.add_argument(
        "--mark", action="store_true", help="mark the truth by keys, while the recording plays here"
    )
    parser.add_argument(
        "--labels", metavar="A,B", type=_labels, default=(), help="the only labels that matter"
    )
    parser.add_argument(
        "--check",
        metavar="RECORDING",
        type=Path,
        help="judge the best settings on this one too, which is not tuned on",
    )
    parser.add_argument(
        "--html", metavar="FILE", type=Path, help="write a page with the timeline, to mark it too"
    )
    parser.add_argument(
        "--write", action="store_true", help="put the best into the file of --config"
    )
    parser.set_defaults(command=_tune, loads=("device.pipeline.feeds",))


def _labels(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for part in text.split(",") if (word := part.strip())))


def _tune(options: argparse.Namespace) -> int:
    from device import config
    from device.tune.tune import Request, tune

    if options.truth is not None and len(options.recordings) > 1:
        raise UsageError("tune: --truth is of one recording; give one, or put it into each folder")
    settings = config.load(options.config, options.set)
    if options.mark:
        from device.tune.mark import mark

        if len(options.recordings) > 1:
            raise UsageError("tune: --mark is of one recording; give one")
        return mark(options.recordings[0], settings, options.truth, options.labels)
    return tune(
        Request(
            options.recordings,
            options.truth,
            options.labels,
            options.check,
            options.html,
            options.json,
            options.write,
            options.config,
        ),
        settings,
    )
