"""The Edge TPU: whether one is there, and the delegate that libedgetpu makes for it.

Looking for a device opens nothing: it reads /dev and /sys. Whatever stands in the way is a
``DelegateError`` of its own, with its remedy.
"""

import contextlib
import ctypes
import grp
import importlib
import logging
import os
import re
import resource
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Literal

import msgspec

from device.errors import DelegateError
from device.system.files import replace_file
from device.system.paths import runtime_directory

_log = logging.getLogger("labelcam.edgetpu")

# Where /dev and /sys are looked for; tests put a folder of their own here.
ROOT = Path("/")

# USB vendor and product: as it comes out of the box, and once libedgetpu has sent it its
# firmware, with which it leaves the bus and comes back. PCIe: Global Unichip, Coral.
_USB_IDS: Final = {("1a6e", "089a"), ("18d1", "9302")}
_PCI_ID: Final = ("0x1ac1", "0x089a")
_USB_3_MBPS: Final = 5000
# Sending the firmware and the model takes 3 to 5 s; what takes longer than this hangs.
_PROOF_TIMEOUT_S: Final = 60.0
_BUILDS: Final = "https://github.com/feranick/libedgetpu/releases"
# e_machine of the ELF header.
_MACHINES: Final = {3: "32-bit x86", 40: "32-bit ARM", 62: "x86-64", 183: "aarch64"}


class Device(msgspec.Struct, frozen=True):
    """An Edge TPU that the kernel sees; ``speed_mbps`` is that of its USB port, else 0.

    ``node`` is the device file that must be readable and writable to use it.
    """

    bus: Literal["usb", "pci"]
    name: str
    node: Path
    speed_mbps: int = 0

    def __str__(self) -> str:
        """As messages and descriptions name it."""
        speed = f", {self.speed_mbps} Mbit/s" if self.speed_mbps else ""
        return f"{self.bus} {self.name}{speed}"

    @property
    def slow_port(self) -> str:
        """What to say of its USB port where that is not USB 3, else nothing."""
        if not 0 < self.speed_mbps < _USB_3_MBPS:
            return ""
        return (
            f"it is on a USB 2 port ({self.speed_mbps} Mbit/s), where it is several times slower; "
            "use a USB 3 port (blue) and its own cable"
        )


def find_devices() -> tuple[Device, ...]:
    """The Edge TPUs that the kernel sees, in the order in which libedgetpu counts them."""
    apex = sorted((ROOT / "dev").glob("apex_*"))
    found = [Device("pci", node.name, node) for node in apex]
    for folder in sorted((ROOT / "sys/bus/usb/devices").glob("*")):
        if (_read(folder / "idVendor"), _read(folder / "idProduct")) in _USB_IDS:
            bus, number = int(_read(folder / "busnum") or 0), int(_read(folder / "devnum") or 0)
            node = ROOT / f"dev/bus/usb/{bus:03}/{number:03}"
            speed = _read(folder / "speed")
            found.append(Device("usb", folder.name, node, int(float(speed)) if speed else 0))
    return tuple(found)


def choose_device(wanted: str) -> Device:
    """The device that ``edgetpu_device`` names, by libedgetpu's rules: ``usb``, ``pci:1``, ``:0``.

    Raises DelegateError where there is none, or where this user may not open it.
    """
    devices = find_devices()
    bus, _, number = wanted.partition(":")
    fitting = [device for device in devices if bus in ("", device.bus)]
    if int(number or 0) >= len(fitting):
        raise DelegateError(f"delegate edgetpu: {_nothing_found(wanted, devices)}")
    device = fitting[int(number or 0)]
    if not os.access(device.node, os.R_OK | os.W_OK):
        raise DelegateError(f"delegate edgetpu: {_no_permission(device)}")
    return device


def _nothing_found(wanted: str, devices: tuple[Device, ...]) -> str:
    if devices:
        names = ", ".join(map(str, devices))
        return f'edgetpu_device = "{wanted}" is none of those found ({names}); name another'
    for folder in (ROOT / "sys/bus/pci/devices").glob("*"):
        if (_read(folder / "vendor"), _read(folder / "device")) == _PCI_ID:
            return (
                f"the Edge TPU on PCIe {folder.name} has no driver (/dev/apex_0 is missing); "
                "install gasket-dkms"
            )
    return (
        "no Edge TPU found; plug one in: `lsusb` then shows 1a6e:089a or 18d1:9302, "
        "or there is a /dev/apex_0"
    )


def _no_permission(device: Device) -> str:
    try:
        found = device.node.stat()
    except OSError:
        return f"{device} has no device file {device.node}; plug it in again"
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    problem = (
        f"{device} may not be opened by this user "
        f"({device.node} is {stat.filemode(found.st_mode)}, group {group})"
    )
    if group == "root" or (found.st_mode & 0o060) != 0o060:
        return (
            f"{problem}; a udev rule must give it to group plugdev: sudo ./install.sh writes one, "
            "then plug it in again"
        )
    return f"{problem}; sudo usermod -aG {group} USER, then log in again"


