"""What people are told of a label: title and message, the same whichever way they go."""

import time
from collections.abc import Mapping

from device import config
from device.sinks.actions.performer import Occurrence
from device.sinks.outbox.storage import Event
from device.sinks.wire import iso, seconds
from device.system.text import one_line

# Larger pictures than any camera here makes are left out: what waits has its bounds.
MAX_SNAPSHOT_BYTES = 5 << 20
# Discord takes 2,000, the caption of a picture at Telegram 1,024.
MAX_CHARS = 1000


class Delivery(Event, frozen=True, kw_only=True):
    """The beginning (``on``) or the end of a label, and what an action is to send about it."""

    action: str
    node: str
    snapshot: bytes | None = None

    @classmethod
    def of(cls, occurrence: Occurrence, id: str, *, clock_synced: bool) -> "Delivery":  # noqa: A002
        """What an occurrence is told by; its frame becomes a JPEG."""
        snapshot = occurrence.picture()
        if snapshot is not None and len(snapshot) > MAX_SNAPSHOT_BYTES:
            snapshot = None
        return cls(
            id=id,
            camera=occurrence.camera,
            at=iso(occurrence.wall_at),
            clock_synced=clock_synced,
            label=occurrence.label,
            score=round(occurrence.score, 4),
            previous=None,
            held_s=round(occurrence.held_s, 3),
            model=occurrence.model,
            on=occurrence.on,
            active=occurrence.active,
            action=occurrence.action,
            node=occurrence.node,
            snapshot=snapshot,
        )

    def occurrence(self, at: float) -> Occurrence:
        """The occurrence, as far as it is known after a restart; ``at`` is monotonic."""
        return Occurrence(
            self.action,
            self.node,
            self.camera,
            self.label,
            self.on,
            self.score,
            self.held_s,
            self.active,
            self.model,
            at,
            seconds(self.at),
            None,
        )


def title(delivery: Delivery) -> str:
    """Who says it."""
    return one_line(delivery.node)


def message(settings: config.Action, delivery: Delivery, now: float) -> str:
    """What is said, with the configuration's own words where it has some; ``now`` is wall time."""
    fields = _fields(delivery, now)
    text = settings.message if delivery.on else settings.message_off or settings.message
    if text:
        # Checked with the configuration; labels are strangers' text and are put in as they are.
        said = text.format_map(fields)
    elif delivery.on:
        said = f"{fields['label']} at {fields['camera']}"
        said += f" since {fields['since']}" if delivery.clock_synced else ""
    else:
        said = f"no {fields['label']} at {fields['camera']} any more, after {fields['held']}"
    said = "".join(char for char in said if char == "\n" or char.isprintable())
    return said if len(said) <= MAX_CHARS else said[: MAX_CHARS - 1] + "…"


def _fields(delivery: Delivery, now: float) -> Mapping[str, str | float]:
    """The values of the fields that a text may have."""
    at = seconds(delivery.at)
    return {
        "label": one_line(delivery.label),
        "camera": one_line(delivery.camera),
        "node": one_line(delivery.node),
        "event": "began" if delivery.on else "ended",
        "score": delivery.score,
        "since": _clock(at if delivery.on else at - delivery.held_s, now),
        "until": "" if delivery.on else _clock(at, now),
        "held": _span(delivery.held_s),
        "held_s": delivery.held_s,
    }


def _clock(at: float, now: float) -> str:
    """The time of day here, with the date where it is not today."""
    moment, today = time.localtime(at), time.localtime(now)
    form = "%H:%M" if moment[:3] == today[:3] else "%Y-%m-%d %H:%M"
    return time.strftime(form, moment)


def _span(span_s: float) -> str:
    """A time as people say it: the two largest units."""
    whole = max(0, round(span_s))
    for name, size, smaller, unit in (
        ("d", 86_400, "h", 3600),
        ("h", 3600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // unit} {smaller}"
    return f"{whole} s"
