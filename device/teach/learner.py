"""Learns a head from features: shrunk linear discriminant analysis, in NumPy alone.

The features' square roots, at length 1, are taken as normal about a mean for each class with
one covariance for all, pulled towards a multiple of the identity (Friedman's regularized
discriminant analysis, 1989). How far is chosen by cross-validation, about what the number of
pictures lets expect. All of it goes through the eigenvectors of the scatter within the classes,
so that every shrinkage costs a few products: of the pictures' Gram matrix while those are fewer
than the features, of the features' own matrix after that.

Where a class has one or two pictures there is no scatter to speak of: then the mean direction
of each class is its weight (imprinting: Qi, Brown and Lowe, 2018).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from device.teach.head import Features, Head, normalized

Classes = NDArray[np.intp]
# A shrinkage, logits and distances.
_Judged = tuple[float, NDArray[np.float64], NDArray[np.float64]]

POWER = 0.5
_SHRINKAGES = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.014, 0.02, 0.03, 0.05, 0.1, 0.2)
# Before anything is held out: a tenth of the inverse of the pictures a class, within a factor
# of e. With five pictures a class cross-validation alone is a lottery between neighbours.
_EXPECTED_SHRINKAGE = 0.1
_FOLDS = 5
# Fewer pictures than these in any class and the classes' mean directions are all there is.
_IMPRINT_UNDER = 3
# What is kept of the scatter: a product of so many rows for each frame. More gave no better
# labels with up to twenty pictures a class.
_RANK = 128
# What is left of the distance between the classes' means where their pictures scatter so much
# that they might as well be of one class.
_LEAST_APART = 0.1
# Cosines of such features lie within a few tenths of each other.
_IMPRINT_TEMPERATURE = 12.0
_STRANGER_FROM = 0.5
_TEMPERATURES = np.geomspace(0.02, 20, 31)


class Samples(NamedTuple):
    """What is learned from; rows of one picture, such as its mirror, share its number.

    ``features`` is float32 (rows, features), ``classes`` and ``pictures`` are (rows,).
    """

    features: Features
    classes: Classes
    pictures: NDArray[np.intp]


class Estimate(NamedTuple):
    """How good a head is, from pictures it was not shown.

    ``accuracy`` is a share, ``spread`` its standard error; ``confusion`` counts pictures,
    (labels, labels), rows what they are, columns what they were taken for. ``predicted`` is
    the class of each picture, -1 where none was held out.
    """

    accuracy: float
    spread: float
    confusion: NDArray[np.intp]
    predicted: Classes


class Lesson(NamedTuple):
    """A head and how good it is; ``estimate`` is None where too few pictures were held out."""

    head: Head
    estimate: Estimate | None


def learn(
    samples: Samples, labels: Sequence[str], model: str, *, strictness: float = 0.05
) -> Lesson:
    """A head for ``labels`` from samples of each, on the features of ``model``, a SHA-256.

    ``strictness`` is the share of right pictures that may be taken for strangers. The same
    samples give the same head. Raises ValueError unless every class has a picture and there
    are two classes.
    """
    count = len(labels)
    shots = [len(np.unique(samples.pictures[samples.classes == row])) for row in range(count)]
    if count < 2 or not all(shots):
        raise ValueError("needs two labels or more, and a picture of each")
    if min(shots) < _IMPRINT_UNDER:
        return Lesson(imprinted(samples, labels, model), None)
    z = normalized(samples.features, POWER).astype(np.float64)
    fit = _Fit(z, samples, count)
    held_out = _cross_validate(z, samples, count)
    shrinkage = _best_shrinkage(held_out, samples, float(np.mean(shots)))
    scores, distances = held_out.scores[shrinkage], held_out.distances[shrinkage]
    first = held_out.first
    _, temperature = _calibrated(scores[first], samples.classes[first])
    right = scores.argmax(1) == samples.classes
    threshold = float(np.quantile(distances[first & right], 1 - strictness)) if right.any() else 0
    weights, bias = fit.weights(shrinkage)
    # The frames of a still camera are so alike that tomorrow's would all be strangers: what is
    # nearer than half of what parts the nearest labels is none. Diverse pictures scatter wider.
    threshold = max(threshold, _STRANGER_FROM * fit.least_apart(shrinkage))
    head = Head(
        model,
        tuple(map(str, labels)),
        power=POWER,
        temperature=temperature,
        threshold=threshold,
        ridge=fit.ridge(shrinkage),
        mean=fit.mean.astype(np.float32),
        weights=weights.astype(np.float32),
        bias=bias.astype(np.float32),
        basis=fit.basis.T.astype(np.float32, order="C"),
        gains=fit.gains(shrinkage).astype(np.float32),
    )
    return Lesson(head, _estimate(scores, samples, first, count))


class _Fit:
    """Means and scatter of classes; every shrinkage is then a few products.

    ``z`` is float64 (rows, features). Eigenvectors are kept as far as _RANK.

    The mean of a few pictures lies further out than the class's own, by what the pictures
    scatter; so all means are drawn in by that share (James and Stein, 1961). Without it five
    pictures a class give half a point less, three a whole one.
    """

    def __init__(self, z: NDArray[np.float64], samples: Samples, count: int) -> None:
        classes = samples.classes
        self.mean = z.mean(0)
        z = z - self.mean
        self.means = np.stack([z[classes == row].mean(0) for row in range(count)])
        residues = z - self.means[classes]
        rows, width = residues.shape
        if rows <= width:
            values, vectors = np.linalg.eigh(residues @ residues.T / rows)
            values, vectors = values[::-1][:_RANK], vectors[:, ::-1][:, :_RANK]
            kept = values > 1e-9 * max(values[0], 1e-30)
            values, vectors = values[kept], vectors[:, kept]
            self.basis = (residues.T @ vectors) / np.sqrt(rows * values)
        else:
            values, vectors = np.linalg.eigh(residues.T @ residues / rows)
            values, self.basis = values[::-1][:_RANK], vectors[:, ::-1][:, :_RANK]
        self._values = values
        self._trace = max(float((residues**2).sum()) / rows, 1e-12)
        shots = len(np.unique(samples.pictures)) / count
        apart = float((self.means**2).sum()) / (count - 1)
        self.means *= max(1 - self._trace / (shots - 1) / max(apart, 1e-12), _LEAST_APART)
        self._along = self.means @ self.basis

    def ridge(self, shrinkage: float) -> float:
        """What is added to the scatter in every direction."""
        return float(shrinkage * self._trace)

    def gains(self, shrinkage: float) -> NDArray[np.float64]:
        """How much of each eigenvector the inverse takes away, 0 to 1."""
        return np.asarray(self._values / (self._values + self.ridge(shrinkage)), np.float64)

    def weights(self, shrinkage: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weights (classes, features) and bias (classes,)."""
        damped = self._along * self.gains(shrinkage)
        weights = (self.means - damped @ self.basis.T) / self.ridge(shrinkage)
        return weights, -0.5 * (self.means * weights).sum(1)

    def least_apart(self, shrinkage: float) -> float:
        """The squared distance of the two classes that are nearest to each other."""
        weights, _ = self.weights(shrinkage)
        products = self.means @ weights.T
        own = np.diag(products)
        apart = own[:, np.newaxis] + own - products - products.T
        return float(apart[~np.eye(len(apart), dtype=bool)].min())

    def judge(self, z: NDArray[np.float64]) -> Iterator[_Judged]:
        """Logits (rows, classes) of features, and squared distances (rows,), by shrinkage."""
        q = z - self.mean
        along, near = q @ self.basis, q @ self.means.T
        lengths, own = (q**2).sum(1), (self.means**2).sum(1)
        for shrinkage in _SHRINKAGES:
            gains, ridge = self.gains(shrinkage), self.ridge(shrinkage)
            bias = 0.5 * (own - self._along**2 @ gains)
            logits = (near - (along * gains) @ self._along.T - bias) / ridge
            yield shrinkage, logits, (lengths - along**2 @ gains) / ridge - 2 * logits.max(1)


