"""MQTT: topics, the connection to a broker, what Home Assistant is told, and the check."""

from device.errors import DependencyError
from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The way to the broker. Raises DependencyError without paho-mqtt."""
    try:
        from device.sinks.mqtt.sink import MqttSink
    except ModuleNotFoundError as error:
        if error.name != "paho":
            raise
        raise DependencyError("mqtt: paho-mqtt is not installed; pip install paho-mqtt") from None
    watched = run.settings.mqtt.watch or run.settings.decide.allow or run.groups
    return MqttSink(run.settings.mqtt, run.cameras, run.device, watched)
