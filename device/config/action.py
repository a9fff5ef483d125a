"""``[[action]]``: what is done when a label begins and when it ends."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from device.config import hours, message
from device.config.values import FilePath, Seconds

Target = Annotated[int, Meta(ge=0, le=999)] | str

# The keys that only some kinds have; each stands with the kinds that have it.
_OF_KIND = {
    "pulse_s": ("gpio",),
    "pwm": ("gpio",),
    "active_low": ("gpio",),
    "timeout_s": ("command",),
    "at_once": ("command",),
    "template": ("webhook",),
    "secret_file": ("webhook", "apprise"),
    "ca_file": ("webhook",),
    "keep_h": ("webhook", "apprise"),
    "message": ("webhook", "apprise"),
    "message_off": ("webhook", "apprise"),
    "snapshot": ("webhook", "apprise"),
}


class Action(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is done when a label begins (``on``) and when it ends (``off``).

    None of ``labels`` and ``cameras`` stand for all of them. It begins when a label has been held
    for ``min_held_s``, within ``hours``, and so often as ``limit`` has it. The keys below that are
    of some kinds alone, and None where they are not given.
    """

    name: Annotated[str, Meta(min_length=1, max_length=64, pattern="^[^/]+$")]
    kind: Literal["gpio", "command", "webhook", "apprise"]
    on: Target | tuple[Target, ...] = ()
    off: Target | tuple[Target, ...] = ()
    labels: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    min_held_s: Seconds = 0.0
    hours: tuple[str, ...] = ()
    limit: Annotated[str, Meta(pattern="^([1-9][0-9]{0,3}/(second|minute|hour|day))?$")] = ""
    pulse_s: Annotated[float, Meta(ge=0.001, le=86_400)] | None = None
    pwm: bool | None = None
    active_low: bool | None = None
    timeout_s: Annotated[float, Meta(ge=0.1, le=3600)] | None = None
    at_once: Annotated[int, Meta(ge=1, le=16)] | None = None
    template: Literal["json", "ntfy", "slack", "discord", "telegram", "home-assistant"] | None = (
        None
    )
    secret_file: FilePath | None = None
    ca_file: FilePath | None = None
    keep_h: Annotated[float, Meta(ge=0.01, le=720)] | None = None
    message: Annotated[str, Meta(max_length=1000)] | None = None
    message_off: Annotated[str, Meta(max_length=1000)] | None = None
    snapshot: bool | None = None

    def __post_init__(self) -> None:
        for text in self.hours:
            hours.minutes(text)
        for key, kinds in _OF_KIND.items():
            if getattr(self, key) is not None and self.kind not in kinds:
                raise ValueError(
                    f"Expected `{key}` only where `kind` is {' or '.join(kinds)}, met {self.kind!r}"
                )
        if not (self.targets(on=True) or self.targets(on=False)):
            raise ValueError("Expected `on`, `off` or both, met neither")
        for key in ("message", "message_off"):
            message.check(key, getattr(self, key) or "")
        if self.pwm and self.pulse_s:
            raise ValueError("Expected `pwm` or `pulse_s`, not both")

    def targets(self, *, on: bool) -> tuple[str, ...]:
        """The pins, the words of the command or the address, for the beginning or for the end."""
        given = self.on if on else self.off
        if isinstance(given, tuple):
            return tuple(str(target) for target in given)
        return () if given == "" else (str(given),)

    def __repr__(self) -> str:
        """As a struct, but for ``on`` and ``off``: an address or an argument may be a secret."""
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (f"{k}={'…' if k in ('on', 'off') and v else repr(v)}" for k, v in values)
        return f"Action({', '.join(shown)})"
