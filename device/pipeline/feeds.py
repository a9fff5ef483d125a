"""Every camera of the device with its channels, and the models that they share."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import msgspec

from device import config
from device.cameras import open_camera, shown
from device.cameras.supervisor import CameraSupervisor, Opener, close_all
from device.errors import CommandError, ConfigError, LabelcamError, TeachError
from device.events import Controls, DeviceHealth, LabelChange
from device.frames import Frame, LatestFrame
from device.health.drift_watch import DriftWatch
from device.health.meters import CameraMeter, Health
from device.health.picture import PictureHealth
from device.inference.pool import EnginePool
from device.library import catalog
from device.library.catalog import Model
from device.pipeline.channel import (
    Channel,
    camera_with,
    head_of,
    prove,
)
from device.pipeline.classifier import Classifier
from device.pipeline.duty import Duty
from device.pipeline.ensemble import open_ensemble
from device.pipeline.governor import Governor
from device.pipeline.groups import groups_for
from device.pipeline.motion import MotionDetector
from device.pipeline.plan import (
    check_words,
    configured_controls,
    find_model,
    model_of,
    plan,
    shared_settings,
    streams,
)
from device.pipeline.samples import Sample
from device.system.paths import state_directory

if TYPE_CHECKING:
    from device.teach.teacher import Teacher

_log = logging.getLogger("labelcam.node")


class Feed:
    """One camera's frames, and the channels that look at them."""

    def __init__(self, camera: config.Camera, ready: threading.Condition, opener: Opener) -> None:
        self.camera = camera
        self.slot = LatestFrame(ready)
        self.supervisor = CameraSupervisor(camera, self.slot, opener)
        self.channels: list[Channel] = []
        self.meters: list[CameraMeter] = []
        self.gives_frames = True
        self.detector = MotionDetector()
        self._picture = PictureHealth() if camera.watch_picture else None

    def check_picture(self, frame: Frame) -> bool:
        """Whether something else is wrong with the picture now; a recording is what it is."""
        picture = self._picture
        if picture is None or not self.supervisor.live or not picture.update(frame):
            return False
        what = ", ".join(picture.troubles) or "all right again"
        _log.warning("camera %s: its picture is %s", self.camera.name, what)
        return True

    def lose(self, now: float) -> list[LabelChange]:
        """Forget what was seen: the camera gives no frames."""
        if self._picture is not None:
            self._picture.reset()
        return [change for channel in self.channels if (change := channel.lose(now))]

    def update_meters(self) -> None:
        """Write into the meters what does not come with a frame."""
        supervisor = self.supervisor
        for channel, meter in zip(self.channels, self.meters, strict=True):
            channel.update_meter()
            meter.seen, meter.dropped = self.slot.seen, self.slot.dropped
            meter.source, meter.state = supervisor.source, supervisor.state
            meter.problem, meter.reopenings = supervisor.problem, supervisor.reopenings
            meter.age_ms, meter.malformed = supervisor.age_ms, supervisor.malformed
            meter.left_behind, meter.openings = supervisor.left_behind, supervisor.openings
            if (picture := self._picture) is not None:
                meter.picture = picture.troubles
                meter.brightness, meter.sharpness = picture.brightness, picture.sharpness


