"""How good a set of lessons is and what it lacks, in one line for whoever has just taught."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from device.teach.head import normalized
from device.teach.learner import POWER, Estimate, Lesson, Samples
from device.teach.lessons import Entry, Lessons
from device.teach.teacher import grade

# Cosine of the features' square roots. A picture and its copy at quality 70 or half the size
# have 0.97 to 0.99, a still camera's frames 0.98 and more, two of CIFAR's at most 0.82.
NEAR = 0.97
TINY_PX = 64
# From here on more pictures of a class change little.
_ENOUGH = 10
_WEAK = 0.8
_UNBALANCED = 3
_BLOCK = 512


class Report(NamedTuple):
    """What to know of a set of lessons.

    ``labels`` counts pictures. ``estimate`` is of pictures held out, with the labels as rows;
    None where there are too few. ``mixed`` are the two that are mixed up most; ``needs`` is the
    label that more pictures would help most, empty where none stands out; ``unbalanced`` the
    largest label and the smallest, where it has over three times as many.
    ``near_duplicates`` counts pictures that are nearly one before them under the same label,
    ``contradictions`` are pairs of labels that have nearly the same picture, ``tiny`` counts
    those with a side under TINY_PX.
    """

    labels: dict[str, int]
    estimate: Estimate | None
    mixed: tuple[str, str] | None
    needs: str
    unbalanced: tuple[str, str] | None
    near_duplicates: int
    contradictions: list[tuple[str, str]]
    tiny: int

    def __str__(self) -> str:
        """The line."""
        count = len(self.labels)
        if count < 2:
            return _missing(self.labels)
        parts = [f"learned {count} labels from {_pictures(sum(self.labels.values()))}"]
        if self.estimate is None:
            few = ", ".join(repr(label) for label, n in self.labels.items() if n < 3)
            parts.append(f"how good that is shows with 3 pictures or more of each: {few}")
        else:
            accuracy, spread = self.estimate.accuracy, self.estimate.spread
            parts.append(f"about {accuracy:.0%} ± {spread:.0%} right on new pictures")
        if self.mixed:
            one, other = self.mixed
            parts.append(f"mixes up {one!r} and {other!r} most")
        if self.needs:
            parts.append(f"{self.needs!r} needs more pictures, it has {self.labels[self.needs]}")
        if self.unbalanced:
            large, small = self.unbalanced
            parts.append(f"{large!r} has over {_UNBALANCED} times the pictures of {small!r}")
        return "; ".join([*parts, *self._faults()])

    def _faults(self) -> list[str]:
        parts = []
        if self.near_duplicates:
            parts.append(f"{self.near_duplicates} nearly the same as another, which teach nothing")
        parts += [
            f"{one!r} and {other!r} have nearly the same picture; move or remove one"
            for one, other in self.contradictions[:1]
        ]
        if self.tiny:
            parts.append(f"{_pictures(self.tiny)} under {TINY_PX} pixels, larger ones teach more")
        return parts


def report(lessons: Lessons, lesson: Lesson | None) -> Report:
    """What to know of the lessons, and of what was learned of them. Raises TeachError."""
    counts = lessons.labels()
    samples, labels = lessons.samples(mirror=False)
    duplicates, contradictions = _near(samples, labels)
    estimate = lesson.estimate if lesson else None
    names = lesson.head.labels if lesson else labels
    least, most = (
        (min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__))
        if counts
        else ("", "")
    )
    unbalanced = counts and counts[most] > _UNBALANCED * counts[least]
    return Report(
        counts,
        estimate,
        grade(lesson).mixed,
        _needs(counts, least, estimate, names),
        (most, least) if unbalanced else None,
        duplicates,
        contradictions,
        sum(_is_tiny(entry) for entry in lessons.entries()),
    )


def _missing(labels: dict[str, int]) -> str:
    if not labels:
        return "nothing is taught; the device says the model's own labels"
    ((label, count),) = labels.items()
    return (
        f"{label!r} alone has {_pictures(count)}, and nothing to be told from: teach a second "
        "label, such as the empty scene; until then there is no head"
    )


def _pictures(count: int) -> str:
    return f"{count} picture{'s' * (count != 1)}"


def _is_tiny(entry: Entry) -> bool:
    return min(entry.width, entry.height) < TINY_PX


def _needs(
    counts: dict[str, int], least: str, estimate: Estimate | None, names: Sequence[str]
) -> str:
    if len(counts) > 1 and counts[least] < _ENOUGH:
        return least
    if estimate is None:
        return ""
    recall = np.diag(estimate.confusion) / np.maximum(estimate.confusion.sum(1), 1)
    weakest = int(recall.argmin())
    # Somebody else may have removed the label meanwhile.
    return names[weakest] if recall[weakest] < _WEAK and names[weakest] in counts else ""


def _near(samples: Samples, labels: Sequence[str]) -> tuple[int, list[tuple[str, str]]]:
    """How many pictures are nearly an earlier one of their label; labels that share one."""
    z = normalized(samples.features, POWER)
    duplicates, pairs = 0, set()
    # In blocks: all at once would take 400 MB for 10,000 pictures.
    for start in range(0, len(z), _BLOCK):
        near = z[start : start + _BLOCK] @ z.T > NEAR
        near &= np.arange(len(z)) < np.arange(start, start + len(near))[:, np.newaxis]
        same = samples.classes[start : start + len(near), np.newaxis] == samples.classes
        duplicates += int((near & same).any(1).sum())
        for row, column in np.argwhere(near & ~same):
            one, other = sorted((samples.classes[start + row], samples.classes[column]))
            pairs.add((labels[one], labels[other]))
    return duplicates, sorted(pairs)
