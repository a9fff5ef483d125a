"""A sink kept apart from the others, and brought back when it failed."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from device import config
from device.control.commands import Device
from device.errors import OutputClosed, SinkError
from device.events import ActionResult, Sink, SinkHealth
from device.sinks.photos import Photos
from device.sinks.ring import Ring, open_ring
from device.system.paths import state_directory
from device.system.text import one_line

_log = logging.getLogger("labelcam.node")

RETRY_S = 10.0


@dataclass(frozen=True)
class Run:
    """The run that a sink is opened for.

    ``cameras`` are those that are reported, each region as one of its own; ``groups`` are the
    names of the groups of labels; ``started_at`` is monotonic. ``report_action`` takes what an
    action did, from any thread, and passes it on to every sink.
    """

    settings: config.Config
    cameras: Sequence[config.Camera]
    device: Device
    groups: Sequence[str]
    started_at: float
    report_action: Callable[[ActionResult], None] = lambda _result: None

    @cached_property
    def photos(self) -> Photos:
        """The pictures of what changed, the same for every sink."""
        return Photos(self.settings.snapshots, self.cameras, self.device)

    @cached_property
    def ring(self) -> Ring:
        """The pictures that are kept on disk."""
        return open_ring(self.settings.snapshots, state_directory())


class Outlet:
    """A sink, isolated: what it raises is reported here and reaches nobody else.

    After a fault it is closed, and opened again when something is to be delivered and
    RETRY_S have passed. OutputClosed alone goes through: it ends the run. One that
    cannot be opened at the start is an error, unless ``spare`` names it: then it is out of
    order like one that failed later.
    """

    def __init__(self, opener: Callable[[], Sink], spare: str = "") -> None:
        self._open = opener
        self._sink: Sink | None = None
        self._retry_at = 0.0
        try:
            self._sink = opener()
        except SinkError as error:
            if not spare:
                raise
            self.health = SinkHealth(spare)
            self._fail(error)
        else:
            self.health = SinkHealth(self._sink.name)

    def deliver(self, call: Callable[[Sink], None]) -> None:
        """Make the call on the sink, or on nothing while it is out of order."""
        try:
            if self._sink is None:
                if time.monotonic() < self._retry_at:
                    return
                self._sink = self._open()
                _log.info("sink %s: works again", self._sink.name)
                self.health = SinkHealth(self._sink.name)
            call(self._sink)
        except OutputClosed:
            raise
        except Exception as error:  # noqa: BLE001 - here a sink is isolated
            self._fail(error)

    def look(self) -> SinkHealth:
        """How the sink is: its own fault, or what it says of the other end."""
        problem = getattr(self._sink, "problem", "")
        return SinkHealth(self.health.name, problem) if problem else self.health

    def _fail(self, error: Exception) -> None:
        name, problem = self.health.name, one_line(str(error))
        # Once for each reason: a port that stays taken must not fill the log.
        if problem != self.health.problem:
            _log.warning("sink %s: %s; trying again in %g s", name, problem, RETRY_S)
        self.health = SinkHealth(name, problem)
        self.close()
        self._retry_at = time.monotonic() + RETRY_S

    def close(self) -> None:
        """Close the sink, whatever it makes of it."""
        sink, self._sink = self._sink, None
        if sink:
            try:
                sink.close()
            except OutputClosed:
                pass
            except Exception as error:  # noqa: BLE001 - here a sink is isolated
                _log.warning("sink %s: %s while closing", sink.name, error)
