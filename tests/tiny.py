"""Models of a few hundred bytes for tests, written by the project's own writer."""

import struct
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

from models.tflite_writer import Graph, Quantization, TensorType


def colour_model(
    dtype: str = "uint8",
    scale: float = 1 / 128,
    zero_point: int = 128,
    *,
    side: int = 8,
    channels: int = 3,
    inputs: int = 1,
    softmax: bool = False,
) -> bytes:
    """A model (1, side, side, channels) → (1, channels) that gives each channel's mean.

    Its input and output share dtype and quantization. Without ``softmax`` its outputs are
    logits as the graph has it.
    """
    kind = TensorType[dtype.upper()]
    quantization = Quantization(np.array([scale], np.float32), zero_point) if scale else None
    graph = Graph()
    images = [
        graph.tensor(f"image{i}", (1, side, side, channels), kind, quantization)
        for i in range(inputs)
    ]
    axes = graph.constant("axes", np.array([1, 2], np.int32), TensorType.INT32)
    means = graph.tensor("means", (1, channels), kind, quantization)
    graph.mean(images[0], axes, means)
    out = means
    if softmax:
        # The runtimes' softmax of 8 bits has this output and no other.
        least = {"uint8": 0, "int8": -128}.get(dtype, 0)
        shares = Quantization(np.array([1 / 256], np.float32), least) if scale else None
        out = graph.tensor("shares", (1, channels), kind, shares)
        graph.softmax(means, out)
    return graph.serialize(images, [out], "colours")


def constant_input_model() -> bytes:
    """A model whose input is a constant of the file: who writes a picture there, crashes."""
    graph = Graph()
    scale = Quantization(np.array([1 / 128], np.float32), 128)
    image = graph.constant("image", np.zeros((1, 8, 8, 3), np.uint8), TensorType.UINT8, scale)
    axes = graph.constant("axes", np.array([1, 2], np.int32), TensorType.INT32)
    means = graph.tensor("means", (1, 3), TensorType.UINT8, scale)
    graph.mean(image, axes, means)
    return graph.serialize([image], [means], "constant")


def softmax_alone() -> bytes:
    """A uint8 model of one softmax, an operator that no delegate takes in 8 bits."""
    graph = Graph()
    logits = Quantization(np.array([0.1], np.float32), 128)
    image = graph.tensor("image", (1, 1, 1, 3), TensorType.UINT8, logits)
    shares = Quantization(np.array([1 / 256], np.float32), 0)
    out = graph.tensor("shares", (1, 1, 1, 3), TensorType.UINT8, shares)
    graph.softmax(image, out)
    return graph.serialize([image], [out], "softmax")


def edgetpu_model(
    dtype: str = "uint8",
    scale: float = 1 / 128,
    zero_point: int = 128,
    *,
    side: int = 8,
    channels: int = 3,
    classes: int = 3,
) -> bytes:
    """The smallest model that looks compiled for the Edge TPU: one operator of libedgetpu's.

    Its ends are those of ``colour_model``, whose twin it is.
    """
    kind = TensorType[dtype.upper()]
    quantization = (scale, zero_point)
    return _one_operator(
        "edgetpu-custom-op",
        [("image", (1, side, side, channels), kind, quantization)],
        ("means", (1, classes), kind, quantization),
    )


def failing_model() -> bytes:
    """A model that loads, and fails in invoke(): GATHER of a row that is not there."""
    return _one_operator(
        36,
        [
            ("image", (1, 8, 8, 3), TensorType.UINT8, (1 / 128, 128)),
            ("row", (1,), TensorType.INT32, None),
        ],
        ("rows", (1, 8, 8, 3), TensorType.UINT8, (1 / 128, 128)),
        constant=np.array([7], np.int32).tobytes(),
    )


_Tensor = tuple[str, tuple[int, ...], TensorType, tuple[float, int] | None]


def _one_operator(
    operator: int | str, inputs: list[_Tensor], output: _Tensor, constant: bytes = b""
) -> bytes:
    """A file of one operator, by its code or, a custom one, by its name.

    ``constant`` is the data of the last input where it is one; the model takes the first.
    """
    builder = flatbuffers.Builder(1024)

    def table(slots: int, *values: tuple[int, str, Any]) -> int:
        builder.StartObject(slots)
        for slot, kind, value in values:
            getattr(builder, f"Prepend{kind}Slot")(slot, value, 0)
        return int(builder.EndObject())

    def numbers(values: Sequence[float], dtype: type[np.generic]) -> tuple[str, int]:
        return "UOffsetTRelative", builder.CreateNumpyVector(np.array(values, dtype))

    def vector(offsets: Sequence[int]) -> tuple[str, int]:
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return "UOffsetTRelative", builder.EndVector()

    def text(value: str) -> tuple[str, int]:
        return "UOffsetTRelative", builder.CreateString(value)

    def tensor(number: int, described: _Tensor) -> int:
        name, shape, kind, quantization = described
        slots: list[tuple[int, str, Any]] = [
            (0, *numbers(shape, np.int32)),
            (1, "Int8", int(kind)),
            (2, "Uint32", number + 1),
            (3, *text(name)),
        ]
        if quantization:
            scale, zero_point = quantization
            ends = (2, *numbers([scale], np.float32)), (3, *numbers([zero_point], np.int64))
            slots.append((4, "UOffsetTRelative", table(7, *ends)))
        return table(8, *slots)

    tensors = [*inputs, output]
    data = [b""] * (len(inputs) + 2)
    data[len(inputs)] = constant
    buffers = vector(
        [
            table(1, (0, "UOffsetTRelative", builder.CreateByteVector(d))) if d else table(1)
            for d in data
        ]
    )
    listed = vector([tensor(*numbered) for numbered in enumerate(tensors)])
    taken = numbers(range(len(inputs)), np.int32)
    given = numbers([len(inputs)], np.int32)
    code = 32 if isinstance(operator, str) else operator
    codes: list[tuple[int, str, Any]] = [(0, "Int8", code), (2, "Int32", 1), (3, "Int32", code)]
    if isinstance(operator, str):
        codes.append((1, *text(operator)))
    listed_codes = vector([table(4, *codes)])
    nodes = vector([table(6, (0, "Uint32", 0), (1, *taken), (2, *given))])
    first = numbers([0], np.int32)
    graph = vector([table(5, (0, *listed), (1, *first), (2, *given), (3, *nodes))])
    model = table(5, (0, "Uint32", 3), (1, *listed_codes), (2, *graph), (4, *buffers))
    builder.Finish(model, b"TFL3")
    return bytes(builder.Output())


def operator_bytes(data: bytes) -> list[int]:
    """Where the tables of a model's operators lie, and those of their options, byte by byte."""

    def number(layout: str, at: int) -> int:
        return int(struct.unpack_from(layout, data, at)[0])

    def follow(at: int) -> int:
        return at + number("<I", at)

    def field(table: int, slot: int) -> int:
        return table + number("<H", table - number("<i", table) + 4 + 2 * slot)

    graph = follow(follow(field(follow(0), 2)) + 4)
    operators = follow(field(graph, 3))
    positions: list[int] = []
    for index in range(number("<I", operators)):
        operator = follow(operators + 4 + 4 * index)
        for table in (operator, follow(field(operator, 4))):
            vtable = table - number("<i", table)
            positions += range(vtable, vtable + number("<H", vtable))
            positions += range(table, table + number("<H", vtable + 2))
    return positions
