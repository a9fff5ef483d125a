"""The checkpoint reader returns tensors and runs nothing."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.checkpoint import MAGIC_NUMBER, PROTOCOL_VERSION, CheckpointError, read_checkpoint

MACHINE = {"protocol_version": PROTOCOL_VERSION, "little_endian": True, "type_sizes": {"int": 4}}
STORAGE = np.arange(12, dtype=np.float32)


class FloatStorage:
    """Pickled by the name of PyTorch's own class."""


def rebuild(*_: object) -> None:
    """Pickled by the name of PyTorch's own function."""


class Tensor:
    """Pickles as a view of STORAGE the way that PyTorch pickles a tensor."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.arguments = (offset, shape, strides)

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (STORAGE, *self.arguments, False, collections.OrderedDict())


class Evil:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class StatePickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        if obj is STORAGE:
            return ("storage", FloatStorage, "key", "cpu", STORAGE.size, None)
        return None


@pytest.fixture
def save(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """Writes a legacy checkpoint of tensors that all view STORAGE."""
    torch, utils = ModuleType("torch"), ModuleType("torch._utils")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    monkeypatch.setattr(torch, "FloatStorage", FloatStorage, raising=False)
    monkeypatch.setattr(utils, "_rebuild_tensor_v2", rebuild, raising=False)
    monkeypatch.setattr(FloatStorage, "__module__", "torch")
    monkeypatch.setattr(rebuild, "__module__", "torch._utils")
    monkeypatch.setattr(rebuild, "__qualname__", "_rebuild_tensor_v2")

    def write(
        state: object, *, machine: object = MACHINE, count: int = STORAGE.size, keys: object = None
    ) -> bytes:
        file = io.BytesIO()
        for header in (MAGIC_NUMBER, PROTOCOL_VERSION, machine):
            pickle.dump(header, file, protocol=2)
        StatePickler(file, protocol=2).dump(state)
        pickle.dump(["key"] if keys is None else keys, file, protocol=2)
        file.write(struct.pack("<q", count))
        file.write(STORAGE.tobytes())
        return file.getvalue()

    return write


def test_tensors_come_out_by_name(save: Callable[..., bytes]) -> None:
    tensors = read_checkpoint(save({"a": Tensor(0, (3, 4), (4, 1)), "b": Tensor(2, (), ())}))
    np.testing.assert_array_equal(tensors["a"], STORAGE.reshape(3, 4))
    assert tensors["b"] == 2
    assert tensors["a"].dtype == np.float32


def test_strides_are_honoured(save: Callable[..., bytes]) -> None:
    tensor: NDArray[np.float32] = read_checkpoint(save({"t": Tensor(1, (2, 3), (1, 4))}))["t"]
    np.testing.assert_array_equal(tensor, [[1, 5, 9], [2, 6, 10]])
    assert tensor.flags.c_contiguous


def test_a_pickle_that_would_run_code_is_refused(
    save: Callable[..., bytes], tmp_path: Path
) -> None:
    target = tmp_path / "made by the pickle"
    for hostile in (
        save({"a": Evil(target)}),
        save({"a": Tensor(0, (3, 4), (4, 1))}, machine=Evil(target)),
        save({"a": Tensor(0, (3, 4), (4, 1))}, keys=Evil(target)),
        pickle.dumps(Evil(target)),
    ):
        with pytest.raises(CheckpointError, match=r"refused: the checkpoint wants posix\.mkdir"):
            read_checkpoint(hostile)
        assert not target.exists()


@pytest.mark.parametrize(
    "name", ["builtins eval", "os system", "torch load", "torch._utils _rebuild_parameter"]
)
def test_no_other_name_is_looked_up(save: Callable[..., bytes], name: str) -> None:
    good = save({"a": Tensor(0, (3, 4), (4, 1))})
    module, attribute = name.split()
    global_opcode = b"ccollections\nOrderedDict\n"
    assert global_opcode in good
    hostile = good.replace(global_opcode, f"c{module}\n{attribute}\n".encode(), 1)
    with pytest.raises(CheckpointError, match=f"refused: the checkpoint wants {module}"):
        read_checkpoint(hostile)


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor(0, (13,), (1,)),
        Tensor(11, (2,), (1,)),
        Tensor(0, (2,), (12,)),
        Tensor(-1, (2,), (1,)),
        Tensor(0, (2,), (-1,)),
        Tensor(0, (1 << 40,), (0,)),
        Tensor(0, (2, 2), (1,)),
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    save: Callable[..., bytes], tensor: Tensor
) -> None:
    with pytest.raises(CheckpointError, match="tensor of shape"):
        read_checkpoint(save({"a": tensor}))


def test_a_file_cut_short_anywhere_is_refused(save: Callable[..., bytes]) -> None:
    data = save({"a": Tensor(0, (3, 4), (4, 1))})
    for size in range(len(data)):
        with pytest.raises(CheckpointError):
            read_checkpoint(data[:size])


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"not a pickle", pickle.dumps({"a": 1})])
def test_what_is_no_checkpoint_is_refused(data: bytes) -> None:
    with pytest.raises(CheckpointError, match="not a"):
        read_checkpoint(data)


def test_a_storage_of_another_size_is_refused(save: Callable[..., bytes]) -> None:
    with pytest.raises(CheckpointError, match="holds 3 elements, 12 promised"):
        read_checkpoint(save({"a": Tensor(0, (3,), (1,))}, count=3))


def test_a_state_that_is_no_dict_of_tensors_is_refused(save: Callable[..., bytes]) -> None:
    for state in ({"a": 1}, [1, 2]):
        with pytest.raises(CheckpointError, match="something other than a state dict"):
            read_checkpoint(save(state))
