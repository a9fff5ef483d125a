"""What the web view knows and tells: kept by the node's thread, read by the web's.

Moments leave as wall time for programs and as an age for the page: an age stays right when
the device's clock is years off, as a Raspberry Pi's is until the network has set it.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from device import __version__, config
from device.control.table import CONTROLS, limits
from device.events import OFF_DUTY, DeviceHealth, LabelChange, Observation, Prediction
from device.frames import Frame
from device.health import vitals
from device.recordings.rendering import turned
from device.sinks.ring import Ring
from device.sinks.standing import NOTHING, Standing
from device.sinks.wire import change_fields, iso
from device.system.text import one_line

_KEPT_CHANGES = 200
_KEPT_LOG_LINES = 100
_LINE_CHARACTERS = 500
_PREDICTIONS = 5
# The node reports once a second; a loop that has not for so long hangs.
SILENT_AFTER_S = 10.0


class View(msgspec.Struct, frozen=True):
    """What one camera, or one region of it, sees; ``label`` is None until it was decided.

    ``active`` are the labels in force, of which ``label`` is the best; none where it is the word
    for nothing, or why there is none. ``since_s`` is how long the label has been in force.
    ``region`` is the part of the upright picture that is looked at, [left, top, right, bottom] as
    shares of it. ``moved`` are the blocks of the upright picture that moved, row after row of
    ``moved_columns``, a bit each, in hexadecimal; empty where nothing did.
    """

    name: str
    label: str | None
    score: float
    since_s: float | None
    predictions: tuple[Prediction, ...]
    latency_ms: float
    region: tuple[float, float, float, float]
    moved: str = ""
    moved_columns: int = 0
    active: tuple[str, ...] = ()


class Change(msgspec.Struct, frozen=True):
    """A change of label; ``at`` is wall time, ISO 8601 in UTC, ``age_s`` how long ago it was."""

    camera: str
    label: str
    score: float
    previous: str | None
    held_s: float
    model: str
    at: str
    age_s: float
    on: bool
    active: tuple[str, ...]


class LogLine(msgspec.Struct, frozen=True):
    """A line of the log."""

    level: Literal["debug", "info", "warning", "error"]
    text: str
    at: str
    age_s: float


class ControlRow(msgspec.Struct, frozen=True):
    """A switch or a number of a camera that a command changes; ``step`` is 0 of a switch."""

    key: str
    words: str
    least: float = 0.0
    most: float = 1.0
    step: float = 0.0
    unit: str = ""


class State(msgspec.Struct, frozen=True):
    """Everything at once; ``health`` is None until the device reported for the first time.

    ``token`` says whether one is asked for; ``album`` is another number whenever a picture was
    kept or thrown away.
    """

    version: str
    pictures: bool
    commands: bool
    token: bool
    cameras: tuple[View, ...]
    controls: tuple[ControlRow, ...]
    health: DeviceHealth | None
    changes: tuple[Change, ...]
    log: tuple[LogLine, ...]
    album: int


class Health(msgspec.Struct, frozen=True):
    """The part of ``State`` that changes each second."""

    cameras: tuple[View, ...]
    health: DeviceHealth | None
    album: int


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command; ``camera`` is its name, or null for the device or for every camera."""

    key: str
    camera: str | None = None
    value: bool | float | str | tuple[float, float, float, float] | None = None


class Done(msgspec.Struct, frozen=True):
    """A command was carried out."""

    done: Literal[True] = True


class Refusal(msgspec.Struct, frozen=True):
    """Why a request was refused, in one line."""

    error: str


def _control_rows() -> tuple[ControlRow, ...]:
    rows = []
    for row in CONTROLS.values():
        shown = row.announcement
        if row.scope == "device" or shown is None:
            continue
        words = shown.words or shown.title
        if shown.platform == "switch":
            rows.append(ControlRow(row.key, words))
        elif shown.platform == "number":
            rows.append(ControlRow(row.key, words, *limits(row), shown.step, shown.unit))
    return tuple(rows)


