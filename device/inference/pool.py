"""Who shares an engine, and who closes it.

A second interpreter of the same model would take as much memory again and be no faster, so
cameras use one by turns. The last to close its lease frees the model.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from device import config
from device.errors import InferenceError, ModelError
from device.events import Accelerator, Description
from device.inference import proof
from device.inference.interpreter import Engine, Interpreter
from device.inference.runtimes import Choice, import_runtime
from device.library.catalog import Model
from device.library.tflite_file import TfliteFile

_log = logging.getLogger("labelcam.classifier")

# The file by its path and SHA-256, and the settings without the names that led to it.
_Key = tuple[Path, str, config.Model]


class EnginePool:
    """The engines that are open, each with the number of its leases.

    A lease may be closed on another thread than the one on which all are opened.
    """

    def __init__(self) -> None:
        self._engines: dict[_Key, Engine] = {}
        self._leases: dict[_Key, int] = {}
        self._lock = threading.Lock()

    def share(self, model: Model, settings: config.Model) -> "Lease | None":
        """A lease of the engine for this model and these settings, where one is open."""
        key = _key(model, settings)
        with self._lock:
            if key not in self._engines:
                return None
            self._leases[key] += 1
            return Lease(self._engines[key], partial(self._release, key), shared=True)

    def open(
        self, model: Model, settings: config.Model, choice: Choice | None = None, *, wait: bool
    ) -> "Lease":
        """A lease of the engine that runs the model: of the one that is open, or of a new one.

        The arguments are those of ``open_engine``, which says what is raised.
        """
        if lease := self.share(model, settings):
            return lease
        # Loading takes long, and whoever closes a lease meanwhile must not wait for it.
        engine = open_engine(model, settings, choice, wait=wait)
        key = _key(model, settings)
        with self._lock:
            self._engines[key], self._leases[key] = engine, 1
        return Lease(engine, partial(self._release, key))

    def _release(self, key: _Key) -> None:
        with self._lock:
            self._leases[key] -= 1
            engine = None if self._leases[key] else self._engines.pop(key)
        if engine:
            engine.close()


class Lease:
    """One user's share of an engine, and an Engine itself until it is closed.

    ``shared`` where others had it before.
    """

    def __init__(
        self, engine: Engine, release: Callable[[], None], *, shared: bool = False
    ) -> None:
        self.shared = shared
        self._engine = engine
        self._release = release
        self._closed = False

    @property
    def description(self) -> Description:
        """As of the engine."""
        return self._engine.description

    @property
    def accelerator(self) -> Accelerator | None:
        """As of the engine."""
        return self._engine.accelerator

    def input(self) -> NDArray[Any]:
        """As of the engine; what another user wrote there is still in it."""
        return self._open_engine.input()

    def invoke(self) -> None:
        """As of the engine."""
        self._open_engine.invoke()

    def output(self, number: int = 0) -> NDArray[Any]:
        """As of the engine, of the last ``invoke`` by any of its users."""
        return self._open_engine.output(number)

    @property
    def _open_engine(self) -> Engine:
        if self._closed:
            raise InferenceError("the lease of an engine was used after it was closed")
        return self._engine

    def close(self) -> None:
        """Give the share back; the last one frees the engine. May be called twice."""
        if not self._closed:
            self._closed = True
            self._release()


def open_engine(
    model: Model, settings: config.Model, choice: Choice | None = None, *, wait: bool = True
) -> Engine:
    """What runs the model: the CPU, the Edge TPU, or one beside the other.

    ``choice`` is what ``auto`` stands for on the CPU, where it was measured. With
    ``delegate = "auto"`` and a twin it is a Failover, which takes an Edge TPU also when it is
    plugged in later. With ``wait`` it has already tried the one that is there; without, the
    Edge TPU is opened meanwhile, which takes seconds, and the CPU works until it is. A twin
    that does not fit is refused: then the CPU works alone, and with ``delegate = "edgetpu"``
    it is a ModelError.

    Raises what Interpreter raises, ModelError also for a file that would end the process.
    """
    on_cpu, on_edgetpu = _files(model, settings, choice)
    if on_cpu is None:
        # Imported here: most devices have no Edge TPU.
        from device.inference.edgetpu.engine import open_on_edgetpu

        return open_on_edgetpu(on_edgetpu or model.file, settings)
    cpu = Interpreter(on_cpu, settings, choice)
    if on_edgetpu is None:
        return cpu
    from device.inference.edgetpu.device import find_devices
    from device.inference.edgetpu.failover import Failover

    if wait and not find_devices():
        return cpu
    try:
        failover = Failover(model, settings, cpu)
    except BaseException:
        cpu.close()
        raise
    if wait:
        failover.wait_until_opened()
    return failover


def settings_beside(settings: config.Model, runtime: str) -> config.Model:
    """The settings of a model that looks beside one on ``runtime``: the same, and one thread.

    Two runtimes take twice the memory. Its work is small: threads would be woken for less than
    that costs, and a measurement would take longer than it could spare in a year. It need not have
    a twin where the first runs on an Edge TPU only.
    """
    delegate = "auto" if settings.delegate == "edgetpu" else settings.delegate
    return msgspec.structs.replace(settings, runtime=runtime, delegate=delegate, threads=1)


def open_beside(
    model: Model, settings: config.Model, choice: Choice | None = None
) -> Interpreter | None:
    """What runs the model on the CPU, while another process has the Edge TPU.

    None where nothing runs on the CPU: then the device is looked for and its library loaded.
    Raises what ``open_engine`` raises for the same arguments, but for what only opening the
    device would tell.
    """
    on_cpu, _ = _files(model, settings, choice)
    if on_cpu is not None:
        return Interpreter(on_cpu, settings, choice)
    from device.inference.edgetpu.delegate import load_library
    from device.inference.edgetpu.device import choose_device

    import_runtime(settings.runtime)
    choose_device(settings.edgetpu_device)
    load_library(settings.edgetpu_library)
    return None


def _files(
    model: Model, settings: config.Model, choice: Choice | None
) -> tuple[TfliteFile | None, TfliteFile | None]:
    """What runs on the CPU, and what on the Edge TPU; at least one of them, and proved."""
    proof.prove(model.file, choice.apply_to(settings) if choice else settings)
    if settings.delegate not in ("auto", "edgetpu"):
        return model.file, None
    if model.file.compiled_for_edgetpu:
        return None, model.file
    if model.twin is None:
        return model.file, None
    from device.inference.edgetpu.self_test import check_twin

    try:
        check_twin(model.file, model.twin)
    except ModelError as error:
        if settings.delegate == "edgetpu":
            raise
        _log.warning("the Edge TPU is not used: %s", error)
        return model.file, None
    return None if settings.delegate == "edgetpu" else model.file, model.twin


def _key(model: Model, settings: config.Model) -> _Key:
    nameless = msgspec.structs.replace(settings, name=config.Model().name, labels="")
    return model.file.path, model.file.sha256, nameless
