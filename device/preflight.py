"""Whether the device would stand with a configuration: its parts are built in another process.

All but the streams of the cameras, the port of the page and an Edge TPU, which a running device
holds. What crashes, hangs or takes all the memory there costs the running one nothing.
"""

import msgspec

from device import config
from device.cameras import check_source
from device.errors import LabelcamError, TrialError, UsageError
from device.inference.trial import Trial, serve
from device.pipeline.plan import check_models
from device.sinks import check_sinks

# The smallest boards take ten to import and load everything beside a running device.
LIMIT_S = 30.0


def check(settings: config.Config, limit_s: float = LIMIT_S) -> None:
    """Raise UsageError, with the reason, unless the device would stand with these settings.

    It takes seconds, and up to ``limit_s``; for any thread.
    """
    try:
        with Trial(__name__, name="a trial of the configuration") as child:
            reason = child.ask(settings, str, limit_s)
    except TrialError as error:
        reason = str(error)
    if reason:
        raise UsageError(reason)


def _build(request: bytes) -> str:
    """In the child: build the parts; why that cannot be, or empty."""
    settings = msgspec.json.decode(request, type=config.Config)
    try:
        check_models(settings)
        for camera in settings.camera:
            check_source(camera)
        check_sinks(settings)
    except LabelcamError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    serve(_build)
