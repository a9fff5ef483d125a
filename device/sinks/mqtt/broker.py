"""The broker as the settings name it: where it is, and what we show it."""

import ssl

from device.config import Mqtt
from device.errors import SinkError
from device.system.secret import credential, read_secret, reason_of, refuse_public, trust

_CREDENTIAL = "mqtt-password"


def port_of(settings: Mqtt) -> int:
    """The port asked for, or the one that is usual for this transport."""
    if settings.port:
        return settings.port
    if settings.transport == "websockets":
        return 443 if settings.tls else 80
    return 8883 if settings.tls else 1883


def address_of(settings: Mqtt) -> str:
    """Host and port, as they are said in messages."""
    return f"{settings.host}:{port_of(settings)}"


def password_of(settings: Mqtt) -> str | None:
    """The password, or None where there is none to give. Raises SinkError."""
    if not (path := settings.password_file or credential(_CREDENTIAL)):
        return None
    password = read_secret(path, "mqtt: password_file")
    if not settings.username:
        raise SinkError(f"mqtt: {path} gives a password without a user; set mqtt.username")
    return password


def tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    """What verifies the broker, or None without TLS. Raises SinkError."""
    if not settings.tls:
        return None
    context = trust(settings.ca_file, "mqtt: ca_file")
    if settings.key_file:
        refuse_public(settings.key_file, "mqtt: key_file")
        try:
            # A key under a passphrase would have OpenSSL ask for it on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: b"-")
        except (OSError, ssl.SSLError) as error:
            raise SinkError(
                f"mqtt: cert_file {settings.cert_file} with key_file {settings.key_file}: "
                f"{reason_of(error)}; give a PEM certificate and its own key, without a passphrase"
            ) from None
    return context
