"""What is in force at a camera since its last change, for the outlets that show it."""

from collections.abc import Sequence

from device import config
from device.events import LabelChange

NOTHING = config.Decide().unknown
# With more labels than these a headline is a list.
_SHOWN = 3


class Standing:
    """A camera's labels by the changes that were told of it; ``nothing`` is the word for none.

    ``last`` is the last change. Written by one thread, read by any: each change makes a new one.
    """

    def __init__(
        self,
        last: LabelChange | None = None,
        before: "Standing | None" = None,
        nothing: str = NOTHING,
    ) -> None:
        self.last = last
        self._nothing = before.nothing if before else nothing
        begun = before._begun if before else {}
        self._begun: dict[str, float] = {}
        if last is not None:
            self._begun = {name: begun.get(name, last.at) for name in last.active}

    @property
    def nothing(self) -> str:
        """The word for nothing."""
        return self._nothing

    def after(self, change: LabelChange) -> "Standing":
        """What is in force after a change."""
        return Standing(change, self)

    def label(self, seen: str | None) -> str | None:
        """The label in force, None before the first; ``seen`` is that of the newest frame.

        Of several it is the one that the frame has, which is the best.
        """
        last = self.last
        if last is None:
            return seen
        if last.active:
            return seen if seen in last.active else last.active[0]
        return last.label if last.on else self._nothing

    def since(self, label: str | None) -> float | None:
        """When a label that is in force began, monotonic seconds; None where it is not told."""
        if self.last is None:
            return None
        return self._begun.get(label or "", self.last.at)


def headline(label: str, active: Sequence[str]) -> str:
    """The label, and those that are in force beside it: ``cat + dog``."""
    if len(active) < 2:
        return label
    more = len(active) - _SHOWN
    return " + ".join(active[:_SHOWN]) + (f" + {more} more" if more > 0 else "")
