"""Commands from the broker, and what they are answered."""

import logging
from collections import deque
from collections.abc import Callable, Collection

import msgspec

from device.control.commands import Answer, Device, called, parse
from device.control.table import CONTROLS
from device.errors import CommandError
from device.sinks.mqtt.connection import Received
from device.sinks.mqtt.delivery import Delivery
from device.sinks.mqtt.payloads import AnswerMessage
from device.sinks.mqtt.state import State
from device.sinks.mqtt.topics import Topics

_log = logging.getLogger("labelcam.mqtt")

_MAX_ANSWERS = 256


class Commands:
    """The way in: a message becomes a command of the device's, and has an answer.

    ``answered`` gets the device's answers, on its thread. ``ignored`` counts the messages that
    were not asked for: on a topic that we did not subscribe to.
    """

    def __init__(
        self,
        device: Device,
        cameras: Collection[str],
        topics: Topics,
        state: State,
        answered: Callable[[Answer], None],
        *,
        taken: bool,
        images: bool,
    ) -> None:
        self.ignored = 0
        self._device = device
        self._cameras = cameras
        self._topics = topics
        self._state = state
        self._answered = answered
        self._taken = taken
        self._images = images
        self._answers: deque[tuple[str, bytes]] = deque(maxlen=_MAX_ANSWERS)

    def receive(self, message: Received) -> None:
        """Have a command obeyed, or refuse it."""
        addressed = self._topics.addressed(message.topic)
        if addressed is None or not self._taken:
            self.ignored += 1
            return
        camera, key = addressed
        try:
            if message.retained:
                raise CommandError(
                    called(key), "was retained, and would come at every connection; send it without"
                )
            if not message.payload:
                # It is also what comes when somebody clears a retained command.
                raise CommandError(called(key), "is empty; send a value, or PRESS")
            command = parse(camera, key, message.payload, self._cameras, message.size)
            if command.key == "snapshot" and not self._images:
                raise CommandError(key, "pictures are not sent; set mqtt.images = true")
            self._device.submit(command, self._answered, by="MQTT")
        except CommandError as error:
            self._refuse(camera, key, str(error))

    def answer(self, answer: Answer) -> None:
        """Pass on what the device says of a command."""
        camera, key = answer.command.camera, answer.command.key
        topic = self._topics.of(camera, key)
        if answer.error:
            self._refuse(camera, key, answer.error)
        # The values in force came with the health before this answer; they are sent again
        # where nothing changed, for whoever waits for an answer.
        elif not self._state.repeat(topic):
            self._say(topic, AnswerMessage(answer.command.value))

    def send(self, delivery: Delivery) -> None:
        """Send the answers, as far as the window allows."""
        while self._answers and delivery.room > 0:
            delivery.send(*self._answers.popleft())

    def _refuse(self, camera: str | None, key: str, reason: str) -> None:
        """Answer with the reason: on the topic of the value, or on ``error`` for what has none.

        Not retained, since it is of no use to who comes later.
        """
        _log.info("mqtt: %s", reason)
        is_known = key in CONTROLS and (camera is None or camera in self._cameras)
        topic = self._topics.of(camera, key) if is_known else self._topics.of(None, "error")
        self._say(topic, AnswerMessage(self._state.value(topic), reason))

    def _say(self, topic: str, message: AnswerMessage) -> None:
        self._answers.append((topic, msgspec.json.encode(message)))
