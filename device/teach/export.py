"""A model and its head as one ``.tflite`` file, which any TensorFlow Lite program runs.

Nothing of the model is written anew. References in a FlatBuffer only ever point forward, so a
graph with more tensors and operators is put in front of the file, and refers to the old tables
behind it. What led to the old scores alone is no longer run. Format, codes and versions:
TensorFlow Lite schema v3 (tensorflow/lite/schema/schema.fbs).
"""

import io
import math
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device.errors import HeadError, ModelError, TeachError
from device.library.tflite_file import Reader, TfliteFile
from device.system.files import replace_file
from device.teach.head import Head

_ALIGNMENT = 16  # of constant data, which kernels read in place with SIMD
_FLOAT32 = 0


class _Operator(NamedTuple):
    """Operator code and version, and the code of its options' table, 0 where it needs none."""

    code: int
    version: int = 1
    options: int = 0


_DEQUANTIZE = {"uint8": _Operator(6), "int8": _Operator(6, 2)}
_FULLY_CONNECTED = _Operator(9, 1, 8)
_L2_NORMALIZATION = _Operator(11, 1, 12)
_RELU = _Operator(19)
_SOFTMAX = _Operator(25, 1, 9)
_SQRT = _Operator(75)


def export_model(path: Path, model: TfliteFile, head: Head) -> None:
    """Write a model that gives the head's probabilities for a picture, with its labels inside.

    It takes what ``model`` takes and tells no strangers. Raises HeadError where the head was
    learned on another model, ModelError where this one cannot be extended, TeachError where
    the file cannot be written.
    """
    if head.model != model.sha256:
        raise HeadError(path, f"was not learned on model {model.path.name}; teach on that first")
    data = _with_labels(_extended(model, head), head.labels)
    try:
        replace_file(path, data)
    except OSError as error:
        raise TeachError(f"{path} cannot be written: {error.strerror}") from None


def _with_labels(model: bytes, labels: Sequence[str]) -> bytes:
    """The model with a label file behind it, as TFLite metadata packs its files."""
    lines = list(labels)
    # Readers take a number in front of every line for its index and leave it out.
    if all(line.split(" ")[0].rstrip(":") == str(row) for row, line in enumerate(lines)):
        lines = [f"{row} {line}" for row, line in enumerate(lines)]
    file = io.BytesIO(model)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("labels.txt"), "".join(f"{line}\n" for line in lines))
    return file.getvalue()


def _extended(model: TfliteFile, head: Head) -> bytes:
    """The bytes of the model with the head in place of what came after its features."""
    if model.embedding is None or model.compiled_for_edgetpu:
        raise ModelError(model.path, "cannot be extended by a head; give a CPU model with features")
    data = model.path.read_bytes()
    reader = Reader(data, len(data))
    root = reader.root()
    graph, *others = reader.tables(root, 2)
    buffers = reader.tables(root, 4)
    if any(reader.scalar(buffer, 1, "<Q") > 1 for buffer in buffers):
        raise ModelError(model.path, "keeps its weights behind the graph and cannot be extended")
    features = model.outputs[model.embedding]
    front = _Front()
    added = _Added(front, len(model.tensors), len(buffers), len(reader.tables(root, 1)))
    scores = added.head(head, features, model)
    nodes = reader.tables(graph, 3)
    kept = [_old(nodes[number]) for number in _needed(model, features)]
    extended = front.table(
        {
            0: front.references([*map(_old, reader.tables(graph, 0)), *added.tensors]),
            1: _old(reader.child(graph, 1)),
            2: front.ints([scores]),
            3: front.references([*kept, *added.nodes]),
            4: _old(reader.child(graph, 4)) if reader.child(graph, 4) else None,
        }
    )
    described = {slot: reader.child(root, slot) for slot in (3, 5, 6)}
    new_root = front.table(
        {
            0: reader.scalar(root, 0, "<I"),
            1: front.references([*map(_old, reader.tables(root, 1)), *added.codes]),
            2: front.references([extended, *map(_old, others)]),
            4: front.references([*map(_old, buffers), *added.buffers]),
            **{slot: _old(at) for slot, at in described.items() if at},
        }
    )
    return front.finish(new_root) + data


def _needed(model: TfliteFile, tensor: int) -> list[int]:
    """The numbers of the operators that a tensor is computed by, in their order."""
    wanted, found = {tensor}, []
    for number in reversed(range(len(model.operators))):
        operator = model.operators[number]
        if wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            found.append(number)
    return found[::-1]


class _At(int):
    """Where something lies, in bytes before the end of the front; negative for what is behind."""


def _old(position: int) -> _At:
    return _At(-position)


