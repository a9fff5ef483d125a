"""Pins, through gpiozero."""

from device import config
from device.sinks.actions.performer import Performer, Report


class GpioPerformer(Performer):
    """Sets the pins of ``on`` and ``off``."""

    def __init__(self, settings: config.Action) -> None:
        self._settings = settings


def open_action(settings: config.Action, _report: Report) -> Performer:
    """The pins."""
    return GpioPerformer(settings)
