"""Everything that can be commanded of a running device: one table, one row for each.

Parsing, the topics of MQTT, the entities of Home Assistant, the page and the window follow
from the rows. Values have the limits of the configuration, since its own types decode them.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Protocol, get_args, get_type_hints

import msgspec
from msgspec import Meta

from device import config
from device.errors import CommandError
from device.events import LabelChange
from device.pipeline.channel import Channel
from device.pipeline.feeds import Feeds

# What Home Assistant's buttons send, which have no value.
PRESS = "PRESS"
# A camera that is stalled gives none to learn from.
_FRAME_WITHIN_S = 5.0
_LABEL = Annotated[str, Meta(min_length=1, max_length=64)]

Value = bool | float | str | tuple[float, float, float, float] | None


class Prepared(NamedTuple):
    """A command that was proved for one channel: what puts it into force, or drops it."""

    commit: Callable[[], LabelChange | None]
    cancel: Callable[[], object] = lambda: None


class DeviceActions(Protocol):
    """What a command for the whole device may do."""

    def set_interval(self, interval_s: float) -> None:
        """Change the distance of health messages."""

    def identify(self) -> None:
        """Blink. Raises CommandError where there is no light."""

    def reload(self) -> Callable[[], None]:
        """Prove the configuration anew, on any thread; what takes it.

        Raises LabelcamError where it does not hold.
        """

    def restart(self) -> None:
        """End, and start again."""


class Announcement(NamedTuple):
    """How a row is shown to people; ``step`` is of a number, ``words`` are the page's.

    ``platform``, ``category`` and ``device_class`` are Home Assistant's; ``entity`` is the key
    of its entity where that is not the row's.
    """

    title: str
    platform: Literal["switch", "number", "select", "button"]
    category: Literal["config", "diagnostic", ""] = "config"
    step: float = 0.01
    unit: str = ""
    device_class: str = ""
    entity: str = ""
    words: str = ""


class CameraControl(NamedTuple):
    """A row for one camera, or for all; ``type`` None takes no value.

    ``prepare`` proves the command for a channel: one for several is committed where none of
    them refuses. It runs on a thread of its own where ``slow``. What is a field of Controls
    outlives a restart.
    """

    key: str
    type: Any
    prepare: Callable[[Feeds, Channel, Any], Prepared]
    announcement: Announcement | None = None
    slow: bool = False
    scope: Literal["camera"] = "camera"


class DeviceControl(NamedTuple):
    """A row for the device as a whole, like one for a camera in all else."""

    key: str
    type: Any
    prepare: Callable[[DeviceActions, Any], Prepared]
    announcement: Announcement
    slow: bool = False
    scope: Literal["device"] = "device"


Control = CameraControl | DeviceControl


def limits(control: Control) -> tuple[float, float]:
    """The least and the greatest number that a row takes."""
    meta = next(one for one in get_args(control.type) if isinstance(one, Meta))
    assert meta.ge is not None
    assert meta.le is not None
    return meta.ge, meta.le


def _limits(section: type, key: str) -> Any:
    return get_type_hints(section, include_extras=True)[key]


def _field(key: str) -> Callable[[Feeds, Channel, Value], Prepared]:
    """What prepares the change of a field of Controls."""

    def prepare(_feeds: Feeds, channel: Channel, value: Value) -> Prepared:
        try:
            channel.check(msgspec.structs.replace(channel.controls, **{key: value}))
        except ValueError as error:
            raise CommandError(key, str(error)) from None
        return Prepared(
            lambda: channel.apply(msgspec.structs.replace(channel.controls, **{key: value}))
        )

    return prepare


def _model(feeds: Feeds, channel: Channel, name: str) -> Prepared:
    if name not in feeds.models:
        there = ", ".join(feeds.models)
        raise CommandError("model", f"{name!r} is not installed; there are {there}")
    model, classifier = feeds.open_model(channel, name)
    return Prepared(lambda: channel.replace_model(name, model, classifier), cancel=classifier.close)


def _teach(feeds: Feeds, channel: Channel, value: str) -> Prepared:
    """The next frame is a picture of ``value``, or of the label that was chosen before."""
    label = channel.controls.teach_label if value == PRESS else value
    if not label:
        raise CommandError("teach", "say of what: send the label, or choose one with teach_label")
    feeds.teach(channel, label, _FRAME_WITHIN_S)
    return Prepared(feeds.update_heads)


def _snapshot(_feeds: Feeds, channel: Channel, _value: None) -> Prepared:
    channel.check_looking("snapshot")
    return Prepared(channel.request_snapshot)


def _accept_drift(feeds: Feeds, channel: Channel, _value: None) -> Prepared:
    if not feeds.drift.alarmed:
        raise CommandError("accept_drift", "every camera is as usual; there is nothing to accept")
    return Prepared(lambda: feeds.drift.accept(channel.name))


_ROWS: tuple[Control, ...] = (
    CameraControl(
        "enabled",
        bool,
        _field("enabled"),
        Announcement("Enabled", "switch", "", words="Look at the picture"),
    ),
    CameraControl(
        "enter",
        _limits(config.Decide, "enter"),
        _field("enter"),
        Announcement("Threshold to enter", "number", words="A label begins at"),
    ),
    CameraControl(
        "exit",
        _limits(config.Decide, "exit"),
        _field("exit"),
        Announcement("Threshold to leave", "number", words="and ends under"),
    ),
    CameraControl(
        "max_fps",
        _limits(config.Gate, "max_fps"),
        _field("max_fps"),
        Announcement("Frames at most", "number", step=0.5, unit="fps"),
    ),
    CameraControl(
        "model",
        Annotated[str, Meta(min_length=1, max_length=255)],
        _model,
        Announcement("Model", "select"),
        slow=True,
    ),
    CameraControl("region", _limits(config.Camera, "region"), _field("region")),
    CameraControl(
        "teach_label",
        Annotated[str, Meta(max_length=64)],
        _field("teach_label"),
        Announcement("Teach as", "select"),
    ),
    CameraControl("teach", _LABEL, _teach, Announcement("Learn this", "button"), slow=True),
    CameraControl("snapshot", None, _snapshot, Announcement("Snapshot", "button", "")),
    CameraControl(
        "accept_drift",
        None,
        _accept_drift,
        Announcement("Accept as normal", "button", words="This is normal now"),
    ),
    DeviceControl(
        "interval_s",
        _limits(config.Mqtt, "interval_s"),
        lambda device, value: Prepared(lambda: device.set_interval(value)),
        Announcement("Health interval", "number", step=1, unit="s", entity="interval"),
    ),
    DeviceControl(
        "identify",
        None,
        lambda device, _: Prepared(device.identify),
        Announcement("Identify", "button", "diagnostic", device_class="identify"),
    ),
    DeviceControl(
        "reload",
        None,
        lambda device, _: Prepared(device.reload()),
        Announcement("Reload configuration", "button"),
        slow=True,
    ),
    DeviceControl(
        "restart",
        None,
        lambda device, _: Prepared(device.restart),
        Announcement("Restart", "button", device_class="restart"),
    ),
)
CONTROLS: dict[str, Control] = {row.key: row for row in _ROWS}
