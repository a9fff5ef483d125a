"""Writes TensorFlow Lite files: the part of the schema that a convolutional classifier needs.

Table slots, enum values and operator versions are those of the public schema
(`tensorflow/lite/schema/schema.fbs`, version 3, and `tools/versioning/op_version.cc`). The bytes
depend on the calls alone: no time stamp, no hash order, no library version goes in.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import flatbuffers
import numpy as np
from numpy.typing import ArrayLike, NDArray

SCHEMA_VERSION: Final = 3
FILE_IDENTIFIER: Final = b"TFL3"
# The schema's force_align of Buffer.data: kernels map weights in place and read them with SIMD.
BUFFER_ALIGNMENT: Final = 16


class TensorType(enum.IntEnum):
    """The schema's code of an element type."""

    FLOAT32 = 0
    INT32 = 2
    UINT8 = 3
    INT8 = 9

    @property
    def dtype(self) -> np.dtype[Any]:
        """The same type to numpy, little-endian as in the file."""
        return np.dtype(self.name.lower()).newbyteorder("<")


class Activation(enum.IntEnum):
    """What a convolution applies to its own output before it is stored."""

    NONE = 0
    RELU6 = 3


class _Operator(enum.Enum):
    """Builtin operator code, version, and the code of its options table (0: it has none)."""

    ADD = (0, 2, 11)
    CONV_2D = (3, 3, 1)
    DEPTHWISE_CONV_2D = (4, 3, 2)
    FULLY_CONNECTED = (9, 4, 8)
    SOFTMAX = (25, 2, 9)
    MEAN = (40, 2, 27)
    QUANTIZE = (114, 1, 0)

    @property
    def code(self) -> int:
        return self.value[0]

    @property
    def version(self) -> int:
        return self.value[1]

    @property
    def options_type(self) -> int:
        return self.value[2]


@dataclass(frozen=True)
class Quantization:
    """real = scale * (stored - zero_point).

    One scale for the whole tensor, or one for each index of `axis` (then every zero point is 0,
    as the INT8 specification demands of weights).
    """

    scale: float | NDArray[np.float32]
    zero_point: int = 0
    axis: int = 0


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: TensorType
    buffer: int
    quantization: Quantization | None


@dataclass(frozen=True)
class _Operation:
    operator: _Operator
    inputs: tuple[int, ...]
    output: int
    options: tuple[_Slot, ...] = ()


@dataclass(frozen=True)
class _Slot:
    """One field of a table: its slot in the schema, its value, and how the builder writes it."""

    index: int
    value: int | float
    kind: str = "Int32"


def _reference(index: int, offset: int) -> _Slot:
    return _Slot(index, offset, "UOffsetTRelative")


