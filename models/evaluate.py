"""Measures a model on a labelled folder, through the device's own classifier.

What is measured is what a device does: its way to crop, to write the input, to run and to read
the scores. The figures go into a Markdown page, a JSON file and a picture of the confusion matrix.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import LabelcamError, PictureError
from device.inference.pool import open_engine
from device.library import catalog
from device.pipeline.classifier import Classifier
from device.recordings.pictures import read_picture
from models.dataset import Dataset, DatasetError, read_dataset
from models.lite0 import write_atomically

# Of the calibration error: the usual number of bins, https://arxiv.org/abs/1706.04599 section 3.
BINS: Final = 15
WARM_UP: Final = 5
PROGRESS_S: Final = 5.0


class EvaluationError(ValueError):
    """A folder whose classes are not the model's."""


class ClassResult(msgspec.Struct, frozen=True):
    """One class: how many of its pictures were found, and how many finds were right."""

    label: str
    pictures: int
    recall: float
    precision: float
    most_taken_for: str


class Evaluation(msgspec.Struct, frozen=True):
    """A model on labelled pictures; shares are of 1, times in milliseconds."""

    model: str
    sha256: str
    runtime: str
    delegate: str
    pictures: int
    top1: float
    top5: float
    calibration_error: float
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    classes: tuple[ClassResult, ...]


@dataclass(frozen=True)
class Scored:
    """Scores of all pictures, shape (pictures, labels), and the row of the right label of each."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    truth: NDArray[np.int64]
    latency_ms: NDArray[np.float64]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        data = read_dataset(options.pictures)
        settings = config.Model(
            name=options.model,
            labels=options.labels,
            runtime=options.runtime,
            delegate=options.delegate,
            threads=options.threads,
        )
        model = catalog.find(settings.name, settings.labels)
        with Classifier(model, open_engine(model, settings)) as classifier:
            scored = run(classifier, data)
            result = evaluate(scored, model.name, model.file.sha256, classifier)
        options.out.mkdir(parents=True, exist_ok=True)
        stem = options.out / model.name
        write_atomically(stem.with_name(f"{stem.name}.md"), markdown(result).encode())
        write_atomically(stem.with_name(f"{stem.name}.json"), msgspec.json.encode(result))
        png = cv2.imencode(".png", confusion_picture(scored))[1].tobytes()
        write_atomically(stem.with_name(f"{stem.name}.png"), png)
    except (DatasetError, EvaluationError, LabelcamError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1
    print(summary(result))
    print(f"{stem}.md, .json and .png say more")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate",
        description="Measure a model on a folder of pictures, one sub-folder a class.",
    )
    parser.add_argument("pictures", type=Path, help="the folder; its sub-folders name the classes")
    parser.add_argument("--model", required=True, help="a model's name or .tflite file")
    parser.add_argument("--labels", default="", help="its label file, as for labelcam classify")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the report (here)")
    parser.add_argument("--runtime", default="auto", choices=("auto", *_RUNTIMES))
    parser.add_argument("--delegate", default="auto", choices=_DELEGATES)
    parser.add_argument("--threads", type=int, default=1)
    return parser


_RUNTIMES: Final = ("tflite-runtime", "ai-edge-litert")
_DELEGATES: Final = ("auto", "xnnpack", "edgetpu", "none")


def run(classifier: Classifier, data: Dataset) -> Scored:
    """Classify every picture as the device would.

    Raises EvaluationError where a sub-folder is no label of the model.
    """
    foreign = [name for name in data.classes if name not in classifier.labels]
    if foreign:
        raise EvaluationError(
            f"the sub-folder {foreign[0]!r} is no label of the model "
            f"({', '.join(classifier.labels[:5])}, …); name it after one"
        )
    rows = np.array([classifier.labels.index(name) for name in data.classes])
    scores = np.zeros((len(data), len(classifier.labels)), np.float32)
    latency_ms = np.zeros(len(data))
    told_at = time.monotonic()
    for number, path in enumerate(data.files):
        try:
            frame = read_picture(path)
        except PictureError as error:
            raise DatasetError(str(error)) from None
        if number == 0:
            # The first calls pay for memory that is touched for the first time.
            for _ in range(WARM_UP):
                classifier.classify(frame)
        started = time.perf_counter()
        scores[number] = classifier.classify(frame)
        latency_ms[number] = (time.perf_counter() - started) * 1e3
        if time.monotonic() - told_at >= PROGRESS_S:
            told_at = time.monotonic()
            print(f"{number + 1} of {len(data)} pictures", file=sys.stderr)
    return Scored(classifier.labels, scores, rows[data.labels], latency_ms)


def evaluate(scored: Scored, name: str, sha256: str, classifier: Classifier) -> Evaluation:
    """The figures."""
    order = np.argsort(-scored.scores, axis=1, kind="stable")
    found = order[:, 0]
    right = found == scored.truth
    p50, p99 = np.percentile(scored.latency_ms, (50, 99))
    return Evaluation(
        model=name,
        sha256=sha256,
        runtime=f"{classifier.description.runtime} {classifier.description.version}",
        delegate=classifier.description.delegate,
        pictures=len(right),
        top1=float(right.mean()),
        top5=float((order[:, :5] == scored.truth[:, np.newaxis]).any(axis=1).mean()),
        calibration_error=calibration_error(scored.scores.max(axis=1), right),
        latency_mean_ms=float(scored.latency_ms.mean()),
        latency_p50_ms=float(p50),
        latency_p99_ms=float(p99),
        classes=tuple(_class_results(scored, found)),
    )


def calibration_error(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far the score is from the share that is right, on average.

    In BINS of equal width, weighted by their pictures (https://arxiv.org/abs/1706.04599,
    equation 3).
    """
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    total = 0.0
    for number in np.unique(bins):
        inside = bins == number
        gap = abs(float(confidence[inside].mean()) - float(right[inside].mean()))
        total += gap * float(inside.mean())
    return total


