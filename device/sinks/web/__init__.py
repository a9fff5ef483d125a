"""The page in the browser: what the cameras see, how the device is, and what can be set."""

from types import ModuleType

from device import config
from device.errors import DependencyError
from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The page. Raises DependencyError without the libraries, else what WebSink raises."""
    made: Sink = _module().WebSink(
        run.settings.web,
        run.cameras,
        run.device,
        run.settings.teach,
        run.ring,
        run.settings.decide.unknown,
    )
    return made


def check_settings(settings: config.Config) -> None:
    """Raise what ``open_sink`` would, but for the port, which may be in use by a running one."""
    _module().secure(settings.web)


def _module() -> ModuleType:
    try:
        from device.sinks.web import sink
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"the web view needs {error.name}; run: pip install starlette uvicorn prometheus-client"
        ) from None
    return sink
