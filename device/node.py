"""The running device: builds the parts, owns the threads, the signals and the loop.

Frames come from one thread a camera through a ``LatestFrame`` slot; everything else, from
the gate to the sinks, happens on the main thread, one frame at a time.
"""

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import FrameType

import msgspec

from device import config
from device.cameras import open_camera
from device.cameras.supervisor import CameraSupervisor, close_all
from device.control.commands import Answer, Command, CommandQueue, Light, Overrides, shown
from device.errors import CommandError, LabelcamError, OutputClosed
from device.events import UNAVAILABLE, Controls, LabelChange, Observation, Sink
from device.frames import Frame, LatestFrame
from device.health import vitals
from device.health.meters import Health
from device.inference.choice import choose
from device.library import catalog
from device.library.catalog import Model
from device.pipeline.channel import Channel, Feed, looking, model_of, prove, streams
from device.pipeline.classifier import Classifier
from device.pipeline.decider import Decider, Decision
from device.pipeline.gate import Gate
from device.pipeline.groups import load_groups
from device.sinks import open_sinks
from device.sinks.outlet import Outlet, Run
from device.sinks.terminal.sink import print_summary
from device.system.notify import Service
from device.system.paths import state_directory

_log = logging.getLogger("labelcam.node")

_REPORT_S = 1.0
# How long a wait may last before the loop looks whether a signal came.
_WAIT_S = 0.2


