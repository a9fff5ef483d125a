"""What an action of any kind is: told of a beginning or an end, it does something about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from device.errors import ActionError
from device.sinks.photos import Photo
from device.sinks.wire import iso


@dataclass(frozen=True, slots=True, eq=False)
class Occurrence:
    """A label of a camera begins (``on``) or ends, and the action is to do something about it.

    ``held_s`` is how long the label has been in force, or was. ``at`` is monotonic, of the change;
    ``wall_at`` the same moment in seconds since 1970. ``photo`` is of the frame that made the
    change, None where none did or where the action wants no pictures.
    """

    action: str
    node: str
    camera: str
    label: str
    on: bool
    score: float
    held_s: float
    active: tuple[str, ...]
    model: str
    at: float
    wall_at: float
    photo: Photo | None

    @property
    def fields(self) -> dict[str, Any]:
        """What happened, ready for JSON: numbers rounded, ``at`` as ISO 8601 in UTC."""
        return {
            "action": self.action,
            "node": self.node,
            "camera": self.camera,
            "label": self.label,
            "on": self.on,
            "score": round(self.score, 4),
            "held_s": round(self.held_s, 3),
            "active": list(self.active),
            "model": self.model,
            "at": iso(self.wall_at),
        }

    def picture(self) -> bytes | None:
        """The frame that made the change as a JPEG, or None where there is none."""
        return self.photo.jpeg() if self.photo else None


# Takes what came of an occurrence later: what was done in a few words, or why it was not.
Report = Callable[[Occurrence, str | ActionError], None]


class Performer:
    """One action. Calls come from its own thread, from several where ``at_once`` is over 1.

    A class that inherits from this may leave out what it has nothing for. All but ``close`` and
    ``cancel`` raise ActionError with what keeps them from being done.

    ``wants_picture``: occurrences bring one. ``wants_score``: ``update`` is called while a
    label is in force. ``ends_at_close``: a label that is in force when the run ends gets its
    ``end``, since what was switched on would stay on; not for what only sends messages.
    ``problem`` is why what was taken is not done yet, empty where all is or nothing went wrong.
    """

    at_once = 1
    wants_picture = False
    wants_score = False
    ends_at_close = True
    problem = ""

    def open(self) -> None:
        """Get what it needs: before the first of the other calls, and again after a failure."""

    def begin(self, occurrence: Occurrence) -> str | None:
        """Do what is to be done when a label begins.

        Returns what was done in a few words, or None where that is only known later and is told
        to the ``Report`` that it was opened with. It may take its time, bounded.
        """

    def end(self, occurrence: Occurrence) -> str | None:
        """Do what is to be done when a label ends; as ``begin``."""

    def rehearse(self, occurrence: Occurrence) -> str:
        """Do it once, for somebody who waits for it; returns what was done in a few words.

        Without ``open``, which may take what a running labelcam has. What is done later otherwise
        is done now, and not again where it fails.
        """
        self.open()
        done = self.begin(occurrence) if occurrence.on else self.end(occurrence)
        return done or ""

    def update(self, occurrence: Occurrence) -> None:
        """Take the score of a label that is in force."""

    def cancel(self) -> None:
        """Have what is under way end soon; from another thread, before ``close``."""

    def close(self) -> None:
        """Let go; may be called twice, and takes a second at most."""