class _HeldOut(NamedTuple):
    """By shrinkage: logits and distances of every row, by a fit that had not seen its picture.

    ``first`` marks one row of each picture.
    """

    scores: dict[float, NDArray[np.float64]]
    distances: dict[float, NDArray[np.float64]]
    first: NDArray[np.bool_]


def _cross_validate(z: NDArray[np.float64], samples: Samples, count: int) -> _HeldOut:
    folds = _folds(samples, count)
    scores = {shrinkage: np.zeros((len(z), count)) for shrinkage in _SHRINKAGES}
    distances = {shrinkage: np.zeros(len(z)) for shrinkage in _SHRINKAGES}
    for number in range(folds.max() + 1):
        inside, outside = folds != number, folds == number
        fit = _Fit(z[inside], Samples(*(part[inside] for part in samples)), count)
        for shrinkage, logits, far in fit.judge(z[outside]):
            scores[shrinkage][outside], distances[shrinkage][outside] = logits, far
    first = np.zeros(len(z), np.bool_)
    first[np.unique(samples.pictures, return_index=True)[1]] = True
    return _HeldOut(scores, distances, first)


def _folds(samples: Samples, count: int) -> Classes:
    """The fold of each row: of every class as many in each, all rows of a picture in one."""
    chance = np.random.default_rng(0)
    folds = np.zeros(len(samples.classes), np.intp)
    for row in range(count):
        pictures = np.unique(samples.pictures[samples.classes == row])
        places = chance.permutation(len(pictures)) % min(_FOLDS, len(pictures))
        for picture, place in zip(pictures, places, strict=True):
            folds[samples.pictures == picture] = place
    return folds


