"""What Home Assistant is told so that it makes a device of a node, with nothing to configure.

One message for all of it (https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
Templates are Home Assistant's own, Jinja.
"""

import json
import math
from typing import Any, NamedTuple

from device import __version__
from device.sinks.mqtt.topics import Topics, slug

# With more labels than this a sensor is text; as an enumeration it would list them all.
_ENUM_LABELS = 40

Component = dict[str, Any]


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
            found |= _controls(topics, camera, models, alone=alone, images=images)
    found |= _diagnostics(topics, expire_s)
    if commands:
        found |= _device_controls(topics)
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
    topics: Topics, camera: CameraEntities, models: tuple[str, ...], *, alone: bool, images: bool
) -> dict[str, Component]:
    prefix, name = topics.slugs[camera.name], camera.name
    found: dict[str, Component] = {
        f"{prefix}-enabled": {
            "platform": "switch",
            "name": _named("Enabled", name, alone=alone),
            "payload_on": "true",
            "payload_off": "false",
            "value_template": "{{ value_json.value | tojson }}",
        },
        f"{prefix}-enter": _number(_named("Threshold to enter", name, alone=alone), 0, 1, 0.01),
        f"{prefix}-exit": _number(_named("Threshold to leave", name, alone=alone), 0, 1, 0.01),
        f"{prefix}-max-fps": {
            **_number(_named("Frames at most", name, alone=alone), 0, 240, 0.5),
            "unit_of_measurement": "fps",
        },
        f"{prefix}-model": {
            "platform": "select",
            "name": _named("Model", name, alone=alone),
            "options": list(models),
            "entity_category": "config",
            "value_template": "{{ value_json.value }}",
        },
    }
    for key, component in found.items():
        command = key.removeprefix(f"{prefix}-").replace("-", "_")
        component["state_topic"] = topics.of(name, command)
        component["command_topic"] = topics.command(name, command)
    if images:
        found[f"{prefix}-snapshot"] = {
            "platform": "button",
            "name": _named("Snapshot", name, alone=alone),
            "command_topic": topics.command(name, "snapshot"),
        }
    return found


def _device_controls(topics: Topics) -> dict[str, Component]:
    return {
        "interval": {
            **_number("Health interval", 5, 3600, 1),
            "unit_of_measurement": "s",
            "state_topic": topics.of(None, "interval_s"),
            "command_topic": topics.command(None, "interval_s"),
        },
        "restart": _button(topics, "Restart", "restart"),
        "identify": _button(topics, "Identify", "identify"),
        "reload": {
            "platform": "button",
            "name": "Reload configuration",
            "entity_category": "config",
            "command_topic": topics.command(None, "reload"),
        },
    }


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


def _number(name: str, least: float, most: float, step: float) -> Component:
    return {
        "platform": "number",
        "name": name,
        "min": least,
        "max": most,
        "step": step,
        "mode": "box",
        "entity_category": "config",
        "value_template": "{{ value_json.value }}",
    }


def _button(topics: Topics, name: str, key: str) -> Component:
    return {
        "platform": "button",
        "name": name,
        "device_class": key,
        "entity_category": "config" if key == "restart" else "diagnostic",
        "command_topic": topics.command(None, key),
    }


def _named(what: str, camera: str, *, alone: bool) -> str:
    """The entity's name; the device's is put before it by Home Assistant."""
    return what if alone else f"{camera} {what}"


def _quoted(text: str) -> str:
    """A string literal of Jinja."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"