def _class_results(scored: Scored, found: NDArray[np.int64]) -> list[ClassResult]:
    results = []
    for row in np.unique(scored.truth):
        mine = scored.truth == row
        wrong = found[mine & (found != row)]
        finds = found == row
        results.append(
            ClassResult(
                label=scored.labels[row],
                pictures=int(mine.sum()),
                recall=float((found[mine] == row).mean()),
                precision=float(mine[finds].mean()) if finds.any() else 0.0,
                most_taken_for=scored.labels[np.bincount(wrong).argmax()] if len(wrong) else "",
            )
        )
    return results


def summary(result: Evaluation) -> str:
    """The figures on a line."""
    return (
        f"{result.model}: top-1 {result.top1:.1%}, top-5 {result.top5:.1%} of {result.pictures} "
        f"pictures, calibration error {result.calibration_error:.3f}, "
        f"{result.latency_p50_ms:.2f} ms (median)"
    )


def markdown(result: Evaluation) -> str:
    """The report."""
    lines = [
        f"# {result.model}",
        "",
        f"SHA-256 `{result.sha256}`, {result.pictures} pictures, on {result.runtime} with "
        f"delegate {result.delegate}.",
        "",
        "| | |",
        "|---|---|",
        f"| top-1 | {result.top1:.1%} |",
        f"| top-5 | {result.top5:.1%} |",
        f"| expected calibration error | {result.calibration_error:.3f} |",
        f"| latency, mean | {result.latency_mean_ms:.2f} ms |",
        f"| latency, median | {result.latency_p50_ms:.2f} ms |",
        f"| latency, 99th percentile | {result.latency_p99_ms:.2f} ms |",
        "",
        "| class | pictures | recall | precision | most taken for |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.label} | {one.pictures} | {one.recall:.1%} | {one.precision:.1%} "
        f"| {one.most_taken_for} |"
        for one in result.classes
    ]
    return "\n".join([*lines, "", f"![confusion matrix]({result.model}.png)", ""])


def confusion_picture(scored: Scored) -> NDArray[np.uint8]:
    """The confusion matrix, BGR: a row for what is there, a column for what was said.

    Darker is more, of the row. With other labels than those in the folder a last column
    stands for all of them.
    """
    rows = np.unique(scored.truth)
    found = scored.scores.argmax(axis=1)
    other = len(rows)
    column = np.searchsorted(rows, found).clip(max=other - 1)
    column = np.where(rows[column] == found, column, other)
    counts = np.zeros((len(rows), other + 1), int)
    np.add.at(counts, (np.searchsorted(rows, scored.truth), column), 1)
    names = [scored.labels[row] for row in rows]
    heads = [*names, "other"]
    if not counts[:, other].any():
        counts, heads = counts[:, :other], names
    cell, margin = 36, 150
    picture = np.full((margin + cell * len(names), margin + cell * len(heads), 3), 255, np.uint8)
    for row, name in enumerate(names):
        _write(picture, name, (4, margin + cell * row + 23))
        for place, count in enumerate(counts[row]):
            left, top = margin + cell * place, margin + cell * row
            share = count / counts[row].sum()
            shade = (255 - int(160 * share), 255 - int(120 * share), 255 - int(220 * share))
            cv2.rectangle(picture, (left, top), (left + cell - 2, top + cell - 2), shade, -1)
            if count:
                _write(picture, str(count), (left + 4, top + 23), dark=share <= 0.7)
    # Turned, the names of the columns have room.
    side = np.full((cell * len(heads), margin, 3), 255, np.uint8)
    for place, name in enumerate(heads):
        _write(side, name, (4, cell * place + 23))
    picture[:margin, margin:] = cv2.rotate(side, cv2.ROTATE_90_COUNTERCLOCKWISE)
    return picture


def _write(
    picture: NDArray[np.uint8], text: str, place: tuple[int, int], *, dark: bool = True
) -> None:
    # OpenCV's own font has ASCII only; what is not shows as a question mark.
    ascii_text = text.encode("ascii", "replace").decode()[:18]
    colour = (40, 40, 40) if dark else (255, 255, 255)
    cv2.putText(picture, ascii_text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)


if __name__ == "__main__":
    sys.exit(main())