class Feeds:
    """The cameras, opened together; iterating gives each its turn.

    ``open_model``, ``teach``, ``teacher``, ``models`` and ``wake`` are for any thread, the
    rest for the node's.
    """

    def __init__(self, settings: config.Config, health: Health, *, scores: bool = False) -> None:
        self._ready = threading.Condition()
        self._settings = settings
        shared = shared_settings(settings)
        self._channel_settings = msgspec.structs.replace(shared, scores=scores)
        self._health = health
        self._feeds: list[Feed] = []
        self._engines = EnginePool()
        self._models: dict[config.Model, Model] = {}
        self._duty = Duty(settings.gate)
        self._on_duty = True
        self._governor = Governor(settings.gate.cpu_budget)
        self.drift = DriftWatch(settings.drift, state_directory())

    @property
    def channels(self) -> list[Channel]:
        """Every channel there is, in the order of the configuration."""
        return [channel for feed in self._feeds for channel in feed.channels]

    @property
    def groups(self) -> tuple[str, ...]:
        """The everyday words that stand for classes of any camera's model."""
        words = (groups_for(self._settings.decide, one.model.name) for one in self.channels)
        return tuple(filter(None, dict.fromkeys(chain.from_iterable(words))))

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are installed, and the configured one where it is another."""
        configured = (model_of(self._settings, camera).name for camera in self._settings.camera)
        return tuple(dict.fromkeys((*catalog.installed(), *configured)))

    @property
    def ended(self) -> bool:
        """Whether no camera will give another frame."""
        return all(feed.slot.ended for feed in self._feeds)

    def start(self) -> None:
        """Begin to open every camera, each in a thread of its own, and come back at once.

        Raises ModelError, LabelsError, ConfigError, before any is opened.
        """
        self._models, labels = plan(self._settings)
        try:
            check_words(self._settings, labels)
        except ConfigError as error:
            # No reason to be down: it may be a word that is no longer taught.
            _log.warning("%s", error)
        for camera in self._settings.camera:
            wanted = self._models[model_of(self._settings, camera)].file.picture_size
            feed = Feed(camera, self._ready, partial(open_camera, wanted=wanted))
            self._feeds.append(feed)
            feed.supervisor.start()

    def load(self, controls_of: Callable[[str, Controls], Controls]) -> None:
        """Load the models and make the channels.

        ``controls_of`` gives the controls of a camera in place of its configured ones.
        """
        for feed in self._feeds:
            for camera in streams(feed.camera):
                self._add_channel(feed, camera, controls_of)

    def update_heads(self) -> None:
        """Have each channel go on with what was taught since."""
        for channel in self.channels:
            channel.update_head()

    def keep_doubts(self) -> None:
        """Put what the channels were not sure of on disk, on a thread of its own."""
        for channel in self.channels:
            if (doubt := channel.samples.take_doubt()) is not None:
                threading.Thread(
                    target=self._keep_doubt,
                    args=(channel, doubt),
                    name="labelcam-doubts",
                    daemon=True,
                ).start()

    def _keep_doubt(self, channel: Channel, doubt: Sample) -> None:
        from device.teach.teacher import picture_of

        try:
            picture = picture_of(doubt.frame, doubt.features, channel.camera, keep=True)
            with self.teacher(channel.name) as teacher:
                teacher.lessons.add_doubt(picture, self._settings.teach.doubts)
        except TeachError as error:
            _log.warning("camera %s: a doubt is lost: %s", channel.name, error)

    def wait_until_open(self, stop: Callable[[], bool]) -> None:
        """Wait for every camera, or until ``stop()``. Raises what opening one raised."""
        for feed in self._feeds:
            feed.supervisor.wait_until_open(stop)

    def play(self, *, loop_footage: bool) -> None:
        """Let recordings run: whoever takes their frames is ready.

        ``loop_footage`` has the footage that ships begin anew at its end, where it stands in
        for a camera that never ends.
        """
        for feed in self._feeds:
            feed.supervisor.play(loop=loop_footage and feed.camera.source.strip() == "footage")

    def wake(self) -> None:
        """Have ``wait`` look again; for any thread."""
        with self._ready:
            self._ready.notify_all()

    def wait(self, timeout_s: float, more: Callable[[], bool]) -> None:
        """Wait for a frame, for an end that nobody has noticed, or until ``more()``."""
        with self._ready:
            self._ready.wait_for(lambda: more() or self._pending, timeout_s)

    @property
    def _pending(self) -> bool:
        return any(feed.slot.pending for feed in self._feeds)

    def __iter__(self) -> Iterator[tuple[Feed, Frame]]:
        """The newest frame of each camera that has one, so that a fast one starves none."""
        for feed in self._feeds:
            if (frame := feed.slot.take()) is not None:
                yield feed, frame

    def check(self) -> tuple[bool, list[LabelChange]]:
        """Notice cameras that stalled, were lost or are back, and the hours; what that changed.

        Raises the CameraError of one that was given up, when no other works, or when
        nothing but a new process can bring it back.
        """
        changed = [feed.supervisor.check() for feed in self._feeds]
        changes: list[LabelChange] = []
        for feed in self._feeds:
            before = feed.gives_frames
            # A recording is over once its last frame was taken; where other cameras go on,
            # what it showed is the past as well.
            over = feed.slot.ended and len(self._feeds) > 1
            feed.gives_frames = feed.supervisor.state not in ("stalled", "lost") and not over
            if before and not feed.gives_frames:
                changes += feed.lose(time.monotonic())
        on_duty = self._duty.is_on()
        if on_duty != self._on_duty:
            self._on_duty = on_duty
            _log.info("hours: %s", "on duty" if on_duty else "off duty; nothing is classified")
            now = time.monotonic()
            told = [channel.keep_hours(now, on_duty=on_duty) for channel in self.channels]
            changes += [change for change in told if change]
        supervisors = [feed.supervisor for feed in self._feeds]
        none_works = not any(supervisor.state == "live" for supervisor in supervisors)
        for supervisor in supervisors:
            if supervisor.gave_up() and (none_works or supervisor.stuck):
                raise supervisor.failure()
        return any(changed), changes

    def govern(self, health: DeviceHealth, now: float) -> DeviceHealth:
        """Set the rate by the board and the processor time; the health with what came of it."""
        governor, before, vitals = self._governor, self._governor.reason, health.vitals
        governor.update(vitals.temperature_c, vitals.throttling, time.process_time(), now)
        if governor.reason != before:
            _log.info(
                "rate: %s", f"lowered, {governor.reason}" if governor.reason else "full again"
            )
        for channel in self.channels:
            channel.govern(governor.share, governor.reason)
        return self.drift.update(
            msgspec.structs.replace(health, rate_share=governor.share, governed_by=governor.reason),
            now,
        )

    def update_meters(self) -> None:
        """Write into the meters what does not come with a frame."""
        for feed in self._feeds:
            feed.update_meters()

    def teach(self, channel: Channel, label: str, within_s: float) -> None:
        """Teach the next frame of a channel as ``label``; takes as long as learning does.

        Raises CommandError where no frame comes in time, TeachError.
        """
        # Imported here: most runs are taught nothing, and it brings SQLite.
        from device.teach.teacher import picture_of

        try:
            features, frame = channel.request_sample().result(within_s)
        except TimeoutError:
            raise CommandError("teach", f"no frame came in {within_s:g} s") from None
        keep = self._settings.teach.keep_pictures
        with self.teacher(channel.name) as teacher:
            teacher.add(label, [picture_of(frame, features, channel.camera, keep=keep)])

    def teacher(self, camera: str) -> "Teacher":
        """The lessons of a camera's channel, for the thread that asks. Raises TeachError."""
        from device.teach.teacher import Teacher

        channel = next((one for one in self.channels if one.name == camera), None)
        if channel is None or channel.model.file.embedding is None:
            raise TeachError(f"camera {camera!r} has no model that can be taught")
        lessons, model = channel.camera.lessons, channel.model.file.sha256
        return Teacher(lessons, model, self._settings.teach)

    def open_model(self, channel: Channel, name: str) -> tuple[Model, Classifier]:
        """Another model for a channel, proved to work; takes as long as loading one does.

        Raises ModelError, LabelsError, ConfigError, and what running it raises.
        """
        configured = model_of(self._settings, channel.camera)
        labels = configured.labels if name == configured.name else ""
        model = find_model(self._settings, name, labels)
        # Nothing is measured: beside the inference of others it would tell nothing.
        camera = camera_with(channel.camera, channel.controls)
        classifier = open_ensemble(self._engines, model, self._settings.model, camera)
        try:
            # One that is shared works already, and is another thread's to run.
            if not classifier.shared:
                prove(classifier, name)
            head = head_of(channel.camera, model)
            self._channel_settings.decider(model, head, channel.controls)
        except BaseException:
            classifier.close()
            raise
        return model, classifier

    def configured_controls(self, camera: config.Camera) -> Controls:
        """What is in force where no command changed it."""
        return configured_controls(self._settings, camera)

    def close(self) -> None:
        """Close the cameras, and keep what is usual of them."""
        self.drift.close()
        close_all(feed.supervisor for feed in self._feeds)

    def close_models(self) -> None:
        """Let the models go."""
        for channel in self.channels:
            channel.close()

    def _add_channel(
        self,
        feed: Feed,
        camera: config.Camera,
        controls_of: Callable[[str, Controls], Controls],
    ) -> None:
        model, controls = self._controls(camera, controls_of)
        fps = min(camera.fps, controls.max_fps or camera.fps)
        wanted = camera_with(camera, controls)
        classifier = open_ensemble(self._engines, model, self._settings.model, wanted, fps)
        source = feed.supervisor.source
        meter = self._health.camera(camera.name, source, classifier.description)
        feed.meters.append(meter)
        words, unknown = self._settings.decide.groups, self._settings.decide.unknown
        self.drift.add(camera, f"{shown(camera.source)}\n{words}", unknown)
        feed.channels.append(
            Channel(
                camera,
                self._channel_settings,
                controls,
                model,
                classifier,
                feed.supervisor,
                meter,
                feed.detector,
            )
        )

    def _controls(
        self, camera: config.Camera, controls_of: Callable[[str, Controls], Controls]
    ) -> tuple[Model, Controls]:
        """The model and controls of a camera: as configured, or as a command last set them."""
        original = self.configured_controls(camera)
        configured = self._models[model_of(self._settings, camera)]
        try:
            controls = controls_of(camera.name, original)
            camera_with(camera, controls)
            same = controls.model == original.model
            model = configured if same else find_model(self._settings, controls.model)
            self._channel_settings.decider(model, head_of(camera, model), controls)
        except (LabelcamError, ValueError) as error:
            _log.warning(
                "camera %s: what commands set no longer holds (%s); starting as configured",
                camera.name,
                error,
            )
            return configured, original
        return model, controls
