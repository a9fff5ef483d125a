"""What is made of a camera's frames: the channels between its slot and the sinks."""

import logging

import msgspec
import numpy as np

from device import config
from device.cameras.supervisor import CameraSupervisor
from device.errors import ModelError
from device.events import Controls
from device.frames import Frame, LatestFrame, PixelFormat
from device.health.meters import CameraMeter
from device.health.picture import PictureHealth
from device.library.catalog import Model
from device.pipeline.classifier import Classifier
from device.pipeline.decider import Decider
from device.pipeline.gate import Gate

_log = logging.getLogger("labelcam.node")


class Feed:
    """One camera's frames, and the channels that look at them."""

    def __init__(
        self, camera: config.Camera, slot: LatestFrame, supervisor: CameraSupervisor
    ) -> None:
        self.camera = camera
        self.slot = slot
        self.supervisor = supervisor
        self.channels: list[Channel] = []
        self.picture = PictureHealth() if camera.watch_picture else None

    def look_at_picture(self, frame: Frame) -> bool:
        """Whether something else is wrong with the picture now; a recording is what it is."""
        if self.picture is None or not self.supervisor.live or not self.picture.update(frame):
            return False
        what = ", ".join(self.picture.troubles) or "all right again"
        _log.warning("camera %s: its picture is %s", self.camera.name, what)
        return True


class Channel:
    """What is made of one camera, or of one region of it, from the gate to the decider."""

    def __init__(
        self,
        camera: config.Camera,
        feed: Feed,
        gate: Gate,
        classifier: Classifier,
        decider: Decider,
        meter: CameraMeter,
        model: Model,
        controls: Controls,
    ) -> None:
        self.camera = camera
        self.name = camera.name
        self.feed = feed
        self.gate = gate
        self.classifier = classifier
        self.decider = decider
        self.meter = meter
        self.model = model
        self.controls = controls
        self.snapshot = False
        self.await_large = False
        self.reported: str | None = None
        self.changed_at = 0.0


def model_of(settings: config.Config, camera: config.Camera) -> config.Model:
    """``[model]``, with the camera's own in place of its name and labels."""
    if not camera.model:
        return settings.model
    return msgspec.structs.replace(settings.model, name=camera.model, labels=camera.labels)


def streams(camera: config.Camera) -> list[config.Camera]:
    """The camera, or one of each of its regions, named ``camera/region``."""
    return [
        msgspec.structs.replace(camera, name=f"{camera.name}/{r.name}", region=r.box, regions=())
        for r in camera.regions
    ] or [camera]


def looking(camera: config.Camera, controls: Controls) -> config.Camera:
    """The camera as configured, but for the region that it looks at; ValueError if that is none."""
    return msgspec.structs.replace(camera, region=controls.region)


def prove(classifier: Classifier, name: str) -> None:
    """Raise ModelError unless the model gives probabilities for a plain grey ramp."""
    ramp = np.linspace(0, 255, 64 * 64 * 3).astype(np.uint8).reshape(64, 64, 3)
    scores = classifier.classify(Frame(ramp, PixelFormat.BGR, 64, 64, 0, 0.0))
    # Written so that NaN, which is neither, fails too.
    if not (np.all(scores >= 0) and np.all(scores <= 1.01)):
        raise ModelError(name, "gave scores that are no probabilities; the old one stays")
