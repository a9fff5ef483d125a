"""How moments and label changes are written where they leave the device."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from device.events import LabelChange


def iso(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def change_fields(change: LabelChange, at: float) -> dict[str, Any]:
    """The change's fields, its numbers rounded, and ``at``, wall time in seconds, as ISO 8601."""
    return {
        **msgspec.structs.asdict(change),
        "score": round(change.score, 4),
        "held_s": round(change.held_s, 3),
        "at": iso(at),
    }
