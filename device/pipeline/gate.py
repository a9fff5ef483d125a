"""Whether a frame is worth an inference: each gate of the table has to admit it."""

from collections.abc import Callable
from typing import Protocol

from device.config import Gate as Settings
from device.frames import Frame


class Gate(Protocol):
    """What may keep a frame of one channel from the model."""

    def admits(self, frame: Frame) -> bool:
        """Whether the frame should be classified."""


class RateGate:
    """Admits at most ``max_fps`` frames a second on average; 0 admits every frame.

    Frames are due at fixed distances from the first, not from the last one admitted: with
    a camera of 30 and a limit of 20, waiting a whole period after each frame would give 15.
    """

    def __init__(self, settings: Settings) -> None:
        self._period_s = 1 / settings.max_fps if settings.max_fps else 0.0
        self._last: float | None = None
        self._due = 0.0

    def admits(self, frame: Frame) -> bool:
        """Whether the frame should be classified, by the time of its capture.

        In any ``t`` seconds at most ``max_fps * t + 2`` frames are admitted.
        """
        if not self._period_s:
            return True
        at = frame.captured_at
        if self._last is None:
            self._due = at
        elif at < self._last:
            # Time ran backwards: move along, or the gate stays closed until it has caught up.
            self._due -= self._last - at
        self._last = at
        if at < self._due:
            return False
        # What a pause left unused is lost, save for one frame: no burst follows it.
        self._due = max(self._due + self._period_s, at)
        return True


# In the order in which they are asked; the first that does not admit a frame has turned it away.
GATES: tuple[Callable[[Settings], Gate], ...] = (RateGate,)


def open_gates(settings: Settings) -> tuple[Gate, ...]:
    """The gates of one channel."""
    return tuple(make(settings) for make in GATES)
