"""``labelcam mqtt``: the way to the broker, by hand."""

import argparse

from device.cli.arguments import SET, VERBOSE, Commands, config_file, group
from device.cli.service import OWN
from device.errors import DependencyError


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "mqtt", "the way to the broker, by hand")
    for what, text in (
        ("check", "go to the broker step by step, and say which step fails and what to do"),
        ("forget", "take the device out of Home Assistant and its messages off the broker"),
    ):
        parser = ways.add_parser(what, parents=[VERBOSE, config_file(), SET, OWN], help=text)
        parser.set_defaults(command=_mqtt, what=what)


def _mqtt(options: argparse.Namespace) -> int:
    from device import config
    from device.system.paths import state_directory

    settings = config.load(options.config, options.set).mqtt
    try:
        from device.sinks.mqtt.announced import ANNOUNCED_FILE, Announced
        from device.sinks.mqtt.check import check, forget
    except ModuleNotFoundError as error:
        if error.name != "paho":
            raise
        raise DependencyError("mqtt: paho-mqtt is not installed; pip install paho-mqtt") from None
    if options.what == "check":
        return 0 if check(settings, print) else 1
    forget(settings, Announced(state_directory() / ANNOUNCED_FILE), print)
    return 0
