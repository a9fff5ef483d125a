"""Label changes to actions, each on a thread of its own: the loop only leaves word."""

import time
from collections.abc import Callable

from device import config
from device.events import ActionResult, LabelChange, Observation, Sink
from device.frames import Frame
from device.sinks.actions.kinds import open_action
from device.sinks.actions.trigger import Moment
from device.sinks.actions.worker import Worker
from device.sinks.mqtt.topics import Topics
from device.sinks.photos import Photos

# systemd gives the whole device 20 s to stop.
CLOSE_S = 4.0


class ActionsSink(Sink):
    """Has each action of the configuration done when it is due.

    ``report`` takes what each came to, from the actions' threads.
    """

    name = "actions"

    def __init__(
        self,
        settings: config.Config,
        photos: Photos,
        report: Callable[[ActionResult], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._photos = photos
        self._wall_clock = wall_clock
        node = Topics(settings.mqtt.prefix, settings.mqtt.node, ()).node
        self._workers = [Worker(action, node, open_action, report) for action in settings.action]
        self._scored = [worker for worker in self._workers if worker.wants_score]
        self._pictured = any(worker.wants_picture for worker in self._workers)

    @property
    def problem(self) -> str:
        """The first action that was not done the last time, or is not yet, and why; else empty."""
        return next((f"{w.name}: {w.trouble}" for w in self._workers if w.trouble), "")

    def change(self, change: LabelChange, frame: Frame | None = None, /) -> None:
        """Leave word of what is in force now."""
        photo = self._photos.of(change.camera, frame) if frame and self._pictured else None
        moment = Moment(change, self._wall_clock(), photo)
        for worker in self._workers:
            worker.put(moment)

    def observe(self, observation: Observation) -> None:
        """Leave the scores of what is in force, for actions that follow them."""
        if self._scored and observation.active:
            scores = _scores(observation)
            for worker in self._scored:
                worker.score(observation.camera, scores)

    def close(self) -> None:
        """End what is under way and in force; takes CLOSE_S at most."""
        workers, self._workers, self._scored = self._workers, [], []
        for worker in workers:
            worker.stop()
        deadline = time.monotonic() + CLOSE_S
        for worker in workers:
            worker.join(deadline)


def _scores(observation: Observation) -> dict[str, float]:
    """The scores of what is in force: the decider's, smoothed, of the best, the frame's else."""
    active = observation.active
    scores = {p.label: p.score for p in observation.predictions if p.label in active}
    if observation.label in active:
        scores[str(observation.label)] = observation.score
    return scores
