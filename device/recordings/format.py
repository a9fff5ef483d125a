"""What a recording is: a folder of frames, and when they were taken and what was made of them.

``recording.jsonl`` is a header and then a line for each label that was made of a frame; the
frames lie beside it as JPEG, or as PNG where none of their bits may be lost.
``labelcam run --source replay:FOLDER`` plays it. A recording without pictures is the header, of
form 2, and a file of scores (scores.py), for ``labelcam tune``.
"""

import re
from collections.abc import Generator
from pathlib import Path

import msgspec

from device.errors import CameraError, PictureError
from device.events import Prediction
from device.frames import Frame, PixelFormat
from device.recordings.pictures import read_picture
from device.system.text import from_json

INDEX = "recording.jsonl"
# Times are whole multiples of this: added to a whole second they stay exact, so that a replay
# computes with the very same differences each time.
TICKS_PER_S = 1 << 20

_FILE = re.compile(r"\d{6,}\.(jpg|png)")
_LINE_MAX_BYTES = 1 << 16


# The forms of a recording, by the number in its header.
PICTURES, SCORES = 1, 2


class Header(msgspec.Struct, frozen=True):
    """The first line: what was recorded, and whether it is PICTURES or SCORES alone."""

    recording: int
    model: str
    source: str


class Entry(msgspec.Struct, frozen=True):
    """A label of a frame; ``at_s`` is since the first, ``layout`` a PixelFormat's name.

    ``look`` is why the frame was classified, as the gate had it; those that it left out are not
    in a recording.
    """

    file: str
    at_s: float
    width: int
    height: int
    layout: str
    camera: str
    label: str | None
    score: float
    predictions: tuple[Prediction, ...]
    look: str = ""


def entries(folder: Path, source: str) -> Generator[Entry, None, None]:
    """The entries of a recording in order. Raises CameraError, with the line, where it is bad."""
    path = folder / INDEX
    try:
        with path.open("rb") as index:
            for number, line in enumerate(index, 1):
                if number == 1:
                    _check_form(from_json(line, Header), folder, source)
                    continue
                entry = from_json(line, Entry)
                if not _FILE.fullmatch(entry.file):
                    raise CameraError(source, f"line {number} of {path} names {entry.file!r}")
                yield entry
    except FileNotFoundError:
        raise _no_recording(path, source) from None
    except OSError as error:
        if isinstance(error, CameraError):
            raise
        raise CameraError(source, f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CameraError(
            source, f"line {number} of {path} is damaged ({error}); copy it again"
        ) from None


def header_of(folder: Path, source: str) -> Header:
    """The header of a recording. Raises CameraError."""
    path = folder / INDEX
    try:
        with path.open("rb") as index:
            return from_json(index.readline(_LINE_MAX_BYTES), Header)
    except FileNotFoundError:
        raise _no_recording(path, source) from None
    except OSError as error:
        raise CameraError(source, f"{path} cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise CameraError(source, f"line 1 of {path} is damaged ({error}); copy it again") from None


def _no_recording(path: Path, source: str) -> CameraError:
    return CameraError(
        source, f"there is no {path}; make one with `labelcam record --for 60s {path.parent}`"
    )


def _check_form(header: Header, folder: Path, source: str) -> None:
    if header.recording == SCORES:
        raise CameraError(
            source,
            "holds scores without pictures, so that there is nothing to play; "
            f"`labelcam tune {folder}` makes use of it",
        )
    if header.recording != PICTURES:
        raise CameraError(source, f"is a recording of form {header.recording}")


def frame_of(folder: Path, entry: Entry, source: str, number: int, at: float) -> Frame:
    """The frame of an entry, as it was taken or as JPEG kept it. Raises CameraError."""
    try:
        pixels = read_picture(folder / entry.file).pixels
    except PictureError as error:
        raise CameraError(source, f"its {error}") from None
    try:
        layout = PixelFormat(entry.layout)
    except ValueError:
        raise CameraError(source, f"{entry.file} has pixels {entry.layout!r}") from None
    frame = Frame(pixels, layout, entry.width, entry.height, number, at)
    if fault := frame.fault():
        raise CameraError(source, f"{entry.file} {fault}; copy the recording again")
    return frame
