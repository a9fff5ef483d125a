"""The delegate that libedgetpu makes for an Edge TPU.

Whatever stands in the way is a ``DelegateError`` of its own, with its remedy.
"""

import ctypes
import re
import struct
from pathlib import Path
from typing import Any, Final

from device.errors import DelegateError
from device.inference.edgetpu.device import choose_device
from device.inference.runtimes import NativeDelegate

_BUILDS: Final = "https://github.com/feranick/libedgetpu/releases"
# e_machine of the ELF header.
_MACHINES: Final = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86-64", 183: "aarch64"}


class EdgetpuDelegate(NativeDelegate):
    """The delegate that libedgetpu makes for a device.

    One thread, always the same, must make it, use it and close it: libedgetpu leaks otherwise.
    Raises DelegateError, as ``choose_device`` does.
    """

    def __init__(self, library: str, device: str) -> None:
        self.device = choose_device(device)
        plugin = load_library(library)
        self._destroy = plugin.tflite_plugin_destroy_delegate
        self._pointer, words = create_delegate(plugin, device)
        if not self._pointer:
            # libedgetpu itself gives no reason.
            raise DelegateError(
                f"delegate edgetpu: {self.device} does not open"
                f"{f' ({words})' if words else ''}; another program may hold it, or it lost power: "
                "end that program, else plug it in again"
            )


def create_delegate(plugin: Any, device: str) -> tuple[int | None, str]:
    """A new TfLiteDelegate*, or None and what the library said."""
    words: list[bytes] = []
    report = _REPORT(words.append)
    options = {b"device": device.encode()} if device else {}
    texts = ctypes.c_char_p * len(options)
    pointer: int | None = plugin.tflite_plugin_create_delegate(
        texts(*options), texts(*options.values()), len(options), report
    )
    return pointer, b" ".join(words).decode("utf-8", "replace")


_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def load_library(library: str) -> Any:
    """The library with its two entry points declared; raises DelegateError."""
    if "/" in library:
        _check_elf(Path(library))
    try:
        # Not as the runtimes' own load_delegate() does it, which keeps Python's lock for all
        # of the seconds that a device may take to open: every thread would stand still.
        plugin: Any = ctypes.CDLL(library)
    except OSError as error:
        raise DelegateError(f"delegate edgetpu: {_not_loaded(library, str(error))}") from None
    try:
        create, destroy = (
            plugin.tflite_plugin_create_delegate,
            plugin.tflite_plugin_destroy_delegate,
        )
    except AttributeError:
        raise DelegateError(
            f"delegate edgetpu: {library} is a library, but none for TensorFlow Lite "
            "(tflite_plugin_create_delegate is missing); edgetpu_library must name libedgetpu.so.1"
        ) from None
    strings = ctypes.POINTER(ctypes.c_char_p)
    create.argtypes, create.restype = (strings, strings, ctypes.c_size_t, _REPORT), ctypes.c_void_p
    destroy.argtypes, destroy.restype = (ctypes.c_void_p,), None
    return plugin


def _not_loaded(library: str, error: str) -> str:
    missing = error.partition(": cannot open shared object file")[0]
    if missing == library:
        return (
            f"{library} is not installed; install the libedgetpu1 package that follows your "
            f"TensorFlow Lite from {_BUILDS}"
        )
    if missing != error:
        return f"{library} needs {missing}, which is not installed; sudo apt install libusb-1.0-0"
    return f"{library} cannot be loaded: {error}; install the build for this system from {_BUILDS}"


def _check_elf(path: Path) -> None:
    """Raise DelegateError unless the file is a library for this machine's programs."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError as error:
        raise DelegateError(
            f"delegate edgetpu: {path} cannot be read: {(error.strerror or 'unknown').lower()}; "
            "edgetpu_library must name libedgetpu.so.1"
        ) from None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        raise DelegateError(
            f"delegate edgetpu: {path} is not a library; edgetpu_library must name libedgetpu.so.1"
        )
    with Path("/proc/self/exe").open("rb") as file:
        own = file.read(20)
    # Bytes 4 and 5: 32 or 64 bits, and byte order; 18 and 19: the processor.
    if (head[4:6], head[18:20]) != (own[4:6], own[18:20]):
        raise DelegateError(
            f"delegate edgetpu: {path} is for {_machine(head)}, this Python is for {_machine(own)};"
            f" install the build for {_machine(own)} from {_BUILDS}"
        )


def _machine(head: bytes) -> str:
    code: int = struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0]
    return _MACHINES.get(code, f"machine {code}")


def refusal_cause(message: str, runtime: str) -> str:
    """What the runtime's words mean when it cannot prepare a compiled model, with the remedy.

    ``runtime`` is its name and version. Empty where the words are not known.
    """
    if found := re.search(
        r"requires runtime version \((\d+)\).*runtime version \((\d+)\)", message
    ):
        needed, there = found.groups()
        return (
            f"is compiled for Edge TPU runtime {needed}, and this libedgetpu is runtime {there}; "
            f"update libedgetpu, or compile it with `edgetpu_compiler -m {there}`"
        )
    if "unresolved custom op: edgetpu-custom-op" in message:
        return f"was not taken by libedgetpu; {other_build(runtime)}"
    return ""


def other_build(runtime: str) -> str:
    """The remedy where library and runtime were not built for each other."""
    return (
        f"library and runtime do not match: install the build that follows {runtime} from "
        f"{_BUILDS}, not Google's of 2021"
    )
