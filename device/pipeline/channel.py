"""What is made of one camera's frames, or of one region of them: from the gate to the decider."""

import time

import msgspec
import numpy as np

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.errors import ModelError
from device.events import UNAVAILABLE, Controls, LabelChange, Observation
from device.frames import Frame, PixelFormat
from device.health.meters import CameraMeter
from device.library.catalog import Model
from device.pipeline.classifier import Classifier
from device.pipeline.decider import Decider, Decision
from device.pipeline.gate import Gate, open_gates
from device.pipeline.groups import Groups

# Of each frame, so many of the model's best labels go out: what the page, the window and a
# recording hold. ``terminal.top`` may ask for more.
PREDICTIONS = 5


class ChannelSettings(msgspec.Struct, frozen=True):
    """What all channels of a device share of its configuration."""

    decide: config.Decide
    gate: config.Gate
    groups: Groups
    predictions: int = PREDICTIONS

    def decider(self, model: Model, controls: Controls) -> Decider:
        """A decider for the labels of ``model``. Raises ConfigError; ValueError where the
        thresholds cross."""
        decide = msgspec.structs.replace(self.decide, enter=controls.enter, exit=controls.exit)
        return Decider(decide, model.labels, self.groups)


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
    ) -> None:
        self.camera = camera
        self.name = camera.name
        self.controls = controls
        self.model = model
        self._settings = settings
        self.classifier = classifier
        self._supervisor = supervisor
        self._meter = meter
        self._gates = self._gates_for(controls)
        self._decider = settings.decider(model, controls)
        self._reported: str | None = None
        self._changed_at = 0.0
        self._snapshot_due = False
        self._large_due = False

    @property
    def labels(self) -> tuple[str, ...]:
        """What may be reported, the word for nothing last."""
        return (*self._decider.names, self._settings.decide.unknown)

    def process(self, frame: Frame) -> Observation | None:
        """The frame classified and decided on; None where a gate turned it away.

        Raises InferenceError.
        """
        if not (self.controls.enabled and all(gate.admits(frame) for gate in self._gates)):
            return None
        scores = self.classifier.classify(frame)
        scored = time.perf_counter()
        decision = self._decider.update(scores, frame.captured_at)
        decide_ms = (time.perf_counter() - scored) * 1e3
        now = time.monotonic()
        # A replay that runs faster than it was recorded is ahead of the clock.
        latency_ms = max(0.0, now - frame.captured_at) * 1e3
        stages = self.classifier.stages
        self._meter.add(stages, decide_ms, latency_ms, now)
        return Observation(
            camera=self.name,
            frame=frame,
            predictions=self.classifier.top(self._settings.predictions),
            label=self._decider.label,
            score=self._decider.score,
            stages=stages,
            latency_ms=latency_ms,
            at=now,
            change=self._change(decision) if decision else None,
            snapshot=self._take_snapshot(frame),
        )

    def lose(self, now: float) -> LabelChange | None:
        """Forget what was seen, since no frames come; the change where that is one."""
        decision = None
        if self._decider.label is not None:
            # A replay's last change may be ahead of the clock.
            at = max(now, self._changed_at)
            held_s = at - self._changed_at
            decision = Decision(UNAVAILABLE, 0.0, self._decider.label, held_s, at)
        self._decider.reset(now)
        return self._change(decision) if decision else None

    def check(self, controls: Controls) -> None:
        """Raise ValueError unless these controls hold for this channel."""
        camera_with(self.camera, controls)
        self._settings.decider(self.model, controls)

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
        # What was seen before a pause says nothing of what is there after it.
        return self.lose(time.monotonic()) if controls.enabled != before.enabled else None

    def replace_model(self, name: str, model: Model, classifier: Classifier) -> None:
        """Go on with another model, which ``prove`` has tried; closes the one before."""
        self.classifier.close()
        self.controls = msgspec.structs.replace(self.controls, model=name)
        self.classifier, self.model = classifier, model
        self._decider = self._settings.decider(model, self.controls)
        classifier.look_at(camera_with(self.camera, self.controls))

    def request_snapshot(self) -> None:
        """Have the next frame, or a larger still that comes with it, handed out as a picture."""
        self._snapshot_due = True
        self._large_due = self._supervisor.ask_for_picture()

    def update_meter(self) -> None:
        """Write into the meter what does not come with a frame."""
        self._meter.controls = self.controls
        self._meter.interpreter = self.classifier.description
        self._meter.accelerator = self.classifier.accelerator

    def close(self) -> None:
        """Let the model go."""
        self.classifier.close()

    def _gates_for(self, controls: Controls) -> tuple[Gate, ...]:
        return open_gates(msgspec.structs.replace(self._settings.gate, max_fps=controls.max_fps))

    def _change(self, decision: Decision) -> LabelChange:
        previous = decision.previous
        if previous is None and self._reported == UNAVAILABLE:
            previous = UNAVAILABLE
        self._reported, self._changed_at = decision.label, decision.at
        return LabelChange(
            camera=self.name,
            label=decision.label,
            score=decision.score,
            previous=previous,
            held_s=decision.held_s,
            model=self.model.name,
            at=decision.at,
        )

    def _take_snapshot(self, frame: Frame) -> Frame | None:
        if not self._snapshot_due or (self._large_due and frame.large is None):
            return None
        self._snapshot_due = self._large_due = False
        return frame.large or frame


def camera_with(camera: config.Camera, controls: Controls) -> config.Camera:
    """The camera with the region that is in force; raises ValueError where that is none."""
    return msgspec.structs.replace(camera, region=controls.region)


def prove(classifier: Classifier, name: str) -> None:
    """Raise ModelError unless the model gives probabilities for a plain grey ramp."""
    ramp = np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)
    scores = classifier.classify(Frame(ramp, PixelFormat.BGR, 64, 64, 0, 0.0))
    # Written so that NaN, which is neither, fails too.
    if not (np.all(scores >= 0) and np.all(scores <= 1.01)):
        raise ModelError(name, "gave scores that are no probabilities; the old one stays")
