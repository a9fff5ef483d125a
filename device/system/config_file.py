"""The configuration file as the program edits it: comments, order, mode and owner stay."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from device import config
from device.errors import ConfigError, DependencyError
from device.system.files import replace_file

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


def parse(text: str, file: Path) -> "TOMLDocument":
    """The text as a document to edit. Raises ConfigError for what is not TOML."""
    try:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError
    except ImportError:
        raise DependencyError("tomlkit is not installed; pip install tomlkit") from None
    try:
        return tomlkit.parse(text)
    except TOMLKitError as error:
        raise ConfigError(str(file), f"not TOML: {error}") from None


def set_keys(file: Path, section: str, values: Mapping[str, str | int | float]) -> None:
    """Give keys of a section these values, and make the section where there is none.

    Raises ConfigError where the file cannot be written, or would be no valid configuration.
    """
    target = file.resolve()
    try:
        before = target.stat()
        document = parse(target.read_text(encoding="utf-8"), file)
        document.setdefault(section, {}).update(values)
        text = document.as_string()
        config.parse(text, str(file))
        # Edited by root, it stays readable for the service that it belongs to.
        owner = (before.st_uid, before.st_gid) if os.geteuid() == 0 else None
        mode = stat.S_IMODE(before.st_mode)
        replace_file(target, text.encode(), mode=mode, owner=owner, durable=True)
    except OSError as error:
        raise ConfigError(str(file), f"cannot be written: {error.strerror}") from None
