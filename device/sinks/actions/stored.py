"""Actions that send messages: each is kept on disk until whoever it is for has it.

``begin`` and ``end`` only write to the outbox; the thread ``labelcam-send`` sends. So a server
that hangs keeps nothing from being stored, and a pulled plug loses nothing.
"""

import contextlib
import logging
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from device import config
from device.errors import ActionError
from device.health import vitals
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.sinks.actions.sender import Answer, Sender
from device.sinks.actions.wording import Delivery
from device.sinks.outbox import Limits, Outbox
from device.sinks.wire import Ids
from device.system.paths import state_directory
from device.system.text import one_line

_log = logging.getLogger("labelcam.actions")

# What is kept for a server that is away: the oldest goes first. Some hundred pictures.
MAX_WAITING, MAX_BYTES = 10_000, 20 << 20
# For how long what waits is still sent when the run ends, and until a request is given up then.
GOODBYE_S, CLOSE_S = 0.7, 0.3
FAULT_S = 10.0
# What an action that is gone left behind, and what was set aside, may hold pictures: it goes after
# the longest time that a message is kept for anyway.
SWEEP_S = 720 * 3600.0


class Stopped(Exception):
    """The run ends while a delivery is on its way; it stays stored."""


class StoredPerformer(Performer):
    """An action that sends messages, one after the other, until each was taken.

    A kind of it says what it sends, and how: ``prepare`` and ``send``. What came of an occurrence
    is told to ``report`` once it is known. ``problem`` is why what waits is not taken.
    """

    ends_at_close = False
    # How long a message is kept where ``keep_h`` does not say it.
    keep_h = 48.0

    def __init__(
        self,
        settings: config.Action,
        report: Report,
        *,
        state: Path | None = None,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.wants_picture = bool(settings.snapshot)
        self.settings = settings
        self.wall_clock = wall_clock
        self.stop = threading.Event()
        self._report = report
        self._folder = state
        self._clock = clock
        self._ids = Ids()
        self._put = threading.Event()
        self._ending = threading.Event()
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None

    def prepare(self) -> None:
        """Read secrets and addresses. Raises ActionError."""
        raise NotImplementedError

    def send(self, delivery: Delivery, age_s: float | None, *, replayed: bool) -> Answer:
        """Send it once, within a bounded time; raises Stopped where ``stop`` is set meanwhile."""
        raise NotImplementedError

    def wants(self, *, on: bool) -> bool:
        """Whether beginnings or ends are sent to anybody; after ``prepare``."""
        return bool(self.settings.targets(on=on))

    def open(self) -> None:
        """Read the secret and the outbox, and send what an earlier run left in it."""
        self.prepare()
        if self._sender is None:
            folder = (self._folder or state_directory()) / "actions"
            keep_s = (self.settings.keep_h or self.keep_h) * 3600
            path = folder / outbox_name(self.settings.name)
            limits = Limits(MAX_WAITING, MAX_BYTES, keep_s)
            outbox = Outbox(path, limits, kind=Delivery, clock=self._clock)
            self._sender = Sender(
                self.settings.name, outbox, keep_s, self._send, self._came, clock=self._clock
            )
            # A daemon: a name server that does not answer must not keep the process.
            self._thread = threading.Thread(target=self._run, name="labelcam-send", daemon=True)
            self._thread.start()

    def begin(self, occurrence: Occurrence) -> None:
        """Store it; sent as soon as all before it are."""
        self._store(occurrence)

    def end(self, occurrence: Occurrence) -> None:
        """As ``begin``."""
        self._store(occurrence)

    def rehearse(self, occurrence: Occurrence) -> str:
        """Send it now and once, beside all that waits; returns what the server answered.

        Needs no ``open``, which would take the outbox. Raises ActionError where it is not taken.
        """
        self.prepare()
        if not self.wants(on=occurrence.on):
            return "nothing to be sent"
        answer = self.send(self._delivery(occurrence), 0.0, replayed=False)
        if not answer.taken:
            raise ActionError(self.settings.name, answer.said)
        return answer.said

    def cancel(self) -> None:
        """Send no more than what waits, and that only while the server takes it."""
        self._ending.set()
        self._put.set()

    def close(self) -> None:
        """End the thread, and leave on disk what was not taken."""
        self.cancel()
        thread, self._thread = self._thread, None
        if thread:
            thread.join(GOODBYE_S)
            self.stop.set()
            thread.join(CLOSE_S)
        if self._sender:
            self._sender.close()

    def _store(self, occurrence: Occurrence) -> None:
        if self._sender and self.wants(on=occurrence.on):
            self._sender.put(self._delivery(occurrence))
            self._put.set()

    def _delivery(self, occurrence: Occurrence) -> Delivery:
        return Delivery.of(
            occurrence,
            self._ids.next(occurrence.wall_at),
            clock_synced=bool(vitals.clock_synced()),
        )

    # The thread labelcam-send.

    def _run(self) -> None:
        sender = self._sender
        assert sender is not None
        while not self.stop.is_set():
            self._put.clear()
            try:
                wait_s = sender.step()
            except Stopped:
                return
            except Exception as error:  # noqa: BLE001 - the thread must not end
                wait_s, fault = FAULT_S, f"{type(error).__name__}: {error}"
                said = f"internal fault, please report it: {one_line(fault)}"
                # Once for each, or the log would be of nothing else.
                if said != self.problem:
                    _log.error("action %s: %s", self.settings.name, said)
                self.problem = said
            else:
                self.problem = sender.trouble
            if wait_s != 0.0:
                if self._ending.is_set():
                    return
                self._put.wait(wait_s)

    def _send(self, delivery: Delivery, age_s: float | None, replayed: bool) -> Answer:
        return self.send(delivery, age_s, replayed=replayed)

    def _came(self, delivery: Delivery, age_s: float | None, outcome: str | ActionError) -> None:
        at = time.monotonic() - (age_s or 0.0)
        self._report(delivery.occurrence(at), outcome)


def outbox_name(action: str) -> str:
    """The file of an action's deliveries: its letters and digits, and what tells it from others."""
    letters = re.sub(r"[^a-z0-9]+", "-", action.lower()).strip("-")[:40]
    return f"{letters or 'action'}-{zlib.crc32(action.encode()):08x}.db"


def sweep(actions: Iterable[str], folder: Path | None = None, now: float | None = None) -> None:
    """Delete what lies unused for SWEEP_S in the folder of all outboxes; ``now`` is wall time."""
    names = [outbox_name(action) for action in actions]
    used = {name + suffix for name in names for suffix in ("", "-wal", "-shm")}
    oldest = (time.time() if now is None else now) - SWEEP_S
    with contextlib.suppress(OSError):
        for path in ((folder or state_directory()) / "actions").iterdir():
            if path.name not in used and path.stat().st_mtime < oldest:
                path.unlink()