class Node:
    """The device, from its configuration to its end.

    ``frames`` ends the run after so many classified frames; without it a run ends when every
    camera has ended, or by SIGINT or SIGTERM. ``reload`` reads the configuration again, for
    the command of that name. ``restart`` says after a run that a new one was asked for.
    A camera that is absent at the start is an error, unless ``patient``: then it is waited
    for like one that was lost. ``sinks`` are opened beside those of the configuration, and
    the run ends after ``for_s`` seconds.
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
    ) -> None:
        self._settings = settings
        self._groups = load_groups(settings.decide.groups)
        self._frames = frames
        self._reload = reload
        self._patient = patient
        self._more_sinks = sinks
        self._for_s = for_s
        self.restart = False
        self._started_at = time.monotonic()
        self._service = Service(settings.camera)
        self._stop = threading.Event()
        self._hung_up = threading.Event()
        self._ready = threading.Condition()
        self._feeds: list[Feed] = []
        self._channels: list[Channel] = []
        self._sinks: list[Outlet] = []
        self._health = Health(self._started_at, vitals.Board(state_directory()).read)
        self._classified = 0
        self._commands = CommandQueue()
        self._overrides = Overrides(state_directory() / "commands.json")
        self._interval_s = settings.mqtt.interval_s
        self._light = Light()
        self._report_due = 0.0

    def run(self) -> int:
        """Run to the end and print the summary; returns the exit code.

        Raises LabelcamError for what keeps the device from working.
        """
        with self._signals(), contextlib.suppress(OutputClosed):
            try:
                self._startup()
                self._main_loop()
            finally:
                self._shutdown()
            self._summarize()
        return 0

    def _startup(self) -> None:
        settings = self._settings
        # The cameras first: they open in their own threads while the model loads in this one.
        models: dict[config.Model, Model] = {}
        for camera in settings.camera:
            chosen = model_of(settings, camera)
            if chosen not in models:
                models[chosen] = catalog.find(chosen.name, chosen.labels)
            opener = partial(open_camera, wanted=models[chosen].file.picture_size)
            slot = LatestFrame(self._ready)
            self._feeds.append(Feed(camera, slot, CameraSupervisor(camera, slot, opener)))
            self._feeds[-1].supervisor.start()
        self._interval_s = self._overrides.interval_s(self._interval_s)
        for feed in self._feeds:
            configured = models[model_of(settings, feed.camera)]
            for camera in streams(feed.camera):
                feed.channels.append(self._open_channel(feed, camera, configured))
            self._channels += feed.channels
        if not self._patient:
            for feed in self._feeds:
                feed.supervisor.wait_until_open(self._stop)
        self._open_sinks()
        for feed in self._feeds:
            feed.supervisor.play()

    def _open_channel(self, feed: Feed, camera: config.Camera, configured: Model) -> Channel:
        model, controls = self._kept_controls(camera, configured)
        classifier = self._classifier(model, looking(camera, controls))
        return Channel(
            camera,
            feed,
            Gate(msgspec.structs.replace(self._settings.gate, max_fps=controls.max_fps)),
            classifier,
            Decider(self._decide(controls), model.labels, self._groups),
            self._health.camera(camera.name, feed.supervisor.source, classifier.description),
            model,
            controls,
        )

    def _classifier(self, model: Model, camera: config.Camera) -> Classifier:
        """A classifier for the camera, beside another of the same model where there is one."""
        path = model.file.path
        loaded = (channel for feed in self._feeds for channel in feed.channels)
        same = (channel.classifier for channel in loaded if channel.model.file.path == path)
        beside = next(same, None)
        settings = self._settings.model
        # Measured before the first inference only: beside one, a measurement tells nothing.
        choice = choose(model.file, settings, may_measure=not self._classified and not beside)
        return Classifier(model, settings, camera, beside, choice=choice, wait=False)

    def _kept_controls(self, camera: config.Camera, configured: Model) -> tuple[Model, Controls]:
        """The model and controls of a camera: as configured, or as a command last set them."""
        original = self._configured_controls(camera)
        try:
            controls = self._overrides.controls(camera.name, original)
            self._decide(controls)
            looking(camera, controls)
            if controls.model == original.model:
                return configured, controls
            model = catalog.find(controls.model)
            Decider(self._decide(controls), model.labels, self._groups)
        except (LabelcamError, ValueError) as error:
            _log.warning(
                "camera %s: what commands set no longer holds (%s); starting as configured",
                camera.name,
                error,
            )
            return configured, original
        return model, controls

    def _configured_controls(self, camera: config.Camera) -> Controls:
        decide, gate = self._settings.decide, self._settings.gate
        model = model_of(self._settings, camera).name
        return Controls(True, decide.enter, decide.exit, gate.max_fps, model, camera.region)

    def _decide(self, controls: Controls) -> config.Decide:
        """The decider's settings with these thresholds; raises ValueError if they cross."""
        return msgspec.structs.replace(
            self._settings.decide, enter=controls.enter, exit=controls.exit
        )

    def _open_sinks(self) -> None:
        cameras = [channel.camera for channel in self._channels]
        run = Run(self._settings, cameras, self, tuple(self._groups), self._started_at)
        self._sinks = open_sinks(run, self._more_sinks)

    def _main_loop(self) -> None:
        begun_at = time.monotonic()
        while not self._stop.is_set():
            with self._ready:
                self._ready.wait_for(self._has_work, _WAIT_S)
            self._look_after_cameras()
            # Each camera in turn, so that a fast one never starves another.
            for feed in self._feeds:
                frame = feed.slot.take()
                if frame is None:
                    continue
                if feed.look_at_picture(frame):
                    self._report(time.monotonic())
                for channel in feed.channels:
                    if channel.controls.enabled and channel.gate.admits(frame.captured_at):
                        self._handle(channel, frame)
                    if self._frames is not None and self._classified >= self._frames:
                        return
            self._obey()
            if self._hung_up.is_set():
                self._obey_hang_up()
            now = time.monotonic()
            if now >= self._report_due:
                self._report_due = now + _REPORT_S
                self._report(now)
            if all(feed.slot.ended for feed in self._feeds):
                return
            if self._for_s is not None and now - begun_at >= self._for_s:
                return

    def _has_work(self) -> bool:
        return any(feed.slot.pending for feed in self._feeds) or bool(self._commands)

    def _look_after_cameras(self) -> None:
        """Notice which cameras stalled, were lost or are back, and say so at once.

        Raises the CameraError of one that was given up, when no other works, or when
        nothing but a new process can bring it back.
        """
        supervisors = [feed.supervisor for feed in self._feeds]
        changed = [feed for feed in self._feeds if feed.supervisor.check()]
        for feed in changed:
            if feed.picture is not None and feed.supervisor.state != "live":
                feed.picture.reset()
            # A recording that ended is the past as well, where other cameras go on.
            if feed.supervisor.state in ("stalled", "lost") or (
                feed.slot.ended and len(self._feeds) > 1
            ):
                for channel in feed.channels:
                    self._lose(channel)
        if changed:
            self._report(time.monotonic())
        none_works = not any(supervisor.state == "live" for supervisor in supervisors)
        for supervisor in supervisors:
            if supervisor.gave_up() and (none_works or supervisor.stuck):
                raise supervisor.failure()

    def _lose(self, channel: Channel) -> None:
        """Forget what was seen, and say that nothing is: the camera gives no frames."""
        now = time.monotonic()
        label = channel.decider.label
        if label is not None:
            held_s = now - channel.changed_at
            self._change(channel, Decision(UNAVAILABLE, 0.0, label, held_s, now))
        channel.decider.reset(now)

    def _change(self, channel: Channel, decision: Decision) -> LabelChange:
        """Tell the sinks of a change of label, and return it."""
        previous = decision.previous
        if previous is None and channel.reported == UNAVAILABLE:
            previous = UNAVAILABLE
        channel.reported, channel.changed_at = decision.label, decision.at
        change = LabelChange(
            camera=channel.name,
            label=decision.label,
            score=decision.score,
            previous=previous,
            held_s=decision.held_s,
            model=channel.model.name,
            at=decision.at,
        )
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.change(change))
        return change

    def submit(self, command: Command, answered: Callable[[Answer], None] | None = None) -> None:
        """Have the command obeyed between two frames; for any thread.

        ``answered`` is called on the node's thread, after the sinks were told how things
        are since; it must not raise. Raises CommandError when too many commands wait.
        """
        self._commands.put(command, answered)
        with self._ready:
            self._ready.notify_all()

    def labels(self, camera: str) -> tuple[str, ...]:
        """What this camera may report, ``unknown`` last."""
        found = next((c for c in self._channels if c.name == camera), None)
        return (*found.decider.names, self._settings.decide.unknown) if found else ()

    def models(self) -> tuple[str, ...]:
        """The models that are installed, and the configured one where it is another."""
        configured = (model_of(self._settings, camera).name for camera in self._settings.camera)
        return tuple(dict.fromkeys((*catalog.installed(), *configured)))

    def _obey(self) -> None:
        """Carry out one command: never more between two frames, however many come."""
        waiting = self._commands.take()
        if waiting is None:
            return
        command, answered = waiting
        error = ""
        try:
            self._execute(command)
        except LabelcamError as refused:
            error = str(refused)
        self._report(time.monotonic())
        if answered is not None:
            answered(Answer(command, error))

    def _execute(self, command: Command) -> None:
        """Do what the command says, or raise the LabelcamError that says why not."""
        if command.key == "restart":
            self.restart = True
            self._stop.set()
        elif command.key == "reload":
            self._read_again()
        elif command.key == "identify":
            _log.info("identify: this is the device that was asked for")
            self._light.identify(time.monotonic())
        elif command.key == "interval_s":
            assert isinstance(command.value, float)
            self._interval_s = command.value
            self._overrides.keep(None, "interval_s", command.value, self._settings.mqtt.interval_s)
        else:
            for channel in self._channels:
                if command.camera in (None, channel.name):
                    self._control(channel, command)

    def _control(self, channel: Channel, command: Command) -> None:
        if command.key == "snapshot":
            if not channel.controls.enabled:
                raise CommandError("snapshot", f"camera {channel.name} is disabled; enable it")
            channel.snapshot = True
            channel.await_large = channel.feed.supervisor.ask_for_picture()
            return
        try:
            controls = msgspec.structs.replace(channel.controls, **{command.key: command.value})
            decide = self._decide(controls)
            camera = looking(channel.camera, controls)
        except ValueError as error:
            raise CommandError(command.key, str(error)) from None
        if command.key == "model":
            self._switch_model(channel, controls.model, decide)
        elif command.key == "max_fps":
            gate = msgspec.structs.replace(self._settings.gate, max_fps=controls.max_fps)
            channel.gate = Gate(gate)
        elif command.key == "enabled":
            # What was seen before the pause says nothing of what is there after it.
            self._lose(channel)
        elif command.key == "region":
            channel.classifier.look_at(camera)
        else:
            channel.decider.retune(controls.enter, controls.exit)
        channel.controls = controls
        configured = getattr(self._configured_controls(channel.camera), command.key)
        self._overrides.keep(channel.name, command.key, command.value, configured)

    def _switch_model(self, channel: Channel, name: str, decide: config.Decide) -> None:
        """Replace a camera's model by one that was proved to work, or raise and keep it."""
        if name not in self.models():
            raise CommandError(
                "model", f"{shown(name)} is not installed; there are {', '.join(self.models())}"
            )
        configured = model_of(self._settings, channel.camera)
        model = catalog.find(name, configured.labels if name == configured.name else "")
        classifier = self._classifier(model, looking(channel.camera, channel.controls))
        try:
            prove(classifier, name)
            decider = Decider(decide, model.labels, self._groups)
        except BaseException:
            classifier.close()
            raise
        channel.classifier.close()
        channel.classifier, channel.decider, channel.model = classifier, decider, model
        _log.info("camera %s: model %s", channel.name, model.name)

    def _obey_hang_up(self) -> None:
        """Reload as SIGHUP asked; why a new configuration is refused stays in the status."""
        self._hung_up.clear()
        self._service.reloading()
        refusal = ""
        try:
            self._read_again()
        except LabelcamError as error:
            refusal = str(error)
            _log.error("reload: %s; going on with the old configuration", error)
        if not self.restart:
            self._service.reloaded(refusal)
            self._report(time.monotonic())

    def _read_again(self) -> None:
        """Take a configuration that was edited, by a new start; a bad one changes nothing."""
        if self._reload is None:
            raise CommandError("reload", "this run has no configuration to read again")
        settings = self._reload()
        if settings == self._settings:
            return
        for chosen in (model_of(settings, camera) for camera in settings.camera):
            labels = catalog.find(chosen.name, chosen.labels).labels
            Decider(settings.decide, labels, load_groups(settings.decide.groups))
        _log.info("reload: the configuration has changed; starting again with it")
        self.restart = True
        self._stop.set()

    def _handle(self, channel: Channel, frame: Frame) -> None:
        """Classify one frame, decide, and tell the sinks."""
        scores = channel.classifier.classify(frame)
        scored = time.perf_counter()
        decision = channel.decider.update(scores, frame.captured_at)
        decide_ms = (time.perf_counter() - scored) * 1e3
        now = time.monotonic()
        # A replay that runs faster than it was recorded is ahead of the clock.
        latency_ms = max(0.0, now - frame.captured_at) * 1e3
        stages = channel.classifier.stages
        channel.meter.add(stages, decide_ms, latency_ms, now)
        self._classified += 1
        change = self._change(channel, decision) if decision is not None else None
        is_snapshot = channel.snapshot and (frame.large is not None or not channel.await_large)
        observation = Observation(
            camera=channel.name,
            frame=frame,
            predictions=channel.classifier.top(self._settings.terminal.top),
            label=channel.decider.label,
            score=channel.decider.score,
            stages=stages,
            latency_ms=latency_ms,
            at=now,
            change=change,
            snapshot=(frame.large or frame) if is_snapshot else None,
        )
        if is_snapshot:
            channel.snapshot = channel.await_large = False
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.observe(observation))
        self._service.classified(observation)

    def _report(self, now: float) -> None:
        self._count_frames()
        self._light.restore(now)
        health = self._health.report(
            now, self._interval_s, tuple(outlet.look() for outlet in self._sinks)
        )
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.report(health))
        self._service.report(health)

    def _count_frames(self) -> None:
        for channel in self._channels:
            channel.meter.controls = channel.controls
            channel.meter.interpreter = channel.classifier.description
            channel.meter.accelerator = channel.classifier.accelerator
            meter, slot, supervisor = channel.meter, channel.feed.slot, channel.feed.supervisor
            meter.seen, meter.dropped = slot.seen, slot.dropped
            meter.source, meter.state = supervisor.source, supervisor.state
            meter.problem, meter.reopenings = supervisor.problem, supervisor.reopenings
            meter.age_ms, meter.malformed = supervisor.age_ms, supervisor.malformed
            meter.left_behind, meter.openings = supervisor.left_behind, supervisor.openings
            picture = channel.feed.picture
            meter.picture = picture.troubles if picture is not None else ()

    def _shutdown(self) -> None:
        self._stop.set()
        if self.restart:
            self._service.reloading()
        else:
            self._service.stopping()
        self._light.restore(time.monotonic(), at_once=True)
        close_all(feed.supervisor for feed in self._feeds)
        for outlet in self._sinks:
            outlet.close()
        for channel in self._channels:
            channel.classifier.close()

    def _summarize(self) -> None:
        # A journal is for what happened, and a new start goes on.
        if not self._channels or self._service.active or self.restart:
            return
        self._count_frames()
        out = sys.stderr if self._settings.jsonl.enabled else sys.stdout
        print_summary(self._health.report(time.monotonic(), self._interval_s), out)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Signals only set a flag; the loop sees it within _WAIT_S.

        SIGINT and SIGTERM stop; SIGHUP reloads under a service manager, and elsewhere is what
        it is everywhere: the terminal has gone.
        """

        def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()

        def ask_to_reload(_number: int, _frame: FrameType | None) -> None:
            self._hung_up.set()

        before = {n: signal.signal(n, ask_to_stop) for n in (signal.SIGINT, signal.SIGTERM)}
        if self._service.active:
            before[signal.SIGHUP] = signal.signal(signal.SIGHUP, ask_to_reload)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
