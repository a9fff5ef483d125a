"""When recorded frames are due."""

import threading
import time

_LATE_MAX_S = 1.0


class Pace:
    """A schedule on the monotonic clock, whose waits end at once when ``stop`` is set.

    Each wait is until a point counted from the first one, so that delays do not add up.
    """

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._start: float | None = None

    def wait_until(self, position_s: float) -> bool:
        """Wait for the time of this position in the recording; False when told to stop."""
        now = time.monotonic()
        if self._start is None:
            self._start = now - position_s
        wait_s = self._start + position_s - now
        if wait_s < -_LATE_MAX_S:
            # After a suspend, or where decoding cannot keep up, a rush through all that was
            # missed would only be dropped: the recording goes on from here.
            self._start -= wait_s
        return not self._stop.wait(max(0.0, wait_s))
