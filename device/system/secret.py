"""Secrets from files: a password or a key on the first line, for its owner alone."""

import os
import ssl
import stat
from pathlib import Path

from device.errors import SinkError

_MAX_BYTES = 16_384


def read_secret(path: str, where: str) -> str:
    """The first line of a file that not everyone may read; ``where`` names the key that gave it.

    Raises SinkError.
    """
    if not (secret := _read(path, where).partition("\n")[0].rstrip("\r")):
        raise SinkError(f"{where} {path}: its first line is empty")
    return secret


def read_secrets(path: str, where: str) -> list[str]:
    """All lines of such a file that are not empty and no comment after ``#``. Raises SinkError."""
    lines = (line.strip() for line in _read(path, where).splitlines())
    if not (found := [line for line in lines if line and not line.startswith("#")]):
        raise SinkError(f"{where} {path}: has no line with a secret")
    return found


def _read(path: str, where: str) -> str:
    refuse_public(path, where)
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123 - read to a bound
            return file.read(_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise SinkError(f"{where} {path}: {reason_of(error)}") from None


def credential(name: str) -> str:
    """The path of a credential that systemd gave this service, empty where it gave none."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return str(path) if path and path.exists() else ""


def refuse_public(path: str, where: str) -> None:
    """Raise SinkError where everyone may read the file, or where it is not there."""
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise SinkError(f"{where} {path}: {reason_of(error)}") from None
    if mode & stat.S_IROTH:
        raise SinkError(f"{where} {path}: is readable by everyone; run: chmod o-rwx {path}")


def reason_of(error: Exception) -> str:
    """The cause that an error of a file or of TLS names, in a few words."""
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "is no certificate in PEM form").lower().replace("_", " ")
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "is not text in UTF-8"


def trust(ca_file: str, where: str) -> ssl.SSLContext:
    """What verifies a server, by the system's authorities or those in a file. Raises SinkError."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise SinkError(f"{where} {ca_file}: {reason_of(error)}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 began to demand extensions that the authorities people make for their own
    # servers lack. Chain, dates and host name are verified all the same, on every Python.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
