"""What is made of one camera's frames, or of one region of them: from the gate to the decider."""

import contextlib
import logging
import math
import time
from concurrent.futures import Future

import msgspec
import numpy as np

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.errors import CommandError, HeadError, LabelcamError, ModelError
from device.events import (
    OFF_DUTY,
    UNAVAILABLE,
    Controls,
    GovernedBy,
    LabelChange,
    Look,
    Observation,
    Scored,
)
from device.frames import Frame, PixelFormat
from device.health.meters import CameraMeter
from device.library.catalog import Model
from device.pipeline.classifier import Classifier, Scores, predictions
from device.pipeline.decider import Decider
from device.pipeline.gate import Gate, open_gates
from device.pipeline.governor import governed_fps
from device.pipeline.groups import Groups, groups_for
from device.pipeline.motion import Area, Motion, MotionDetector
from device.pipeline.rules import Decision
from device.pipeline.samples import Sample, Samples
from device.system.text import printable
from device.teach.head import Head, HeadFile

# What is reported while nothing is decided.
_ABSENCES = (UNAVAILABLE, OFF_DUTY)
_log = logging.getLogger("labelcam.node")

# Of each frame, so many of the best words go out: what the page, the window and a recording hold.
# ``terminal.top`` may ask for more. None is under the least but the very best.
PREDICTIONS = 5
_LEAST = 0.01


class ChannelSettings(msgspec.Struct, frozen=True):
    """What all channels of a device share of its configuration.

    ``scores`` asks for all scores of each frame, a copy of some 4 kB.
    """

    decide: config.Decide
    gate: config.Gate
    teach: config.Teach
    predictions: int = PREDICTIONS
    scores: bool = False

    def names(self, model: Model, head: Head | None) -> tuple[str, ...]:
        """What the scores of a channel are of: what was taught, the models' labels, or both."""
        if head is None:
            return model.all_labels
        return head.labels + model.all_labels if self.teach.beside else head.labels

    def decider(self, model: Model, head: Head | None, controls: Controls) -> Decider:
        """A decider for what these two tell apart.

        Raises ConfigError, ModelError where there is no label; ValueError where the thresholds
        cross.
        """
        names = self.names(model, head)
        if not names:
            raise ModelError(
                model.name, "gives features alone, not labels; `labelcam teach add` gives it some"
            )
        decide = msgspec.structs.replace(self.decide, enter=controls.enter, exit=controls.exit)
        # Of several cameras each may be told what another's model has; ``plan`` looks at them all.
        return Decider(decide, names, self.groups(model, head), strict=False)

    def groups(self, model: Model, head: Head | None) -> Groups:
        """The groups in force: of the model's labels; what was taught says what it is already."""
        if head is not None and not self.teach.beside:
            return {}
        return groups_for(self.decide, model.name, head.labels if head else ())


