"""What is examined: the machine, and labelcam's configuration on it."""

import grp
import os
import platform
import pwd
import stat
import subprocess
import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from device import config
from device.errors import ConfigError
from device.events import Vitals
from device.health.vitals import Board

SERVICE = "labelcam.service"
USER = "labelcam"
_COMMAND_TIMEOUT_S = 30.0


class Finding(msgspec.Struct, frozen=True):
    """What a check found, on one line, and what mends it: a command, where there is one."""

    level: Literal["ok", "warn", "fail", "n/a"]
    says: str
    mend: str = ""


def ok(says: str) -> Finding:
    """All is well."""
    return Finding("ok", says)


def absent(says: str) -> Finding:
    """It does not apply: what it is about is not here, or not asked for."""
    return Finding("n/a", says)


def warn(says: str, mend: str) -> Finding:
    """It works, and should be better."""
    return Finding("warn", says, mend)


def fail(says: str, mend: str) -> Finding:
    """It does not work."""
    return Finding("fail", says, mend)


class Identity(msgspec.Struct, frozen=True):
    """A user as the kernel knows it."""

    name: str
    uid: int
    gids: tuple[int, ...]


class Host:
    """The machine: files under ``root``, commands, packages and users. Nothing here raises."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root
        self.python = sys.version_info[:2]
        self.machine = platform.machine()
        self.prefix = Path(sys.prefix)

    def text(self, path: str | Path) -> str:
        """What is in the file, without the zero bytes that device trees end with; else empty."""
        try:
            return (self.root / path).read_text("utf-8", "replace").strip("\0\n ")
        except OSError:
            return ""

    def run(self, *command: str) -> tuple[int, str]:
        """The exit code and standard output of a command; 127 where it is not there."""
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return 127, ""
        return done.returncode, done.stdout

    def version(self, package: str) -> str:
        """The version of an installed Python package; empty where it is not installed."""
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return ""

    def groups(self) -> dict[str, int]:
        """The groups of the system by name."""
        return {group.gr_name: group.gr_gid for group in grp.getgrall()}

    def identity(self) -> Identity:
        """The service's user, or who runs this where there is no such user."""
        try:
            user = pwd.getpwnam(USER)
        except KeyError:
            user = pwd.getpwuid(os.getuid())
        return Identity(
            user.pw_name, user.pw_uid, tuple(os.getgrouplist(user.pw_name, user.pw_gid))
        )

    def may_write(self, path: Path, who: Identity) -> bool:
        """Whether ``who`` may read and write what is there, by its owner, group and mode."""
        try:
            found = path.stat()
        except OSError:
            return False
        if who.uid == 0:
            return True
        if found.st_uid == who.uid:
            bits = stat.S_IRUSR | stat.S_IWUSR
        elif found.st_gid in who.gids:
            bits = stat.S_IRGRP | stat.S_IWGRP
        else:
            bits = stat.S_IROTH | stat.S_IWOTH
        return found.st_mode & bits == bits

    @property
    def is_a_pi(self) -> bool:
        """Whether this is a Raspberry Pi."""
        return "Raspberry Pi" in self.text("proc/device-tree/model")


class Subject:
    """The machine and the configuration; the defaults stand for one that cannot be read."""

    def __init__(self, host: Host, config_file: Path | None = None) -> None:
        self.host = host
        installed = host.root / "etc/labelcam/config.toml"
        self.config_file = config_file or (installed if installed.exists() else None)
        self.settings = config.Config()
        self.problem = ""
        try:
            self.settings = config.load(self.config_file)
        except ConfigError as error:
            self.problem = str(error)

    @cached_property
    def state(self) -> Path:
        """The service's state directory where it is installed, else that of who runs this."""
        from device.system.paths import state_directory

        own = self.host.root / "var/lib/labelcam"
        return own if own.is_dir() else state_directory()

    @cached_property
    def vitals(self) -> Vitals:
        """The board's vital signs."""
        return Board(self.state, self.host.root).read()

    @cached_property
    def unit(self) -> dict[str, str]:
        """Properties of the service's unit; empty where there is no systemd, or no unit."""
        names: Sequence[str] = (
            "LoadState",
            "ActiveState",
            "UnitFileState",
            "NRestarts",
            "ExecMainStatus",
            "StatusText",
        )
        code, out = self.host.run("systemctl", "show", SERVICE, f"-p{','.join(names)}")
        found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return found if code == 0 and found.get("LoadState") == "loaded" else {}

    @property
    def runs(self) -> bool:
        """Whether the service runs: then cameras and Edge TPU are in its hands."""
        return self.unit.get("ActiveState") in ("active", "reloading")
