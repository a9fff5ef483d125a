"""A command: begun and ended by words of its own, with what happened as JSON on its stdin."""

from device import config
from device.sinks.actions.performer import Performer, Report


class CommandPerformer(Performer):
    """Runs the words of ``on`` and ``off``."""

    def __init__(self, settings: config.Action) -> None:
        self._settings = settings


def open_action(settings: config.Action, _report: Report) -> Performer:
    """The command."""
    return CommandPerformer(settings)
