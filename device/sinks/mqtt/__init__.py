"""MQTT: topics, the connection to a broker, what Home Assistant is told, and the check."""

from device import config
from device.errors import DependencyError
from device.events import Sink
from device.sinks.outlet import Run


def open_sink(run: Run) -> Sink:
    """The way to the broker. Raises DependencyError without paho-mqtt."""
    _require_paho()
    from device.history import history_file
    from device.sinks import history_is_on
    from device.sinks.mqtt.sink import MqttSink

    decide = run.settings.decide
    # Of all everyday words, 69, nobody asked for a sensor each.
    groups = run.groups if decide.groups != "auto" else ()
    words = run.settings.mqtt.watch or decide.allow or groups
    return MqttSink(
        run.settings.mqtt,
        run.cameras,
        run.device,
        run.photos,
        [decide.alias.get(word, word) for word in words],
        nothing=decide.unknown,
        history=history_file() if history_is_on(run.settings) else None,
    )


def check_settings(settings: config.Config) -> None:
    """Raise DependencyError without paho-mqtt, SinkError where a secret or a key is unusable."""
    _require_paho()
    from device.sinks.mqtt.broker import password_of, tls_context

    tls_context(settings.mqtt)
    password_of(settings.mqtt)


def _require_paho() -> None:
    try:
        import paho.mqtt  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "paho":
            raise
        raise DependencyError("mqtt: paho-mqtt is not installed; pip install paho-mqtt") from None
