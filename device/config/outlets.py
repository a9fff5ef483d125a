"""What labels go out through: a section for each outlet."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device.config.values import FilePath


class Terminal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Labels on the terminal: a live display, or plain lines where stdout is no terminal."""

    enabled: bool = True
    top: Annotated[int, Meta(ge=1, le=20)] = 5
    picture: bool = False


class Jsonl(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label changes as JSON, one object a line, on stdout."""

    enabled: bool = False


class Web(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The page in the browser, and what it is made of for other programs."""

    enabled: bool = False
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8080
    hosts: tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,253}$")], ...] = ()
    token_file: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    pictures: bool = True
    max_fps: Annotated[float, Meta(ge=0.01, le=60)] = 10.0
    commands: bool = True

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("Expected `cert_file` and `key_file` together, met only one of them")


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The live picture in a window of a desktop, or straight on a screen without one."""

    enabled: bool = False
    fullscreen: bool = False
    max_fps: Annotated[float, Meta(ge=0.01, le=60)] = 15.0
    rotate: Literal[0, 90, 180, 270] = 0


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label changes, state and health to a broker, and commands from it."""

    enabled: bool = False
    host: Annotated[str, Meta(min_length=1, max_length=253)] = "localhost"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 0
    transport: Literal["tcp", "websockets"] = "tcp"
    path: Annotated[str, Meta(pattern="^/")] = "/mqtt"
    tls: bool = False
    ca_file: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    username: str = ""
    password_file: FilePath = ""
    node: Annotated[str, Meta(max_length=64)] = ""
    prefix: Annotated[str, Meta(pattern="^[^/+#\\0]+(/[^/+#\\0]+)*$", max_length=128)] = "labelcam"
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    interval_s: Annotated[float, Meta(ge=5, le=3600)] = 60.0
    commands: bool = True
    images: bool = False
    security: bool = False
    discovery: bool = True
    discovery_prefix: Annotated[str, Meta(pattern="^[^/+#\\0]+(/[^/+#\\0]+)*$", max_length=128)] = (
        "homeassistant"
    )
    watch: Annotated[tuple[str, ...], Meta(max_length=100)] = ()
    outbox_events: Annotated[int, Meta(ge=100, le=10_000_000)] = 100_000
    outbox_mb: Annotated[float, Meta(ge=1, le=10_000)] = 50.0
    outbox_days: Annotated[float, Meta(gt=0, le=3650)] = 30.0

    def __post_init__(self) -> None:
        if bool(self.cert_file) != bool(self.key_file):
            raise ValueError("Expected `cert_file` and `key_file` together, met only one of them")
        for key in ("ca_file", "cert_file"):
            if getattr(self, key) and not self.tls:
                raise ValueError(f"Expected `tls = true` where `{key}` is given, met false")


class Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Label changes as JSON, one object a line, for programs on this device: a Unix socket.

    With ``heartbeat_s`` each camera's state is said again about so often while the device works.
    """

    enabled: bool = False
    path: FilePath = ""
    heartbeat_s: Annotated[float, Meta(ge=0, le=60)] = 0.0


class Snapshots(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pictures of the frames that made a change, kept in a ring on disk.

    ``blur`` blurs all but the region in every picture that a change leaves behind, also in those
    that go to MQTT and to actions.
    """

    enabled: bool = False
    labels: tuple[str, ...] = ()
    blur: bool = False
    count: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    mb: Annotated[float, Meta(ge=1, le=100_000)] = 200.0
    days: Annotated[float, Meta(gt=0, le=3650)] = 30.0


class History(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was seen and done, in a database; "auto" is on under the service."""

    enabled: Literal["auto"] | bool = "auto"
    days: Annotated[float, Meta(gt=0, le=36_500)] = 400.0
    mb: Annotated[float, Meta(ge=1, le=10_000)] = 50.0
