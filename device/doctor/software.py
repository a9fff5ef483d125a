"""Python, its packages, the configuration, and whether the model sees what it should."""

import importlib
from dataclasses import replace
from functools import lru_cache

import msgspec

from device import config
from device.doctor.subject import Finding, Subject, absent, fail, ok, warn
from device.errors import LabelcamError
from device.events import Description, Prediction
from device.inference.choice import choose
from device.inference.pool import open_engine
from device.inference.runtimes import RUNTIMES
from device.library import catalog
from device.pipeline.classifier import Classifier
from device.pipeline.plan import find_model
from device.recordings.pictures import read_picture
from device.system.paths import MODELS

_PICTURE, _LABEL = "coffee.jpg", "espresso"
_INSTALL = "sudo ./install.sh"


def python(subject: Subject) -> Finding:
    """The version of Python."""
    version = ".".join(map(str, subject.host.python))
    if (3, 11) <= subject.host.python <= (3, 13):
        return ok(version)
    return fail(f"{version} is not one of 3.11 to 3.13", f"PYTHON=python3.13 {_INSTALL}")


def venv(subject: Subject) -> Finding:
    """Whether the environment sees Picamera2 of the system, on a Raspberry Pi."""
    if not subject.host.is_a_pi:
        return absent("no Raspberry Pi")
    flags = subject.host.text(subject.host.prefix / "pyvenv.cfg")
    if "include-system-site-packages = true" in flags or not flags:
        return ok("sees the packages of the system")
    return warn("does not see the system's Picamera2", f"{_INSTALL} makes it anew")


def architecture(subject: Subject) -> Finding:
    """32-bit systems have no XNNPACK."""
    if subject.host.machine in ("x86_64", "aarch64"):
        return ok(subject.host.machine)
    return warn(
        f"{subject.host.machine}: the runtime has no XNNPACK here and is several times slower",
        "use the 64-bit system where the board can",
    )


def numpy(subject: Subject) -> Finding:
    """NumPy's binary interface is the one that the runtime was built for."""
    found, runtime = subject.host.version("numpy"), subject.host.version("tflite-runtime")
    if not found:
        return fail("NumPy is not installed", "pip install 'numpy>=1.26'")
    if runtime and not found.startswith("1."):
        return fail(f"{found} does not fit tflite-runtime {runtime}", "pip install 'numpy<2'")
    return ok(found)


def runtime(subject: Subject) -> Finding:
    """A runtime that can be imported."""
    wanted = subject.settings.model.runtime
    problems = []
    for package in RUNTIMES if wanted == "auto" else (wanted,):
        try:
            importlib.import_module(RUNTIMES[package])
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything
            problems.append(f"{package}: {str(error).partition(chr(10))[0]}")
        else:
            versions = {name: subject.host.version(name) for name in RUNTIMES}
            found = [f"{name} {version}" for name, version in versions.items() if version]
            return ok(", ".join(found) or package)
    package = "ai-edge-litert" if wanted == "auto" else wanted
    return fail("; ".join(problems), f"pip install {package}")


def configuration(subject: Subject) -> Finding:
    """The configuration file is valid."""
    if subject.problem:
        return fail(subject.problem, f"sudo nano {subject.config_file}")
    return ok(str(subject.config_file or "none: the defaults hold"))


def model(subject: Subject) -> Finding:
    """Every model that the configuration names is here, with labels that fit."""
    settings = subject.settings
    wanted = {(settings.model.name, settings.model.labels)}
    wanted |= {(camera.model, camera.labels) for camera in settings.camera if camera.model}
    try:
        models = [find_model(settings, *names) for names in sorted(wanted)]
    except LabelcamError as error:
        return fail(str(error), "labelcam models list")
    beside = [f"{other.name} beside it" for found in models for other in found.beside]
    return ok(", ".join(dict.fromkeys([*(found.name for found in models), *beside])))


@lru_cache(maxsize=1)
def look(settings: config.Model) -> tuple[Description, Prediction]:
    """What the model that ships sees in its picture with these settings, and what it ran on.

    That is what ``auto`` stands for here, where it was measured. On the CPU: the Edge TPU may be
    in the service's hands. Raises LabelcamError.
    """
    if settings.delegate == "edgetpu":
        settings = msgspec.structs.replace(settings, delegate="auto")
    shipped = replace(catalog.find(config.Model().name), twin=None)
    choice = choose(shipped.file, settings)
    with Classifier(shipped, open_engine(shipped, settings, choice)) as classifier:
        classifier.classify(read_picture(MODELS / "footage" / _PICTURE))
        return classifier.description, classifier.top(1)[0]


def self_test(subject: Subject) -> Finding:
    """The model that ships sees in a picture what is there."""
    try:
        description, best = look(subject.settings.model)
    except LabelcamError as error:
        return fail(str(error), _INSTALL)
    if best.label != _LABEL:
        return fail(f"{_PICTURE} is {best.label!r}, expected {_LABEL!r}", _INSTALL)
    return ok(f"{_PICTURE}: {best.label} {best.score:.2f} on {description.runtime}")


def delegate(subject: Subject) -> Finding:
    """The delegate took the graph."""
    try:
        found, _ = look(subject.settings.model)
    except LabelcamError:
        return absent("the model did not run")
    taken = f"{found.operators_delegated} of {found.operators_total} operators"
    if found.operators_delegated or subject.settings.model.delegate == "none":
        return ok(f"{found.delegate}, {taken}")
    return warn(f"none took an operator: {found.reason}", "labelcam bench shows what is fastest")
