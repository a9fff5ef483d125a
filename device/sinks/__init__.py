"""The ways out: a module each, and a line each in the table that opens them."""

import os
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from typing import NamedTuple

from device import config
from device.events import Sink
from device.sinks.outlet import Outlet, Run


def history_is_on(settings: config.Config) -> bool:
    """Whether the history is kept: ``auto`` is under the service, which has a place for it."""
    enabled = settings.history.enabled
    return "NOTIFY_SOCKET" in os.environ if enabled == "auto" else enabled


class Kind(NamedTuple):
    """A kind of outlet: the module whose ``open_sink(run)`` opens it, imported when it is on.

    Where it has a ``check_settings(settings)``, that raises what keeps it from being opened, and
    takes nothing that only one process can have. ``spare`` ones may be out of order at the start:
    the device works without them. ``on`` tells whether it is turned on, by default ``enabled`` of
    its section.
    """

    module: str
    spare: bool = False
    on: Callable[[config.Config], bool] | None = None


# By their sections of the configuration, in the order in which they are called.
KINDS = {
    "feed": Kind("device.sinks.feed", spare=True),
    "jsonl": Kind("device.sinks.jsonl"),
    "terminal": Kind("device.sinks.terminal"),
    "web": Kind("device.sinks.web", spare=True),
    "window": Kind("device.sinks.window", spare=True),
    "mqtt": Kind("device.sinks.mqtt"),
    "snapshots": Kind("device.sinks.snapshots", spare=True),
    "history": Kind("device.sinks.history", spare=True, on=history_is_on),
    "action": Kind("device.sinks.actions", on=lambda settings: bool(settings.action)),
}


def open_sinks(run: Run, more: Iterable[Callable[[], Sink]] = ()) -> list[Outlet]:
    """The outlets that the configuration turns on, then ``more``.

    Raises what keeps one from being opened: DependencyError, ConfigError, and SinkError where
    the device is of no use without it; those that were opened are closed then.
    """
    on = _on(run.settings)
    outlets: list[Outlet] = []
    try:
        for name in on:
            opener = partial(_open, KINDS[name].module, run)
            outlets.append(Outlet(opener, spare=name if KINDS[name].spare else ""))
        outlets += (Outlet(opener) for opener in more)
    except BaseException:
        for outlet in outlets:
            outlet.close()
        raise
    return outlets


def check_sinks(settings: config.Config) -> None:
    """Raise what keeps an outlet that is turned on from being opened, as far as it can be told."""
    for name in _on(settings):
        if check := getattr(import_module(KINDS[name].module), "check_settings", None):
            check(settings)


def _on(settings: config.Config) -> list[str]:
    """The outlets that are turned on."""
    on = [
        name
        for name, kind in KINDS.items()
        if (kind.on(settings) if kind.on else getattr(settings, name).enabled)
    ]
    if "jsonl" in on and "terminal" in on:
        on.remove("terminal")  # both write to stdout
    return on


def _open(module: str, run: Run) -> Sink:
    sink: Sink = import_module(module).open_sink(run)
    return sink
