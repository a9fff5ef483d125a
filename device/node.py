"""The running device: start, loop, stop.

Frames come from one thread a camera through a ``LatestFrame`` slot; everything else, from
the gate to the sinks, happens on the main thread, one frame at a time.
"""

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from operator import methodcaller

from device import config
from device.control.commands import Command
from device.control.controller import Controller
from device.control.light import Light
from device.control.overrides import Overrides
from device.errors import CommandError, OutputClosed
from device.events import ActionResult, LabelChange, Observation, Sink
from device.frames import Frame
from device.health import vitals
from device.health.meters import Health
from device.pipeline.feeds import Feeds
from device.sinks import open_sinks
from device.sinks.outlet import Outlet, Run
from device.sinks.terminal.sink import print_summary
from device.system import audit
from device.system.notify import Service
from device.system.paths import state_directory
from device.system.signals import Signals

_log = logging.getLogger("labelcam.node")

_REPORT_S = 1.0
# How long a wait may last before the loop looks whether a signal came.
_WAIT_S = 0.2
_MAX_RESULTS = 1000


class Node:
    """The device, from its configuration to its end.

    ``frames`` ends the run after so many classified frames, ``for_s`` after so many seconds;
    without them it ends when every camera has ended, or by SIGINT or SIGTERM. ``reload``
    reads the configuration again, for the command of that name. ``restart`` says after a run
    that a new one was asked for. A camera that is absent at the start is an error, unless
    ``patient``: then it is waited for like one that was lost. ``sinks`` are opened beside
    those of the configuration, and observe all ``scores`` where those are asked for.
    """

    def __init__(
        self,
        settings: config.Config,
        frames: int | None = None,
        reload: Callable[[], config.Config] | None = None,
        *,
        patient: bool = False,
        sinks: Sequence[Callable[[], Sink]] = (),
        for_s: float | None = None,
        scores: bool = False,
    ) -> None:
        self._settings = settings
        self._frames = frames
        self._read_settings = reload
        self._patient = patient
        self._more_sinks = sinks
        self._for_s = for_s
        self._restart = False
        self._started_at = time.monotonic()
        self._service = Service(settings.camera)
        self._signals = Signals(reloads=self._service.active)
        self._health = Health(self._started_at, vitals.Board(state_directory()).read)
        self._feeds = Feeds(settings, self._health, scores=scores)
        self._overrides = Overrides(state_directory() / "commands.json")
        self._light = Light()
        self._sinks: list[Outlet] = []
        # Put by the threads of the actions; what nobody takes is not kept for ever.
        self._results: deque[ActionResult] = deque(maxlen=_MAX_RESULTS)
        self._classified = 0
        self._interval_s = self._overrides.interval_s(settings.mqtt.interval_s)
        self._report_due = 0.0
        self.controller = Controller(self._feeds, self, self._overrides)

    @property
    def wants_restart(self) -> bool:
        """Whether the run ended so that another one begins."""
        return self._restart

    def run(self) -> int:
        """Run to the end and print the summary; returns the exit code.

        Raises LabelcamError for what keeps the device from working.
        """
        with self._signals, contextlib.suppress(OutputClosed):
            try:
                self._startup()
                self._main_loop()
            finally:
                self._shutdown()
            self._summarize()
        return 0

    def _startup(self) -> None:
        # The cameras first: they open in their own threads while the models load in this one.
        self._feeds.start()
        self._feeds.load(self._overrides.controls)
        if not self._patient:
            self._feeds.wait_until_open(lambda: self._signals.stop)
        cameras = [channel.camera for channel in self._feeds.channels]
        run = Run(
            self._settings,
            cameras,
            self.controller,
            self._feeds.groups,
            self._started_at,
            self._results.append,
        )
        self._sinks = open_sinks(run, self._more_sinks)
        self._feeds.play(loop_footage=self._service.active)

    def _main_loop(self) -> None:
        begun_at = time.monotonic()
        while not self._signals.stop:
            self._feeds.wait(_WAIT_S, lambda: self.controller.pending)
            self._check_cameras()
            for feed, frame in self._feeds:
                if feed.check_picture(frame):
                    self._report()
                for channel in feed.channels:
                    if observation := channel.process(frame):
                        self._observe(observation)
                    if self._classified == self._frames:
                        return
            self._obey()
            now = time.monotonic()
            if now >= self._report_due:
                self._report_due = now + _REPORT_S
                self._report()
            if self._feeds.ended or (self._for_s is not None and now - begun_at >= self._for_s):
                return

    def _check_cameras(self) -> None:
        """Say at once where a camera stalled, was lost or is back."""
        changed, changes = self._feeds.check()
        for change in changes:
            self._tell(change)
        if changed:
            self._report()

    def _obey(self) -> None:
        """Carry out one command, of whatever way in, or the reload that a signal asks for."""
        if outcome := self.controller.step():
            for change in outcome.changes:
                self._tell(change)
            if outcome.answer.command.key == "reload":
                self._reloaded(outcome.answer.error)
            self._report()
            outcome.deliver()
        if self._signals.reload:
            self._signals.reload = False
            self._service.reloading()
            try:
                self.controller.submit(Command(None, "reload"))
            except CommandError as error:
                self._reloaded(str(error))

    def _observe(self, observation: Observation) -> None:
        self._classified += 1
        for change in observation.changes:
            self._tell(change, observation.frame)
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.observe(observation))
        self._feeds.drift.observe(observation)
        self._service.classified(observation)

    def _tell(self, change: LabelChange, frame: Frame | None = None) -> None:
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.change(change, frame))

    def _report(self) -> None:
        now = time.monotonic()
        self._light.restore(now)
        self._feeds.update_heads()
        self._feeds.keep_doubts()
        self._tell_results()
        self._feeds.update_meters()
        sinks = tuple(outlet.look() for outlet in self._sinks)
        health = self._feeds.govern(self._health.report(now, self._interval_s, sinks), now)
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.report(health))
        self._service.report(health)

    def _tell_results(self) -> None:
        """Tell every sink what the actions did since."""
        while self._results:
            result = self._results.popleft()
            for outlet in self._sinks:
                outlet.deliver(methodcaller("acted", result))

    # What a command for the whole device may do: the DeviceActions of control.

    def set_interval(self, interval_s: float) -> None:
        """Change the distance of health messages."""
        self._interval_s = interval_s
        self._overrides.keep(None, "interval_s", interval_s, self._settings.mqtt.interval_s)

    def identify(self) -> None:
        """Blink. Raises CommandError where there is no light."""
        _log.info("identify: this is the device that was asked for")
        self._light.identify(time.monotonic())

    def restart(self) -> None:
        """End the run, and have another begin."""
        self._restart = True
        self._signals.stop = True

    def reload(self) -> Callable[[], None]:
        """Prove a configuration that was edited; for any thread, and takes seconds.

        Returns what takes it, by a new start. Raises LabelcamError where it does not hold.
        """
        if self._read_settings is None:
            raise CommandError("reload", "this run has no configuration to read again")
        settings = self._read_settings()
        if settings == self._settings:
            return lambda: None
        # Most runs are never told to, and it brings what starts processes.
        from device import preflight

        preflight.check(settings)
        return self._start_anew

    def _start_anew(self) -> None:
        _log.info("reload: the configuration has changed; starting again with it")
        audit.note("changed", "the configuration, by a reload")
        self.restart()

    def _reloaded(self, refusal: str) -> None:
        """Say what a reload came to; why a new configuration is refused stays in the status."""
        if refusal:
            _log.error("reload: %s; going on with the old configuration", refusal)
        if not self._restart:
            self._service.reloaded(refusal)

    def _shutdown(self) -> None:
        if self._restart:
            self._service.reloading()
        else:
            self._service.stopping()
        self._light.restore(time.monotonic(), at_once=True)
        self._feeds.close()
        # The last first: what actions do at their end is told to those that still listen.
        while self._sinks:
            self._sinks.pop().close()
            self._tell_results()
        self.controller.close()
        self._feeds.close_models()

    def _summarize(self) -> None:
        # A journal is for what happened, and a new start goes on.
        if not self._feeds.channels or self._service.active or self._restart:
            return
        self._feeds.update_meters()
        out = sys.stderr if self._settings.jsonl.enabled else sys.stdout
        print_summary(self._health.report(time.monotonic(), self._interval_s), out)
