"""What a ``.tflite`` file says of itself, read without a runtime and without trusting it.

The runtimes map a model and follow its offsets unchecked, so that a truncated file ends
the process. This reader follows every offset that they would, within bounds, before one
of them sees the file. Format: TensorFlow Lite schema v3 on FlatBuffers, little-endian.
"""

import hashlib
import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from device.errors import ModelError
from device.events import Tensor

EDGETPU_OP = "edgetpu-custom-op"

# TensorType of the schema: NumPy's name and bytes an element, for what a classifier holds.
_DTYPES = {
    0: ("float32", 4),
    1: ("float16", 2),
    2: ("int32", 4),
    3: ("uint8", 1),
    4: ("int64", 8),
    6: ("bool", 1),
    7: ("int16", 2),
    9: ("int8", 1),
    10: ("float64", 8),
}
# BuiltinOperator codes of the schema that say what the output's numbers mean.
_CUSTOM = 32
_QUANTIZE = 114
_PROBABILITIES = {14: "LOGISTIC", 25: "SOFTMAX"}
_SHAPE_ONLY = {6: "DEQUANTIZE", 22: "RESHAPE", 114: "QUANTIZE"}
# What averages a network's last feature map into one vector.
_POOLS = {1: "AVERAGE_POOL_2D", 40: "MEAN"}
# No network here ends in fewer features; an average of colour planes is none.
_FEATURES_MIN = 32


