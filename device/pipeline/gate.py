"""Whether a frame is worth an inference: each gate of the table has to admit it."""

import math
from collections.abc import Callable
from typing import Protocol

from device.config import Gate as Settings
from device.events import GovernedBy, Look
from device.frames import Frame
from device.pipeline.motion import Area, Motion

# A clock that stands still would leave the gate shut: so many frames are half a minute at 30 a
# second.
_SKIPPED_MAX = 900
# The light is another when it differs by so many grey values, and times its usual flicker.
_LIGHT_GREYS, _LIGHT_FLICKERS = 3.0, 3.0


class Scene(Protocol):
    """What a gate may ask of the channel that it is of."""

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for the next frame: for a picture, or to teach it."""

    @property
    def steady(self) -> bool:
        """Whether the label stands, and more frames like the last would not change it."""

    @property
    def governed(self) -> tuple[float, GovernedBy]:
        """To how many frames a second heat or a budget have lowered its rate, 0 not, and which."""

    def motion(self, frame: Frame, /) -> Motion | None:
        """What moves in the frame; None where every frame is to be classified."""

    def area(self, frame: Frame, /) -> Area:
        """The part of the frame that is classified."""


class Gate(Protocol):
    """What may keep a frame of one channel from the model.

    ``look`` is what it says of the last frame; empty where it has only kept a rate that was
    asked for, which is no work spared.
    """

    look: Look

    def admits(self, frame: Frame) -> bool:
        """Whether the frame should be classified."""


class RateGate:
    """Admits at most ``max_fps`` frames a second on average; 0 admits every frame.

    Frames are due at fixed distances from the first, not from the last one admitted: with
    a camera of 30 and a limit of 20, waiting a whole period after each frame would give 15.
    """

    look: Look = ""

    def __init__(self, settings: Settings, _scene: Scene) -> None:
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


class GovernorGate:
    """Keeps the rate to which heat or the budget of processor time have lowered it."""

    look: Look = ""

    def __init__(self, _settings: Settings, scene: Scene) -> None:
        self._scene = scene
        self._fps = 0.0
        self._rate = RateGate(Settings(), scene)

    def admits(self, frame: Frame) -> bool:
        """Whether the frame is within that rate, by the time of its capture."""
        fps, self.look = self._scene.governed
        if fps != self._fps:
            self._fps, self._rate = fps, RateGate(Settings(max_fps=fps), self._scene)
        return self._rate.admits(frame)


class MotionGate:
    """Admits every frame while something moves or the label is in doubt, then ever fewer.

    Where both are at rest the distance between two frames doubles up to 1 / ``idle_fps``
    seconds, and ``recheck_s`` at most. Of those that it turns away the last that was classified
    tells all there is to tell.
    """

    look: Look = ""

    def __init__(self, settings: Settings, scene: Scene) -> None:
        self._scene = scene
        longest_s = 1 / settings.idle_fps if settings.idle_fps else math.inf
        self._longest_s = min(longest_s, settings.recheck_s)
        self._last = -math.inf
        self._distance_s = 0.0
        self._due = -math.inf
        self._level = 0.0
        self._skipped = 0

    def admits(self, frame: Frame) -> bool:
        """Whether the frame may tell something new, by its pixels and the time of its capture."""
        motion = self._scene.motion(frame)
        if motion is None:
            self.look = ""
            return True
        at, passed_s = frame.captured_at, frame.captured_at - self._last
        self._last = at
        if motion.within(self._scene.area(frame)):
            self.look = "moving"
        elif not self._scene.steady:
            self.look = "settling"
        elif self._is_due(motion, at, passed_s):
            self.look = "re-check"
        else:
            self.look = "settled"
            self._skipped += 1
            return False
        if self.look == "re-check":
            self._distance_s = min(max(2 * self._distance_s, passed_s), self._longest_s)
        else:
            self._distance_s = 0.0
        self._due, self._level, self._skipped = at + self._distance_s, motion.level, 0
        return True

    def _is_due(self, motion: Motion, at: float, passed_s: float) -> bool:
        other_light = abs(motion.level - self._level)
        return (
            self._scene.wanted
            or at >= self._due
            or passed_s < 0  # a clock that is put back
            or self._skipped >= _SKIPPED_MAX
            or other_light > _LIGHT_GREYS + _LIGHT_FLICKERS * motion.flicker
        )


# In the order in which they are asked; the first that does not admit a frame has turned it away.
# The motion gate is the last: what it has admitted, it takes for classified.
GATES: tuple[Callable[[Settings, Scene], Gate], ...] = (RateGate, GovernorGate, MotionGate)


def open_gates(settings: Settings, scene: Scene) -> tuple[Gate, ...]:
    """The gates of one channel."""
    return tuple(make(settings, scene) for make in GATES)
