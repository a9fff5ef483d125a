"""What really was to be seen in a recording, and when: a file that people and programs write.

JSON lines, one for each time that something was there::

    {"from_s": 12.5, "to_s": 31, "label": "cat", "camera": "door"}

or the same as TOML, a ``[[truth]]`` table each, where the file's name ends in ``.toml``. Seconds
are since the first frame of the recording; ``camera`` is only needed where it has several.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from device.errors import UsageError
from device.pipeline.words import nearest
from device.system.files import read_file, replace_file
from device.system.text import from_json, json_line, quoted

TRUTH = "truth.jsonl"
# A recording's truth, by the names that are looked for in its folder.
NAMES = (TRUTH, "truth.toml")

_MAX_BYTES = 64 << 20
# Whoever marks by hand lets go of one key and takes the next.
TOUCH_S = 1e-6


class Interval(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``label`` was there from ``from_s`` to ``to_s``, seconds since the first frame."""

    from_s: float
    to_s: float
    label: str
    camera: str = ""


class Line(msgspec.Struct, frozen=True):
    """An interval and the line of the file that it stands in."""

    number: int
    interval: Interval


def find_truth(folder: Path) -> Path | None:
    """The truth that lies in a recording's folder, None where there is none."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def read_truth(path: Path) -> list[Line]:
    """The intervals of a file with their lines, in its order; none of a file that is empty.

    Raises UsageError, which names file and line, for what is not of that form.
    """
    try:
        data = read_file(path, _MAX_BYTES)
    except OSError as error:
        raise UsageError(f"truth {path}: cannot be read: {error.strerror}") from None
    lines = _from_toml(path, data) if path.suffix == ".toml" else _from_lines(path, data)
    found = []
    for number, interval in lines:
        if fault := _fault(interval):
            raise UsageError(f"truth {path}: line {number} {fault}")
        found.append(Line(number, interval))
    return found


def check_truth(
    path: Path,
    lines: Sequence[Line],
    lengths_s: dict[str, float],
    labels: Mapping[str, Sequence[str]],
    *,
    one_at_a_time: bool,
) -> dict[str, list[Interval]]:
    """The intervals of each camera of the recording, in the order of time.

    ``lengths_s`` is how long the recording of each camera is, ``labels`` what can be said of it;
    ``one_at_a_time`` refuses two labels that overlap. Raises UsageError, which names the line.
    """
    sorted_lines: dict[str, list[Line]] = {camera: [] for camera in lengths_s}
    for line in lines:
        camera = _camera(path, line, lengths_s)
        interval = msgspec.structs.replace(line.interval, camera=camera)
        where = f"truth {path}: line {line.number}"
        # A frame after the last one is as good as the end of it.
        if interval.from_s > lengths_s[camera]:
            raise UsageError(
                f"{where} begins at {interval.from_s:g} s, and the recording ends at "
                f"{lengths_s[camera]:.1f} s; is it the truth of another?"
            )
        if interval.to_s > lengths_s[camera] + 5:
            raise UsageError(
                f"{where} ends at {interval.to_s:g} s, and the recording at "
                f"{lengths_s[camera]:.1f} s; is it the truth of another?"
            )
        if interval.label not in labels[camera]:
            near = nearest(interval.label, labels[camera])
            raise UsageError(f"{where} has {quoted(interval.label)}, which is never said{near}")
        sorted_lines[camera].append(Line(line.number, interval))
    for some in sorted_lines.values():
        some.sort(key=lambda line: line.interval.from_s)
        _check_overlap(path, some, one_at_a_time=one_at_a_time)
    return {camera: [line.interval for line in some] for camera, some in sorted_lines.items()}


def write_truth(path: Path, intervals: Iterable[Interval]) -> None:
    """Write the intervals as JSON lines. Raises UsageError where that cannot be."""
    text = "".join(json_line(interval) + "\n" for interval in intervals)
    try:
        replace_file(path, text.encode())
    except OSError as error:
        raise UsageError(f"truth {path}: cannot be written: {error.strerror}") from None


def _from_lines(path: Path, data: bytes) -> Iterator[tuple[int, Interval]]:
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield number, from_json(line, Interval)
        except msgspec.DecodeError as error:
            raise UsageError(f"truth {path}: line {number} is no interval: {error}") from None


def _from_toml(path: Path, data: bytes) -> Iterator[tuple[int, Interval]]:
    try:
        text = data.decode()
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"truth {path}: is not TOML: {error}") from None
    tables = raw.pop("truth", [])
    if raw or not isinstance(tables, list):
        raise UsageError(f"truth {path}: holds more or other than [[truth]] tables")
    # TOML tells no lines; those of the headers do, where the tables are written as they mostly are.
    heads = [
        text.count("\n", 0, found.start()) + 1
        for found in re.finditer(r"^[ \t]*\[\[[ \t]*truth[ \t]*\]\]", text, re.MULTILINE)
    ]
    for index, table in enumerate(tables):
        number = heads[index] if len(heads) == len(tables) else index + 1
        try:
            yield number, msgspec.convert(table, Interval)
        except msgspec.ValidationError as error:
            raise UsageError(f"truth {path}: line {number} is no interval: {error}") from None


def _fault(interval: Interval) -> str:
    # Written so that NaN, of which no comparison holds, is refused.
    if not interval.from_s >= 0:
        return f"begins at {interval.from_s:g} s; the first frame is at 0"
    if not interval.from_s < interval.to_s < float("inf"):
        return f"ends at {interval.to_s:g} s, not after its begin at {interval.from_s:g} s"
    return "" if interval.label else "has no label"


def _camera(path: Path, line: Line, lengths_s: dict[str, float]) -> str:
    camera = line.interval.camera
    if not camera and len(lengths_s) == 1:
        return next(iter(lengths_s))
    if camera not in lengths_s:
        names = ", ".join(map(quoted, lengths_s))
        what = f"names camera {quoted(camera)}" if camera else "names no camera"
        raise UsageError(f"truth {path}: line {line.number} {what}; the recording has {names}")
    return camera


def _check_overlap(path: Path, lines: Sequence[Line], *, one_at_a_time: bool) -> None:
    latest: dict[str, Line] = {}
    for line in lines:
        interval = line.interval
        key = "" if one_at_a_time else interval.label
        before = latest.get(key)
        if before is not None and interval.from_s < before.interval.to_s - TOUCH_S:
            other = before.interval
            hint = (
                '; decide.mode = "any" has several labels at a time'
                if interval.label != other.label
                else ""
            )
            raise UsageError(
                f"truth {path}: line {line.number} ({quoted(interval.label)} from "
                f"{interval.from_s:g} s) begins before line {before.number} "
                f"({quoted(other.label)}) ends at {other.to_s:g} s{hint}"
            )
        if before is None or interval.to_s > before.interval.to_s:
            latest[key] = line
