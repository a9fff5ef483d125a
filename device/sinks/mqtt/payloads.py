"""The JSON that leaves the device."""

from typing import Any

import msgspec

from device import __version__
from device.control.table import Value
from device.events import UNAVAILABLE, CameraHealth, Description, DeviceHealth
from device.sinks.mqtt.topics import Topics
from device.sinks.outbox.storage import Event
from device.sinks.wire import iso


class EventMessage(Event, frozen=True, kw_only=True):
    """A label change. ``age_s`` is how long ago it was when it was sent, by a clock that no
    time server turns; None when that was before the last boot. ``replayed`` says that it was
    not sent at once, or that it may have been sent before."""

    age_s: float | None
    replayed: bool


class StateMessage(msgspec.Struct, frozen=True):
    """What a camera sees now; ``label`` is ``unavailable`` unless ``state`` is ``live``.

    ``label`` is None while nothing was decided yet, ``since`` is when it began. ``active`` are the
    labels in force, ``label`` the best of them; none where it is the word for nothing.
    """

    camera: str
    state: str
    label: str | None
    score: float
    since: str | None
    model: str
    active: tuple[str, ...] = ()


class AnswerMessage(msgspec.Struct, frozen=True):
    """The value in force, and why the last command was refused where it was."""

    value: Value
    error: str | None = None


def event_message(event: Event, age_s: float | None, *, replayed: bool) -> bytes:
    """The event as it is sent now."""
    fields = msgspec.structs.asdict(event)
    age_s = None if age_s is None else round(max(0.0, age_s), 3)
    return msgspec.json.encode(EventMessage(**fields, age_s=age_s, replayed=replayed))


def state_message(
    camera: CameraHealth,
    label: str | None,
    active: tuple[str, ...],
    score: float,
    since: float | None,
) -> StateMessage:
    """What a camera sees; ``since`` is wall time."""
    enabled = camera.controls is None or camera.controls.enabled
    state = camera.state if enabled else "disabled"
    if state != "live" or label == UNAVAILABLE:
        label, active, score, since = UNAVAILABLE, (), 0.0, None
    return StateMessage(
        camera=camera.name,
        state=state,
        label=label,
        score=round(score, 4),
        since=None if since is None else iso(since),
        model=camera.controls.model if camera.controls else "",
        active=active,
    )


def health_message(
    health: DeviceHealth,
    topics: Topics,
    now: float,
    outbox: dict[str, Any],
    link: dict[str, Any],
) -> bytes:
    """How the device is: the health, the board, the outbox and the link to the broker."""
    cameras = {}
    for camera in health.cameras:
        described = msgspec.to_builtins(camera)
        described["interpreter"] = _interpreter(camera.interpreter)
        for other, one in zip(described["beside"], camera.beside, strict=True):
            other["interpreter"] = _interpreter(one.interpreter)
        described |= described.pop("controls") or {}
        cameras[topics.slugs[camera.name]] = described
    message = {
        "at": iso(now),
        "node": topics.node,
        "version": __version__,
        "uptime_s": health.uptime_s,
        "backend": _backend(health),
        "interpreter": _interpreter(health.interpreter),
        "accelerator": msgspec.to_builtins(health.accelerator),
        "cameras": cameras,
        "sinks": {sink.name: sink.problem or "works" for sink in health.sinks},
        "interval_s": health.interval_s,
        "rate_share": health.rate_share,
        "governed_by": health.governed_by,
        "outbox": outbox,
        "mqtt": link,
        **msgspec.to_builtins(health.vitals),
    }
    return msgspec.json.encode(_rounded(message))


def _interpreter(found: Description | None) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(found) or {}
    # Shapes and scales of tensors are of no use from afar, and long.
    return {key: value for key, value in described.items() if key not in ("inputs", "outputs")}


def _backend(health: DeviceHealth) -> str:
    found = health.interpreter
    delegate = found.delegate if found.operators_delegated else "no delegate"
    return f"{found.runtime} {found.version}, {delegate}"


def _rounded(value: Any) -> Any:
    """Floats to three digits: a health message is read by people, and paid for by the byte."""
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return value
