"""The outlet into the history; the thread ``labelcam-history`` writes it.

What happens waits for at most COMMIT_S in memory, so that a storm of changes costs the card one
flush in that time: a power cut takes what came in them.
"""

import logging
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from device import config
from device.events import ActionResult, DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.health.vitals import boot_id
from device.history import history_file
from device.history.database import put_aside
from device.history.writer import Writer
from device.sinks.outlet import Run
from device.system.text import one_line

_log = logging.getLogger("labelcam.history")

COMMIT_S = 5.0
# How long after its last sign of life a device that lost its power may seem to have been at work.
ALIVE_S = 300.0
RETRY_S = 30.0
# What waits for a disk that takes nothing: 5 MB.
MAX_WAITING = 10_000
GOODBYE_S = 2.0


class HistorySink(Sink):
    """Keeps label intervals, absences and what actions did; ``problem`` is why it cannot."""

    name = "history"

    def __init__(self, settings: config.History, path: Path, *, commit_s: float = COMMIT_S) -> None:
        self.problem = ""
        self.lost = 0
        self._settings = settings
        self._path = path
        self._commit_s = commit_s
        self._inbox: queue.SimpleQueue[LabelChange | ActionResult] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._closing = False
        # Written by the node's thread, read by ours; each value is replaced as a whole.
        self._scores: dict[tuple[str, str], float] = {}
        self._synced = False
        # A daemon, because a disk that hangs for good must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-history", daemon=True)
        self._thread.start()

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Take a change; it is written within COMMIT_S."""
        self._put(change)

    def acted(self, result: ActionResult) -> None:
        """Take what an action did."""
        self._put(result)

    def observe(self, observation: Observation) -> None:
        """Note the best score of the label in force."""
        label = observation.label
        if label is not None:
            key = observation.camera, label
            if observation.score > self._scores.get(key, 0.0):
                self._scores[key] = observation.score

    def report(self, health: DeviceHealth) -> None:
        """Note whether a time server has set the clock."""
        self._synced = bool(health.vitals.clock_synced)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._closing = True
        self._wake.set()
        self._thread.join(GOODBYE_S)

    def _put(self, happened: LabelChange | ActionResult) -> None:
        if self._inbox.qsize() >= MAX_WAITING:
            self.lost += 1
            return
        self._inbox.put(happened)
        self._wake.set()

    # The thread labelcam-history.

    def _run(self) -> None:
        writer: Writer | None = None
        waiting: list[LabelChange | ActionResult] = []
        while True:
            # Whatever came before close is in the inbox by now.
            ends = self._closing
            try:
                writer = writer or self._open()
                while not self._inbox.empty():
                    waiting.append(self._inbox.get_nowait())
                writer.write(waiting, self._scores, time.monotonic(), **_clock(synced=self._synced))
                waiting.clear()
                if ends:
                    writer.close(time.monotonic())
                    break
                writer.trim(time.monotonic())
                self._say("")
            except (sqlite3.Error, OSError) as error:
                begins_anew = self._fail(writer, error)
                writer = None
                if begins_anew and not ends:
                    continue
            if ends:
                break
            self._rest()
        if lost := self.lost + len(waiting) + self._inbox.qsize():
            _log.warning("history: %d entries are lost", lost)

    def _rest(self) -> None:
        """Until something happened and its time is over, or a sign of life is due."""
        if self.problem:
            self._wait(RETRY_S)
            return
        if self._wake.wait(ALIVE_S):
            self._wait(self._commit_s)

    def _wait(self, seconds: float) -> None:
        """Wait, no longer than until the end."""
        deadline = time.monotonic() + seconds
        while not self._closing and (left := deadline - time.monotonic()) > 0:
            self._wake.clear()
            if not self._closing:
                self._wake.wait(left)
        self._wake.clear()

    def _open(self) -> Writer:
        clock = _clock(synced=self._synced)
        return Writer(self._path, self._settings, boot_id(), time.monotonic(), **clock)

    def _fail(self, writer: Writer | None, error: Exception) -> bool:
        """Let the file go and say why; whether it was damaged, and a new one can be begun."""
        if writer is not None:
            writer.abandon()
        broken = isinstance(error, sqlite3.DatabaseError) and put_aside(self._path, error)
        reason = one_line(getattr(error, "strerror", None) or str(error))
        self._say("" if broken else f"{self._path} cannot be written: {reason}")
        return broken

    def _say(self, problem: str) -> None:
        """Say what is wrong once, and that it is over."""
        if problem and not self.problem:
            _log.warning("history: %s; tried again each %g s", problem, RETRY_S)
        elif self.problem and not problem:
            _log.info("history: is written again")
        self.problem = problem


def _clock(*, synced: bool) -> dict[str, Any]:
    return {"wall_offset": time.time() - time.monotonic(), "synced": synced}


def open_sink(run: Run) -> HistorySink:
    """The history in the state directory."""
    return HistorySink(run.settings.history, history_file())
