"""Actions: what is done when a label begins and when it ends."""

from device import config
from device.errors import ConfigError
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
    from device.pipeline.plan import streams
    from device.pipeline.words import nearest

    cameras = [stream.name for camera in settings.camera for stream in streams(camera)]
    for action in settings.action:
        for name in action.cameras:
            if name not in cameras:
                raise ConfigError(
                    f"action.{action.name}.cameras",
                    f"no camera is named {name!r}{nearest(name, cameras)}",
                )
        check_action(action)
