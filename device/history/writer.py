"""What happens, into the history: intervals of labels, absences, actions, and that it was alive."""

from collections.abc import Iterable
from pathlib import Path

from device import config
from device.events import OFF_DUTY, UNAVAILABLE, ActionResult, LabelChange
from device.history.database import open_to_write, transaction
from device.history.hours import add_hours

_ABSENCES = (UNAVAILABLE, OFF_DUTY)
# What is over the limit goes in portions, so that one commit stays short.
_PORTION = 1000
_DAY_S = 86_400.0
# The oldest have the lowest numbers; so nobody looks through all of them.
_OLD_INTERVALS = """
DELETE FROM intervals WHERE id IN (
    SELECT oldest.id FROM (SELECT * FROM intervals ORDER BY id LIMIT ?) AS oldest
    JOIN runs ON runs.id = run JOIN boots ON boots.id = runs.boot WHERE end + wall_offset < ?)"""
_OLD_ACTIONS = """
DELETE FROM actions WHERE id IN (
    SELECT oldest.id FROM (SELECT * FROM actions ORDER BY id LIMIT ?) AS oldest
    JOIN runs ON runs.id = run JOIN boots ON boots.id = runs.boot WHERE at + wall_offset < ?)"""
# A device that starts in circles would fill the disk with them.
_EMPTY_RUNS = """
DELETE FROM runs WHERE id IN (
    SELECT id FROM runs WHERE id < ? - 1000
    AND NOT EXISTS (SELECT 1 FROM intervals WHERE run = runs.id)
    AND NOT EXISTS (SELECT 1 FROM actions WHERE run = runs.id) LIMIT ?)"""
_ENDED_INTERVALS = """
SELECT intervals.id, camera, label, intervals.begin + wall_offset, end + wall_offset
FROM intervals JOIN runs ON runs.id = run JOIN boots ON boots.id = runs.boot
WHERE end IS NOT NULL ORDER BY intervals.id LIMIT ?"""
# A clock that is set moves by more than it drifts between two looks.
_STEP_S = 0.5


