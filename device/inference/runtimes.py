"""The ways there are to run a model on this machine: runtimes, delegates, threads.

What the interpreter, the choice of what is fastest and its measurement all speak of.
"""

import contextlib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Literal, NamedTuple

import msgspec

from device import config
from device.errors import DependencyError
from device.library.tflite_file import TfliteFile

_PROC = Path("/proc")
_CGROUPS = Path("/sys/fs/cgroup")

Runtime = Literal["tflite-runtime", "ai-edge-litert"]
Delegate = Literal["xnnpack", "edgetpu", "none"]

# Package name to module; ``auto`` takes the first that imports.
RUNTIMES: dict[Runtime, str] = {
    "tflite-runtime": "tflite_runtime.interpreter",
    "ai-edge-litert": "ai_edge_litert.interpreter",
}


# Setting to the module whose ``open_delegate(request)`` makes the delegate; "none" needs none.
DELEGATES: dict[str, str] = {
    "xnnpack": "device.inference.xnnpack",
    "edgetpu": "device.inference.edgetpu.opening",
}


class NativeDelegate:
    """What ``experimental_delegates`` takes: it must outlive the interpreter.

    Its constructor makes the TfLiteDelegate*, which ``close`` destroys.
    """

    _pointer: int | None = None
    _destroy: Callable[[int], None]

    def _get_native_delegate_pointer(self) -> int | None:
        """The TfLiteDelegate*, by the name under which the runtime asks for it."""
        return self._pointer

    def close(self) -> None:
        """Free the delegate; only after the interpreter that uses it is gone."""
        pointer, self._pointer = self._pointer, None
        if pointer:
            self._destroy(pointer)


class DelegateRequest(NamedTuple):
    """What a delegate is made for; ``module`` is the runtime's."""

    model: TfliteFile
    settings: config.Model
    threads: int
    runtime: str
    module: str


class OpenedDelegate(NamedTuple):
    """A delegate, why it is used, and the device that it runs on, if that is another."""

    delegate: NativeDelegate
    reason: str
    device: str = ""


class Candidate(msgspec.Struct, frozen=True):
    """One way to run a model."""

    runtime: Runtime
    delegate: Delegate
    threads: int

    def __str__(self) -> str:
        """As reasons and tables name it."""
        threads = f"{self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.runtime} {self.delegate} {threads}"

    def apply_to(self, settings: config.Model) -> config.Model:
        """``settings`` with this in place of what they have."""
        return msgspec.structs.replace(
            settings, runtime=self.runtime, delegate=self.delegate, threads=self.threads
        )


class Choice(msgspec.Struct, frozen=True):
    """What ``auto`` stands for here, and why; ``invoke_ms`` where it was measured, else 0."""

    best: Candidate
    reason: str
    invoke_ms: float = 0.0

    def apply_to(self, settings: config.Model) -> config.Model:
        """``settings`` with the choice for what they leave open.

        A delegate that was chosen and not asked for may fail one day: ``auto`` stays, which
        then goes on without it, unless none was the better.
        """
        delegate = settings.delegate
        if delegate == "auto" and self.best.delegate == "none":
            delegate = "none"
        return msgspec.structs.replace(
            settings,
            runtime=self.best.runtime if settings.runtime == "auto" else settings.runtime,
            delegate=delegate,
            threads=settings.threads or self.best.threads,
        )


def combinations(
    runtimes: Sequence[Runtime], delegates: Sequence[Delegate], threads: Sequence[int]
) -> tuple[Candidate, ...]:
    """Each number of threads with each runtime and delegate, in the order of preference."""
    return tuple(
        Candidate(runtime, delegate, number)
        for number in threads
        for runtime in runtimes
        for delegate in delegates
    )


def installed() -> dict[Runtime, str]:
    """The runtimes that can be imported and their versions, by preference; imports none."""
    versions: dict[Runtime, str] = {}
    for runtime, module in RUNTIMES.items():
        spec = find_spec(module.partition(".")[0])
        if spec and spec.origin:
            # Their metadata would tell too, for 50 ms of imports that nothing else needs.
            text = Path(spec.origin).read_text(encoding="utf-8", errors="replace")
            version = re.search(r"""^__version__ = ["'](.+?)["']""", text, re.MULTILINE)
            versions[runtime] = version[1] if version else "?"
    return versions


def import_runtime(wanted: Literal["auto"] | Runtime) -> tuple[Runtime, ModuleType]:
    """The runtime asked for, or with ``auto`` the first that imports.

    Raises DependencyError where there is none.
    """
    problems = []
    for package in RUNTIMES if wanted == "auto" else (wanted,):
        try:
            return package, importlib.import_module(RUNTIMES[package])
        except ImportError as error:
            # A runtime that is there and does not load (the wrong NumPy, a missing system
            # library) is not the same as one that is absent.
            absent = isinstance(error, ModuleNotFoundError)
            reason = next(iter(str(error).strip().splitlines()), "no reason given").rstrip(" .")
            problems.append(f"{package} {'is not installed' if absent else reason}")
    package = "ai-edge-litert" if wanted == "auto" else wanted
    raise DependencyError(f"runtime: {', '.join(problems)}; pip install {package}")


def usable_cores() -> int:
    """How many cores this process may keep busy: of its affinity and its control group's."""
    cores = len(os.sched_getaffinity(0))
    with contextlib.suppress(OSError, ValueError):
        own = (_PROC / "self/cgroup").read_text().partition("0::/")[2].strip()
        for group in (_CGROUPS / own, *(_CGROUPS / own).parents):
            with contextlib.suppress(FileNotFoundError):
                quota, period = (group / "cpu.max").read_text().split()
                if quota != "max":
                    cores = min(cores, int(quota) // int(period))
    return max(1, cores)
