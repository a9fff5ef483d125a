"""Actions: what is done when a label begins and when it ends."""

from device import config
from device.events import Sink
from device.sinks.actions.kinds import check_action
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """All actions. Raises ConfigError and DependencyError as ``check_settings``."""
    from device.sinks.actions.sink import ActionsSink
    from device.sinks.actions.stored import sweep

    check_settings(run.settings)
    sweep(action.name for action in run.settings.action)
    return ActionsSink(run.settings, run.photos, run.report_action)


def check_settings(settings: config.Config) -> None:
    """Raise ConfigError or DependencyError for an action that could never be done."""
    # Only where there are actions: it brings the models.
    from device.pipeline.plan import check_cameras

    check_cameras(settings)
    for action in settings.action:
        check_action(action)
