"""A head put to the test on pictures that it was not taught, beside simpler ways to learn."""

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import TeachError
from device.teach.head import Features, Head, normalized
from device.teach.learner import Classes, Samples, imprinted, learn

_SHOTS = (1, 2, 5, 10, 20, 50)
_DRAWS = 3
# More would take longer than anyone waits for a curve.
_CURVE_PICTURES_MAX = 500


class Point(msgspec.Struct, frozen=True):
    """Accuracies with so many pictures a label, drawn again from the lessons."""

    pictures: int
    accuracy: float
    imprinting: float
    nearest_mean: float


class Strangers(msgspec.Struct, frozen=True):
    """Pictures of what was not taught.

    ``rejected`` is their share that is told as unknown; ``area`` that under the curve of
    strangers found against right ones lost, 0.5 for chance and 1 at best, None where the
    head tells no strangers yet.
    """

    pictures: int
    rejected: float
    area: float | None


class Exam(msgspec.Struct, frozen=True):
    """What came out; shares are from 0 to 1.

    ``accuracy`` is that of the best label, and ``confusion`` counts it: what a picture is,
    what it was taken for. ``rejected`` counts pictures of taught labels that a device would
    call unknown, whatever their best label.
    """

    accuracy: float
    pictures: int
    rejected: int
    labels: tuple[str, ...]
    confusion: dict[str, dict[str, int]]
    imprinting: float
    nearest_mean: float
    curve: tuple[Point, ...]
    strangers: Strangers | None


def examine(head: Head, samples: Samples, features: Features, names: Sequence[str]) -> Exam:
    """Test ``head``, learned from ``samples``, on features, float32 (pictures, features).

    ``names`` say what each picture is; those that are no label of the head are strangers.
    Raises TeachError where none is.
    """
    labels = head.labels
    rows = {label: row for row, label in enumerate(labels)}
    classes = np.array([rows.get(name, -1) for name in names], np.intp)
    taught = classes >= 0
    if not taught.any():
        raise TeachError(
            f"test: no folder has the name of a label; there are {', '.join(map(repr, labels))}"
        )
    known, truth = features[taught], classes[taught]
    confusion = {label: dict.fromkeys(labels, 0) for label in labels}
    best = _best(head, known)
    for is_, taken in zip(truth, best, strict=True):
        confusion[labels[is_]][labels[taken]] += 1
    distances = np.array([head.distance(row) for row in features])
    imprinting, nearest_mean = _simpler(samples, labels, known, truth)
    return Exam(
        float((best == truth).mean()),
        len(truth),
        int((distances[taught] > head.threshold).sum()),
        labels,
        confusion,
        imprinting,
        nearest_mean,
        _curve(head.model, samples, labels, known, truth),
        None if taught.all() else _strangers(head, distances, taught),
    )


def _best(head: Head, features: Features) -> Classes:
    q = normalized(features, head.power) - head.mean
    return np.asarray((q @ head.weights.T + head.bias).argmax(1), np.intp)


def _simpler(
    samples: Samples, labels: Sequence[str], features: Features, truth: Classes
) -> tuple[float, float]:
    """The accuracies of imprinting and of the nearest class mean."""
    unit, tested = normalized(samples.features, 1.0), normalized(features, 1.0)
    means = np.stack([unit[samples.classes == row].mean(0) for row in range(len(labels))])
    nearest = (tested @ means.T - 0.5 * (means**2).sum(1)).argmax(1)
    by_direction = _best(imprinted(samples, labels, ""), features)
    return float((by_direction == truth).mean()), float((nearest == truth).mean())


def _curve(
    model: str, samples: Samples, labels: Sequence[str], features: Features, truth: Classes
) -> tuple[Point, ...]:
    by_class = [np.unique(samples.pictures[samples.classes == row]) for row in range(len(labels))]
    most = min(*map(len, by_class), _CURVE_PICTURES_MAX // len(labels))
    points = []
    for shots in (shots for shots in _SHOTS if shots <= most):
        accuracies = []
        for draw in range(_DRAWS):
            chance = np.random.default_rng(draw)
            drawn = np.concatenate([chance.choice(all_, shots, replace=False) for all_ in by_class])
            rows = np.isin(samples.pictures, drawn)
            fewer = Samples(samples.features[rows], samples.classes[rows], samples.pictures[rows])
            head = learn(fewer, labels, model).head
            ours = float((_best(head, features) == truth).mean())
            accuracies.append((ours, *_simpler(fewer, labels, features, truth)))
        points.append(Point(shots, *np.mean(accuracies, axis=0).tolist()))
    return tuple(points)


def _strangers(head: Head, distances: Features, taught: NDArray[np.bool_]) -> Strangers:
    own, strange = distances[taught], distances[~taught]
    area = None
    if head.ridge:
        above = strange[:, np.newaxis] > own
        area = float((above + 0.5 * (strange[:, np.newaxis] == own)).mean())
    return Strangers(len(strange), float((strange > head.threshold).mean()), area)


def confusion_png(exam: Exam) -> bytes:
    """The confusion as a PNG: a row for what it is, a column for what it was taken for."""
    counts = np.array([[exam.confusion[a][b] for b in exam.labels] for a in exam.labels])
    cell = max(12, min(56, 1600 // len(counts)))
    scale = min(0.55, cell / 40)
    margin = 40 + max(_width(label, scale) for label in exam.labels)
    side = margin + cell * len(counts) + 20
    picture = np.full((side, side, 3), 255, np.uint8)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        # Green where it is right and red where it is wrong, as dark as it is often.
        full = np.array((70, 140, 30) if row == column else (50, 50, 200))
        colour = tuple(map(int, 255 - share * (255 - full)))
        corner = (margin + column * cell, margin + row * cell)
        opposite = (corner[0] + cell, corner[1] + cell)
        cv2.rectangle(picture, corner, opposite, colour, -1)
        cv2.rectangle(picture, corner, opposite, (220, 220, 220), 1)
        if counts[row, column] and cell >= 24:
            ink = (255, 255, 255) if share > 0.5 else (0, 0, 0)
            text = str(counts[row, column])
            at = (corner[0] + (cell - _width(text, scale)) // 2, corner[1] + cell * 5 // 8)
            _write(picture, text, at, scale, ink)
    # The names of the columns read upwards: written level, then the picture is turned.
    for row, label in enumerate(exam.labels):
        level = margin + row * cell + cell * 5 // 8
        _write(picture, label, (margin - 10 - _width(label, scale), level), scale)
    turned = np.ascontiguousarray(cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE), np.uint8)
    for column, label in enumerate(exam.labels):
        _write(turned, label, (side - margin + 10, margin + column * cell + cell * 5 // 8), scale)
    picture = np.asarray(cv2.rotate(turned, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
    _write(picture, f"{exam.accuracy:.1%} right", (8, 24), 0.5)
    _write(picture, "rows: what it is", (8, side - 8), 0.4)
    return cv2.imencode(".png", picture)[1].tobytes()


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0])


def _write(
    picture: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    scale: float,
    ink: tuple[int, int, int] = (0, 0, 0),
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, _ascii(text), at, font, scale, ink, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV's own letters are ASCII alone."""
    return text.encode("ascii", "replace").decode()