class WebState:
    """The newest of everything. The node's thread writes, any thread reads.

    Each write is one assignment or one append, so that nobody waits for a lock.
    """

    def __init__(
        self,
        settings: config.Web,
        cameras: Sequence[config.Camera],
        *,
        token: bool,
        ring: Ring | None = None,
        nothing: str = NOTHING,
    ) -> None:
        self.cameras = {camera.name: camera for camera in cameras}
        self.device: DeviceHealth | None = None
        self.reported_at = time.monotonic()
        self.log = _RecentLog()
        self._settings = settings
        self._token = token
        self._ring = ring
        # Read only when somebody asks, on the thread that answers.
        self._observations: dict[str, Observation] = {}
        self._standings = {camera.name: Standing(nothing=nothing) for camera in cameras}
        # Numbered, so that each listener knows what it has not had yet.
        self._changes: deque[tuple[int, LabelChange]] = deque(maxlen=_KEPT_CHANGES)
        self._changed = 0

    def observe(self, observation: Observation) -> None:
        """Keep the newest frame of its camera."""
        self._observations[observation.camera] = observation

    def change(self, change: LabelChange) -> None:
        """Put a change on the timeline."""
        self._standings[change.camera] = self._standings[change.camera].after(change)
        self._changed += 1
        self._changes.append((self._changed, change))

    def report(self, health: DeviceHealth) -> None:
        """Keep the state of the device."""
        self.device = health
        self.reported_at = time.monotonic()

    def frame(self, camera: str) -> Frame | None:
        """The newest frame that was classified, None before the first."""
        observation = self._observations.get(camera)
        return observation.frame if observation else None

    def whole(self) -> State:
        """Everything."""
        return State(
            version=__version__,
            pictures=self._settings.pictures,
            commands=self._settings.commands,
            token=self._token,
            cameras=self.views(),
            controls=_control_rows(),
            health=self.device,
            changes=self.changes_after(0)[0],
            log=self.log.lines_after(0)[0],
            album=self._album(),
        )

    def health(self) -> Health:
        """What changes each second."""
        return Health(self.views(), self.device, self._album())

    def _album(self) -> int:
        return self._ring.version if self._ring else 0

    def views(self) -> tuple[View, ...]:
        """What each camera sees now."""
        return tuple(self._view(camera) for camera in self.cameras.values())

    def changes_after(self, number: int) -> tuple[tuple[Change, ...], int]:
        """The changes after the one of this number, oldest first, and the number of the last."""
        new = [(n, change) for n, change in list(self._changes) if n > number]
        return tuple(_change(change) for _, change in new), new[-1][0] if new else number

    def trouble(self) -> str:
        """Why the device is not at work, in a few words that give nothing away, or empty."""
        if time.monotonic() - self.reported_at > SILENT_AFTER_S:
            return "the device does not answer"
        if self.device is None:
            return "starting"
        # A camera that was switched off is as its owner wants it.
        states = {c.state for c in self.device.cameras if not c.controls or c.controls.enabled}
        return "" if states <= {"live"} else "a camera is not live"

    def _view(self, camera: config.Camera) -> View:
        standing = self._standings[camera.name]
        last = standing.last
        on_duty = last is None or last.label != OFF_DUTY
        observation = self._observations.get(camera.name) if on_duty else None
        healths = self.device.cameras if self.device else ()
        controls = next((c.controls for c in healths if c.name == camera.name), None)
        moved, columns = _moved(observation, camera)
        label = standing.label(observation.label if observation else None)
        since = standing.since(label)
        return View(
            name=camera.name,
            label=label,
            score=round(observation.score, 4) if observation else 0.0,
            since_s=None if since is None else round(time.monotonic() - since, 1),
            predictions=observation.predictions[:_PREDICTIONS] if observation else (),
            latency_ms=round(observation.latency_ms, 2) if observation else 0.0,
            region=controls.region if controls else camera.region,
            moved=moved,
            moved_columns=columns,
            active=last.active if last else (),
        )


class _RecentLog(logging.Handler):
    """The last lines of the log, numbered as they come."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[tuple[int, int, str, float]] = deque(maxlen=_KEPT_LOG_LINES)
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line; ``handle`` holds the handler's lock around this."""
        try:
            text = one_line(record.getMessage())[:_LINE_CHARACTERS]
        except Exception:  # noqa: BLE001 - what cannot be worded must not end the thread that says it
            return
        self._count += 1
        self._lines.append((self._count, record.levelno, text, time.monotonic()))

    def lines_after(self, number: int) -> tuple[tuple[LogLine, ...], int]:
        """The lines after the one of this number, oldest first, and the number of the last."""
        new = [line for line in list(self._lines) if line[0] > number]
        lines = tuple(
            LogLine(_level(level), text, iso(vitals.wall_time(at)), _age_s(at))
            for _, level, text, at in new
        )
        return lines, new[-1][0] if new else number


def _moved(observation: Observation | None, camera: config.Camera) -> tuple[str, int]:
    if observation is None or observation.moved is None or not observation.moved.any():
        return "", 0
    blocks = turned(observation.moved.view(np.uint8), camera.rotate, camera.mirror)
    return np.packbits(blocks).tobytes().hex(), blocks.shape[1]


def _change(change: LabelChange) -> Change:
    fields = change_fields(change, vitals.wall_time(change.at))
    return Change(**fields, age_s=_age_s(change.at))


def _age_s(at: float) -> float:
    return round(max(0.0, time.monotonic() - at), 3)


def _level(number: int) -> Literal["debug", "info", "warning", "error"]:
    if number >= logging.ERROR:
        return "error"
    return "warning" if number >= logging.WARNING else "info"
