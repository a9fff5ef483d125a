"""The broker as the settings name it: where it is, and what we show it."""

import os
import ssl
import stat
from pathlib import Path

from device.config import Mqtt
from device.errors import SinkError

_MAX_SECRET_BYTES = 4096
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
    path = settings.password_file
    if not path:
        credentials = os.environ.get("CREDENTIALS_DIRECTORY")
        if not credentials or not (Path(credentials) / _CREDENTIAL).exists():
            return None
        path = str(Path(credentials) / _CREDENTIAL)
    _refuse_public(path, "password_file")
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - read to a bound
            text = file.read(_MAX_SECRET_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"mqtt: password_file {path}: {reason_of(error)}") from None
    if not (password := text.partition("\n")[0].rstrip("\r")):
        raise SinkError(f"mqtt: password_file {path}: its first line is empty")
    if not settings.username:
        raise SinkError(f"mqtt: {path} gives a password without a user; set mqtt.username")
    return password


def tls_context(settings: Mqtt) -> ssl.SSLContext | None:
    """What verifies the broker, or None without TLS. Raises SinkError."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"mqtt: ca_file {settings.ca_file}: {reason_of(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to demand extensions that the authorities people make for their own
    # broker lack. Chain, dates and host name are verified all the same, on every Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if settings.key_file:
        _refuse_public(settings.key_file, "key_file")
        try:
            # A key under a passphrase would have OpenSSL ask for it on the terminal.
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: b"-")
        except (OSError, ssl.SSLError) as error:
            raise SinkError(
                f"mqtt: cert_file {settings.cert_file} with key_file {settings.key_file}: "
                f"{reason_of(error)}; give a PEM certificate and its own key, without a passphrase"
            ) from None
    return context


def reason_of(error: Exception) -> str:
    """The cause that an error of a file or of TLS names, in a few words."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "is no certificate in PEM form").lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "is not text in UTF-8"


def _refuse_public(path: str, key: str) -> None:
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise SinkError(f"mqtt: {key} {path}: {reason_of(error)}") from None
    if mode & stat.S_IROTH:
        raise SinkError(f"mqtt: {key} {path}: is readable by everyone; run: chmod o-rwx {path}")
