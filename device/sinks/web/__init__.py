"""The page in the browser: what the cameras see, how the device is, and what can be set."""

from device.errors import DependencyError
from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The page. Raises DependencyError without the libraries, else what WebSink raises."""
    try:
        from device.sinks.web.sink import WebSink
    except ModuleNotFoundError as error:
        raise DependencyError(
            f"the web view needs {error.name}; run: pip install starlette uvicorn prometheus-client"
        ) from None
    return WebSink(run.settings.web, run.cameras, run.device, run.settings.teach)
