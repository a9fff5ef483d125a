"""How long and how often each watched label was there today, as the history counts it."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from device.control.commands import Device
from device.errors import HistoryError
from device.history.hours import day_of
from device.history.reader import Reader, Selection
from device.sinks.mqtt.announced import Component
from device.sinks.mqtt.state import State
from device.sinks.mqtt.topics import Topics, slug
from device.sinks.wire import iso

# A change is in the history 5 s later.
WRITTEN_S = 6.0


class Day(msgspec.Struct, frozen=True):
    """A label's hours and times since local midnight."""

    label: str
    hours: float
    times: int


class TodayMessage(msgspec.Struct, frozen=True):
    """The labels of a camera by their slugs; ``since`` is midnight, ISO 8601 in UTC."""

    since: str
    labels: dict[str, Day]


def watched_of(device: Device, watched: Sequence[str], camera: str) -> list[str]:
    """The labels that a camera was taught, then the watched ones that it may report."""
    known = set(device.labels(camera))
    return [one for one in dict.fromkeys((*device.taught(camera), *watched)) if one in known]


class Today:
    """The numbers of today, from the history in ``path``; of nothing where that is None."""

    def __init__(
        self, path: Path | None, topics: Topics, device: Device, watched: Sequence[str]
    ) -> None:
        self._path = path
        self._topics = topics
        self._device = device
        self._watched = watched
        self._due = 0.0

    def entities(self, camera: str) -> dict[str, Component]:
        """The sensors of Home Assistant, by a key that stays theirs."""
        found: dict[str, Component] = {}
        for label in watched_of(self._device, self._watched, camera) if self._path else ():
            key, title = slug(label, "label"), label[:1].upper() + label[1:]
            own: Component = {
                "platform": "sensor",
                "state_topic": self._topics.of(camera, "today"),
                # It begins at 0 each midnight, and a clock that is set may correct it downwards.
                "state_class": "total",
                "last_reset_value_template": "{{ value_json.since }}",
            }
            found[f"time-{key}"] = own | {
                "name": f"{title} time today",
                "device_class": "duration",
                "unit_of_measurement": "h",
                "suggested_display_precision": 2,
                "value_template": f"{{{{ value_json.labels['{key}'].hours }}}}",
            }
            found[f"times-{key}"] = own | {
                "name": f"{title} times today",
                "icon": "mdi:counter",
                "value_template": f"{{{{ value_json.labels['{key}'].times }}}}",
            }
        return found

    def expect_change(self, now: float) -> None:
        """A label began or ended: its numbers are other ones as soon as it is written."""
        self._due = min(self._due, now + WRITTEN_S)

    def attend(self, state: State, now: float) -> None:
        """Say the numbers where they are due: each interval, as a sensor would expire."""
        if self._path is None or state.health is None or now < self._due:
            return
        self._due = now + state.health.interval_s
        wall = time.time()
        midnight = day_of(wall)
        try:
            with Reader(self._path) as reader:
                totals = reader.totals(Selection(midnight, wall), "day", wall)
        except HistoryError:
            return  # its own outlet says why, and the sensors expire
        found = {(one.camera, one.label): one for one in totals}
        for camera in self._topics.slugs:
            days = {}
            for label in watched_of(self._device, self._watched, camera):
                one = found.get((camera, label))
                hours, times = (one.seconds / 3600, one.times) if one else (0.0, 0)
                days[slug(label, "label")] = Day(label, round(hours, 4), times)
            if days:
                message = TodayMessage(iso(midnight), days)
                state.put(self._topics.of(camera, "today"), msgspec.json.encode(message))
