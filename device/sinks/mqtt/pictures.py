"""Pictures of what was asked for or has changed, the newest of each camera."""

from paho.mqtt.client import MQTTMessageInfo

from device.events import Observation
from device.sinks.mqtt.connection import has_landed
from device.sinks.mqtt.delivery import Delivery
from device.sinks.mqtt.topics import Topics
from device.sinks.photos import Photo, Photos


class Pictures:
    """One photo a camera, since they are large; a network slower than they are gets fewer."""

    def __init__(self, photos: Photos, topics: Topics) -> None:
        self._photos = photos
        self._topics = topics
        # Put by the node's thread, taken by the sink's.
        self._waiting: dict[str, Photo] = {}
        self._flying: dict[str, MQTTMessageInfo] = {}

    def take(self, observation: Observation) -> bool:
        """Keep the picture if it is to be sent, and return whether; for the node's thread.

        Of many labels, the end of one is not sent: what it was of has gone.
        """
        frame = observation.snapshot
        # A larger still may show more around the region than the frame does that it is cut from.
        if frame is None or self._photos.blur:
            begun = any(change.on for change in observation.changes)
            frame = observation.frame if frame or begun else None
        if frame is not None:
            self._waiting[observation.camera] = self._photos.of(observation.camera, frame)
        return frame is not None

    def clear(self) -> None:
        """Send none of those that wait: a broker that was away gets no picture of the past."""
        self._waiting.clear()
        self._flying.clear()

    def send(self, delivery: Delivery) -> None:
        """Send the pictures whose predecessors have left."""
        for name in list(self._waiting):
            if has_landed(self._flying.get(name)):
                picture = self._waiting.pop(name).jpeg()
                topic = self._topics.of(name, "image")
                self._flying[name] = delivery.send(topic, picture, qos=0)
