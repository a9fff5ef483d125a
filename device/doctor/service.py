"""The service: its unit, files and rights, and the way to the broker."""

import contextlib
import queue
import re
import stat

from device import config
from device.doctor.subject import SERVICE, Finding, Subject, absent, fail, ok, warn
from device.errors import LabelcamError

_RESTARTS = 3
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Longer than a connection tries.
_ANSWER_S = 15.0


def unit(subject: Subject) -> Finding:
    """The service runs, and will after the next boot."""
    found = subject.unit
    log = f"journalctl -u {SERVICE}"
    if not found:
        return absent("not installed as a service")
    state, status = found.get("ActiveState", ""), found.get("StatusText", "")
    if state == "failed":
        return fail(f"stopped with exit code {found.get('ExecMainStatus')}: {status}", log)
    if not subject.runs:
        return warn(f"{state}: {status}".rstrip(": "), f"sudo systemctl start {SERVICE}")
    if found.get("UnitFileState") != "enabled":
        return warn("does not start at boot", f"sudo systemctl enable {SERVICE}")
    if int(found.get("NRestarts") or 0) > _RESTARTS:
        return warn(f"was restarted {found['NRestarts']} times; {status}", log)
    waits = re.search(r"\bcamera (starting|stalled|lost)", status)
    remedy = "plug the camera in, or correct its source"
    return warn(f"waits for its camera: {status}", remedy) if waits else ok(status or state)


def release(subject: Subject) -> Finding:
    """The installed release is whole."""
    folder = subject.host.root / "opt/labelcam"
    if not folder.exists():
        return absent("not installed as a service")
    if (folder / "current/.complete").exists():
        return ok((folder / "current").resolve().name)
    return fail(f"{folder}/current leads to no whole release", "sudo ./install.sh")


def state(subject: Subject) -> Finding:
    """What must outlive a restart can be written."""
    if not subject.state.exists():
        return ok(f"{subject.state} is made when it is needed")
    who = subject.host.identity()
    if subject.host.may_write(subject.state, who):
        return ok(f"user {who.name} may write {subject.state}")
    return fail(
        f"user {who.name} may not write {subject.state}",
        f"sudo chown -R {who.name}: {subject.state}",
    )


def permissions(subject: Subject) -> Finding:
    """The configuration, which may hold a camera's password, is not for everyone."""
    file = subject.config_file
    if file is None:
        return absent("no configuration file")
    try:
        mode = file.stat().st_mode
    except OSError as error:
        return fail(f"{file}: {(error.strerror or 'unknown').lower()}", f"sudo ls -l {file}")
    if mode & stat.S_IWOTH:
        return fail(f"everyone may write {file}", f"sudo chmod 640 {file}")
    if mode & stat.S_IROTH:
        return warn(f"everyone may read {file}", f"sudo chmod 640 {file}")
    return ok(f"{file} is {stat.filemode(mode)}")


def password(subject: Subject) -> Finding:
    """The broker's password is where only root reads it."""
    files = [subject.host.root / "etc/credstore/labelcam.mqtt-password"]
    if subject.settings.mqtt.password_file:
        files.append(subject.host.root / subject.settings.mqtt.password_file.lstrip("/"))
    for file in files:
        with contextlib.suppress(OSError):
            if file.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
                return fail(f"everyone may read {file}", f"sudo chmod 600 {file}")
    return ok("no password that everyone may read")


def boot_partition(subject: Subject) -> Finding:
    """A configuration on the boot partition was taken."""
    for folder in ("boot/firmware", "boot"):
        if said := subject.host.text(f"{folder}/labelcam-error.txt"):
            return fail(said.splitlines()[0], f"correct /{folder}/labelcam.toml, then reboot")
    return ok("no configuration was refused")


def tls(subject: Subject) -> Finding:
    """The way to the broker is encrypted where it should be, with files that can be used."""
    from device.sinks.mqtt.broker import tls_context

    settings = subject.settings.mqtt
    if not settings.enabled:
        return absent("mqtt is not enabled")
    try:
        if tls_context(settings):
            return ok("the broker is verified")
    except LabelcamError as error:
        return fail(str(error), "correct [mqtt] in the configuration")
    if settings.username and settings.host not in _LOOPBACK:
        return warn("the password goes over the network as it is", "set mqtt.tls = true")
    return absent("not asked for")


def broker(subject: Subject) -> Finding:
    """The broker lets us in."""
    settings = subject.settings.mqtt
    if not settings.enabled:
        return absent("mqtt is not enabled")
    if not subject.runs:
        return _connect(settings)
    words = subject.unit.get("StatusText", "").split("; ")
    told = next((w for w in words if w.startswith("broker ")), "")
    if told == "broker connected":
        return ok("connected")
    return warn(told or "not connected yet", "systemctl status labelcam")


def _connect(settings: config.Mqtt) -> Finding:
    from device.sinks.mqtt.connection import Connected, Connection, Lost

    answers: queue.SimpleQueue[object] = queue.SimpleQueue()
    connection = Connection(settings, "labelcam-doctor", answers.put)
    try:
        connection.start()
        while True:
            answer = answers.get(timeout=_ANSWER_S)
            if isinstance(answer, Connected):
                return ok(f"{settings.host} lets us in")
            if isinstance(answer, Lost):
                return fail(answer.reason, "correct [mqtt] in the configuration")
    except LabelcamError as error:
        return fail(str(error), "correct [mqtt] in the configuration")
    except queue.Empty:
        return fail(f"{settings.host} does not answer", f"ping {settings.host}")
    finally:
        connection.abort()
