"""Changes of labels as the decider makes them, for one camera at a time."""

import time

from device.events import LabelChange
from device.sinks.actions.performer import Occurrence
from device.sinks.actions.trigger import Moment


def moment(
    at: float, *active: str, camera: str = "camera", label: str = "", score: float = 0.8
) -> Moment:
    """A change at this time, after which these labels are in force."""
    label = label or (active[0] if active else "unknown")
    change = LabelChange(
        camera, label, score, None, 0.0, "model", at, on=label in active, active=active
    )
    return Moment(change, 1000.0 + at)


def occurrence(label: str = "cat", *, on: bool = True, score: float = 0.8) -> Occurrence:
    """A label of the camera "camera" that begins or ends."""
    return Occurrence(
        action="bell",
        node="node",
        camera="camera",
        label=label,
        on=on,
        score=score,
        held_s=0.0,
        active=(label,) if on else (),
        model="model",
        at=time.monotonic(),
        wall_at=1_767_323_045.678,
        photo=None,
    )