class Writer:
    """The history in a file, for one thread, until it is closed.

    ``boot`` tells this boot from others; ``wall_offset`` is how far the wall clock is before the
    monotonic one and ``synced`` whether a time server has set it. Raises sqlite3.Error and OSError
    for what the disk does to it; then nothing of what was being written is in it.
    """

    def __init__(
        self,
        path: Path,
        limits: config.History,
        boot: str,
        now: float,
        wall_offset: float,
        *,
        synced: bool,
    ) -> None:
        self._limits = limits
        self._db = db = open_to_write(path)
        self._offset, self._synced = wall_offset, synced
        # What is in force by camera and label: the row of its interval.
        self._open: dict[tuple[str, str], int] = {}
        try:
            with transaction(db):
                # What a run that was killed had not ended, ended when it was last alive.
                db.execute(
                    "UPDATE intervals SET end = max(begin, (SELECT alive FROM runs"
                    " WHERE runs.id = run)) WHERE run IN (SELECT id FROM runs) AND end IS NULL"
                )
                db.execute(
                    "INSERT INTO boots (boot, wall_offset, synced) VALUES (?, ?, ?)"
                    " ON CONFLICT DO NOTHING",
                    (boot, wall_offset, synced),
                )
                (self._boot,) = db.execute(
                    "SELECT id FROM boots WHERE boot = ?", (boot,)
                ).fetchone()
                self._run = db.execute(
                    "INSERT INTO runs (boot, begin, alive) VALUES (?, ?, ?)", (self._boot, now, now)
                ).lastrowid
                self._set_clock(wall_offset, synced=synced, at_once=True)
        except BaseException:
            db.close()
            raise

    def write(
        self,
        happened: Iterable[LabelChange | ActionResult],
        scores: dict[tuple[str, str], float],
        now: float,
        wall_offset: float,
        *,
        synced: bool,
    ) -> None:
        """Write what happened, in its order, and that the device is alive.

        ``scores`` are the best of each camera and label so far.
        """
        # A transaction that fails leaves the rows as they were, and what is open likewise.
        before = dict(self._open)
        try:
            with transaction(self._db):
                for one in happened:
                    if isinstance(one, LabelChange):
                        self._change(one, scores)
                    else:
                        self._act(one)
                for key, row in self._open.items():
                    self._score(row, scores.get(key, 0.0))
                self._db.execute("UPDATE runs SET alive = ? WHERE id = ?", (now, self._run))
                self._set_clock(wall_offset, synced=synced)
        except BaseException:
            self._open = before
            raise

    def trim(self, now: float) -> None:
        """Roll up and remove what is over the limits, and give the disk its room back."""
        db, wall = self._db, now + self._offset
        with transaction(db):
            oldest = wall - self._limits.days * _DAY_S
            for query in (_OLD_INTERVALS, _OLD_ACTIONS):
                db.execute(query, (_PORTION, oldest))
            db.execute(_EMPTY_RUNS, (self._run, _PORTION))
            db.execute("DELETE FROM hours WHERE hour < ?", (oldest,))
            if self.size_bytes > self._limits.mb * 2**20:
                self._roll_up()
        # It frees a page with each step, and only a script is stepped to its end.
        db.executescript("PRAGMA incremental_vacuum")

    @property
    def size_bytes(self) -> int:
        """What the history takes of the disk, without what is free within."""
        (pages,) = self._db.execute("PRAGMA page_count").fetchone()
        (free,) = self._db.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._db.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def close(self, now: float) -> None:
        """End what is in force, as the run ends, and let the file go."""
        try:
            with transaction(self._db):
                self._db.execute(
                    "UPDATE intervals SET end = max(begin, ?) WHERE run = ? AND end IS NULL",
                    (now, self._run),
                )
                self._db.execute("UPDATE runs SET alive = ? WHERE id = ?", (now, self._run))
        finally:
            self._db.close()

    def abandon(self) -> None:
        """Let the file go as it is."""
        self._db.close()

    def _change(self, change: LabelChange, scores: dict[tuple[str, str], float]) -> None:
        active = set(change.active)
        if change.label in _ABSENCES:
            active.add(change.label)
        before = {label for camera, label in self._open if camera == change.camera}
        for label in sorted(before - active):
            row = self._open.pop((change.camera, label))
            self._score(row, scores.pop((change.camera, label), 0.0))
            # A replay's clock may stand still or run back, and an interval does not.
            self._db.execute(
                "UPDATE intervals SET end = max(begin, ?) WHERE id = ?", (change.at, row)
            )
        for label in sorted(active - before):
            score = change.score if label == change.label else 0.0
            made = self._db.execute(
                "INSERT INTO intervals (run, camera, label, begin, score, model)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (self._run, change.camera, label, change.at, round(score, 4), change.model),
            ).lastrowid
            assert made is not None
            self._db.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (change.camera, label))
            self._open[change.camera, label] = made

    def _score(self, row: int, score: float) -> None:
        score = round(score, 4)
        self._db.execute(
            "UPDATE intervals SET score = ? WHERE id = ? AND score < ?", (score, row, score)
        )

    def _act(self, result: ActionResult) -> None:
        self._db.execute(
            'INSERT INTO actions (run, at, action, kind, camera, label, "on", done, detail,'
            " took_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._run,
                result.at,
                result.action,
                result.kind,
                result.camera,
                result.label,
                result.on,
                result.done,
                result.detail,
                round(result.took_ms, 2),
            ),
        )

    def _set_clock(self, wall_offset: float, *, synced: bool, at_once: bool = False) -> None:
        """Keep how far the wall clock is; what no time server has set gives way to what one has."""
        moved = abs(wall_offset - self._offset) > _STEP_S or synced != self._synced
        if (moved or at_once) and synced >= self._synced:
            self._offset, self._synced = wall_offset, synced
            self._db.execute(
                "UPDATE boots SET wall_offset = ?, synced = ? WHERE id = ? AND synced <= ?",
                (wall_offset, synced, self._boot, synced),
            )

    def _roll_up(self) -> None:
        """Make hours of the oldest intervals; where there are none, the oldest of all else goes."""
        found = self._db.execute(_ENDED_INTERVALS, (_PORTION,)).fetchall()
        if found:
            add_hours(self._db, found)
            self._db.executemany("DELETE FROM intervals WHERE id = ?", [row[:1] for row in found])
            return
        self._db.execute("DELETE FROM actions WHERE id < (SELECT min(id) FROM actions) + 1000")
        self._db.execute("DELETE FROM hours WHERE hour < (SELECT min(hour) FROM hours) + 604800")