def _best_shrinkage(held_out: _HeldOut, samples: Samples, shots: float) -> float:
    """The most probable one: by what was held out, and by what ``shots`` a class let expect."""
    pictures = int(held_out.first.sum())

    def cost(shrinkage: float) -> float:
        loss, _ = _calibrated(held_out.scores[shrinkage], samples.classes)
        return pictures * loss + 0.5 * math.log(shrinkage * shots / _EXPECTED_SHRINKAGE) ** 2

    return min(_SHRINKAGES, key=cost)


def _calibrated(scores: NDArray[np.float64], classes: Classes) -> tuple[float, float]:
    """The least mean log loss that a temperature reaches, and that temperature.

    Logits are multiplied by it so that probabilities come true (Guo et al., 2017).
    """
    rows = np.arange(len(classes))
    scores = scores - scores.max(1, keepdims=True)

    def loss(temperature: float) -> float:
        scaled = scores * temperature
        return float((np.log(np.exp(scaled).sum(1)) - scaled[rows, classes]).mean())

    return min((loss(temperature), float(temperature)) for temperature in _TEMPERATURES)


def _estimate(
    scores: NDArray[np.float64], samples: Samples, first: NDArray[np.bool_], count: int
) -> Estimate:
    predicted, classes = scores[first].argmax(1), samples.classes[first]
    confusion = np.zeros((count, count), np.intp)
    np.add.at(confusion, (classes, predicted), 1)
    accuracy = float((predicted == classes).mean())
    # As if two more were right and two more wrong (Agresti and Coull, 1998): ten of ten that
    # are right are no certainty.
    share = (accuracy * len(classes) + 2) / (len(classes) + 4)
    spread = math.sqrt(share * (1 - share) / (len(classes) + 4))
    return Estimate(accuracy, spread, confusion, predicted)


def imprinted(samples: Samples, labels: Sequence[str], model: str) -> Head:
    """A head whose weights are the mean directions of the classes; it tells no strangers."""
    unit = normalized(samples.features, 1.0)
    rows = [unit[samples.classes == row].mean(0) for row in range(len(labels))]
    weights = normalized(np.stack(rows), 1.0)
    width = weights.shape[1]
    return Head(
        model,
        tuple(map(str, labels)),
        power=1.0,
        temperature=_IMPRINT_TEMPERATURE,
        threshold=math.inf,
        ridge=0.0,
        mean=np.zeros(width, np.float32),
        weights=weights,
        bias=np.zeros(len(labels), np.float32),
        basis=np.zeros((0, width), np.float32),
        gains=np.zeros(0, np.float32),
    )
