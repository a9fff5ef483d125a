"""Every camera's hours, observed once a second; their file, pictures and alarms."""

import hashlib
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta

from device import config
from device.events import CameraHealth, DeviceHealth, Drift, Observation, Prediction
from device.frames import Frame
from device.health.drift import (
    HOUR_S,
    LEARN_DAYS,
    Detector,
    Hour,
    HourNumber,
    Memory,
    Range,
)
from device.health.drift_pictures import DriftPictures, Writer
from device.health.wall_clock import WallClock, on_the_wall
from device.system.files import read_file
from device.system.text import from_json

_log = logging.getLogger("labelcam.health")

FILE = "drift.json"
# 28 days of 32 cameras are a megabyte.
MAX_BYTES = 8 << 20
_CAMERAS_MAX = 32
# An hour of which less was observed tells nothing.
_LEAST_S = 900.0
# A loop that hung has seen nothing meanwhile.
_STEP_MOST_S = 5.0
# At an end the running hour is kept where there is more of it than this.
_KEPT_S = 60.0


class Sums(msgspec.Struct):
    """The running hour: seconds, and figures times the seconds for which they were known."""

    number: HourNumber = 0
    seconds: float = 0.0
    nothing: float = 0.0
    entropy: float = 0.0
    entropy_s: float = 0.0
    trouble: float = 0.0
    brightness: float = 0.0
    sharpness: float = 0.0
    brightness_s: float = 0.0
    sharpness_s: float = 0.0

    def hour(self) -> Hour:
        """The means of it."""

        def mean(total: float, seconds: float, digits: int) -> float | None:
            found = round(total / seconds, digits) if seconds > 0 else 0.0
            return found if seconds > 0 and math.isfinite(found) else None

        return Hour(
            self.number,
            mean(self.nothing, self.seconds, 3),
            mean(self.entropy, self.entropy_s, 3),
            mean(self.trouble, self.seconds, 3),
            mean(self.brightness, self.brightness_s, 1),
            mean(self.sharpness, self.sharpness_s, 3),
        )


class Record(msgspec.Struct):
    """What is kept of a camera, as it is set up; ``pictures`` says whether its alarm has some."""

    camera: str
    memory: Memory
    running: Sums
    pictures: bool = False
    newest: HourNumber = 0


class Records(msgspec.Struct):
    """The file; the version is another one where the figures are others."""

    version: Annotated[int, Meta(ge=1, le=1)] = 1
    cameras: dict[str, Record] = {}


class _Seen(NamedTuple):
    """What of the last classified frame stands until the next."""

    recognises: bool
    predictions: tuple[Prediction, ...]


class _Camera:
    """One channel: what it is, what it saw last, and its detector under its present setup."""

    def __init__(self, camera: config.Camera, setup: str, unknown: str) -> None:
        self.camera = camera
        self.name = camera.name
        self.base = setup
        self.unknown = unknown
        self.setup: tuple[str, tuple[str, ...]] | None = None
        self.key = ""
        self.detector: Detector | None = None
        self.record = Record(camera.name, Memory(), Sums())
        self.seen: _Seen | None = None
        self.bits: tuple[_Seen, float] | None = None
        self.frame: Frame | None = None
        self.days = 0


