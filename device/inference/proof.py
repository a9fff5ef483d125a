"""Whether a model file may be loaded into this process: known by its hash, or tried in another.

The runtimes trust what an operator's table says: one wrong byte there ends the process, or
never comes back. A file of the catalogue is the one that was tested, by its SHA-256; any other
is loaded and run once in a child process, for each runtime, and what passed is remembered in
the state directory.
"""

import contextlib
from pathlib import Path

import msgspec

from device import config
from device.errors import LabelcamError, ModelError, TrialError
from device.inference import runtimes
from device.library import catalog, tflite_file
from device.library.tflite_file import TfliteFile
from device.system.files import replace_file
from device.system.paths import state_directory
from device.system.text import from_json

# The slowest board takes a few seconds to start Python and run a large model.
_TIMEOUT_S = 30.0
_REMEMBERED = 256


class _Request(msgspec.Struct, frozen=True):
    """Asks a child to run the model on the runtime; replied to with true."""

    model: str
    runtime: runtimes.Runtime


# Hash and runtime of what passed, also where the state directory cannot be written.
_passed: list[str] = []


def prove(file: TfliteFile, settings: config.Model) -> None:
    """Return where the file may be loaded on the runtime of these settings.

    An error of the runtime is no obstacle: whoever loads the file meets it as well. Nor is a
    model that is compiled for the Edge TPU, which is proved with its library.

    Raises ModelError where it ends the child or hangs it, DependencyError without a runtime.
    """
    if file.compiled_for_edgetpu or catalog.known_by(file.sha256):
        return
    runtime, _ = runtimes.import_runtime(settings.runtime)
    version = runtimes.installed().get(runtime, "?")
    proof = f"{file.sha256} {runtime} {version}"
    if proof in _passed or proof in _remembered():
        return
    # Most devices never need what starts processes.
    from device.inference.trial import Trial

    try:
        with Trial(__name__, name=f"{runtime} {version}") as child:
            child.ask(_Request(str(file.path.resolve()), runtime), bool, _TIMEOUT_S)
    except TrialError as error:
        raise ModelError(
            file.path, f"cannot be run ({error}): it is damaged; fetch, copy or convert it again"
        ) from None
    _passed.append(proof)
    with contextlib.suppress(OSError):
        proofs = [proof, *(other for other in _remembered() if other != proof)][:_REMEMBERED]
        replace_file(_path(), msgspec.json.format(msgspec.json.encode(proofs)))


def _path() -> Path:
    return state_directory() / "proofs.json"


def _remembered() -> list[str]:
    """What passed before; nothing where the file is absent or damaged."""
    try:
        return from_json(_path().read_bytes(), list[str])
    except (OSError, msgspec.DecodeError):
        return []


def _run(request: bytes) -> bool:
    """In the child: load and run the model with and without a delegate, or crash."""
    from device.inference.interpreter import Interpreter

    work = msgspec.json.decode(request, type=_Request)
    file = tflite_file.read(Path(work.model))
    for delegate in ("auto", "none"):
        settings = config.Model(runtime=work.runtime, delegate=delegate, threads=1)
        with contextlib.suppress(LabelcamError), Interpreter(file, settings) as interpreter:
            interpreter.input()[...] = 0
            interpreter.invoke()
            interpreter.output()
    return True


if __name__ == "__main__":
    from device.inference.trial import serve

    serve(_run)
