"""Commands by hand are for the installed service, where there is one: as its user, on its state.

Else root would teach root's own copy of what the service never reads, and leave files that the
service may not write.
"""

import argparse
import atexit
import os
import pwd
import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from device.cli.arguments import parent
from device.errors import UsageError
from device.system import logs

# Tests put a folder of their own here.
ROOT = Path("/")
USER = "labelcam"
OWN = parent(
    "--own",
    action="store_true",
    help="use your own state and configuration, where a service is installed too",
)
# A password is copied to memory only, and to where its new owner may remove it.
_MEMORY = Path("dev/shm")
_PREFIX = "labelcam-credentials-"
_PASSWORDS = (
    ("run/credentials/labelcam.service", "mqtt-password"),
    ("etc/credstore", "labelcam.mqtt-password"),
)


def join(options: argparse.Namespace, arguments: Sequence[str]) -> None:
    """Where a service is installed, go on as its user, with its state and password.

    Only for a command that takes OWN. It stays the caller's with ``--own``, with a ``--config``
    that is not the service's and with $LABELCAM_STATE. Started by root, the process is replaced by
    the service's own release; ``options.reads_all`` lets that use root's files as well.

    Raises UsageError, with the command to type, where that takes the rights of root.
    """
    launcher, state = ROOT / "opt/labelcam/current/bin/labelcam", ROOT / "var/lib/labelcam"
    config = ROOT / "etc/labelcam/config.toml"
    given: Path | None = getattr(options, "config", None)
    if options.own or "LABELCAM_STATE" in os.environ or not launcher.exists():
        return
    if given is not None and given.absolute() != config:
        return
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        return
    if os.geteuid() == user.pw_uid:
        os.environ["STATE_DIRECTORY"] = str(state)
        options.config = config
        _remove_at_exit(os.environ.get("CREDENTIALS_DIRECTORY", ""))
        return
    if os.geteuid() != 0:
        command = shlex.join(["sudo", "labelcam", *arguments])
        raise UsageError(
            f"this is for the installed service, which is user {USER}'s; run: {command}, "
            "or add --own for yourself alone"
        )
    logs.complain(
        f"for the service: {config}, {state}, as user {USER}; --own is for yourself alone"
    )
    os.umask(0o077)
    environment = {**os.environ, "HOME": str(state), "STATE_DIRECTORY": str(state)}
    environment.pop("XDG_RUNTIME_DIR", None)
    if credentials := _copy_password(user):
        environment["CREDENTIALS_DIRECTORY"] = credentials
    # What root points at (pictures, a file to write) may be nobody else's to open.
    capabilities = "-all,+dac_override" if getattr(options, "reads_all", False) else "-all"
    os.execvpe(  # noqa: S606 - no shell is wanted
        "setpriv",
        [
            "setpriv",
            f"--reuid={user.pw_uid}",
            f"--regid={user.pw_gid}",
            "--init-groups",
            "--no-new-privs",
            f"--bounding-set={capabilities}",
            f"--inh-caps={capabilities}",
            f"--ambient-caps={capabilities}",
            str(launcher),
            *arguments,
        ],
        environment,
    )


def _copy_password(user: pwd.struct_passwd) -> str:
    """A folder with the broker's password as the service has it, or empty where it has none."""
    for folder, name in _PASSWORDS:
        password = ROOT / folder / name
        if password.exists():
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=ROOT / _MEMORY))
            copy = made / "mqtt-password"
            copy.touch(mode=0o600)
            copy.write_bytes(password.read_bytes())
            for path in (copy, made):
                os.chown(path, user.pw_uid, user.pw_gid)
            return str(made)
    return ""


def _remove_at_exit(credentials: str) -> None:
    """Have the copied password gone in the end; what the service manager gave is not ours."""
    if Path(credentials).name.startswith(_PREFIX):
        atexit.register(shutil.rmtree, credentials, ignore_errors=True)
