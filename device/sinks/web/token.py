"""The token of the web view: made once, kept as a hash, compared in constant time."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from device.errors import ConfigError
from device.system.files import replace_file
from device.system.paths import state_directory

_PREFIX = "sha256:"
_MADE_BY = "run: labelcam web token"


class Token:
    """What is known of the token: enough to recognise it, not enough to give it away."""

    def __init__(self, digest: bytes) -> None:
        self._digest = digest

    def matches(self, given: str) -> bool:
        """Whether this is the token; takes the same time however much of it is right."""
        return hmac.compare_digest(_digest(given), self._digest)


def token_path(token_file: str) -> Path:
    """Where the token's hash lies: the configured file, or ``web-token`` in the state directory."""
    return Path(token_file) if token_file else state_directory() / "web-token"


def make(path: Path) -> str:
    """A new token, whose hash takes the place of the file's; the token itself is kept nowhere.

    It is 256 random bits, so that one round of SHA-256 keeps it: nobody can try them all.
    Raises ConfigError where the file cannot be written.
    """
    token = secrets.token_urlsafe(32)
    line = f"{_PREFIX}{_digest(token).hex()}\n".encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made by root for a service that runs as whoever owns the directory.
        folder = path.parent.stat()
        owner = (folder.st_uid, folder.st_gid) if os.geteuid() == 0 else None
        replace_file(path, line, mode=0o600, owner=owner, durable=True)
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be written: {error.strerror}; set web.token_file to another place"
        ) from None
    return token


def read(path: Path) -> Token:
    """The token whose hash is in the file.

    Raises ConfigError for a file that is missing, open to others, or was not made by ``make``.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(256).decode("ascii", "replace").strip()
    except FileNotFoundError:
        raise ConfigError(str(path), f"there is no token for the web view; {_MADE_BY}") from None
    except OSError as error:
        raise ConfigError(
            str(path), f"the token of the web view cannot be read: {error.strerror}; {_MADE_BY}"
        ) from None
    if mode & 0o027:
        raise ConfigError(
            str(path), f"is open to others (mode {mode & 0o777:03o}); run: chmod 600 {path}"
        )
    try:
        digest = bytes.fromhex(text.removeprefix(_PREFIX))
    except ValueError:
        digest = b""
    if not text.startswith(_PREFIX) or len(digest) != hashlib.sha256().digest_size:
        raise ConfigError(str(path), f"holds no token's hash; {_MADE_BY}")
    return Token(digest)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