class Channel:
    """One camera, or one region of it, with a label of its own. For the node's thread only."""

    def __init__(
        self,
        camera: config.Camera,
        settings: ChannelSettings,
        controls: Controls,
        model: Model,
        classifier: Classifier,
        supervisor: CameraSupervisor,
        meter: CameraMeter,
        detector: MotionDetector,
    ) -> None:
        self.camera = camera
        self.name = camera.name
        self.controls = controls
        self.model = model
        self._settings = settings
        self.classifier = classifier
        self._supervisor = supervisor
        self._meter = meter
        self._detector = detector
        self._on_duty = True
        self.governed: tuple[float, GovernedBy] = 0.0, ""
        self._gates = self._gates_for(controls)
        self._head_file = HeadFile(camera.lessons)
        head = self._read_head()
        self._go_by(head, settings.decider(model, head, controls))
        self._reported: str | None = None
        self._changed_at = time.monotonic()
        self._region_is_new = False
        self._snapshot_due = False
        self._large_due = False
        self.samples = Samples()

    @property
    def labels(self) -> tuple[str, ...]:
        """What may be reported, the word for nothing last."""
        return (*self._decider.names, self._settings.decide.unknown)

    @property
    def taught(self) -> tuple[str, ...]:
        """The labels that it was taught."""
        return self._head.labels if self._head is not None else ()

    def process(self, frame: Frame) -> Observation | None:
        """The frame classified and decided on; None where a gate turned it away.

        Raises InferenceError.
        """
        if not (self.controls.enabled and self._on_duty and self._admits(frame)):
            return None
        self._region_is_new = False
        scores = self.classifier.classify(frame)
        scored = time.perf_counter()
        if self._head is not None:
            scores = self._taught(self._head, scores)
        if self.samples.requested:
            self.samples.hand_out(self.classifier, frame)
        decider = self._decider
        decisions = decider.update(scores, frame.captured_at)
        if self._settings.teach.doubts:
            held_s = [d.held_s for d in decisions if d.previous is not None or not d.on]
            self.samples.look_for_doubt(self.classifier, decider.scores, held_s, frame)
        if decider.faults and not self._told_faults:
            self._tell_faults()
        decide_ms = (time.perf_counter() - scored) * 1e3
        now = time.monotonic()
        # A replay that runs faster than it was recorded is ahead of the clock.
        latency_ms = max(0.0, now - frame.captured_at) * 1e3
        stages = self.classifier.stages
        self._meter.add(stages, decide_ms, latency_ms, now)
        return Observation(
            camera=self.name,
            frame=frame,
            predictions=predictions(
                decider.names, decider.scores, self._settings.predictions, _LEAST
            ),
            label=decider.label,
            score=decider.score,
            stages=stages,
            latency_ms=latency_ms,
            at=now,
            changes=tuple(self._change(decision) for decision in decisions),
            active=decider.active,
            snapshot=self._take_snapshot(frame),
            look=self._meter.look,
            moved=motion.blocks if (motion := self.motion(frame)) else None,
            scored=self._scored(scores) if self._settings.scores else None,
        )

    def _tell_faults(self) -> None:
        """Say once of a model, or of what was taught, that its scores are none."""
        self._told_faults = True
        _log.warning(
            "camera %s: %s gave scores that are no probabilities; they count as 0",
            self.name,
            self.model.name if self._head is None else "what was taught",
        )

    def _scored(self, scores: Scores) -> Scored:
        taught = self._head is not None and not self._settings.teach.beside
        sha256 = self.model.file.sha256
        return Scored(self._names, scores.copy(), self.model.name, sha256, taught)

    def _admits(self, frame: Frame) -> bool:
        """Ask the gates; of a frame that they spare the decider is told."""
        begun = time.perf_counter()
        refusing = next((gate for gate in self._gates if not gate.admits(frame)), None)
        look: Look = refusing.look if refusing else self._gates[-1].look
        if refusing is None or look:
            now = time.perf_counter()
            self._meter.admit(look, (now - begun) * 1e3, time.monotonic(), admitted=not refusing)
        if look == "settled":
            self._decider.skip(frame.captured_at)
        return refusing is None

    @property
    def wanted(self) -> bool:
        """Whether the next frame is waited for, or shows what was not looked at before."""
        return self._snapshot_due or self.samples.requested or self._region_is_new

    @property
    def steady(self) -> bool:
        """Whether the label stands, and more frames like the last would not change it."""
        return self._decider.steady

    def motion(self, frame: Frame) -> Motion | None:
        """What moves in the frame; None where no frame is to be left out."""
        choice = self._settings.gate.motion
        gated = choice == "on" or (choice == "auto" and self._supervisor.live)
        return self._detector.update(frame) if gated else None

    def area(self, frame: Frame) -> Area:
        """The part of the frame that is classified."""
        return self.classifier.area(frame)

    def lose(self, now: float) -> LabelChange | None:
        """Forget what was seen, since no frames come; the change where that is one."""
        absence = UNAVAILABLE if self._on_duty else OFF_DUTY
        previous = self._decider.label
        self._decider.reset(now)
        # Where no label was reported yet, it is no news that there is none.
        if absence == self._reported or (absence == UNAVAILABLE and self._reported is None):
            return None
        # A replay's last change may be ahead of the clock.
        at = max(now, self._changed_at)
        return self._change(Decision(absence, 0.0, previous, at - self._changed_at, at))

    def keep_hours(self, now: float, *, on_duty: bool) -> LabelChange | None:
        """Look from now on, or no longer; the change where that is one."""
        self._on_duty = on_duty
        sees = on_duty and self.controls.enabled and self._supervisor.state == "live"
        # One that sees says so with its first decision.
        return None if sees else self.lose(now)

    def govern(self, rate_share: float, reason: GovernedBy) -> None:
        """Classify at this share of the full rate at most, at 0 a frame a second."""
        full_fps = min(self.controls.max_fps or math.inf, self.camera.fps)
        fps = governed_fps(rate_share, full_fps) if rate_share < 1 else 0.0
        self.governed = fps, reason

    def check(self, controls: Controls) -> None:
        """Raise ValueError unless these controls hold for this channel."""
        camera_with(self.camera, controls)
        self._gates_for(controls)
        self._settings.decider(self.model, self._head, controls)

    def apply(self, controls: Controls) -> LabelChange | None:
        """Put controls that were checked into force; the change where that brings one.

        The model is another matter: ``replace_model``.
        """
        before, self.controls = self.controls, controls
        self._decider.retune(controls.enter, controls.exit)
        if controls.max_fps != before.max_fps:
            self._gates = self._gates_for(controls)
        if controls.region != before.region:
            self.classifier.look_at(camera_with(self.camera, controls))
            self._region_is_new = True
        # What was seen before a pause says nothing of what is there after it.
        return self.lose(time.monotonic()) if controls.enabled != before.enabled else None

    def replace_model(self, name: str, model: Model, classifier: Classifier) -> None:
        """Go on with another model, which ``prove`` has tried; closes the one before.

        What was taught on another is of no use to it: then its own labels count.
        """
        self.classifier.close()
        self.controls = msgspec.structs.replace(self.controls, model=name)
        self.classifier, self.model = classifier, model
        head = self._read_head()
        self._go_by(head, self._settings.decider(model, head, self.controls))
        classifier.look_at(camera_with(self.camera, self.controls))

    def update_head(self) -> None:
        """Go on with what was taught since; a head that does not hold leaves the one before."""
        if not self._head_file.has_changed():
            return
        try:
            head = self._head_file.read(self.model.file.sha256)
            decider = self._settings.decider(self.model, head, self.controls)
        except (LabelcamError, ValueError) as error:
            _log.warning("camera %s: %s; going on as before", self.name, error)
            return
        self._go_by(head, decider)
        known = "the labels of its model" if head is None else ", ".join(head.labels)
        _log.info("camera %s: knows %s", self.name, printable(known))

    def _go_by(self, head: Head | None, decider: Decider) -> None:
        """Decide by what was taught, or by the labels of the models."""
        self._head, self._decider, self._told_faults = head, decider, False
        self._names = self._settings.names(self.model, head)
        # Where what was taught counts alone, nothing that looks beside the first has a say.
        self.classifier.alone = head is not None and not self._settings.teach.beside

    def _read_head(self) -> Head | None:
        try:
            return self._head_file.read(self.model.file.sha256)
        except HeadError as error:
            _log.warning("camera %s: %s; it knows the labels of its model", self.name, error)
            return None

    def request_sample(self) -> "Future[Sample]":
        """Have the features of the next frame handed out, for any thread.

        Raises CommandError while it does not look, and where the model cannot be taught.
        """
        self.check_looking("teach")
        if not self.classifier.can_be_taught:
            raise CommandError("teach", f"{self.model.name} gives no features to learn from")
        return self.samples.request()

    def check_looking(self, key: str) -> None:
        """Raise CommandError for a command that takes a frame, while none is looked at."""
        if not self.controls.enabled:
            raise CommandError(key, f"camera {self.name} is disabled; enable it")
        if not self._on_duty:
            raise CommandError(key, f"camera {self.name} is off duty; wait for its gate.hours")

    def request_snapshot(self) -> None:
        """Have the next frame, or a larger still that comes with it, handed out as a picture."""
        self._snapshot_due = True
        self._large_due = self._supervisor.ask_for_picture()

    def update_meter(self) -> None:
        """Write into the meter what does not come with a frame."""
        self._meter.controls = self.controls
        self._meter.interpreter = self.classifier.description
        self._meter.accelerator = self.classifier.accelerator
        self._meter.beside = self.classifier.beside
        self._meter.taught = self.taught
        if not self._on_duty:
            self._meter.look = "off duty"

    def close(self) -> None:
        """Let the model go."""
        self.classifier.close()

    def _gates_for(self, controls: Controls) -> tuple[Gate, ...]:
        gate = msgspec.structs.replace(self._settings.gate, max_fps=controls.max_fps)
        return open_gates(gate, self)

    def _change(self, decision: Decision) -> LabelChange:
        previous = decision.previous
        if previous is None and self._reported in _ABSENCES:
            previous = self._reported
        self._reported, self._changed_at = decision.label, decision.at
        return LabelChange(
            camera=self.name,
            label=decision.label,
            score=decision.score,
            previous=previous,
            held_s=decision.held_s,
            model=self.model.name,
            at=decision.at,
            on=decision.on,
            active=decision.active,
        )

    def _taught(self, head: Head, scores: Scores) -> Scores:
        taught = head.scores(self.classifier.features())
        return np.concatenate((taught, scores)) if self._settings.teach.beside else taught

    def _take_snapshot(self, frame: Frame) -> Frame | None:
        if not self._snapshot_due or (self._large_due and frame.large is None):
            return None
        self._snapshot_due = self._large_due = False
        return frame.large or frame


def camera_with(camera: config.Camera, controls: Controls) -> config.Camera:
    """The camera with the region that is in force; raises ValueError where that is none."""
    return msgspec.structs.replace(camera, region=controls.region)


def head_of(camera: config.Camera, model: Model) -> Head | None:
    """What was taught for a camera on this model, None where there is none that holds."""
    with contextlib.suppress(HeadError):
        return HeadFile(camera.lessons).read(model.file.sha256)
    return None


def prove(classifier: Classifier, name: str) -> None:
    """Raise ModelError unless the model gives probabilities for a plain grey ramp."""
    ramp = np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)
    scores = classifier.classify(Frame(ramp, PixelFormat.BGR, 64, 64, 0, 0.0))
    # Written so that NaN, which is neither, fails too.
    if not (np.all(scores >= 0) and np.all(scores <= 1.01)):
        raise ModelError(name, "gave scores that are no probabilities; the old one stays")