@dataclass
class Graph:
    """A graph under construction; a tensor is known by the index that adding it returned."""

    _tensors: list[_Tensor] = field(default_factory=list)
    _operations: list[_Operation] = field(default_factory=list)
    _buffers: list[bytes] = field(default_factory=lambda: [b""])  # buffer 0: "has no data"

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Returns the shape of a tensor."""
        return self._tensors[tensor].shape

    def quantization(self, tensor: int) -> Quantization | None:
        """Returns scale and zero point of a tensor, None for a float or an index."""
        return self._tensors[tensor].quantization

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        element: TensorType,
        quantization: Quantization | None = None,
    ) -> int:
        """Adds a tensor that is computed or fed at run time; returns its index."""
        self._tensors.append(_Tensor(name, tuple(shape), element, 0, quantization))
        return len(self._tensors) - 1

    def constant(
        self,
        name: str,
        values: NDArray[Any],
        element: TensorType,
        quantization: Quantization | None = None,
    ) -> int:
        """Adds a tensor whose values are in the file; returns its index."""
        stored = np.ascontiguousarray(values, dtype=element.dtype)
        self._buffers.append(stored.tobytes())
        self._tensors.append(
            _Tensor(name, stored.shape, element, len(self._buffers) - 1, quantization)
        )
        return len(self._tensors) - 1

    def conv_2d(
        self, x: int, kernel: int, bias: int, out: int, *, stride: int, activation: Activation
    ) -> None:
        """Kernel is (out, height, width, in); padding SAME."""
        options = (_Slot(1, stride), _Slot(2, stride), _Slot(3, activation, "Int8"))
        self._add(_Operator.CONV_2D, (x, kernel, bias), out, options)

    def depthwise_conv_2d(
        self, x: int, kernel: int, bias: int, out: int, *, stride: int, activation: Activation
    ) -> None:
        """Kernel is (1, height, width, channels); padding SAME, depth multiplier 1."""
        options = (_Slot(1, stride), _Slot(2, stride), _Slot(3, 1), _Slot(4, activation, "Int8"))
        self._add(_Operator.DEPTHWISE_CONV_2D, (x, kernel, bias), out, options)

    def add(self, a: int, b: int, out: int) -> None:
        """Adds two tensors of one shape, element by element."""
        self._add(_Operator.ADD, (a, b), out)

    def mean(self, x: int, axes: int, out: int) -> None:
        """Averages over the axes that the constant `axes` lists, and drops them."""
        self._add(_Operator.MEAN, (x, axes), out)

    def fully_connected(self, x: int, weights: int, bias: int, out: int) -> None:
        """Weights are (out, in)."""
        self._add(_Operator.FULLY_CONNECTED, (x, weights, bias), out)

    def softmax(self, x: int, out: int) -> None:
        """Turns logits into probabilities."""
        self._add(_Operator.SOFTMAX, (x,), out, (_Slot(0, 1.0, "Float32"),))

    def quantize(self, x: int, out: int) -> None:
        """Stores the same real values in the type and scale of `out`."""
        self._add(_Operator.QUANTIZE, (x,), out)

    def _add(
        self,
        operator: _Operator,
        inputs: tuple[int, ...],
        out: int,
        options: tuple[_Slot, ...] = (),
    ) -> None:
        self._operations.append(_Operation(operator, inputs, out, options))

    def serialize(self, inputs: Sequence[int], outputs: Sequence[int], description: str) -> bytes:
        """Returns the whole file."""
        serializer = _Serializer(sum(map(len, self._buffers)))
        subgraph = serializer.subgraph(self._tensors, self._operations, inputs, outputs)
        return serializer.model(subgraph, self._buffers, description)


class _Serializer:
    """A FlatBuffer grows from its end: children are written first, tables then refer to them."""

    def __init__(self, data_size: int) -> None:
        # 25 % and 64 KiB of room for the tables, so that the builder need not copy itself larger.
        self._builder = flatbuffers.Builder(data_size + data_size // 4 + (64 << 10))

        self._operators: list[_Operator] = []

    def subgraph(
        self,
        tensors: Sequence[_Tensor],
        operations: Sequence[_Operation],
        inputs: Sequence[int],
        outputs: Sequence[int],
    ) -> int:
        self._operators = list(dict.fromkeys(operation.operator for operation in operations))
        return self._table(
            5,
            _reference(0, self._vector([self._tensor(tensor) for tensor in tensors])),
            _reference(1, self._numbers(inputs, np.int32)),
            _reference(2, self._numbers(outputs, np.int32)),
            _reference(3, self._vector([self._operation(o) for o in operations])),
            _reference(4, self._builder.CreateString("main")),
        )

    def model(self, subgraph: int, buffers: Sequence[bytes], description: str) -> bytes:
        model = self._table(
            5,
            _Slot(0, SCHEMA_VERSION, "Uint32"),
            _reference(1, self._vector([self._operator_code(o) for o in self._operators])),
            _reference(2, self._vector([subgraph])),
            _reference(3, self._builder.CreateString(description)),
            _reference(4, self._vector([self._buffer(data) for data in buffers])),
        )
        self._builder.Finish(model, FILE_IDENTIFIER)
        return bytes(self._builder.Output())

    def _operator_code(self, operator: _Operator) -> int:
        # Old readers know the int8 field 0, new ones field 3; below 127 both hold the same code.
        return self._table(
            4,
            _Slot(0, operator.code, "Int8"),
            _Slot(2, operator.version),
            _Slot(3, operator.code),
        )

    def _operation(self, operation: _Operation) -> int:
        inputs = self._numbers(operation.inputs, np.int32)
        outputs = self._numbers([operation.output], np.int32)
        slots = [
            _Slot(0, self._operators.index(operation.operator), "Uint32"),
            _reference(1, inputs),
            _reference(2, outputs),
        ]
        if options_type := operation.operator.options_type:
            slots.append(_Slot(3, options_type, "Uint8"))
            slots.append(_reference(4, self._table(8, *operation.options)))
        return self._table(5, *slots)

    def _tensor(self, tensor: _Tensor) -> int:
        name = self._builder.CreateString(tensor.name)
        shape = self._numbers(tensor.shape, np.int32)
        slots = [
            _reference(0, shape),
            _Slot(1, tensor.type, "Int8"),
            _Slot(2, tensor.buffer, "Uint32"),
            _reference(3, name),
        ]
        if quantization := tensor.quantization:
            slots.append(_reference(4, self._quantization(quantization)))
        return self._table(8, *slots)

    def _quantization(self, quantization: Quantization) -> int:
        scales = np.atleast_1d(np.asarray(quantization.scale, np.float32))
        zero_points = np.full(scales.shape, quantization.zero_point)
        return self._table(
            7,
            _reference(2, self._numbers(scales, np.float32)),
            _reference(3, self._numbers(zero_points, np.int64)),
            _Slot(6, quantization.axis),
        )

    def _buffer(self, data: bytes) -> int:
        if not data:
            return self._table(1)
        # A byte vector alone is aligned to its length prefix; asked for in advance, the padding
        # goes in front of the vector and its data starts on the boundary.
        self._builder.Prep(BUFFER_ALIGNMENT, len(data))
        return self._table(1, _reference(0, self._builder.CreateByteVector(data)))

    def _numbers(self, values: ArrayLike, dtype: type[np.generic]) -> int:
        return int(self._builder.CreateNumpyVector(np.asarray(values, dtype)))

    def _vector(self, offsets: Sequence[int]) -> int:
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def _table(self, slots: int, *values: _Slot) -> int:
        # Tables of one layout share a vtable, and releases of flatbuffers disagree on whether
        # padding at a table's end is layout. Starting on a boundary, there is none.
        self._builder.Prep(4, 0)
        self._builder.StartObject(slots)
        for slot in values:
            prepend: Callable[[int, int | float, int], None] = getattr(
                self._builder, f"Prepend{slot.kind}Slot"
            )
            # The builder leaves out a value of 0, the schema's default. Where that is another
            # (a version or dilation of 1), the value is either written or not touched at all.
            prepend(slot.index, slot.value, 0)
        return int(self._builder.EndObject())