class OutOfBoundsError(Exception):
    """An offset that points outside the file."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One node of the graph; ``custom`` is the name of a custom operator, else empty."""

    code: int
    custom: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """A checked model file: its main graph, and where its bytes lie."""

    path: Path
    size_bytes: int
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @cached_property
    def sha256(self) -> str:
        """The file's SHA-256 in hexadecimal."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def picture_size(self) -> tuple[int, int] | None:
        """Width and height of the picture that it takes; None where it takes none."""
        shape = self.tensors[self.inputs[0]].shape if self.inputs else ()
        return (shape[2], shape[1]) if len(shape) == 4 and min(shape) > 0 else None

    @property
    def compiled_for_edgetpu(self) -> bool:
        """Whether the file needs an Edge TPU to run."""
        return any(operator.custom == EDGETPU_OP for operator in self.operators)

    @cached_property
    def embedding(self) -> int | None:
        """Which output, from 0, holds the features that new classes are taught on; or None."""
        found = (n for n, tensor in enumerate(self.outputs) if self._holds_features(tensor))
        return next(found, None)

    @property
    def scores(self) -> int | None:
        """Which output, from 0, holds a score for each class; None where it has features alone."""
        return next((n for n in range(len(self.outputs)) if n != self.embedding), None)

    def gives_probabilities(self, output: int) -> bool:
        """Whether the graph ends in a softmax or sigmoid at tensor ``output``.

        Where the graph is hidden in an Edge TPU operator, an output that can hold only
        0 ≤ p < 1 (scale 1/256, zero point at the bottom of its type) tells the same.
        """
        node, tensor = self._source(output)
        if node and node.custom == EDGETPU_OP:
            return tensor.scale == 1 / 256 and _is_never_negative(tensor)
        return node is not None and node.code in _PROBABILITIES

    def _holds_features(self, output: int) -> bool:
        """Whether tensor ``output`` is one vector that averages a feature map.

        In an Edge TPU operator, one that is never negative, as features are behind a ReLU and
        logits are not.
        """
        shape = self.tensors[output].shape
        if not shape or shape[-1] < _FEATURES_MIN or any(side != 1 for side in shape[:-1]):
            return False
        node, tensor = self._source(output)
        if node and node.custom == EDGETPU_OP:
            return _is_never_negative(tensor) and not self.gives_probabilities(output)
        return node is not None and node.code in _POOLS

    def _source(self, output: int) -> tuple[Operator | None, Tensor]:
        """The operator that computes the values of tensor ``output``, and where it puts them."""
        for _ in self.operators:  # bounded: a corrupt graph may go in a circle
            node = next((o for o in self.operators if output in o.outputs), None)
            if node is None or node.code not in _SHAPE_ONLY or not node.inputs:
                return node, self.tensors[output]
            output = node.inputs[0]
        return None, self.tensors[output]


def read(path: Path) -> TfliteFile:
    """Read and check a model file.

    Raises ModelError for a file that is missing, empty, truncated, not TensorFlow Lite, or
    whose offsets or indices point outside it.
    """
    try:
        size_bytes = path.stat().st_size
        if path.is_dir():
            raise ModelError(path, "is a directory; give the .tflite file in it")
        if size_bytes == 0:
            raise ModelError(path, "is empty (0 bytes); fetch or copy it again")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            if size_bytes < 8 or data[4:8] != b"TFL3":
                raise ModelError(path, "is not a TensorFlow Lite model (no TFL3 mark at byte 4)")
            try:
                return _read_graph(path, Reader(data, size_bytes))
            except (OutOfBoundsError, UnicodeDecodeError):
                raise ModelError(
                    path, f"is truncated or corrupt ({size_bytes:,} bytes); fetch or copy it again"
                ) from None
    except FileNotFoundError:
        raise ModelError(path, "no such file") from None
    except PermissionError:
        raise ModelError(path, "may not be read by this user; see its permissions") from None
    except OSError as error:
        raise ModelError(path, f"cannot be read: {error.strerror}") from None


def _is_never_negative(tensor: Tensor) -> bool:
    lowest = {"uint8": 0, "int8": -128}.get(tensor.dtype)
    return bool(tensor.scale) and tensor.zero_point == lowest


def _read_graph(path: Path, reader: "Reader") -> TfliteFile:
    root = reader.root()
    codes = [_operator_code(reader, table) for table in reader.tables(root, 1)]
    graphs = reader.tables(root, 2)
    buffers = [_buffer_bytes(reader, table) for table in reader.tables(root, 4)]
    if not graphs:
        raise OutOfBoundsError
    graph = graphs[0]
    tensors = tuple(_tensor(reader, table, buffers) for table in reader.tables(graph, 0))
    inputs, outputs = reader.ints(graph, 1), reader.ints(graph, 2)
    operators = []
    for table in reader.tables(graph, 3):
        index = reader.scalar(table, 0, "<I")
        if index >= len(codes):
            raise OutOfBoundsError
        reader.table(table, 4)
        node = Operator(*codes[index], reader.ints(table, 1), reader.ints(table, 2))
        # -1 stands for an optional input that is not there.
        if not all(-1 <= i < len(tensors) for i in node.inputs + node.outputs):
            raise OutOfBoundsError
        operators.append(node)
    if not all(0 <= i < len(tensors) for i in inputs + outputs):
        raise OutOfBoundsError
    tensors = _with_inner_quantization(tensors, operators, inputs)
    return TfliteFile(path, reader.size, tensors, tuple(operators), inputs, outputs)


def _with_inner_quantization(
    tensors: tuple[Tensor, ...], operators: Sequence[Operator], inputs: Sequence[int]
) -> tuple[Tensor, ...]:
    """The tensors, float32 inputs with the quantization that the graph gives them first thing.

    That is how an 8-bit model looks whose ends were left float32 when it was converted.
    """
    changed = list(tensors)
    for index in inputs:
        takers = [node for node in operators if index in node.inputs]
        if tensors[index].dtype != "float32" or [t.code for t in takers] != [_QUANTIZE]:
            continue
        inner = tensors[takers[0].outputs[0]] if takers[0].outputs else tensors[index]
        # int8 from -128 are the same steps as uint8 from 0.
        shift = {"int8": 128, "uint8": 0}.get(inner.dtype)
        if shift is not None:
            changed[index] = msgspec.structs.replace(
                tensors[index], scale=inner.scale, zero_point=inner.zero_point + shift
            )
    return tuple(changed)


def _operator_code(reader: "Reader", table: int) -> tuple[int, str]:
    # Codes over 127 stand in field 3, and 127 in the old one-byte field 0; files from
    # before schema v3a have field 0 only.
    code = max(reader.scalar(table, 0, "<b"), reader.scalar(table, 3, "<i"))
    return code, reader.text(table, 1) if code == _CUSTOM else ""


def _buffer_bytes(reader: "Reader", table: int) -> int:
    """How many constant bytes a buffer holds, all of them within the file."""
    inside = reader.vector(table, 0, 1)[1]
    # Files over 2 GB keep their data behind the tables, by offset and size.
    offset, size = reader.scalar(table, 1, "<Q"), reader.scalar(table, 2, "<Q")
    if offset > 1:
        reader.check(offset, size)
        return size
    return inside


def _tensor(reader: "Reader", table: int, buffers: list[int]) -> Tensor:
    shape = reader.ints(table, 0)
    dtype, width = _DTYPES.get(reader.scalar(table, 1, "<b"), ("other", 0))
    buffer = reader.scalar(table, 2, "<I")
    # Buffer 0 means no constant data, also in a file that lists no buffers.
    if (buffer and buffer >= len(buffers)) or any(side < 0 for side in shape):
        raise OutOfBoundsError
    # A constant shorter than its shape would be read past its end.
    if buffer and width and 0 < buffers[buffer] < math.prod(shape) * width:
        raise OutOfBoundsError
    scale, zero_point = 0.0, 0
    reader.table(table, 6)
    reader.vector(table, 7, 4)
    quantization = reader.table(table, 4)
    if quantization:
        start, count = reader.vector(quantization, 2, 4)
        if count:
            scale = reader.unpack("<f", start)
        start, count = reader.vector(quantization, 3, 8)
        if count:
            zero_point = reader.unpack("<q", start)
    return Tensor(reader.text(table, 3), shape, dtype, scale, zero_point)


class Reader:
    """FlatBuffers by hand: tables are byte positions, and a vector's start is its first element.

    Every access is within bounds, or raises OutOfBoundsError.
    """

    def __init__(self, data: bytes | mmap.mmap, size: int) -> None:
        self._data = data
        self.size = size

    def check(self, start: int, length: int) -> None:
        """Raise unless so many bytes from ``start`` are in the file."""
        if start < 0 or length < 0 or start + length > self.size:
            raise OutOfBoundsError

    def unpack(self, layout: str, start: int) -> Any:
        """The number of this ``struct`` layout at ``start``."""
        self.check(start, struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)[0]

    def root(self) -> int:
        """The table that all others hang from."""
        return self._table(0)

    def _follow(self, start: int) -> int:
        target: int = start + self.unpack("<I", start)
        self.check(target, 4)
        return target

    def _table(self, start: int) -> int:
        """Where the table lies that ``start`` refers to, all of its fields within it."""
        table = self._follow(start)
        vtable = table - self.unpack("<i", table)
        size, inline = self.unpack("<H", vtable), self.unpack("<H", vtable + 2)
        self.check(vtable, size)
        self.check(table, inline)
        if size < 4 or size % 2:
            raise OutOfBoundsError
        # One that says too many fields has those of its neighbours, which mean something else.
        if any(
            field >= inline
            for field in struct.unpack_from(f"<{size // 2 - 2}H", self._data, vtable + 4)
        ):
            raise OutOfBoundsError
        return table

    def _field(self, table: int, slot: int) -> int:
        """Where a table's field lies, 0 when it is left at its default."""
        vtable = table - self.unpack("<i", table)
        entry = 4 + 2 * slot
        if entry + 2 > self.unpack("<H", vtable):
            return 0
        offset = self.unpack("<H", vtable + entry)
        return table + offset if offset else 0

    def scalar(self, table: int, slot: int, layout: str) -> int:
        """A number of a table, 0 where it is left at its default."""
        field = self._field(table, slot)
        value: int = self.unpack(layout, field) if field else 0
        return value

    def child(self, table: int, slot: int) -> int:
        """Where what a table refers to lies, 0 where it refers to nothing."""
        field = self._field(table, slot)
        return self._follow(field) if field else 0

    def table(self, table: int, slot: int) -> int:
        """Where the table lies that a table refers to, 0 where it refers to none."""
        field = self._field(table, slot)
        return self._table(field) if field else 0

    def vector(self, table: int, slot: int, width: int) -> tuple[int, int]:
        """Start and count of a vector whose elements are ``width`` bytes."""
        head = self.child(table, slot)
        if not head:
            return 0, 0
        count = self.unpack("<I", head)
        self.check(head + 4, count * width)
        return head + 4, count

    def ints(self, table: int, slot: int) -> tuple[int, ...]:
        """The int32 of a vector, none where there is no vector."""
        start, count = self.vector(table, slot, 4)
        return struct.unpack_from(f"<{count}i", self._data, start)

    def tables(self, table: int, slot: int) -> list[int]:
        """The tables of a vector, none where there is no vector."""
        start, count = self.vector(table, slot, 4)
        return [self._table(start + 4 * i) for i in range(count)]

    def text(self, table: int, slot: int) -> str:
        """A string of a table, empty where it has none; raises UnicodeDecodeError."""
        start, count = self.vector(table, slot, 1)
        return self._data[start : start + count].decode("utf-8")