def _read(path: Path) -> str:
    """A value in /sys; empty where it is not there or went while it was read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


class EdgetpuDelegate:
    """The delegate that libedgetpu makes for a device, for ``experimental_delegates``.

    It must outlive the interpreter that it was given to; ``close`` frees it. One thread,
    always the same, must make it, use it and close it: libedgetpu leaks otherwise.
    Raises DelegateError, as ``choose_device`` does.
    """

    def __init__(self, library: str, device: str) -> None:
        self._pointer: int | None = None
        self.device = choose_device(device)
        plugin = _load(library)
        self._destroy: Callable[[int], None] = plugin.tflite_plugin_destroy_delegate
        self._pointer, said = _create(plugin, device)
        if not self._pointer:
            # libedgetpu itself gives no reason.
            raise DelegateError(
                f"delegate edgetpu: {self.device} does not open"
                f"{f' ({said})' if said else ''}; another program may hold it, or it lost power: "
                "end that program, else plug it in again"
            )

    def _get_native_delegate_pointer(self) -> int | None:
        """The TfLiteDelegate*, by the name under which the runtime asks for it."""
        return self._pointer

    def close(self) -> None:
        """Free the delegate; only after the interpreter that uses it is gone."""
        pointer, self._pointer = self._pointer, None
        if pointer:
            self._destroy(pointer)


def _create(plugin: Any, device: str) -> tuple[int | None, str]:
    """A new TfLiteDelegate*, or None and what the library said."""
    said: list[bytes] = []
    report = _REPORT(said.append)
    options = {b"device": device.encode()} if device else {}
    texts = ctypes.c_char_p * len(options)
    pointer: int | None = plugin.tflite_plugin_create_delegate(
        texts(*options), texts(*options.values()), len(options), report
    )
    return pointer, b" ".join(said).decode("utf-8", "replace")


_REPORT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _load(library: str) -> Any:
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


def _not_loaded(library: str, said: str) -> str:
    missing = said.partition(": cannot open shared object file")[0]
    if missing == library:
        return (
            f"{library} is not installed; install the libedgetpu1 package that follows your "
            f"TensorFlow Lite from {_BUILDS}"
        )
    if missing != said:
        return f"{library} needs {missing}, which is not installed; sudo apt install libusb-1.0-0"
    return f"{library} cannot be loaded: {said}; install the build for this system from {_BUILDS}"


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


def unfit(said: str, runtime: str) -> str:
    """What the runtime's words mean when it cannot prepare a compiled model, with the remedy.

    ``runtime`` is its name and version. Empty where the words are not known.
    """
    if found := re.search(r"requires runtime version \((\d+)\).*runtime version \((\d+)\)", said):
        needed, there = found.groups()
        return (
            f"is compiled for Edge TPU runtime {needed}, and this libedgetpu is runtime {there}; "
            f"update libedgetpu, or compile it with `edgetpu_compiler -m {there}`"
        )
    if "unresolved custom op: edgetpu-custom-op" in said:
        return f"was not taken by libedgetpu; {_other_build(runtime)}"
    return ""


def _other_build(runtime: str) -> str:
    return (
        f"library and runtime do not match: install the build that follows {runtime} from "
        f"{_BUILDS}, not Google's of 2021"
    )


# What passed in this process or in one before it, a line each: runtime, library as it was
# asked for, and the file that it was.
_proved: set[str] = set()


def prove(model: Path, library: str, device: str, module: str, runtime: str) -> None:
    """Run the model once in a process of its own, if this library is new to this runtime.

    A libedgetpu that was built for another TensorFlow does not fail, it ends the process with
    SIGSEGV, and a damaged one with SIGBUS as soon as it is loaded; so let that be a process
    that nobody misses. What passed is kept in the runtime directory. Errors other than a crash
    are left to the caller, who meets them as well. ``module`` is what to import, ``runtime``
    what to call it. Raises DelegateError.
    """
    folder = runtime_directory()
    kept = folder / "edgetpu-proved" if folder else None
    with contextlib.suppress(OSError):
        _proved.update(kept.read_text().splitlines() if kept else ())
    asked = f"{runtime}\t{library}\t"
    if any(line == asked + _identity(line.split("\t")[2]) for line in _proved):
        return
    child = _in_a_child([module, str(model.resolve()), library, device])
    if child.returncode == -signal.SIGBUS:
        raise DelegateError(f"delegate edgetpu: {library} is damaged (SIGBUS); install it again")
    if child.returncode < 0:
        how = signal.Signals(-child.returncode).name
        raise DelegateError(
            f"delegate edgetpu: {library} crashes {runtime} ({how}); {_other_build(runtime)}"
        )
    if child.returncode == 0:
        _proved.add(asked + _identity(child.stdout.strip()))
        with contextlib.suppress(OSError):
            if kept:
                replace_file(kept, "\n".join(sorted(_proved)).encode())


def _in_a_child(arguments: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    """Run this module in a process of its own; raises DelegateError where it hangs."""
    package = str(Path(__file__).resolve().parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        child = subprocess.run(
            [sys.executable, "-m", __name__, *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROOF_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DelegateError(
            f"delegate edgetpu: no answer from the Edge TPU within {_PROOF_TIMEOUT_S:g} s; "
            "plug it in again"
        ) from None
    for line in child.stderr.splitlines():
        _log.debug("%s", line)
    return child


class _Where(ctypes.Structure):
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
        found = Path(path).stat()
    except OSError:
        return ""
    return f"{path}\t{found.st_size}\t{found.st_mtime_ns}"


def _prove_here(module: str, model: str, library: str, device: str) -> None:
    """In the child: prepare and run the model, or crash; prints where the library lies."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    runtime = importlib.import_module(module)
    plugin = _load(library)
    pointer, said = _create(plugin, device)
    if not pointer:
        sys.exit(said or "no delegate")
    delegate = SimpleNamespace(_get_native_delegate_pointer=lambda: pointer)
    interpreter = runtime.Interpreter(
        model_path=model,
        experimental_delegates=[delegate],
        experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    interpreter.invoke()
    del interpreter
    plugin.tflite_plugin_destroy_delegate(pointer)
    where = _Where()
    entry = ctypes.cast(plugin.tflite_plugin_create_delegate, ctypes.c_void_p)
    ctypes.CDLL(None).dladdr(entry, ctypes.byref(where))
    print(Path(os.fsdecode(where.file)).resolve())


if __name__ == "__main__":
    _prove_here(*sys.argv[1:])
