"""Whether libedgetpu fits the runtime, tried in a process that nobody misses."""

import contextlib
import ctypes
import importlib
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import msgspec

from device.errors import DelegateError, ModelError, TrialCrash, TrialError
from device.inference.edgetpu.delegate import create_delegate, load_library, other_build
from device.inference.trial import Trial, serve
from device.library import catalog
from device.library.tflite_file import TfliteFile
from device.system.files import replace_file
from device.system.paths import runtime_directory

_log = logging.getLogger("labelcam.edgetpu")

# Sending the firmware and the model takes 3 to 5 s; what takes longer than this hangs.
_TIMEOUT_S: Final = 60.0

# What passed in this process or in one before it, a line each: runtime, library as it was
# asked for, hash of a model that is not of the catalogue, and the file that the library was.
_proofs: set[str] = set()


class _Request(msgspec.Struct, frozen=True):
    """Asks a child to run the model; replied to with the path of the library's file."""

    module: str
    model: str
    library: str
    device: str


def prove(file: TfliteFile, library: str, device: str, module: str, runtime: str) -> None:
    """Run the model once in a process of its own, if the library or the model is new here.

    A libedgetpu that was built for another TensorFlow does not fail, it ends the process with
    SIGSEGV, and a damaged one with SIGBUS as soon as it is loaded; and so may a model that the
    catalogue does not know. So let that be a process that nobody misses. What passed is kept
    in the runtime directory. Errors other than a crash are left to the caller, who meets them
    as well. ``module`` is what to import, ``runtime`` what to call it.

    Raises DelegateError, ModelError where the library runs others.
    """
    folder = runtime_directory()
    memory = folder / "edgetpu-proved" if folder else None
    with contextlib.suppress(OSError):
        _proofs.update(memory.read_text().splitlines() if memory else ())
    pair = f"{runtime}\t{library}\t"
    subject = pair + ("catalogue" if catalog.known_by(file.sha256) else file.sha256) + "\t"
    if any(line == subject + _identity(line.split("\t")[3]) for line in _proofs):
        return
    request = _Request(module, str(file.path.resolve()), library, device)
    try:
        with Trial(__name__, name=runtime) as child:
            plugin = child.ask(request, str, _TIMEOUT_S)
    except TrialCrash as crash:
        if crash.signal and any(line.startswith(pair) for line in _proofs):
            raise ModelError(
                file.path, f"cannot be run ({crash}): it is damaged; compile it again"
            ) from None
        raise DelegateError(f"delegate edgetpu: {_cause(crash, library, runtime)}") from None
    except TrialError as error:
        _log.debug("%s", error)
        return
    _proofs.add(subject + _identity(plugin))
    with contextlib.suppress(OSError):
        if memory:
            replace_file(memory, "\n".join(sorted(_proofs)).encode())


def _cause(crash: TrialCrash, library: str, runtime: str) -> str:
    if not crash.signal:
        return f"no answer from the Edge TPU within {_TIMEOUT_S:g} s; plug it in again"
    if crash.signal == "SIGBUS":
        return f"{library} is damaged (SIGBUS); install it again"
    return f"{library} crashes {runtime} ({crash.signal}); {other_build(runtime)}"


class _DlInfo(ctypes.Structure):
    """Dl_info of dladdr(3)."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("symbol", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def _identity(path: str) -> str:
    """A file by its path, size and time, parted by tabs; empty where it is not there."""
    try:
        status = Path(path).stat()
    except OSError:
        return ""
    return f"{path}\t{status.st_size}\t{status.st_mtime_ns}"


def _run(request: bytes) -> str:
    """In the child: prepare and run the model, or crash; returns where the library lies."""
    work = msgspec.json.decode(request, type=_Request)
    runtime = importlib.import_module(work.module)
    plugin = load_library(work.library)
    pointer, words = create_delegate(plugin, work.device)
    if not pointer:
        raise DelegateError(words or "no delegate")
    interpreter = runtime.Interpreter(
        model_path=work.model,
        experimental_delegates=[SimpleNamespace(_get_native_delegate_pointer=lambda: pointer)],
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    del interpreter
    plugin.tflite_plugin_destroy_delegate(pointer)
    info = _DlInfo()
    entry = ctypes.cast(plugin.tflite_plugin_create_delegate, ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(entry, ctypes.byref(info))
    return str(Path(os.fsdecode(info.file)).resolve())


if __name__ == "__main__":
    serve(_run)
