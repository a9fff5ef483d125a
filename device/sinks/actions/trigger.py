"""When an action is done: what its conditions make of a camera's labels. No threads here."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from device import config
from device.events import LabelChange
from device.pipeline.duty import Duty
from device.sinks.actions.performer import Occurrence
from device.sinks.photos import Photo

# How often an action with hours looks at the clock on the wall.
_HOURS_S = 1.0
_UNIT_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}


class Limit:
    """How often at most, as "10/hour": never more in any span of that length; empty: always."""

    def __init__(self, text: str) -> None:
        count, _, unit = text.partition("/")
        self._span_s = _UNIT_S.get(unit, 0.0)
        self._times: deque[float] = deque(maxlen=int(count or 1))

    def admits(self, now: float) -> bool:
        """Whether it may be done at this monotonic time; if so, it counts as done."""
        if len(self._times) == self._times.maxlen and now - self._times[0] < self._span_s:
            return False
        self._times.append(now)
        return True


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """A change of a camera's labels as the loop leaves it; ``wall_at`` in seconds since 1970."""

    change: LabelChange
    wall_at: float
    photo: Photo | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One thing to do, or, where ``refused`` says why, not to do."""

    occurrence: Occurrence
    refused: str = ""


@dataclass(slots=True)
class _Held:
    """A label in force: how it began, and whether that was acted on or refused."""

    began: Occurrence
    begun: bool = False
    refused: bool = False


class Trigger:
    """The conditions of one action; fed with moments, in the order of their times.

    Steps come out of ``next_step``. An end is done where its beginning was, and only there. For
    one thread at a time, but for ``wanted`` and ``concerns``.
    """

    def __init__(
        self, settings: config.Action, node: str, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._node = node
        self._wall_clock = wall_clock
        self._limit = Limit(settings.limit)
        self._labels = frozenset(settings.labels)
        self._duty = Duty(config.Gate(hours=settings.hours), wall_clock) if settings.hours else None
        self._held: dict[tuple[str, str], _Held] = {}
        self._steps: deque[Step] = deque()

    def concerns(self, camera: str) -> bool:
        """Whether the action is for this camera."""
        return not self._settings.cameras or camera in self._settings.cameras

    def wanted(self, active: Sequence[str]) -> tuple[str, ...]:
        """Those of the labels that the action is for."""
        if not self._labels:
            return tuple(active)
        return tuple(label for label in active if label in self._labels)

    def see(self, moment: Moment) -> None:
        """Take what is in force at a camera since a moment."""
        camera, active = moment.change.camera, self.wanted(moment.change.active)
        for key in [key for key in self._held if key[0] == camera and key[1] not in active]:
            if (held := self._held.pop(key)).begun:
                self._steps.append(Step(self._ending(held, moment.change.at, moment)))
        for label in active:
            if (camera, label) not in self._held:
                self._held[camera, label] = _Held(self._beginning(label, moment))

    def next_step(self, now: float) -> Step | None:
        """What is to be done at this monotonic time, or None."""
        if not self._steps:
            on_duty = self._duty is None or self._duty.is_on()
            for held in self._held.values():
                if held.begun and not on_duty:
                    # It begins anew where the label outlasts the night.
                    held.begun = False
                    self._steps.append(Step(self._ending(held, now)))
                elif on_duty and not (held.begun or held.refused) and now >= self._due(held):
                    self._begin(held, now)
        return self._steps.popleft() if self._steps else None

    def wait_s(self, now: float) -> float | None:
        """How long nothing is due unless a moment comes, in seconds; None for ever."""
        waits = [
            self._due(held) - now
            for held in self._held.values()
            if not (held.begun or held.refused) and self._due(held) > now
        ]
        if self._duty and self._held:
            waits.append(_HOURS_S)
        return min(waits, default=None)

    def end_all(self, now: float) -> list[Occurrence]:
        """The ends of all that was begun; nothing is in force any more."""
        ends = [self._ending(held, now) for held in self._held.values() if held.begun]
        self._held.clear()
        self._steps.clear()
        return ends

    def begun(self, camera: str) -> list[Occurrence]:
        """The beginnings at a camera that were done and have not ended."""
        return [h.began for key, h in self._held.items() if key[0] == camera and h.begun]

    def _due(self, held: _Held) -> float:
        return held.began.at + self._settings.min_held_s

    def _begin(self, held: _Held, now: float) -> None:
        began = replace(held.began, held_s=max(0.0, now - held.began.at))
        if self._limit.admits(now):
            held.begun = True
            self._steps.append(Step(began))
        else:
            held.refused = True
            self._steps.append(Step(began, f"was done {self._settings.limit} already"))

    def _beginning(self, label: str, moment: Moment) -> Occurrence:
        change = moment.change
        own = change.label == label and change.on
        return Occurrence(
            action=self._settings.name,
            node=self._node,
            camera=change.camera,
            label=label,
            on=True,
            score=change.score if own else 0.0,
            held_s=0.0,
            active=change.active,
            model=change.model,
            at=change.at,
            wall_at=moment.wall_at,
            photo=moment.photo,
        )

    def _ending(self, held: _Held, at: float, moment: Moment | None = None) -> Occurrence:
        """The end of what began, by a moment or because its time is over."""
        change = moment.change if moment else None
        own = change is not None and change.label == held.began.label
        others = tuple(label for label in held.began.active if label != held.began.label)
        return replace(
            held.began,
            on=False,
            score=change.score if change and own else 0.0,
            held_s=max(0.0, at - held.began.at),
            active=change.active if change else others,
            at=at,
            wall_at=moment.wall_at if moment else self._wall_clock(),
            photo=moment.photo if moment else None,
        )
