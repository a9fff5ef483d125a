"""A head put to the test on pictures that it was not taught, beside simpler ways to learn."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import TeachError
from device.teach.head import Features, Head, normalized
from device.teach.learner import Classes, Samples, imprinted, learn

_SHOTS = (1, 2, 5, 10, 20, 50)
_DRAWS = 3
# Shares of right ones lost at which the curve of strangers is told.
_LOST = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
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
    head tells no strangers yet. ``curve`` is that curve, from the strictest on: the share of
    right ones lost, and that of strangers found.
    """

    pictures: int
    rejected: float
    area: float | None
    curve: tuple[tuple[float, float], ...]


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
    area: float | None = None
    curve: tuple[tuple[float, float], ...] = ()
    if head.ridge:
        above = strange[:, np.newaxis] > own
        area = float((above + 0.5 * (strange[:, np.newaxis] == own)).mean())
        limits = np.quantile(own, 1 - np.array(_LOST))
        found = (strange > limits[:, np.newaxis]).mean(1)
        curve = tuple(zip(_LOST, np.round(found, 4).tolist(), strict=True))
    return Strangers(len(strange), float((strange > head.threshold).mean()), area, curve)
