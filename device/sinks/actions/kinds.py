"""The kinds of action: a module each, and a line each in this table."""

from importlib import import_module

from device import config
from device.sinks.actions.performer import Performer, Report

# Each has an ``open_action(settings, report)``, which returns its Performer and takes nothing yet,
# and, where it needs something, a ``check_action(settings)``, which raises ConfigError or
# DependencyError.
KINDS = {
    "gpio": "device.sinks.actions.gpio",
    "command": "device.sinks.actions.command",
    "webhook": "device.sinks.actions.webhook",
    "apprise": "device.sinks.actions.apprise",
}


def check_action(settings: config.Action) -> None:
    """Raise ConfigError or DependencyError where the action could never be done."""
    if check := getattr(import_module(KINDS[settings.kind]), "check_action", None):
        check(settings)


def open_action(settings: config.Action, report: Report) -> Performer:
    """The action, which takes nothing yet: no pin, no process."""
    performer: Performer = import_module(KINDS[settings.kind]).open_action(settings, report)
    return performer
