"""Names to topics. A name stays as it is where people read it; a topic gets its slug."""

import hashlib
import hmac
import re
import socket
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from device.control.table import CONTROLS

# What stands beside the cameras in a node's topics, and must not be mistaken for one.
_RESERVED = {"availability", "health", "set", "error", "check", "security", *CONTROLS}
# Host names that many devices have as they come: two of them must not share their topics.
_COMMON_HOSTS = {"", "localhost", "raspberrypi", "mendel", "debian", "raspbian"}
_MAX_SLUG = 48


def slug(name: str, fallback: str) -> str:
    """The name in ``a-z 0-9 _ -``: small letters, blanks and ``/`` to ``-``.

    Where more is lost, as of an emoji or a ``#``, a few digits that stand for the whole name
    keep it apart from others; ``fallback`` stands in when no letter is left.
    """
    text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9_]+", "-", text).strip("-")
    lossless = plain == re.sub("[ /]", "-", name.strip().lower())
    if plain and lossless and plain not in _RESERVED and len(plain) <= _MAX_SLUG:
        return plain
    digits = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{plain[:_MAX_SLUG].strip('-') or fallback}-{digits}"


def machine_id(files: Sequence[str] = ("/etc/machine-id", "/var/lib/dbus/machine-id")) -> str:
    """What tells this machine from every other; its host name where there is nothing better."""
    for file in files:
        try:
            text = Path(file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            continue
        if text and text != "uninitialized":
            return text
    return socket.gethostname()


class Topics:
    """The topics of one node.

    ``node`` is its name as people read it and ``node_slug`` as topics have it. ``client_id``
    is made of the machine's id, hashed because that is not to leave the machine: the same
    after every start, and another on every machine and for every node on it.
    """

    def __init__(
        self, prefix: str, node: str, cameras: Sequence[str], machine: str | None = None
    ) -> None:
        machine = machine_id() if machine is None else machine
        node = node.strip()
        if not node:
            node = socket.gethostname().partition(".")[0]
            if node in _COMMON_HOSTS:
                node = f"{node or 'labelcam'}-{_digest(machine, 'host', 4)}"
        self.node = node
        self.node_slug = slug(node, "node")
        self.client_id = f"labelcam{_digest(machine, self.node_slug, 12)}"
        self.root = f"{prefix}/{self.node_slug}"
        self.availability = f"{self.root}/availability"
        self.health = f"{self.root}/health"
        self.slugs = {name: slug(name, "camera") for name in cameras}
        self._cameras = {found: name for name, found in self.slugs.items()}
        if len(self._cameras) < len(self.slugs):
            # Names that differ in case or in a blank alone.
            self.slugs = {
                name: f"{found}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"
                for name, found in self.slugs.items()
            }
            self._cameras = {found: name for name, found in self.slugs.items()}

    def of(self, camera: str | None, key: str) -> str:
        """The topic of something of a camera, or of the device."""
        return f"{self.root}/{key}" if camera is None else f"{self.root}/{self.slugs[camera]}/{key}"

    def command(self, camera: str | None, key: str) -> str:
        """The topic that takes a command."""
        return self.of(camera, f"set/{key}")

    @property
    def commands(self) -> tuple[str, str]:
        """The filters that every command comes through."""
        return f"{self.root}/set/+", f"{self.root}/+/set/+"

    def addressed(self, topic: str) -> tuple[str | None, str] | None:
        """The camera and the key that a command's topic names; None where it is no command's.

        A camera that is not there is given by what stands in its place.
        """
        found = re.fullmatch(rf"{re.escape(self.root)}/(?:([^/]*)/)?set/([^/]*)", topic)
        if found is None:
            return None
        camera, key = found.groups()
        return self._cameras.get(camera, camera), key


def _digest(machine: str, purpose: str, digits: int) -> str:
    key = machine.encode()
    return hmac.new(key, f"labelcam/{purpose}".encode(), hashlib.sha256).hexdigest()[:digits]
