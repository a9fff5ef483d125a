"""How moments and label changes are written where they leave the device, and their ids."""

import secrets
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from device.events import LabelChange


def iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def seconds(stamp: str) -> float:
    """Seconds since 1970 of a moment that ``iso`` wrote."""
    return datetime.fromisoformat(stamp).timestamp()


def change_fields(change: LabelChange, at: float) -> dict[str, Any]:
    """The change's fields, its numbers rounded, and ``at``, wall time in seconds, as ISO 8601."""
    return {
        **msgspec.structs.asdict(change),
        "score": round(change.score, 4),
        "held_s": round(change.held_s, 3),
        "at": iso(at),
    }


class Ids:
    """Version 7 UUIDs (RFC 9562): in the order of time, and each larger than the one before,
    even where the wall clock is set back meanwhile."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._counter = 0

    def next(self, now: float) -> str:
        """The next id; ``now`` is wall time in seconds."""
        now_ms = max(0, int(now * 1000))
        if now_ms > self._last_ms:
            self._last_ms, self._counter = now_ms, secrets.randbits(11)
        else:
            self._counter += 1
            if self._counter >> 12:
                self._last_ms, self._counter = self._last_ms + 1, 0
        number = (self._last_ms & (1 << 48) - 1) << 80 | 7 << 76 | self._counter << 64
        return str(uuid.UUID(int=number | 2 << 62 | secrets.randbits(62)))
