"""What Home Assistant is told so that it makes a device of a node, with nothing to configure.

One message for all of it (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
Templates are Home Assistant's own, Jinja.
"""

import json
import math
from typing import Any, NamedTuple

from device import __version__
from device.control.table import CONTROLS, limits
from device.sinks.mqtt.topics import Topics, slug

# With more labels than this a sensor is text; as an enumeration it would list them all.
_ENUM_LABELS = 40

Component = dict[str, Any]

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


class CameraEntities(NamedTuple):
    """What a camera gives rise to; ``labels`` is all it may report, ``watched`` those of
    which each gets a binary sensor."""

    name: str
    labels: tuple[str, ...]
    watched: tuple[str, ...]


def components(
    topics: Topics,
    cameras: tuple[CameraEntities, ...],
    models: tuple[str, ...],
    *,
    interval_s: float,
    commands: bool,
    images: bool,
) -> dict[str, Component]:
    """The entities by a key that stays theirs."""
    # A value that has missed two of its updates and is late with the third is stale.
    expire_s = math.ceil(3 * interval_s)
    found: dict[str, Component] = {}
    for camera in cameras:
        alone = len(cameras) == 1
        found |= _camera(topics, camera, alone=alone, expire_s=expire_s, images=images)
        if commands:
            found |= _controls(topics, camera.name, models, alone=alone, images=images)
    found |= _diagnostics(topics, expire_s)
    if commands:
        found |= _controls(topics, None, models, alone=True, images=images)
    for key, component in found.items():
        component["unique_id"] = f"{topics.client_id}-{key}"
        entity = f"{topics.node_slug}_{key}".replace("-", "_")
        component["default_entity_id"] = f"{component['platform']}.{entity}"
    return found


def message(
    topics: Topics,
    board: str | None,
    found: dict[str, Component],
    gone: dict[str, str],
) -> bytes:
    """The discovery message; ``gone`` are former components, by key, with their platform.

    A component that is named with nothing but its platform is removed by Home Assistant.
    """
    return json.dumps(
        {
            "device": {
                "identifiers": [topics.client_id],
                "name": topics.node,
                "manufacturer": "labelcam",
                "model": board or "Linux computer",
                "sw_version": __version__,
            },
            "origin": {"name": "labelcam", "sw_version": __version__},
            "availability": [{"topic": topics.availability}],
            "components": found
            | {key: {"platform": gone[key]} for key in gone if key not in found},
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def topic_of(prefix: str, topics: Topics) -> str:
    """Where the discovery message goes."""
    return f"{prefix}/device/{topics.node_slug}/config"


def _camera(
    topics: Topics, camera: CameraEntities, *, alone: bool, expire_s: int, images: bool
) -> dict[str, Component]:
    prefix, state = topics.slugs[camera.name], topics.of(camera.name, "state")
    # Gone with its camera: a label from before would be a lie.
    availability = {
        "availability": [
            {"topic": topics.availability},
            {
                "topic": state,
                "value_template": ("{{ 'online' if value_json.state == 'live' else 'offline' }}"),
            },
        ],
        "availability_mode": "all",
    }
    label: Component = {
        "platform": "sensor",
        "name": _named("Label", camera.name, alone=alone),
        "icon": "mdi:eye",
        "state_topic": state,
        "value_template": ("{{ value_json.label if value_json.state == 'live' else None }}"),
        "json_attributes_topic": state,
        "expire_after": expire_s,
        **availability,
    }
    if 0 < len(camera.labels) <= _ENUM_LABELS:
        label |= {"device_class": "enum", "options": list(camera.labels)}
    found = {f"{prefix}-label": label}
    for watched in camera.watched:
        found[f"{prefix}-is-{slug(watched, 'label')}"] = {
            "platform": "binary_sensor",
            "name": _named(watched[:1].upper() + watched[1:], camera.name, alone=alone),
            "state_topic": state,
            "value_template": (
                f"{{{{ 'ON' if value_json.label == {_quoted(watched)} else 'OFF' }}}}"
            ),
            "expire_after": expire_s,
            **availability,
        }
    if images:
        found[f"{prefix}-image"] = {
            "platform": "image",
            "name": _named("Picture", camera.name, alone=alone),
            "image_topic": topics.of(camera.name, "image"),
            "content_type": "image/jpeg",
        }
    for key, title, value, unit in (
        ("fps", "Frames", "fps", "fps"),
        ("latency", "Latency", "stages.total.p50_ms", "ms"),
    ):
        found[f"{prefix}-{key}"] = {
            "platform": "sensor",
            "name": _named(title, camera.name, alone=alone),
            "state_topic": topics.health,
            "value_template": (
                f"{{{{ value_json.cameras[{_quoted(prefix)}].{value} | default(None) }}}}"
            ),
            "unit_of_measurement": unit,
            "state_class": "measurement",
            "entity_category": "diagnostic",
            "expire_after": expire_s,
        }
    return found


def _controls(
    topics: Topics, camera: str | None, models: tuple[str, ...], *, alone: bool, images: bool
) -> dict[str, Component]:
    """The entities of what can be commanded: of a camera, or of the device where it is None."""
    found: dict[str, Component] = {}
    for row in CONTROLS.values():
        shown = row.announcement
        if shown is None or (row.scope == "camera") != (camera is not None):
            continue
        if row.key == "snapshot" and not images:
            continue
        component: Component = {
            "platform": shown.platform,
            "name": shown.title if camera is None else _named(shown.title, camera, alone=alone),
            "command_topic": topics.command(camera, row.key),
            **_OF_PLATFORM[shown.platform],
        }
        if shown.platform != "button":
            component["state_topic"] = topics.of(camera, row.key)
        if shown.platform == "number":
            least, most = limits(row)
            component |= {"min": least, "max": most, "step": shown.step}
        if shown.platform == "select":
            component["options"] = list(models)
        for key, value in (
            ("entity_category", shown.category),
            ("unit_of_measurement", shown.unit),
            ("device_class", shown.device_class),
        ):
            if value:
                component[key] = value
        entity = shown.entity or row.key.replace("_", "-")
        found[entity if camera is None else f"{topics.slugs[camera]}-{entity}"] = component
    return found


def _diagnostics(topics: Topics, expire_s: int) -> dict[str, Component]:
    found: dict[str, Component] = {
        "temperature": {
            "name": "Temperature",
            "value_template": "{{ value_json.temperature_c }}",
            "device_class": "temperature",
            "unit_of_measurement": "°C",
            "state_class": "measurement",
        },
        "throttling": {
            "name": "Throttling",
            "value_template": (
                "{{ None if value_json.throttling is none "
                "else value_json.throttling | join(', ') or 'none' }}"
            ),
        },
        "backend": {"name": "Backend", "value_template": "{{ value_json.backend }}"},
        "outbox": {
            "name": "Outbox",
            "value_template": "{{ value_json.outbox.events }}",
            "unit_of_measurement": "events",
            "state_class": "measurement",
        },
        "wifi": {
            "name": "Wi-Fi signal",
            "value_template": "{{ value_json.wifi_dbm }}",
            "device_class": "signal_strength",
            "unit_of_measurement": "dBm",
            "state_class": "measurement",
            "enabled_by_default": False,
        },
    }
    for component in found.values():
        component["platform"] = "sensor"
        component["state_topic"] = topics.health
        component["entity_category"] = "diagnostic"
        component["expire_after"] = expire_s
    return found


def _named(what: str, camera: str, *, alone: bool) -> str:
    """The entity's name; the device's is put before it by Home Assistant."""
    return what if alone else f"{camera} {what}"


def _quoted(text: str) -> str:
    """A string literal of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
