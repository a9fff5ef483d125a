"""The page in the browser: what the cameras see, how the device is, and what can be set."""

from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The page. Raises DependencyError without the libraries, else what WebSink raises."""
    from device.sinks.web.sink import WebSink

    return WebSink(run.settings.web, run.cameras, run.device)
