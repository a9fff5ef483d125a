"""``labelcam doctor``: what is well with this machine, what is not, and what mends it.

Each check is a function from a ``Subject`` to a ``Finding``: one line, with the command that
mends what is wrong. What a machine does not have is no fault: it does not apply.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from device.doctor import board, camera, edgetpu, history, service, software
from device.doctor.report import Result, print_report, show_progress
from device.doctor.subject import Finding, Host, Subject, fail
from device.system.text import json_line

Check = Callable[[Subject], Finding]

# In this order: what later checks rest on comes first.
CHECKS: dict[str, Check] = {
    "python": software.python,
    "venv": software.venv,
    "architecture": software.architecture,
    "numpy": software.numpy,
    "runtime": software.runtime,
    "configuration": software.configuration,
    "model": software.model,
    "self-test": software.self_test,
    "delegate": software.delegate,
    "edgetpu": edgetpu.present,
    "edgetpu-access": edgetpu.access,
    "edgetpu-library": edgetpu.library,
    "edgetpu-match": edgetpu.match,
    "edgetpu-port": edgetpu.port,
    "edgetpu-last-run": edgetpu.last_run,
    "camera": camera.present,
    "camera-picture": camera.picture,
    "drift": camera.drift,
    "groups": camera.groups,
    "libcamera": camera.libcamera,
    "camera-memory": camera.memory,
    "temperature": board.temperature,
    "throttling": board.throttling,
    "throttling-before": board.throttling_before,
    "power": board.power,
    "clock": board.clock,
    "memory": board.memory,
    "disk": board.disk,
    "root": board.root,
    "sd-card": board.sd_card,
    "history": history.history,
    "unit": service.unit,
    "release": service.release,
    "state": service.state,
    "permissions": service.permissions,
    "password": service.password,
    "boot-partition": service.boot_partition,
    "tls": service.tls,
    "broker": service.broker,
}
# What a release must pass before it takes another one's place, whatever is plugged in.
SELF_TEST = ("python", "numpy", "runtime", "configuration", "model", "self-test", "delegate")


def doctor(
    config_file: Path | None, *, as_json: bool, self_test: bool, host: Host | None = None
) -> int:
    """Run the checks and print what they found; returns 1 where one failed, else 0.

    What failed comes first and what does not apply last, then a summary. ``config_file`` is by
    default the service's, where there is one.
    """
    subject = Subject(host or Host(), config_file)
    results = []
    with show_progress() as progress:
        for name in SELF_TEST if self_test else CHECKS:
            progress(name)
            found = examine(name, subject)
            results.append(Result(name, found.level, found.says, found.mend))
    if as_json:
        print(msgspec.json.format(json_line(results)))
    else:
        print_report(results)
    return int(any(result.level == "fail" for result in results))


def examine(name: str, subject: Subject) -> Finding:
    """The finding of one check; a check that itself fails is one as well."""
    try:
        return CHECKS[name](subject)
    except Exception as error:  # noqa: BLE001 - the others still have something to say
        said = " ".join(str(error).split())
        return fail(f"could not be checked: {type(error).__name__}: {said}", "report it")
