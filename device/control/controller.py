"""Carries out commands between two frames; what takes longer is prepared meanwhile."""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from device.config.values import Box
from device.control.commands import Answer, Command
from device.control.jobs import Jobs
from device.control.overrides import Overrides
from device.control.table import CONTROLS, Control, DeviceActions, DeviceControl, Prepared
from device.errors import CommandError, LabelcamError
from device.events import Controls, LabelChange
from device.pipeline.channel import Channel
from device.pipeline.feeds import Feeds
from device.system import audit

if TYPE_CHECKING:
    from device.teach.teacher import Teacher

# More than a person or a dashboard asks for at once; what is over it is refused, so that
# a storm of commands never becomes a queue that outlasts it.
MAX_WAITING = 64

Answered = Callable[[Answer], None]


# None for the device as a whole.
_Prepared = tuple[Channel | None, Prepared]


class _Order(NamedTuple):
    command: Command
    answered: Answered | None
    by: str


class Outcome(NamedTuple):
    """What a command came to: the changes of label that it brought, and whom to answer."""

    changes: list[LabelChange]
    answer: Answer
    answered: Answered | None

    def deliver(self) -> None:
        """Answer, once the sinks know how things are since."""
        if self.answered is not None:
            self.answered(self.answer)


class Controller:
    """What may be asked of the device and what is known of it, for ways in on any thread.

    It is the Device of every sink. ``step`` and ``close`` are for the node's thread.
    """

    def __init__(self, feeds: Feeds, actions: DeviceActions, overrides: Overrides) -> None:
        self._feeds = feeds
        self._actions = actions
        self._overrides = overrides
        self._lock = threading.Lock()
        self._orders: deque[_Order] = deque()
        self._jobs: Jobs[_Order, list[_Prepared]] = Jobs("labelcam-jobs", feeds.wake)

    def submit(self, command: Command, answered: Answered | None = None, *, by: str = "") -> None:
        """Have the command obeyed between two frames.

        Where it changes something, ``by`` is noted for whoever audits. ``answered`` is called on
        the node's thread, after the sinks were told how things are since; it must not raise. Raises
        CommandError when MAX_WAITING others wait.
        """
        with self._lock:
            if len(self._orders) + len(self._jobs) >= MAX_WAITING:
                raise CommandError(command.key, f"{MAX_WAITING} others wait; try again later")
            self._orders.append(_Order(command, answered, by))
        self._feeds.wake()

    def labels(self, camera: str) -> tuple[str, ...]:
        """What this camera may report, the word for nothing last; empty before it is loaded."""
        found = (channel for channel in self._feeds.channels if channel.name == camera)
        return next((channel.labels for channel in found), ())

    def taught(self, camera: str) -> tuple[str, ...]:
        """The labels that this camera was taught."""
        found = (channel for channel in self._feeds.channels if channel.name == camera)
        return next((channel.taught for channel in found), ())

    def region(self, camera: str) -> Box:
        """The part of the upright picture that this camera looks at, as shares of it."""
        found = (channel for channel in self._feeds.channels if channel.name == camera)
        return next(channel.controls.region for channel in found)

    def teacher(self, camera: str) -> "Teacher":
        """The lessons of this camera, for the thread that asks. Raises TeachError."""
        return self._feeds.teacher(camera)

    def models(self) -> tuple[str, ...]:
        """The models that the command ``model`` may choose."""
        return self._feeds.models

    @property
    def pending(self) -> bool:
        """Whether ``step`` has something to do."""
        return bool(self._orders) or self._jobs.has_finished

    def step(self) -> Outcome | None:
        """Carry out one command: never more between two frames, however many come."""
        if finished := self._jobs.take():
            order, prepared, error = finished
            done = self._commit(order.command, prepared or [])
            return _outcome(order, done, error)
        if not self._orders:
            return None
        order = self._orders.popleft()
        command, control = order.command, CONTROLS[order.command.key]
        changes: list[LabelChange] = []
        error = ""
        try:
            if control.slow:
                self._jobs.start(order, lambda: self._prepare(control, command))
                return None
            changes = self._commit(command, self._prepare(control, command))
        except LabelcamError as refused:
            error = str(refused)
        return _outcome(order, changes, error)

    def close(self) -> None:
        """Drop what is still being prepared."""
        while finished := self._jobs.take():
            for _, one in finished[1] or ():
                one.cancel()

    def _prepare(self, control: Control, command: Command) -> list[_Prepared]:
        """The command proved for each channel that it concerns. Raises LabelcamError."""
        if isinstance(control, DeviceControl):
            return [(None, control.prepare(self._actions, command.value))]
        prepared: list[_Prepared] = []
        try:
            for channel in self._feeds.channels:
                if command.camera in (None, channel.name):
                    one = control.prepare(self._feeds, channel, command.value)
                    prepared.append((channel, one))
        except BaseException:
            for _, one in prepared:
                one.cancel()
            raise
        return prepared

    def _commit(self, command: Command, prepared: list[_Prepared]) -> list[LabelChange]:
        """Put into force what every channel takes, and have it outlive a restart."""
        changes = []
        for channel, one in prepared:
            if (change := one.commit()) is not None:
                changes.append(change)
            if channel and command.key in Controls.__struct_fields__:
                configured = getattr(self._feeds.configured_controls(channel.camera), command.key)
                self._overrides.keep(channel.name, command.key, command.value, configured)
        return changes


def _outcome(order: _Order, changes: list[LabelChange], error: str) -> Outcome:
    command = order.command
    if order.by and not error:
        value = "" if command.value is None else f" = {command.value}"
        audit.note("changed", f"{command.camera or 'device'} {command.key}{value}, by {order.by}")
    return Outcome(changes, Answer(command, error), order.answered)
