"""``labelcam classify``: labels for pictures on disk."""

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from device import config
from device.errors import PictureError
from device.events import Prediction, StageTimes
from device.inference.choice import choose
from device.library import catalog
from device.pipeline.classifier import Classifier
from device.recordings.pictures import find_pictures, read_picture


class Classified(msgspec.Struct, frozen=True):
    """One picture's result, as ``--json`` prints it."""

    file: str
    predictions: tuple[Prediction, ...]
    stages: StageTimes


def classify(
    paths: Sequence[Path], *, model: str | None, labels: str | None, top: int, as_json: bool
) -> int:
    """Print the best ``top`` labels of each picture, in the order given.

    A picture that cannot be read is named on stderr and the others go on; returns the exit
    code, 1 when there was one. Raises ModelError and its like before any picture.
    """
    settings = config.Model(name=model or config.Model().name, labels=labels or "")
    failed = False
    found = catalog.find(settings.name, settings.labels)
    # What a run or a bench measured; a picture or two are not worth a measurement.
    choice = choose(found.file, settings, may_measure=False)
    with Classifier(found, settings, choice=choice) as classifier:
        for path in paths:
            try:
                pictures = find_pictures(path)
            except PictureError as error:
                failed = _complain(error)
                continue
            for picture in pictures:
                try:
                    result = _classify_one(classifier, picture, top)
                except PictureError as error:
                    failed = _complain(error)
                    continue
                print(msgspec.json.encode(result).decode() if as_json else _text(result))
    return 1 if failed else 0


def _complain(error: PictureError) -> bool:
    sys.stdout.flush()
    print(f"labelcam: {error}", file=sys.stderr)
    return True


def _classify_one(classifier: Classifier, path: Path, top: int) -> Classified:
    classifier.classify(read_picture(path))
    return Classified(str(path), classifier.top(top), classifier.stages)


def _text(result: Classified) -> str:
    rows = [f"  {p.score:6.1%}  {p.label}" for p in result.predictions]
    return "\n".join([result.file, *rows])
