"""``labelcam config adopt``: a configuration that was laid on the boot partition becomes ours.

Whoever writes an SD card can write its boot partition on any computer, and nothing else of
it. What lies there as ``labelcam.toml`` is checked, its broker's password split out into a
credential that only root and the service read, and moved to where the service looks.
"""

import contextlib
import grp
import logging
import os
from pathlib import Path

from device import config
from device.errors import ConfigError
from device.system.config_file import parse
from device.system.files import replace_file

_log = logging.getLogger("labelcam.adopt")

_PLACES = ("boot/firmware", "boot")
_FILE, _ERROR = "labelcam.toml", "labelcam-error.txt"
_CONFIG = "etc/labelcam/config.toml"
_CREDENTIAL = "etc/credstore/labelcam.mqtt-password"
_GROUP = "labelcam"
_MAX_BYTES = 1 << 20


def adopt(root: Path = Path("/")) -> int:
    """Take the configuration from the boot partition, where there is one; returns 0.

    What is refused stays where it is, with the reason in ``labelcam-error.txt`` beside it,
    and the configuration in force stays too. Raises ConfigError.
    """
    found = next((root / p / _FILE for p in _PLACES if (root / p / _FILE).is_file()), None)
    if found is None:
        _log.info("no %s on the boot partition", _FILE)
        return 0
    said = found.with_name(_ERROR)
    try:
        _adopt(found, root)
    except ConfigError as error:
        with contextlib.suppress(OSError):
            said.write_text(f"{error}\n", encoding="utf-8")
        raise
    said.unlink(missing_ok=True)
    _log.info("%s is the configuration now, at /%s", found, _CONFIG)
    return 0


def _adopt(file: Path, root: Path) -> None:
    text, password = _split(file)
    target, secret = root / _CONFIG, root / _CREDENTIAL
    try:
        owner = (os.geteuid(), grp.getgrnam(_GROUP).gr_gid)
        settings = config.parse(text, str(file))
        if password and not settings.mqtt.username:
            raise ConfigError(str(file), "mqtt.password without mqtt.username; give both")
        # The password first: with it alone nothing is wrong yet.
        if password:
            secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            line = f"{password}\n".encode()
            replace_file(secret, line, mode=0o600, owner=(os.geteuid(), 0), durable=True)
        replace_file(target, text.encode(), mode=0o640, owner=owner, durable=True)
        file.unlink()
        # The next thing that happens to a new device may be that its plug is pulled.
        os.sync()
    except KeyError:
        raise ConfigError(str(file), f"there is no group {_GROUP}; sudo ./install.sh") from None
    except OSError as error:
        where = error.filename or target
        raise ConfigError(
            str(file), f"could not be moved: {where}: {(error.strerror or '').lower()}"
        ) from None


def _split(file: Path) -> tuple[str, str]:
    """The file's text without the password, comments and all, and the password."""
    try:
        if file.stat().st_size > _MAX_BYTES:
            raise ConfigError(str(file), f"has over {_MAX_BYTES} bytes; is it the right file?")
        # Editors of other systems put a mark before the text, and two bytes at a line's end.
        text = file.read_text(encoding="utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), f"not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from None
    document = parse(text, file)
    section = document.get("mqtt")
    password = section.pop("password", "") if isinstance(section, dict) else ""
    if not isinstance(password, str) or "\n" in password:
        raise ConfigError(str(file), "mqtt.password: expected text on one line, in quotes")
    return document.as_string(), password
