"""When to try the other end of a way out again."""

import random

# Waits between two attempts, in seconds. After a refusal that no time mends by itself, and
# when another client keeps taking our place, they start at the slow one.
FIRST_S, SLOW_S, LONGEST_S = 1.0, 30.0, 120.0
# So many connections in a row that each ended within SHORT_S look like another client with
# our id, which a broker before MQTT 5 does not tell. A broker that went down and came back
# refuses a connection in between.
SHORT_LIVED, SHORT_S = 5, 5.0


class Retry:
    """Waits that grow, at random, so that many devices do not come back all at once.

    "Decorrelated jitter" of https://aws.amazon.com/builders-library: each wait is drawn
    between the first one and three times the last.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()  # noqa: S311 - no secret
        self._last_s = FIRST_S
        self._up_at: float | None = None
        self._short = 0

    def came_up(self, now: float) -> None:
        """The broker let us in."""
        self._up_at = now

    @property
    def contested(self) -> bool:
        """Whether one connection after the other ended as soon as it stood."""
        return self._short >= SHORT_LIVED

    def wait_s(self, now: float, *, slow: bool) -> float:
        """How long to wait after a connection that ended now, or never came to be."""
        if self._up_at is None:
            self._short = 0
        else:
            self._short = self._short + 1 if now - self._up_at < SHORT_S else 0
            if not slow and not self.contested:
                self._last_s = FIRST_S
        self._up_at = None
        first_s = SLOW_S if slow or self.contested else FIRST_S
        self._last_s = min(LONGEST_S, self._rng.uniform(first_s, max(first_s, self._last_s) * 3))
        return self._last_s