class DriftWatch:
    """Feeds each camera's detector; for the node's thread only.

    ``wall`` gives wall time. Off where the settings say so: then nothing is read or written.
    """

    def __init__(
        self, settings: config.Drift, folder: Path, wall: Callable[[], float] = time.time
    ) -> None:
        self._on = settings.enabled
        self._clock = WallClock(wall)
        self._file = folder / FILE
        self._cameras: dict[str, _Camera] = {}
        self._at: float | None = None
        self._unsaved_s = 0.0
        self._pictures = DriftPictures(folder) if self._on and settings.pictures else None
        self._writer = Writer(self._file)
        if self._pictures is None:
            DriftPictures.forget(folder)
        self._records = read_records(self._file) if self._on else Records()

    def add(self, camera: config.Camera, setup: str, unknown: str) -> None:
        """Watch a channel; ``setup`` is what else its answers rest on, beside its model."""
        if self._on:
            self._cameras[camera.name] = _Camera(camera, setup, unknown)

    def observe(self, observation: Observation) -> None:
        """Take what a frame showed; it stands until the next."""
        camera = self._cameras.get(observation.camera)
        if camera is None:
            return
        if observation.label is None:
            camera.seen = None
            return
        camera.seen = _Seen(observation.label != camera.unknown, observation.predictions)
        if self._pictures is not None:
            camera.frame = observation.frame

    def update(self, health: DeviceHealth, now: float) -> DeviceHealth:
        """Count the time since the last call; the health with what is other than usual."""
        if not self._on:
            return health
        passed_s = 0.0 if self._at is None else min(max(now - self._at, 0.0), _STEP_MOST_S)
        self._at = now
        tick = self._clock.look(now, health.vitals.clock_synced)
        if tick.jumped:
            self._drop_running(far=tick.far)
        if tick.over:
            self._close_hour()
        reports = []
        for report in health.cameras:
            camera = self._cameras.get(report.name)
            if camera is None:
                reports.append(report)
                continue
            self._set_up(camera, report)
            if tick.believed:
                self._count(camera, report, passed_s, tick.hour)
            found = self._drift(camera, believed=tick.believed)
            reports.append(msgspec.structs.replace(report, drift=found))
        return msgspec.structs.replace(health, cameras=tuple(reports))

    @property
    def alarmed(self) -> bool:
        """Whether any camera is other than usual."""
        return any(one.detector and one.detector.alarmed for one in self._cameras.values())

    def accept(self, name: str) -> None:
        """Take how a camera is now for usual, where it is other; the past is forgotten."""
        camera = self._cameras.get(name)
        if camera is None or camera.detector is None or not camera.detector.accept():
            return
        _log.info("camera %s: as it is now is taken for usual, and learnt anew", name)
        camera.days = camera.detector.days(self._clock.hour)
        camera.record.pictures = False
        self._save()

    def close(self) -> None:
        """Keep the running hour over a restart; may be called twice."""
        if self._unsaved_s >= _KEPT_S:
            self._save()
        self._writer.close()

    # The hours

    def _drop_running(self, *, far: bool) -> None:
        """The clock was set: the running hour was another, and so may the last ones have been."""
        for camera in self._cameras.values():
            camera.record.running = Sums()
            if far and camera.detector is not None:
                camera.detector.forget_evidence()

    def _set_up(self, camera: _Camera, report: CameraHealth) -> None:
        """Go on with the past of the model and the lessons that are in force."""
        model = report.controls.model if report.controls else ""
        setup = model, report.taught
        if setup == camera.setup:
            return
        camera.setup = setup
        text = "\n".join((camera.base, model, *report.taught))
        camera.key = f"{camera.name} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
        fresh = Record(camera.name, Memory(), Sums())
        camera.record = self._records.cameras.setdefault(camera.key, fresh)
        camera.detector = Detector(on_the_wall, camera.record.memory)
        camera.days = camera.detector.days(self._clock.hour)

    def _count(self, camera: _Camera, report: CameraHealth, passed_s: float, hour: int) -> None:
        looks = report.state == "live" and report.look != "off duty"
        if not looks or (report.controls is not None and not report.controls.enabled):
            # What was seen before says nothing of what is there after it.
            camera.seen = camera.frame = None
        if camera.seen is None:
            return
        sums = camera.record.running
        if sums.number != hour:
            # One that a restart interrupted.
            if sums.number < hour:
                self._hand_over(camera)
            sums = camera.record.running = Sums(number=hour)
        sums.seconds += passed_s
        sums.nothing += passed_s * (not camera.seen.recognises)
        sums.trouble += passed_s * bool(report.picture)
        if camera.bits is None or camera.bits[0] is not camera.seen:
            camera.bits = camera.seen, entropy(camera.seen.predictions)
        sums.entropy += passed_s * camera.bits[1]
        sums.entropy_s += passed_s
        if report.brightness is not None:
            sums.brightness += passed_s * report.brightness
            sums.brightness_s += passed_s
        if report.sharpness is not None:
            sums.sharpness += passed_s * math.log(max(report.sharpness, 1e-6))
            sums.sharpness_s += passed_s
        self._unsaved_s += passed_s / len(self._cameras)

    def _close_hour(self) -> None:
        """Hand the hour that is over to the detectors, say what that tells, and keep it."""
        handed = [self._hand_over(camera) for camera in self._cameras.values()]
        if any(handed):
            self._save()

    def _hand_over(self, camera: _Camera) -> bool:
        """Hand a camera's running hour over, where enough of it was observed; whether it was."""
        sums, camera.record.running = camera.record.running, Sums()
        if camera.detector is None or sums.seconds < _LEAST_S:
            return False
        self._take(camera, camera.detector, sums.hour())
        return True

    def _take(self, camera: _Camera, detector: Detector, hour: Hour) -> None:
        event = detector.add(hour)
        camera.record.newest = hour.number
        camera.days = detector.days(hour.number)
        place = on_the_wall(hour.number)
        if event == "began":
            found = [say(measure.name, range_) for measure, range_ in detector.changes()]
            # Where nothing else can be compared in words, there is still an alarm.
            detector.memory.text = "; ".join(found[:3]) or "its figures are others"
            _log.warning(
                "camera %s: not as usual: %s; where this is right from now on, accept_drift "
                "(the page has a button) says so",
                camera.name,
                detector.memory.text,
            )
            self._begin_pictures(camera, place.hour)
        elif event is not None:
            ended = "as usual again" if event == "ended" else "has been so for long: it is usual"
            _log.info("camera %s: %s", camera.name, ended)
            camera.record.pictures = False
        elif self._pictures is not None and camera.frame and detector.unsuspicious:
            self._writer.put(self._pictures.keep(camera.camera, camera.frame, place.hour))
        camera.frame = None

    def _begin_pictures(self, camera: _Camera, hour: int) -> None:
        if self._pictures is not None and camera.frame is not None:
            camera.record.pictures = self._pictures.has(camera.name, hour)
            self._writer.put(self._pictures.tell(camera.camera, camera.frame, hour))

    def _drift(self, camera: _Camera, *, believed: bool) -> Drift:
        detector = camera.detector
        assert detector is not None
        memory = detector.memory
        if memory.since is not None:
            shown = self._pictures is not None and camera.record.pictures
            return Drift(memory.text, float(memory.since * HOUR_S), "", shown)
        if camera.days >= LEARN_DAYS:
            return Drift()
        learning = f"{camera.days} of {LEARN_DAYS} days learnt"
        if not believed:
            learning += "; it waits for the clock to be set"
        return Drift(learning=learning)

    def _save(self) -> None:
        """Have the file written, without those that were not seen for longest."""
        self._unsaved_s = 0.0
        for camera in self._cameras.values():
            if camera.detector is not None:
                camera.record.memory = camera.detector.memory
        present = {camera.key for camera in self._cameras.values()}
        by_age = sorted(
            self._records.cameras.items(),
            key=lambda item: (item[0] in present, item[1].newest),
            reverse=True,
        )
        kept = {
            key: record
            for key, record in by_age[: max(_CAMERAS_MAX, len(present))]
            if record.newest or record.running.seconds >= _KEPT_S
        }
        data = msgspec.json.encode(Records(cameras=kept))
        self._writer.write(data)


