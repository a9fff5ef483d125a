"""The camera: there, free, allowed, and what a Raspberry Pi's own one rests on."""

import re
import threading

from device.cameras import open_camera, shown
from device.cameras.v4l2 import find_devices, has_pi_camera
from device.doctor.subject import Finding, Subject, absent, fail, ok, warn
from device.errors import LabelcamError
from device.health.drift_watch import FILE, MAX_BYTES, Records
from device.system.files import read_file
from device.system.text import from_json

_WAIT_S = 10.0
_GROUPS = ("video", "render", "plugdev")
_CMA_MB = 64


def _device_wanted(subject: Subject) -> bool:
    """Whether the configuration names a camera that is plugged in here."""
    pattern = r"auto|pi(:.*)?|usb:.*|bus:.*|\d+|/dev/.*"
    return any(re.fullmatch(pattern, camera.source) for camera in subject.settings.camera)


def present(subject: Subject) -> Finding:
    """The kernel sees a camera, where one is wanted."""
    if not _device_wanted(subject):
        sources = ", ".join(shown(camera.source) for camera in subject.settings.camera)
        return absent(f"none is needed: the source is {sources}")
    found, others = find_devices(subject.host.root / "dev")
    names = [f"{path} ({node.card})" for path, node in found]
    if has_pi_camera(subject.host.root / "dev"):
        names.insert(0, "the Raspberry Pi's own")
    if names:
        return ok(", ".join(names))
    seen = "; ".join(others) or "there is no /dev/video*"
    return fail(f"none found: {seen}", "plug one in; on a Pi: rpicam-hello --list-cameras")


def picture(subject: Subject) -> Finding:
    """Each camera gives a picture."""
    if subject.runs:
        return ok("in the service's hands: systemctl status labelcam tells what it sees")
    if present(subject).level == "fail":
        return absent("there is no camera")
    for camera in subject.settings.camera:
        stop = threading.Event()
        # A camera's own time-outs are longer than a person waits for.
        timer = threading.Timer(_WAIT_S, stop.set)
        timer.start()
        try:
            with open_camera(camera, stop) as opened:
                if opened.read() is None:
                    return fail(f"{camera.name}: no picture in {_WAIT_S:g} s", "plug it in again")
        except LabelcamError as error:
            return fail(str(error), "fuser -v /dev/video* names who has it")
        finally:
            timer.cancel()
    return ok(", ".join(camera.name for camera in subject.settings.camera))


def drift(subject: Subject) -> Finding:
    """What the service remembers of its cameras' usual answers."""
    if not subject.settings.drift.enabled:
        return absent("not watched for; see drift.enabled")
    try:
        records = from_json(read_file(subject.state / FILE, MAX_BYTES), Records).cameras
    except FileNotFoundError:
        return ok("nothing is learnt yet: it takes 7 days")
    except (OSError, ValueError) as error:
        return warn(f"{subject.state / FILE}: {error}", "sudo systemctl restart labelcam")
    # Of a camera that had several models or sources, the latest.
    latest = {one.camera: one for one in sorted(records.values(), key=lambda one: one.newest)}
    changed = [f"{one.camera}: {one.memory.text}" for one in latest.values() if one.memory.text]
    if changed:
        return warn(
            f"not as usual: {' | '.join(changed)}",
            "look at the lens and the picture; where it is right, accept_drift (docs/drift.md)",
        )
    days = [f"{one.camera} {len(one.memory.hours) / 24:.0f} days" for one in latest.values()]
    return ok(f"as usual; learnt of {', '.join(days)}" if days else "nothing is learnt yet")


def groups(subject: Subject) -> Finding:
    """The service's user is in the groups that may open cameras and accelerators."""
    who, there = subject.host.identity(), subject.host.groups()
    missing = [name for name in _GROUPS if name in there and there[name] not in who.gids]
    if missing and who.uid != 0:
        return fail(
            f"user {who.name} is not in {', '.join(missing)}",
            f"sudo usermod -aG {','.join(missing)} {who.name}",
        )
    return ok(f"user {who.name} is in all that there are")


def libcamera(subject: Subject) -> Finding:
    """Picamera2 works with the libcamera that is installed."""
    own = any(re.fullmatch(r"pi(:.*)?", camera.source) for camera in subject.settings.camera)
    if not subject.host.is_a_pi and not own:
        return absent("no Raspberry Pi, and none of its cameras is asked for")
    # The system's Python: this one may be an environment that does not see it.
    code = subject.host.run("/usr/bin/python3", "-c", "import picamera2")[0]
    versions = subject.host.run(
        "dpkg-query",
        "-W",
        "-f",
        "${Package} ${Version}, ",
        "python3-picamera2",
        "python3-libcamera",
    )[1]
    if code == 0:
        return ok(versions.strip(", ") or "Picamera2 loads")
    if "picamera2" in versions:
        return fail(
            f"Picamera2 does not load with this libcamera ({versions.strip(', ')})",
            "sudo apt full-upgrade",
        )
    return fail(
        "Picamera2 is not installed",
        "sudo apt install --no-install-recommends python3-picamera2",
    )


def memory(subject: Subject) -> Finding:
    """The memory that a Raspberry Pi's camera takes its buffers from."""
    if not subject.host.is_a_pi:
        return absent("no Raspberry Pi")
    text = subject.host.text("proc/meminfo")
    total, free = (
        int(found[1]) // 1024 if (found := re.search(rf"{key}: *(\d+) kB", text)) else 0
        for key in ("CmaTotal", "CmaFree")
    )
    if total >= _CMA_MB:
        return ok(f"CMA: {free} of {total} MB free")
    return warn(
        f"CMA has {total} MB, and a camera may need {_CMA_MB}",
        "dtoverlay=vc4-kms-v3d,cma-128 in /boot/firmware/config.txt",
    )
