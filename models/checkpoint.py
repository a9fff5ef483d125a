"""Reads the tensors of a PyTorch checkpoint without PyTorch, and runs nothing that is in it.

A ``.pth`` file is a pickle, and a pickle is a program. The unpickler here knows the three names
that a state dict of dense tensors needs and refuses every other, so a hostile file can at worst
be refused.

The format is the one `torch.save` wrote before PyTorch 1.6 (`torch/serialization.py`,
`_legacy_save`): five pickles in a row (magic number, protocol version, machine facts, the state
dict, the storage keys), then the raw storages in the order of those keys, each as an int64 count
followed by its elements.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

MAGIC_NUMBER: Final = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION: Final = 1001

# Little-endian by name: the file says so of itself, and this must hold on any machine.
STORAGE_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ByteStorage": np.dtype("u1"),
}


class CheckpointError(ValueError):
    """The file is not a whole checkpoint of dense tensors, or asks for more than tensors."""


@dataclass(frozen=True)
class _StorageType:
    """Stands for ``torch.FloatStorage`` and its kind, which the pickle names but never calls."""

    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True)
class _TensorView:
    """A tensor as the pickle describes it; the elements follow at the end of the file."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def materialize(self, elements: NDArray[Any]) -> NDArray[Any]:
        if (
            len(self.shape) != len(self.strides)
            or min(self.offset, *self.shape, *self.strides, 0) < 0
        ):
            raise CheckpointError(f"tensor of shape {self.shape} has strides {self.strides}")
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True)
        )
        # as_strided reads wherever it is told: prove first that every element is in the storage.
        # A stride of 0 would pass that and still ask for any amount of memory.
        if math.prod(self.shape) > elements.size or (0 not in self.shape and last >= elements.size):
            raise CheckpointError(
                f"tensor of shape {self.shape} reaches past its storage of {elements.size} elements"
            )
        view = np.lib.stride_tricks.as_strided(
            elements[self.offset :],
            self.shape,
            [stride * elements.itemsize for stride in self.strides],
            writeable=False,
        )
        return view.copy()


def _tensor_view(
    storage: object, offset: object, shape: object, strides: object, *_: object
) -> _TensorView:
    """Takes the place of ``torch._utils._rebuild_tensor_v2`` and keeps the description only."""
    if (
        isinstance(storage, _Storage)
        and isinstance(offset, int)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and all(isinstance(n, int) for n in (*shape, *strides))
    ):
        return _TensorView(storage, offset, shape, strides)
    raise CheckpointError("a tensor in the checkpoint is not described as one")


class _PlainUnpickler(pickle.Unpickler):
    """Numbers, texts, lists and dicts; no name at all can be looked up."""

    def find_class(self, module: str, name: str) -> Any:
        return _refuse(module, name)


class _StateDictUnpickler(pickle.Unpickler):
    """Ordered dicts and dense tensors; any other name is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor_view
        if module == "torch" and name in STORAGE_DTYPES:
            return _StorageType(STORAGE_DTYPES[name])
        return _refuse(module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), str(), int(count), None) if count >= 0:
                return _Storage(key, dtype, count)
        raise CheckpointError(f"the checkpoint refers to something other than a storage: {pid!r}")


def _refuse(module: str, name: str) -> NoReturn:
    raise CheckpointError(f"refused: the checkpoint wants {module}.{name}, which no tensor needs")


def _unpickle(load: Callable[[], Any], what: str) -> Any:
    try:
        return load()
    except CheckpointError:
        raise
    # A broken pickle may raise nearly anything (see the documentation of pickle.UnpicklingError).
    except Exception as error:
        raise CheckpointError(f"not a PyTorch checkpoint: broken {what} ({error})") from error


def _read_storage(file: BinaryIO, storage: _Storage) -> NDArray[Any]:
    (count,) = np.frombuffer(_read_exactly(file, 8), "<i8")
    if count != storage.count:
        raise CheckpointError(
            f"storage {storage.key} holds {count} elements, {storage.count} promised"
        )
    return np.frombuffer(_read_exactly(file, int(count) * storage.dtype.itemsize), storage.dtype)


def _read_exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise CheckpointError(f"the checkpoint ends {size - len(data)} bytes too early")
    return data


def read_checkpoint(data: bytes) -> dict[str, NDArray[Any]]:
    """Returns every tensor of a checkpoint by name, each a C-contiguous copy in its own dtype.

    Raises CheckpointError for anything but a whole legacy checkpoint of dense tensors.
    """
    file = io.BytesIO(data)
    for expected, what in ((MAGIC_NUMBER, "magic number"), (PROTOCOL_VERSION, "version")):
        if _unpickle(_PlainUnpickler(file).load, what) != expected:
            raise CheckpointError(f"not a legacy PyTorch checkpoint: unknown {what}")
    machine = _unpickle(_PlainUnpickler(file).load, "machine facts")
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise CheckpointError("the checkpoint was not written on a little-endian machine")
    state = _unpickle(_StateDictUnpickler(file).load, "state dict")
    keys = _unpickle(_PlainUnpickler(file).load, "storage keys")
    if not isinstance(state, dict) or not all(isinstance(v, _TensorView) for v in state.values()):
        raise CheckpointError("the checkpoint holds something other than a state dict of tensors")

    storages = {view.storage.key: view.storage for view in state.values()}
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise CheckpointError("the checkpoint's storages do not match its tensors")
    elements = {key: _read_storage(file, storages[key]) for key in keys}
    return {str(name): view.materialize(elements[view.storage.key]) for name, view in state.items()}
