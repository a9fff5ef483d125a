"""The Edge TPU: there, allowed, with a library that fits, on a port that is fast enough."""

import sys

from device.doctor.subject import Finding, Subject, absent, fail, ok, warn
from device.errors import DelegateError, LabelcamError
from device.inference.edgetpu import device, proof
from device.inference.runtimes import RUNTIMES
from device.library import catalog

_NONE = absent("no Edge TPU, and none is asked for")
_LOAD = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


def _wanted(subject: Subject) -> bool:
    return subject.settings.model.delegate == "edgetpu"


def present(subject: Subject) -> Finding:
    """The kernel sees one."""
    found = device.find_devices()
    if found:
        return ok(", ".join(map(str, found)))
    if not _wanted(subject):
        return _NONE
    try:
        device.choose_device(subject.settings.model.edgetpu_device)
    except DelegateError as error:
        return fail(str(error).removeprefix("delegate edgetpu: "), "lsusb; ls /dev/apex_*")
    return _NONE


def access(subject: Subject) -> Finding:
    """The service's user may open it."""
    who = subject.host.identity()
    shut = [d for d in device.find_devices() if not subject.host.may_write(d.node, who)]
    if shut:
        return fail(
            f"user {who.name} may not open {shut[0].node}",
            f"sudo ./install.sh writes the udev rule, or: sudo usermod -aG plugdev {who.name}; "
            "then plug it in again",
        )
    return ok(f"user {who.name} may open it") if device.find_devices() else _NONE


def library(subject: Subject) -> Finding:
    """libedgetpu is installed and can be loaded."""
    name = subject.settings.model.edgetpu_library
    # In a process of its own: a damaged library ends the one that loads it.
    code, _ = subject.host.run(sys.executable, "-c", _LOAD, name)
    if code == 0:
        return ok(f"{name} loads")
    if not device.find_devices() and not _wanted(subject):
        return _NONE
    how = "cannot be loaded" if code > 0 else "is damaged: loading it ends the program"
    return fail(f"{name} {how}", "install the libedgetpu1 package that follows your TensorFlow")


def match(subject: Subject) -> Finding:
    """Library and runtime belong together: a model runs through both."""
    settings = subject.settings.model
    if not device.find_devices():
        return _NONE
    if subject.runs:
        return ok("in the service's hands: systemctl status labelcam tells what it runs on")
    runtime = next(name for name in RUNTIMES if subject.host.version(name))
    try:
        found = catalog.find(settings.name, settings.labels)
        twin = found.file if found.file.compiled_for_edgetpu else found.twin
        if twin is None:
            return warn(
                f"model {found.name} has no twin for the Edge TPU, which stays idle",
                "labelcam models list shows which have one",
            )
        proof.prove(
            twin,
            settings.edgetpu_library,
            settings.edgetpu_device,
            RUNTIMES[runtime],
            f"{runtime} {subject.host.version(runtime)}",
        )
    except LabelcamError as error:
        said = str(error).removeprefix("delegate edgetpu: ")
        return fail(said, "install the libedgetpu1 package that follows your TensorFlow")
    return ok(f"{twin.path.name} runs on {runtime}")


def port(_subject: Subject) -> Finding:
    """A USB one is on a USB 3 port."""
    slow = [d.slow_port for d in device.find_devices() if d.slow_port]
    if slow:
        what, _, mend = slow[0].partition("; ")
        return warn(what, mend)
    return ok("no slow port") if device.find_devices() else _NONE


def last_run(subject: Subject) -> Finding:
    """It did not hang in the last runs."""
    # See marker.Marker: eight bytes of state, then how often in a row.
    count = subject.host.text("run/labelcam/edgetpu")[8:].strip()
    if count.isdecimal() and int(count):
        return warn(
            f"the last {count} runs ended while it was at work",
            "plug it into another port, with its own cable and a stronger supply",
        )
    return ok("no run ended in it")
