"""Deliveries from the outbox to a server, one after the other, until it has each of them."""

import logging
import random
import threading
from collections.abc import Callable

import msgspec

from device.errors import ActionError
from device.sinks.actions.wording import Delivery
from device.sinks.outbox import RETRY_S, TRIM_S, Outbox, Stored
from device.sinks.retry import Retry
from device.system.text import one_line

_log = logging.getLogger("labelcam.actions")

# A server may ask to be left alone for so long, and not longer.
RETRY_AFTER_MAX_S = 3600.0
# Between two tries, however soon the server says that it can be asked again.
RETRY_AFTER_MIN_S = 0.5


class Answer(msgspec.Struct, frozen=True):
    """What a server answered, in words in ``said``; ``status`` is HTTP's, 0 where none came.

    ``retry_after_s`` is how long it wants to be left alone.
    """

    status: int
    said: str
    retry_after_s: float | None = None

    @property
    def taken(self) -> bool:
        """Whether the server has it now."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether the same request would be refused for ever."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)


# Sends a delivery of an age, perhaps not for the first time; None where it is not wanted.
Send = Callable[[Delivery, float | None, bool], Answer]
# Takes what came of a delivery: what was done in a few words, or why it was not.
Outcome = Callable[[Delivery, float | None, str | ActionError], None]


class Sender:
    """The oldest delivery is tried until the server takes it or refuses it for good, or until it
    is older than ``keep_s``; only then comes the next, so that their order stays.

    ``put`` may be called from any thread, ``step`` from one. ``clock`` is that of the outbox:
    seconds since boot. ``problem`` is why the last try failed, empty where it did not;
    ``delivered``, ``refused`` and ``expired`` count since the start.
    """

    def __init__(
        self,
        action: str,
        outbox: Outbox,
        keep_s: float,
        send: Send,
        outcome: Outcome,
        *,
        clock: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        self.problem = ""
        self.delivered = self.refused = self.expired = 0
        self._action = action
        self._keep_s = keep_s
        self._send = send
        self._outcome = outcome
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._opened_at = clock()
        self._retry: Retry | None = None
        self._due = 0.0
        # What is numbered up to here was there before, and may have been sent.
        self._left_over = outbox.newest
        self._tried = 0
        self._unwritten = False
        # Held for no longer than the disk takes, never while the server is asked.
        self._lock = threading.Lock()
        self._outbox = outbox

    def put(self, delivery: Delivery) -> None:
        """Take a delivery; when this returns it is on disk, or the outbox has said why not."""
        with self._lock:
            self._outbox.add([delivery])

    @property
    def waiting(self) -> int:
        """How many deliveries wait."""
        with self._lock:
            return len(self._outbox)

    @property
    def trouble(self) -> str:
        """Why the last try failed, how many wait, and how many were dropped; empty where it
        did not fail."""
        dropped = f", {self.dropped} dropped" if self.dropped else ""
        return f"{self.problem} ({self.waiting} waiting{dropped})" if self.problem else ""

    @property
    def dropped(self) -> int:
        """How many were dropped undelivered: by the outbox's bounds, by age, or refused."""
        return self._outbox.dropped + self.refused + self.expired

    def step(self) -> float | None:
        """Do what is due, and return how many seconds nothing will be; None until the next put."""
        with self._lock:
            self._outbox.tick()
            found = self._outbox.pending(0, 1)
            now = self._clock()
            if not found:
                self._retry = None
                return self._until_tidy()
        stored = found[0]
        delivery = stored.event
        assert isinstance(delivery, Delivery)
        age_s = None if stored.since is None else max(0.0, now - stored.since)
        kept_s = now - (self._opened_at if stored.since is None else stored.since)
        if kept_s > self._keep_s:
            self.expired += 1
            said = f"not delivered within {self._keep_s / 3600:g} h"
            said += f" ({self.problem})" if self.problem else ""
            self._done(stored, age_s, ActionError(self._action, said))
            return 0.0
        if now < self._due:
            return min(self._due - now, self._keep_s - kept_s + 0.1)
        replayed = stored.number <= max(self._left_over, self._tried)
        self._tried = stored.number
        answer = self._send(delivery, age_s, replayed)
        if answer.taken:
            self._recover()
            self.delivered += 1
            self._done(stored, age_s, answer.said)
            return 0.0
        if answer.final:
            self._recover()
            self.refused += 1
            self._done(stored, age_s, ActionError(self._action, f"refused: {answer.said}"))
            return 0.0
        return self._wait(answer)

    def _wait(self, answer: Answer) -> float:
        """Note why it failed, and how long it is left alone for."""
        if self.problem != answer.said:
            _log.warning("action %s: %s; kept and tried again", self._action, one_line(answer.said))
        self.problem = answer.said
        self._retry = self._retry or Retry(self._rng)
        wait_s = self._retry.wait_s(self._clock(), slow=False)
        if answer.retry_after_s is not None:
            # Not to the second, so that many devices do not come back all at once.
            asked_s = max(RETRY_AFTER_MIN_S, min(answer.retry_after_s, RETRY_AFTER_MAX_S))
            wait_s = asked_s * self._rng.uniform(1.0, 1.1)
        self._due = self._clock() + wait_s
        return wait_s

    def _recover(self) -> None:
        if self.problem:
            _log.info("action %s: its server answers again", self._action)
        self.problem, self._retry, self._due = "", None, 0.0

    def _done(self, stored: Stored, age_s: float | None, said: str | ActionError) -> None:
        with self._lock:
            self._outbox.acknowledge(stored.number)
            self._unwritten = True
        assert isinstance(stored.event, Delivery)
        self._outcome(stored.event, age_s, said)

    def _until_tidy(self) -> float | None:
        """When the outbox has something to write though nothing is sent."""
        if self._outbox.trouble:
            return RETRY_S
        wait_s, self._unwritten = TRIM_S if self._unwritten else None, False
        return wait_s

    def close(self) -> None:
        """Leave the rest on disk."""
        with self._lock:
            self._outbox.close()
