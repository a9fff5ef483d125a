"""MobileNetV1, V2 and V3 (minimalistic) as tables of layers, counted here and built in Keras.

One table is the architecture: `Network.parameters` and `Network.multiply_adds` add it up
without TensorFlow, and `build_keras` makes the same layers in Keras, so that what the counts
prove of the table holds for the model that is trained.

Sources: V1 https://arxiv.org/abs/1704.04861 table 1, V2 https://arxiv.org/abs/1801.04381
table 2, V3 https://arxiv.org/abs/1905.02244 tables 1 and 2; V3's "minimalistic" variant, without
squeeze-and-excitation, hard-swish and 5 x 5 kernels, which 8 bits and accelerators suit, is the
authors' own: https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

Kind = Literal["standard", "depthwise", "pointwise", "pool", "dense"]
Activation = Literal["", "relu6", "relu"]

# Filters and stride of V1's 13 depthwise separable layers.
_V1: Final = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# Expansion, filters, repeats and the first one's stride of V2's inverted residuals.
_V2: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Expansion, filters and stride of V3's.
_V3_SMALL: Final = (
    (1, 16, 2),
    (72 / 16, 24, 2),
    (88 / 24, 24, 1),
    (4, 40, 2),
    (6, 40, 1),
    (6, 40, 1),
    (3, 48, 1),
    (3, 48, 1),
    (6, 96, 2),
    (6, 96, 1),
    (6, 96, 1),
)
_V3_LARGE: Final = (
    (1, 16, 1),
    (4, 24, 2),
    (3, 24, 1),
    (3, 40, 2),
    (3, 40, 1),
    (3, 40, 1),
    (6, 80, 2),
    (2.5, 80, 1),
    (2.3, 80, 1),
    (2.3, 80, 1),
    (6, 112, 1),
    (6, 112, 1),
    (6, 160, 2),
    (6, 160, 1),
    (6, 160, 1),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer; a convolution takes its activation and batch normalization along.

    `side` is of the square picture that comes in, in pixels. `adds` names the earlier layer
    whose output is summed element by element with this one's: V2's residual.
    """

    name: str
    kind: Kind
    side: int
    inputs: int
    outputs: int
    kernel: int = 1
    stride: int = 1
    activation: Activation = ""
    bias: bool = False
    adds: str = ""

    @property
    def side_out(self) -> int:
        """The side of the picture that goes out; padding is TensorFlow's SAME."""
        return 1 if self.kind in ("pool", "dense") else -(-self.side // self.stride)

    @property
    def weights(self) -> int:
        """Weights and biases; a batch normalization's numbers are not counted.

        On the device they are folded into weights and one bias a channel.
        """
        if self.kind == "pool":
            return 0
        channels = 1 if self.kind == "depthwise" else self.inputs
        return self.kernel**2 * channels * self.outputs + self.outputs * self.bias

    @property
    def multiply_adds(self) -> int:
        """Multiplications with a weight, for one picture (V1, equations 2 and 5)."""
        if self.kind == "pool":
            return 0
        channels = 1 if self.kind == "depthwise" else self.inputs
        return self.kernel**2 * channels * self.outputs * self.side_out**2


@dataclass(frozen=True, slots=True)
class Network:
    """An architecture at a width and a resolution."""

    name: str
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """The side of the square picture that goes in, in pixels."""
        return self.layers[0].side

    @property
    def parameters(self) -> int:
        """Weights and biases of all layers, without batch normalization."""
        return sum(layer.weights for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one picture."""
        return sum(layer.multiply_adds for layer in self.layers)

    @property
    def summary(self) -> str:
        """What the network costs, on one line."""
        return (
            f"{self.name}: {self.parameters / 1e6:.2f} M parameters, "
            f"{self.multiply_adds / 1e6:.0f} M multiply-adds"
        )


class _Builder:
    """Strings layers together: each takes what the one before gives."""

    def __init__(self, size: int) -> None:
        self.layers: list[Layer] = []
        self._side = size
        self.channels = 3

    def add(self, name: str, kind: Kind, outputs: int = 0, **options: Any) -> None:
        layer = Layer(name, kind, self._side, self.channels, outputs or self.channels, **options)
        self.layers.append(layer)
        self._side, self.channels = layer.side_out, layer.outputs

    @property
    def last(self) -> str:
        return self.layers[-1].name

    def inverted_residual(
        self, name: str, hidden: int, outputs: int, stride: int, activation: Activation
    ) -> None:
        """V2, figure 3: expand, filter depthwise, project without an activation, and add."""
        before, inputs = self.last, self.channels
        if hidden != inputs:
            self.add(f"{name}_expand", "pointwise", hidden, activation=activation)
        self.add(f"{name}_depthwise", "depthwise", kernel=3, stride=stride, activation=activation)
        adds = before if stride == 1 and outputs == inputs else ""
        self.add(f"{name}_project", "pointwise", outputs, adds=adds)


def v1(alpha: float = 1.0, size: int = 224, classes: int = 1000) -> Network:
    """MobileNetV1: a standard convolution, then depthwise separable ones."""
    net = _Builder(size)
    net.add("conv1", "standard", int(32 * alpha), kernel=3, stride=2, activation="relu6")
    for block, (filters, stride) in enumerate(_V1, 1):
        net.add(f"conv_dw_{block}", "depthwise", kernel=3, stride=stride, activation="relu6")
        net.add(f"conv_pw_{block}", "pointwise", int(filters * alpha), activation="relu6")
    net.add("pool", "pool")
    net.add("classes", "dense", classes, bias=True)
    return Network(f"MobileNetV1 {alpha:g}-{size}", tuple(net.layers))


def v2(alpha: float = 1.0, size: int = 224, classes: int = 1000) -> Network:
    """MobileNetV2: inverted residuals with linear bottlenecks."""
    net = _Builder(size)
    net.add("conv1", "standard", divisible(32 * alpha), kernel=3, stride=2, activation="relu6")
    block = 0
    for expansion, filters, repeats, first_stride in _V2:
        for repeat in range(repeats):
            stride = 1 if repeat else first_stride
            hidden, outputs = net.channels * expansion, divisible(int(filters * alpha))
            net.inverted_residual(f"block_{block}", hidden, outputs, stride, "relu6")
            block += 1
    # Narrow networks keep the full width here: the classes need it (V2, section 6.1).
    net.add("conv_last", "pointwise", divisible(1280 * max(alpha, 1.0)), activation="relu6")
    net.add("pool", "pool")
    net.add("classes", "dense", classes, bias=True)
    return Network(f"MobileNetV2 {alpha:g}-{size}", tuple(net.layers))


def v3_small(alpha: float = 1.0, size: int = 224, classes: int = 1000) -> Network:
    """MobileNetV3-Small, minimalistic."""
    return _v3("V3-Small", _V3_SMALL, 1024, alpha, size, classes)


def v3_large(alpha: float = 1.0, size: int = 224, classes: int = 1000) -> Network:
    """MobileNetV3-Large, minimalistic."""
    return _v3("V3-Large", _V3_LARGE, 1280, alpha, size, classes)


def _v3(
    name: str,
    blocks: Sequence[tuple[float, int, int]],
    features: int,
    alpha: float,
    size: int,
    classes: int,
) -> Network:
    net = _Builder(size)
    net.add("conv1", "standard", 16, kernel=3, stride=2, activation="relu")
    for block, (expansion, filters, stride) in enumerate(blocks):
        hidden = divisible(net.channels * expansion) if block else net.channels
        outputs = divisible(filters * alpha)
        net.inverted_residual(f"block_{block}", hidden, outputs, stride, "relu")
    net.add("conv_last", "pointwise", divisible(net.channels * 6), activation="relu")
    net.add("pool", "pool")
    wide = divisible(features * max(alpha, 1.0))
    net.add("features", "dense", wide, bias=True, activation="relu")
    net.add("classes", "dense", classes, bias=True)
    return Network(f"Mobile{name.replace('V3', 'NetV3')} {alpha:g}-{size}", tuple(net.layers))


ARCHITECTURES: Final[dict[str, Callable[[float, int, int], Network]]] = {
    "v1": v1,
    "v2": v2,
    "v3-small": v3_small,
    "v3-large": v3_large,
}


def divisible(channels: float, by: int = 8) -> int:
    """The nearest multiple of `by`, never over a tenth less: how V2 and V3 round widths."""
    rounded = max(by, int(channels + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * channels else rounded


def build_keras(
    network: Network, *, dropout: float = 0.0, momentum: float = 0.99
) -> tuple[Any, Any]:
    """The Keras model, and its trunk that ends before the pooling; they share all weights.

    Pictures go in as float32 (batch, size, size, 3) from -1 to 1, probabilities come out. The
    convolutions are made in the order of `keras.applications`, so that its ImageNet weights fit
    the trunk. `momentum` is of the batch normalizations' moving averages.
    """
    import keras

    image = x = keras.Input((network.size, network.size, 3), name="image")
    trunk = x
    made: dict[str, Any] = {}
    for layer in network.layers:
        name = layer.name
        if layer.kind == "pool":
            trunk = x
            x = keras.layers.GlobalAveragePooling2D(name=name)(x)
        elif layer.kind == "dense":
            last = layer is network.layers[-1]
            if last and dropout:
                x = keras.layers.Dropout(dropout, name="dropout")(x)
            activation = "softmax" if last else layer.activation
            x = keras.layers.Dense(layer.outputs, activation=activation, name=name)(x)
        else:
            options = {"strides": layer.stride, "padding": "same", "use_bias": False, "name": name}
            if layer.kind == "depthwise":
                x = keras.layers.DepthwiseConv2D(layer.kernel, **options)(x)
            else:
                x = keras.layers.Conv2D(layer.outputs, layer.kernel, **options)(x)
            x = keras.layers.BatchNormalization(momentum=momentum, name=f"{name}_bn")(x)
            if layer.activation:
                most = 6.0 if layer.activation == "relu6" else None
                x = keras.layers.ReLU(most, name=f"{name}_relu")(x)
            if layer.adds:
                x = keras.layers.Add(name=f"{name}_add")([made[layer.adds], x])
        made[name] = x
    return keras.Model(image, x, name="mobilenet"), keras.Model(image, trunk, name="trunk")


def cost_ratio(filters: int, kernel: int = 3) -> float:
    """What a depthwise separable layer costs of a standard one: 1/N + 1/D_K² (V1, section 3.1)."""
    return 1 / filters + 1 / kernel**2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.mobilenet",
        description="Say what a MobileNet is made of and what it costs.",
    )
    parser.add_argument("architecture", choices=ARCHITECTURES)
    parser.add_argument("--alpha", type=float, default=1.0, help="width multiplier")
    parser.add_argument("--size", type=int, default=224, help="side of the picture, in pixels")
    parser.add_argument("--classes", type=int, default=1000)
    options = parser.parse_args(arguments)
    if not (0 < options.alpha <= 4 and 32 <= options.size <= 1024 and options.classes > 1):
        parser.error("expected 0 < alpha <= 4, 32 <= size <= 1024 and classes > 1")
    network = ARCHITECTURES[options.architecture](options.alpha, options.size, options.classes)
    print(f"{'layer':22} {'kind':10} {'out':>14} {'weights':>10} {'multiply-adds':>14}")
    for layer in network.layers:
        out = f"{layer.side_out}x{layer.side_out}x{layer.outputs}"
        print(
            f"{layer.name:22} {layer.kind:10} {out:>14} {layer.weights:10,} "
            f"{layer.multiply_adds:14,}" + (f"  + {layer.adds}" if layer.adds else "")
        )
    print(network.summary)
    return 0


if __name__ == "__main__":
    sys.exit(main())
