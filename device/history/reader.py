"""What the history says: intervals, gaps, actions, and how long and how often, by hour or day."""

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import msgspec

from device.errors import HistoryError
from device.events import OFF_DUTY, UNAVAILABLE
from device.history.database import explained, open_to_read
from device.history.hours import by_hour, day_of

# An interval that is not over yet ends now.
Bucket = Literal["all", "day", "hour"]
_REASONS = {UNAVAILABLE: "camera lost", OFF_DUTY: "off duty"}
_NOT_RUNNING = "not running"
# A restart takes seconds, and is no gap in what was seen.
_RESTART_S = 15.0
# What is in force may have begun as long before the next sign of life of its run, and more.
_ALIVE_S = 900.0
# Those that ended within or after, and those that did not: each by the index of runs and ends.
_SPANS = """
SELECT camera, label, begin, end, score, model FROM (
    SELECT * FROM intervals WHERE run = :run AND end >= :since
    UNION ALL SELECT * FROM intervals WHERE run = :run AND end IS NULL)
WHERE begin < :until AND (label IN (:lost, :off)) = :absences
AND (:camera IS NULL OR camera = :camera) AND (:label IS NULL OR label = :label)
ORDER BY begin DESC, id DESC LIMIT :limit"""


class Interval(msgspec.Struct, frozen=True):
    """A label from ``begin`` to ``end``, seconds since 1970; ``end`` is None while it is in force.

    ``score`` is the best while it was. ``clock_set`` says whether the device knew the time.
    """

    camera: str
    label: str
    begin: float
    end: float | None
    score: float
    model: str
    clock_set: bool


class Gap(msgspec.Struct, frozen=True):
    """When nothing was looked at and why; ``camera`` is None for all of them."""

    camera: str | None
    reason: str
    begin: float
    end: float | None


class Deed(msgspec.Struct, frozen=True):
    """What an action did at ``at``, seconds since 1970; ``detail`` is why it failed."""

    at: float
    action: str
    kind: str
    camera: str
    label: str
    on: bool
    done: bool
    detail: str


class Total(msgspec.Struct, frozen=True):
    """How long and how often a label was there, in the hour or day that began at ``at``."""

    camera: str
    label: str
    at: float
    seconds: float
    times: int


class Selection(NamedTuple):
    """What is asked for: from ``since`` to before ``until``, seconds since 1970; None is all."""

    since: float
    until: float
    camera: str | None = None
    label: str | None = None


class _Run(NamedTuple):
    """A run: its number, and how far the wall clock was before that of its boot."""

    id: int
    wall_offset: float
    synced: int


