"""What was said against what was there: changes that are found, missed, false and late.

A *true change* is the begin of an interval of the truth, or its end where nothing follows at
once. It is found where that label began, or ended, from ``EARLY_S`` before it to ``WITHIN_S``
after; each change that was said answers one true change. Everything else that was said is false.
Where a camera has one label at a time, one that takes the place of another is one change, and an
end that is followed by a begin within ``HANDOVER_S`` is part of that.
"""

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from device.tune.truth import TOUCH_S, Interval

Kind = Literal["found", "late", "missed", "false"]

# Truth that is marked by hand is early or late itself.
EARLY_S = 0.5
WITHIN_S = 2.0
LATE_S = 0.5
HANDOVER_S = 1.0


class Said(NamedTuple):
    """The labels in force since a change."""

    at_s: float
    active: tuple[str, ...]


class Mark(NamedTuple):
    """A change and what became of it; ``delay_s`` is 0 where it is missed or false."""

    kind: Kind
    at_s: float
    label: str
    on: bool
    delay_s: float = 0.0


class Verdict(NamedTuple):
    """How one setting did: counts of changes, delays of those that were found, in seconds.

    ``late`` are among the found; ``marks`` are all, in the order of time, for each camera.
    """

    true: int
    found: int
    missed: int
    false: int
    late: int
    median_s: float
    p95_s: float
    marks: dict[str, list[Mark]]

    @property
    def errors(self) -> int:
        """Changes that were missed or false."""
        return self.missed + self.false


class Change(NamedTuple):
    """A label began (``on``) or ended; one that does not count may still answer another."""

    at_s: float
    label: str
    on: bool
    counts: bool = True


def judge(
    said: Mapping[str, Sequence[Said]],
    true: Mapping[str, Sequence[Change]],
    *,
    one_at_a_time: bool,
    labels: Collection[str] = (),
) -> Verdict:
    """The verdict over all cameras of ``true``; with ``labels`` no others count as false."""
    marks = {
        camera: _marks(_changes(said.get(camera, ()), labels, one_at_a_time=one_at_a_time), changes)
        for camera, changes in true.items()
    }
    every = [mark for some in marks.values() for mark in some]
    kinds = [mark.kind for mark in every]
    delays = [mark.delay_s for mark in every if mark.kind in ("found", "late")]
    missed, false, late = kinds.count("missed"), kinds.count("false"), kinds.count("late")
    median_s, p95_s = np.quantile(delays, (0.5, 0.95)) if delays else (0.0, 0.0)
    found = len(delays)
    return Verdict(found + missed, found, missed, false, late, float(median_s), float(p95_s), marks)


def true_changes(
    intervals: Sequence[Interval],
    *,
    one_at_a_time: bool,
    labels: Collection[str] = (),
    length_s: float = math.inf,
) -> list[Change]:
    """The true changes of one camera in the order of time, of ``labels`` where those are given.

    ``intervals`` are in the order of their begins. What is still there when the recording ends,
    at ``length_s``, has no end that could be found.
    """
    wanted = [one for one in intervals if not labels or one.label in labels]
    begins: dict[str, float] = {}
    changes: list[Change] = []
    next_s = math.inf
    # From the last to the first, so that what follows an interval is known.
    for interval in reversed(wanted):
        begin_s = begins.get(interval.label)
        # What goes on from one interval to the next of the same label has not changed.
        if begin_s is None or begin_s - interval.to_s >= TOUCH_S:
            if begin_s is not None:
                changes.append(Change(begin_s, interval.label, on=True))
            handed_over = one_at_a_time and next_s - interval.to_s < HANDOVER_S
            counts = not handed_over and interval.to_s < length_s - EARLY_S
            changes.append(Change(interval.to_s, interval.label, False, counts))
        begins[interval.label] = next_s = interval.from_s
    changes += [Change(begin_s, label, on=True) for label, begin_s in begins.items()]
    return sorted(changes, key=lambda change: change.at_s)


def _changes(said: Sequence[Said], labels: Collection[str], *, one_at_a_time: bool) -> list[Change]:
    changes = []
    before: tuple[str, ...] = ()
    for one in said:
        began = [label for label in one.active if label not in before]
        ended = [label for label in before if label not in one.active]
        if labels:
            began = [label for label in began if label in labels]
            ended = [label for label in ended if label in labels]
        before = one.active
        changes += [Change(one.at_s, label, on=True) for label in began]
        # Where another took its place, that is the change; its end may answer a true one.
        counts = not (one_at_a_time and began)
        changes += [Change(one.at_s, label, False, counts) for label in ended]
    return sorted(changes, key=lambda change: change.at_s)


def _marks(said: Sequence[Change], true: Sequence[Change]) -> list[Mark]:
    marks: list[Mark] = []
    waiting: dict[tuple[str, bool], deque[Change]] = {}
    for change in said:
        waiting.setdefault((change.label, change.on), deque()).append(change)
    unanswered: list[Change] = []
    for change in true:
        of_kind = waiting.get((change.label, change.on), deque())
        while of_kind and of_kind[0].at_s < change.at_s - EARLY_S:
            unanswered.append(of_kind.popleft())
        if of_kind and of_kind[0].at_s <= change.at_s + WITHIN_S:
            answer = of_kind.popleft()
            delay_s = answer.at_s - change.at_s
            if change.counts:
                kind: Kind = "late" if delay_s > LATE_S else "found"
                marks.append(Mark(kind, answer.at_s, change.label, change.on, delay_s))
        elif change.counts:
            marks.append(Mark("missed", change.at_s, change.label, change.on))
    for left in (unanswered, *waiting.values()):
        marks += [Mark("false", one.at_s, one.label, one.on) for one in left if one.counts]
    return sorted(marks, key=lambda mark: mark.at_s)
