"""When a picture was taken and of what, as it stands in the picture's own file."""

import contextlib
import functools
import re
import time
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec

from device.health import vitals
from device.system.text import from_json

# Start of the picture, JFIF and the comment, which stands before all tables.
_HEAD_BYTES = 8192
_BOOT_DIGITS = 8
_SLUG_CHARACTERS = 40


class Moment(NamedTuple):
    """A moment by every clock there is.

    ``wall`` is seconds since 1970, right only where ``synced``; ``since`` is seconds of the boot
    that ``boot`` tells from others, on a clock that nobody turns.
    """

    wall: float
    synced: bool
    boot: str
    since: float


class Caption(msgspec.Struct, frozen=True):
    """What stands in a picture's file beside the picture."""

    camera: str
    label: str
    score: float
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    clock_synced: bool
    boot: str
    since: float


def moment(at: float) -> Moment:
    """A moment on the monotonic clock, by every clock as it is now."""
    passed_s = time.monotonic() - at
    since = time.clock_gettime(time.CLOCK_BOOTTIME) - passed_s
    return Moment(time.time() - passed_s, bool(vitals.clock_synced()), _boot(), since)


@functools.cache
def _boot() -> str:
    return vitals.boot_id()[:_BOOT_DIGITS]


def age_s(caption: Caption | None, now: Moment) -> float | None:
    """How old a picture is, None where no clock can tell.

    A clock that was or is not set may be years off, and would throw all away or nothing: of this
    boot the clock of the boot counts, and of one before it the time servers' where it was set both
    times.
    """
    if caption is None:
        return None
    if caption.boot and caption.boot == now.boot:
        return max(0.0, now.since - caption.since)
    if caption.clock_synced and now.synced:
        return max(0.0, now.wall - caption.at.timestamp())
    return None


def captioned(picture: bytes, caption: Caption) -> bytes:
    """The JPEG with a comment, which stands behind the JFIF segment that comes first."""
    at = 2
    if picture[2:4] == b"\xff\xe0":
        at += 2 + int.from_bytes(picture[4:6], "big")
    text = msgspec.json.encode(caption)
    comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text
    return picture[:at] + comment + picture[at:]


def caption_of(path: Path) -> Caption | None:
    """What the file says of its picture; None where it says nothing, or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    at = 2
    # Of a JPEG that somebody else has put there, the segments until its tables begin.
    while head[at : at + 1] == b"\xff" and head[at + 1 : at + 2] != b"\xda":
        size = int.from_bytes(head[at + 2 : at + 4], "big")
        if head[at + 1 : at + 2] == b"\xfe":
            with contextlib.suppress(msgspec.DecodeError):
                return from_json(head[at + 4 : at + 2 + size], Caption)
        at += 2 + size
    return None


def slug(name: str) -> str:
    """The name in ``a-z 0-9 -``, for a file's; what it was exactly stands in the file."""
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")[:_SLUG_CHARACTERS] or "x"