class _Front:
    """FlatBuffer tables that lie in front of others, written from the end to the start."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def _put(self, data: bytes, align: int = 4, skip: int = 0) -> _At:
        """Put data whose byte ``skip`` must be aligned."""
        at = -(-(self._size + len(data) - skip) // align) * align + skip
        self._parts += [bytes(at - self._size - len(data)), data]
        self._size = at
        return _At(at)

    def data(self, values: bytes) -> _At:
        """A vector of bytes, which start where constant data may."""
        return self._put(struct.pack("<I", len(values)) + values, _ALIGNMENT, 4)

    def ints(self, values: Sequence[int]) -> _At:
        """A vector of int32."""
        return self._put(struct.pack(f"<I{len(values)}i", len(values), *values))

    def text(self, value: str) -> _At:
        """A string."""
        data = value.encode()
        return self._put(struct.pack("<I", len(data)) + data + b"\0")

    def references(self, targets: Sequence[_At]) -> _At:
        """A vector of references to tables."""
        start = -(-self._size // 4) * 4 + 4 * len(targets)
        offsets = [start - 4 * number - target for number, target in enumerate(targets)]
        return self._put(struct.pack(f"<I{len(targets)}I", len(targets), *offsets))

    def table(self, fields: dict[int, int | float | _At | None]) -> _At:
        """A table of these fields by slot, none left out but those that are None; 4 bytes each."""
        given = {slot: value for slot, value in fields.items() if value is not None}
        slots = max(given, default=-1) + 1
        places = [4 + 4 * list(given).index(n) if n in given else 0 for n in range(slots)]
        layout = struct.pack(f"<{2 + slots}H", 4 + 2 * slots, 4 + 4 * len(given), *places)
        layout += bytes(-len(layout) % 4)
        start = -(-self._size // 4) * 4 + 4 + 4 * len(given)
        table = struct.pack("<i", len(layout))
        for number, value in enumerate(given.values()):
            stored = start - 4 - 4 * number - value if isinstance(value, _At) else value
            table += struct.pack("<f" if isinstance(value, float) else "<I", stored)
        return _At(self._put(layout + table) - len(layout))

    def finish(self, root: _At) -> bytes:
        """All of it, with the head of a file; what is behind keeps its alignment."""
        total = -(-(self._size + 8) // _ALIGNMENT) * _ALIGNMENT
        padding = bytes(total - 8 - self._size)
        parts = [struct.pack("<I4s", total - root, b"TFL3"), padding, *reversed(self._parts)]
        return b"".join(parts)


class _Added:
    """What a head adds to a graph that has so many tensors, buffers and codes already."""

    def __init__(self, front: _Front, tensors: int, buffers: int, codes: int) -> None:
        self._front = front
        self._first = tensors, buffers, codes
        self.tensors: list[_At] = []
        self.buffers: list[_At] = []
        self.codes: list[_At] = []
        self.nodes: list[_At] = []

    def head(self, head: Head, features: int, model: TfliteFile) -> int:
        """Add the head behind tensor ``features``; returns the tensor of its probabilities."""
        given = model.tensors[features]
        if math.prod(given.shape) != head.weights.shape[1]:
            raise ModelError(model.path, f"has {math.prod(given.shape)} features, its head others")
        x = features
        if given.dtype != "float32":
            if given.dtype not in _DEQUANTIZE or not given.scale:
                raise ModelError(model.path, f"has features of {given.dtype}; expected 8 bits")
            x = self._step(_DEQUANTIZE[given.dtype], "features", given.shape, [x])
        x = self._step(_RELU, "positive", given.shape, [x])
        if head.power == 0.5:
            x = self._step(_SQRT, "root", given.shape, [x])
        elif head.power != 1.0:
            raise HeadError(model.path.name, f"takes features to {head.power}; expected 0.5 or 1")
        x = self._step(_L2_NORMALIZATION, "unit", given.shape, [x])
        weights = head.weights.astype(np.float64) * head.temperature
        bias = head.bias.astype(np.float64) * head.temperature - weights @ head.mean
        constants = [self._constant("weights", weights), self._constant("bias", bias)]
        shape = (1, len(head.labels))
        x = self._step(_FULLY_CONNECTED, "logits", shape, [x, *constants])
        return self._step(_SOFTMAX, "scores", shape, [x], {0: 1.0})

    def _step(
        self,
        operator: _Operator,
        name: str,
        shape: Sequence[int],
        inputs: Sequence[int],
        options: dict[int, int | float | _At | None] | None = None,
    ) -> int:
        """Add an operator; returns its output, a float32 tensor of this shape."""
        front, output = self._front, self._tensor(name, shape, 0)
        self.codes.append(front.table({0: operator.code, 2: operator.version, 3: operator.code}))
        chosen: dict[int, int | float | _At | None] = {}
        if operator.options:
            chosen = {3: operator.options, 4: front.table(options or {})}
        code = self._first[2] + len(self.codes) - 1
        self.nodes.append(
            front.table({0: code, 1: front.ints(inputs), 2: front.ints([output]), **chosen})
        )
        return output

    def _constant(
        self, name: str, values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"
    ) -> int:
        data = self._front.data(values.astype("<f4").tobytes())
        self.buffers.append(self._front.table({0: data}))
        return self._tensor(name, values.shape, self._first[1] + len(self.buffers) - 1)

    def _tensor(self, name: str, shape: Sequence[int], buffer: int) -> int:
        front = self._front
        self.tensors.append(
            front.table(
                {0: front.ints(shape), 1: _FLOAT32, 2: buffer, 3: front.text(f"head/{name}")}
            )
        )
        return self._first[0] + len(self.tensors) - 1
