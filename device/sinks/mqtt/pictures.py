"""Pictures of what was asked for or has changed, the newest of each camera."""

from collections.abc import Sequence

from paho.mqtt.client import MQTTMessageInfo

from device import config
from device.events import Observation
from device.frames import Frame
from device.recordings.rendering import jpeg, upright
from device.sinks.mqtt.connection import has_landed
from device.sinks.mqtt.delivery import Delivery
from device.sinks.mqtt.topics import Topics

_JPEG_QUALITY = 85


class Pictures:
    """One frame a camera, since they are large; a network slower than they are gets fewer."""

    def __init__(self, cameras: Sequence[config.Camera], topics: Topics) -> None:
        self._cameras = {camera.name: camera for camera in cameras}
        self._topics = topics
        # Put by the node's thread, taken by the sink's.
        self._frames: dict[str, Frame] = {}
        self._flying: dict[str, MQTTMessageInfo] = {}

    def take(self, observation: Observation) -> bool:
        """Keep the picture if it is to be sent, and return whether; for the node's thread."""
        frame = observation.snapshot or (observation.frame if observation.changes else None)
        if frame is not None:
            self._frames[observation.camera] = frame
        return frame is not None

    def clear(self) -> None:
        """Send none of those that wait: a broker that was away gets no picture of the past."""
        self._frames.clear()
        self._flying.clear()

    def send(self, delivery: Delivery) -> None:
        """Send the pictures whose predecessors have left."""
        for name in list(self._frames):
            if has_landed(self._flying.get(name)):
                frame, camera = self._frames.pop(name), self._cameras[name]
                picture = jpeg(upright(frame, camera.rotate, camera.mirror), _JPEG_QUALITY)
                topic = self._topics.of(name, "image")
                self._flying[name] = delivery.send(topic, picture, qos=0)
