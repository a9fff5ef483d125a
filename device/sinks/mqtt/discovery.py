"""What Home Assistant is told so that it makes a device of a node, with nothing to configure.

One message for all of it (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
Templates are Home Assistant's own, Jinja.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from device import __version__
from device.config import Mqtt
from device.control.commands import Device
from device.control.table import CONTROLS, limits
from device.events import OFF_DUTY, DeviceHealth
from device.sinks.mqtt.announced import Announced, Component
from device.sinks.mqtt.today import Today, watched_of
from device.sinks.mqtt.topics import Topics, slug

# With more labels than this a sensor is text; as an enumeration it would list them all.
_ENUM_LABELS = 40

_OF_PLATFORM: dict[str, Component] = {
    "button": {},
    "number": {"mode": "box", "value_template": "{{ value_json.value }}"},
    "select": {"value_template": "{{ value_json.value }}"},
    "switch": {
        "payload_on": "true",
        "payload_off": "false",
        "value_template": "{{ value_json.value | tojson }}",
    },
}


class Discovery:
    """The entities of a node and its cameras, and the messages that announce them.

    Each label of ``watched`` that a camera may report gets a binary sensor there, and each that
    it was taught.
    ``birth_topic`` is where Home Assistant says that it has started.
    """

    def __init__(
        self,
        settings: Mqtt,
        topics: Topics,
        device: Device,
        watched: Sequence[str],
        announced: Announced,
        today: Today | None = None,
    ) -> None:
        self.birth_topic = f"{settings.discovery_prefix}/status"
        self._settings = settings
        self._topics = topics
        self._device = device
        self._watched = watched
        self._announced = announced
        self._today = today

    def messages(self, health: DeviceHealth | None) -> Iterator[tuple[str, bytes]]:
        """What is to be retained, by topic, from now on; nothing before the first health."""
        topic, found = "", dict[str, Component]()
        if self._settings.discovery:
            if health is None:
                return
            topic = topic_of(self._settings.discovery_prefix, self._topics)
            found = self.entities(health)
            yield topic, self._message(found, health.vitals.board)
        former = self._announced.update(topic, found)
        if former and former != topic:
            # Under its former name the device would stay beside the present one.
            yield former, b""

    def entities(self, health: DeviceHealth) -> dict[str, Component]:
        """The entities by a key that stays theirs."""
        found = self._diagnostics()
        if self._settings.commands:
            found |= self._controls(None)
        cameras = self._topics.slugs
        for camera, level in cameras.items():
            # The device's name is put before it by Home Assistant.
            title = "" if len(cameras) == 1 else f"{camera} "
            watched = any(one.name == camera and one.drift for one in health.cameras)
            drift = {"drift": self._drift(level)} if watched else {}
            for key, entity in (self._camera(camera) | drift).items():
                found[f"{level}-{key}"] = {**entity, "name": f"{title}{entity['name']}"}
        for key, entity in found.items():
            platform, identity = entity["platform"], f"{self._topics.node_slug}_{key}"
            entity["unique_id"] = f"{self._topics.client_id}-{key}"
            entity["default_entity_id"] = f"{platform}.{identity.replace('-', '_')}"
            if platform in ("sensor", "binary_sensor"):
                # A value that has missed two updates and is late with the third is stale.
                entity["expire_after"] = math.ceil(3 * health.interval_s)
        return found

    def _message(self, found: dict[str, Component], board: str | None) -> bytes:
        """The discovery message; what was announced once and is no more is taken back.

        An entity that is named with nothing but its platform is removed by Home Assistant.
        """
        gone = {key: {"platform": of} for key, of in self._announced.gone(found).items()}
        device = {
            "identifiers": [self._topics.client_id],
            "name": self._topics.node,
            "manufacturer": "labelcam",
            "model": board or "Linux computer",
            "sw_version": __version__,
        }
        message = {
            "device": device,
            "origin": {"name": "labelcam", "sw_version": __version__},
            "availability": [{"topic": self._topics.availability}],
            "components": found | gone,
        }
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()

    def _camera(self, camera: str) -> dict[str, Component]:
        level, state = self._topics.slugs[camera], self._topics.of(camera, "state")
        labels = self._device.labels(camera)
        # Gone with its camera: a label from before would be a lie.
        live = "{{ 'online' if value_json.state == 'live' else 'offline' }}"
        seen: Component = {
            "state_topic": state,
            "availability": [
                {"topic": self._topics.availability},
                {"topic": state, "value_template": live},
            ],
            "availability_mode": "all",
        }
        found: dict[str, Component] = {
            "label": {
                "platform": "sensor",
                "name": "Label",
                "icon": "mdi:eye",
                "value_template": "{{ value_json.label if value_json.state == 'live' else None }}",
                "json_attributes_topic": state,
                **seen,
            }
        }
        if 0 < len(labels) <= _ENUM_LABELS:
            found["label"] |= {"device_class": "enum", "options": [*labels, OFF_DUTY]}
        for watched in watched_of(self._device, self._watched, camera):
            # Nobody looks: that it is not there would be a lie as well.
            is_seen = (
                f"None if value_json.label == '{OFF_DUTY}' "
                f"else 'ON' if {_quoted(watched)} in value_json.active else 'OFF'"
            )
            found[f"is-{slug(watched, 'label')}"] = {
                "platform": "binary_sensor",
                "name": watched[:1].upper() + watched[1:],
                "value_template": f"{{{{ {is_seen} }}}}",
                **seen,
            }
        if self._today:
            found |= self._today.entities(camera)
        own = f"cameras[{_quoted(level)}]"
        found["fps"] = self._sensor("Frames", f"{own}.fps | default(None)", "fps")
        latency = f"{own}.stages.total.p50_ms | default(None)"
        found["latency"] = self._sensor("Latency", latency, "ms")
        if self._settings.images:
            found["image"] = {
                "platform": "image",
                "name": "Picture",
                "image_topic": self._topics.of(camera, "image"),
                "content_type": "image/jpeg",
            }
        if self._settings.commands:
            found |= self._controls(camera)
        return found

    def _drift(self, level: str) -> Component:
        """Whether a camera's answers are other than usual; its attributes say what is."""
        own = f"value_json.cameras[{_quoted(level)}].drift"
        return {
            "platform": "binary_sensor",
            "name": "Not as usual",
            "device_class": "problem",
            "entity_category": "diagnostic",
            "state_topic": self._topics.health,
            "value_template": f"{{{{ 'ON' if {own}.change else 'OFF' }}}}",
            "json_attributes_topic": self._topics.health,
            "json_attributes_template": f"{{{{ {own} | tojson }}}}",
        }

    def _controls(self, camera: str | None) -> dict[str, Component]:
        """What can be commanded: of a camera, or of the device where it is None."""
        found: dict[str, Component] = {}
        for row in CONTROLS.values():
            shown = row.announcement
            if shown is None or (row.scope == "camera") != (camera is not None):
                continue
            if row.key == "snapshot" and not self._settings.images:
                continue
            taught = self._device.taught(camera) if camera else ()
            if row.key in ("teach", "teach_label") and not taught:
                continue  # the first labels are given where one can type them
            entity: Component = {
                "platform": shown.platform,
                "name": shown.title,
                "command_topic": self._topics.command(camera, row.key),
                **_OF_PLATFORM[shown.platform],
            }
            if shown.platform != "button":
                entity["state_topic"] = self._topics.of(camera, row.key)
            if shown.platform == "number":
                least, most = limits(row)
                entity |= {"min": least, "max": most, "step": shown.step}
            if shown.platform == "select":
                is_model = row.key == "model"
                entity["options"] = list(self._device.models() if is_model else taught)
            for key, value in (
                ("entity_category", shown.category),
                ("unit_of_measurement", shown.unit),
                ("device_class", shown.device_class),
            ):
                if value:
                    entity[key] = value
            found[shown.entity or row.key.replace("_", "-")] = entity
        return found

    def _diagnostics(self) -> dict[str, Component]:
        throttling = (
            "{{ None if value_json.throttling is none "
            "else value_json.throttling | join(', ') or 'none' }}"
        )
        return {
            "temperature": self._sensor(
                "Temperature", "temperature_c", "°C", device_class="temperature"
            ),
            "throttling": self._sensor("Throttling", "throttling", value_template=throttling),
            "backend": self._sensor("Backend", "backend"),
            "outbox": self._sensor("Outbox", "outbox.events", "events"),
            "wifi": self._sensor(
                "Wi-Fi signal",
                "wifi_dbm",
                "dBm",
                device_class="signal_strength",
                enabled_by_default=False,
            ),
        }

    def _sensor(self, name: str, value: str, unit: str = "", **more: Any) -> Component:
        """A number or text of health; with a unit it is measured."""
        if unit:
            more |= {"unit_of_measurement": unit, "state_class": "measurement"}
        return {
            "platform": "sensor",
            "name": name,
            "state_topic": self._topics.health,
            "value_template": f"{{{{ value_json.{value} }}}}",
            "entity_category": "diagnostic",
            **more,
        }


def topic_of(prefix: str, topics: Topics) -> str:
    """Where the discovery message goes."""
    return f"{prefix}/device/{topics.node_slug}/config"


def _quoted(text: str) -> str:
    """A string literal of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
