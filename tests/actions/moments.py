"""Changes of labels as the decider makes them, for one camera at a time."""

from device.events import LabelChange
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
