"""Models of a few hundred bytes for tests, written by the project's own writer."""

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


def softmax_alone() -> bytes:
    """A uint8 model of one softmax, an operator that no delegate takes in 8 bits."""
    graph = Graph()
    logits = Quantization(np.array([0.1], np.float32), 128)
    image = graph.tensor("image", (1, 1, 1, 3), TensorType.UINT8, logits)
    shares = Quantization(np.array([1 / 256], np.float32), 0)
    out = graph.tensor("shares", (1, 1, 1, 3), TensorType.UINT8, shares)
    graph.softmax(image, out)
    return graph.serialize([image], [out], "softmax")