def entropy(predictions: tuple[Prediction, ...]) -> float:
    """Bits of the best five scores and of all the rest together.

    Where the scores are none that sum up to 1, of their shares.
    """
    scores = [min(max(one.score, 0.0), 1.0) for one in predictions[:5]]
    scores.append(max(0.0, 1.0 - sum(scores)))
    total = sum(scores)
    return -sum(s / total * math.log2(s / total) for s in scores if s > 0)


def say(measure: str, found: Range) -> str:
    """What is other than usual, in words."""
    if measure == "nothing":
        return f"nothing recognised {_shares(found)}"
    if measure == "trouble":
        return f"something wrong with the picture {_shares(found)}"
    at = "at these hours usually"
    if measure == "entropy":
        kind = "less" if found.now > found.most else "more"
        return f"{kind} sure, {found.now:.2f} bits; {at} {found.least:.2f} to {found.most:.2f}"
    if measure == "brightness":
        kind = "brighter" if found.now > found.most else "darker"
        return f"{kind}, {found.now:.0f} of 255; {at} {found.least:.0f} to {found.most:.0f}"
    kind = "sharper" if found.now > found.most else "less sharp"
    now, least, most = (math.exp(value) for value in found)
    return f"{kind}, {now:.2g}; {at} {least:.2g} to {most:.2g}"


def _shares(found: Range) -> str:
    return (
        f"{found.now:.0%} of the time; at these hours usually {found.least:.0%} to {found.most:.0%}"
    ).replace("%", " %")


def read_records(path: Path) -> Records:
    """What the file holds; nothing where it is not there, is damaged or of another version."""
    try:
        return from_json(read_file(path, MAX_BYTES), Records)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, msgspec.MsgspecError) as error:
        said = error.strerror if isinstance(error, OSError) else error
        _log.warning("%s: %s; what is usual is learnt anew", path, said)
    return Records()