class Reader:
    """The history in a file, while another process or thread writes it; for one thread.

    ``now`` is the wall clock, at which ends what has not ended. All raise HistoryError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = open_to_read(path)

    def close(self) -> None:
        """Let the file go; may be called twice."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def intervals(self, wanted: Selection, limit: int, offset: int = 0) -> list[Interval]:
        """The labels that were there, the latest first."""
        return list(self._spans(wanted, limit, offset, absences=False))

    def gaps(self, wanted: Selection, limit: int) -> list[Gap]:
        """When nothing was looked at, the latest first; of one camera where it is named."""
        whole = wanted._replace(label=None)
        found = [
            Gap(one.camera, _REASONS[one.label], one.begin, one.end)
            for one in self._spans(whole, limit, 0, absences=True)
        ]
        found += self._pauses(wanted)
        found.sort(key=lambda gap: gap.begin, reverse=True)
        return found[:limit]

    def actions(self, wanted: Selection, limit: int) -> list[Deed]:
        """What actions did, the latest first."""
        found: list[Deed] = []
        for run in self._runs(wanted):
            found += (
                Deed(at + run.wall_offset, action, kind, camera, label, bool(on), bool(done), why)
                for at, action, kind, camera, label, on, done, why in self._rows(
                    'SELECT at, action, kind, camera, label, "on", done, detail FROM actions'
                    " WHERE run = ? AND at >= ? AND at < ?"
                    " AND (? IS NULL OR camera = ?) AND (? IS NULL OR label = ?)"
                    " ORDER BY at DESC LIMIT ?",
                    run.id,
                    wanted.since - run.wall_offset,
                    wanted.until - run.wall_offset,
                    wanted.camera,
                    wanted.camera,
                    wanted.label,
                    wanted.label,
                    limit - len(found),
                )
            )
            if len(found) >= limit:
                break
        return found

    def totals(self, wanted: Selection, by: Bucket, now: float) -> list[Total]:
        """How long and how often each label was there, by hour, day or in all, the earliest first.

        Of hours that were rolled up only those that begin within count.
        """
        seconds: dict[tuple[float, str, str], float] = {}
        times: dict[tuple[float, str, str], int] = {}

        def add(at: float, camera: str, label: str, more_s: float, count: int) -> None:
            bucket = wanted.since if by == "all" else at if by == "hour" else day_of(at)
            key = bucket, camera, label
            seconds[key] = seconds.get(key, 0.0) + more_s
            times[key] = times.get(key, 0) + count

        for one in self._spans(wanted, -1, 0, absences=False):
            begin = max(one.begin, wanted.since)
            end = min(max(one.end if one.end is not None else now, one.begin), wanted.until)
            # It came in the hour in which it began, not in each that it lasted.
            count = int(one.begin >= wanted.since)
            for hour, share in by_hour(begin, end):
                add(hour, one.camera, one.label, share, count)
                count = 0
        for camera, label, hour, more_s, count in self._rows(
            "SELECT camera, label, hour, seconds, times FROM hours WHERE hour >= ? AND hour < ?"
            " AND (? IS NULL OR camera = ?) AND (? IS NULL OR label = ?)",
            wanted.since,
            wanted.until,
            wanted.camera,
            wanted.camera,
            wanted.label,
            wanted.label,
        ):
            if label not in _REASONS:
                add(hour, camera, label, more_s, count)
        return [
            Total(camera, label, at, round(spent, 1), times[at, camera, label])
            for (at, camera, label), spent in sorted(seconds.items())
        ]

    def names(self) -> tuple[list[str], list[str]]:
        """The cameras and the labels that it knows, in the order of the alphabet."""
        found = self._rows("SELECT camera, label FROM names")
        labels = {label for _, label in found if label not in _REASONS}
        return sorted({camera for camera, _ in found}), sorted(labels)

    def begun(self) -> float | None:
        """When the history begins, seconds since 1970; None while there is nothing in it."""
        first = self._rows(
            "SELECT intervals.begin + wall_offset FROM intervals JOIN runs ON runs.id = run"
            " JOIN boots ON boots.id = runs.boot ORDER BY intervals.id LIMIT 1"
        )
        hours = self._rows("SELECT hour FROM hours ORDER BY hour LIMIT 1")
        return min((float(moment) for (moment,) in first + hours), default=None)

    def _runs(self, wanted: Selection) -> list[_Run]:
        """The runs that were at some time of it, the latest first."""
        rows = self._rows(
            "SELECT runs.id, wall_offset, synced FROM runs JOIN boots ON boots.id = runs.boot"
            " WHERE runs.begin + wall_offset < ? AND alive + wall_offset >= ?"
            " ORDER BY runs.begin + wall_offset DESC, runs.id DESC",
            wanted.until,
            wanted.since - _ALIVE_S,
        )
        return [_Run(*row) for row in rows]

    def _spans(
        self, wanted: Selection, limit: int, offset: int, *, absences: bool
    ) -> Iterator[Interval]:
        """By runs, because only within one is an index of times by the clock of its boot."""
        skip, left = offset, limit
        for run in self._runs(wanted):
            rows = self._rows(
                _SPANS,
                {
                    "run": run.id,
                    "since": wanted.since - run.wall_offset,
                    "until": wanted.until - run.wall_offset,
                    "camera": wanted.camera,
                    "label": wanted.label,
                    "lost": UNAVAILABLE,
                    "off": OFF_DUTY,
                    "absences": absences,
                    "limit": -1 if limit < 0 else skip + left,
                },
            )
            for camera, label, began, ended, score, model in rows[skip:]:
                end = None if ended is None else ended + run.wall_offset
                begin = began + run.wall_offset
                yield Interval(camera, label, begin, end, score, model, bool(run.synced))
            left -= max(0, len(rows) - skip)
            skip = max(0, skip - len(rows))
            if limit >= 0 and left <= 0:
                return

    def _pauses(self, wanted: Selection) -> Iterator[Gap]:
        """Between two runs the device was not at work."""
        rows = self._rows(
            "SELECT runs.begin + wall_offset, alive + wall_offset FROM runs"
            " JOIN boots ON boots.id = runs.boot ORDER BY runs.id"
        )
        for (_, alive), (begin, _) in pairwise(rows):
            # One of them may have had no clock: then nobody knows.
            if begin - alive > _RESTART_S and alive < wanted.until and begin >= wanted.since:
                yield Gap(None, _NOT_RUNNING, alive, begin)

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        by_name = values[0] if values and isinstance(values[0], dict) else values
        try:
            return self._db.execute(query, by_name).fetchall()
        except sqlite3.Error as error:
            raise explained(self._path, error) from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Reader | None]:
    """A reader, or None where there is no history to be read."""
    try:
        reader = Reader(path)
    except HistoryError:
        yield None
        return
    with reader:
        yield reader
