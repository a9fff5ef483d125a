"""``labelcam classify``: labels for pictures on disk."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from device.cli.arguments import LABELS, MODEL, VERBOSE, Commands, as_json, count
from device.errors import ModelError, PictureError
from device.system.logs import complain
from device.system.text import json_line, printable

if TYPE_CHECKING:
    from device.events import Prediction, StageTimes


class Classified(msgspec.Struct, frozen=True):
    """One picture's result, as ``--json`` prints it."""

    file: str
    predictions: "tuple[Prediction, ...]"
    stages: "StageTimes"


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "classify",
        parents=[VERBOSE, MODEL, LABELS, as_json("one JSON object a picture")],
        help="classify pictures",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="a picture or folder")
    parser.add_argument(
        "--top", metavar="K", type=count, default=5, help="how many labels a picture (5)"
    )
    parser.add_argument(
        "--groups",
        metavar="NAME",
        nargs="?",
        const="everyday",
        default="",
        help="words for groups of labels, as a run says them: everyday, which need not be named, "
        "or a file like decide.groups; after the files",
    )
    parser.set_defaults(command=_classify, loads=("device.pipeline.classifier",))


def _classify(options: argparse.Namespace) -> int:
    """Print the best labels of each picture, in the order given.

    A picture that cannot be read is named on stderr and the others go on; returns the exit
    code, 1 when there was one. Raises ModelError and its like before any picture.
    """
    from device import config
    from device.inference.choice import choose
    from device.inference.pool import open_engine
    from device.library import catalog
    from device.pipeline.classifier import Classifier, predictions
    from device.pipeline.groups import groups_for
    from device.pipeline.words import Words
    from device.recordings.pictures import find_pictures, read_picture

    settings = config.Model(name=options.model or config.Model().name, labels=options.labels)
    failed = False
    found = catalog.find(settings.name, settings.labels)
    if not found.labels:
        raise ModelError(found.name, "gives features alone, not labels; `labelcam run` takes it")
    decide = config.Decide(groups=options.groups)
    words = Words(decide, found.labels, groups_for(decide, found.name))
    # What a run or a bench measured; a picture or two are not worth a measurement.
    choice = choose(found.file, settings)
    with Classifier(found, open_engine(found, settings, choice)) as classifier:
        for path in options.files:
            try:
                pictures = find_pictures(path)
            except PictureError as error:
                failed = _complain(error)
                continue
            for picture in pictures:
                try:
                    scores = words(classifier.classify(read_picture(picture)))
                except PictureError as error:
                    failed = _complain(error)
                    continue
                best = predictions(words.names, scores, options.top)
                # Bytes of a name that are not UTF-8 are no text that could be printed.
                name = os.fsencode(picture).decode(errors="backslashreplace")
                result = Classified(name, best, classifier.stages)
                print(json_line(result) if options.json else _text(result))
    return 1 if failed else 0


def _complain(error: PictureError) -> bool:
    sys.stdout.flush()
    complain(str(error))
    return True


def _text(result: Classified) -> str:
    rows = [f"  {p.score:6.1%}  {printable(p.label)}" for p in result.predictions]
    return "\n".join([printable(result.file), *rows])
