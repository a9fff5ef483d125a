"""The writer's files are deterministic, aligned, and run in the real interpreter."""

from __future__ import annotations

import numpy as np

from models.runtime import interpreter_class
from models.tflite_writer import Activation, Graph, Quantization, TensorType

MARK = np.frombuffer(b"find me in the file!", np.int8)


def convolution() -> bytes:
    """A pointwise INT8 convolution from 20 channels to 1; its kernel is MARK."""
    graph = Graph()
    image = graph.tensor("image", (1, 1, 1, 20), TensorType.INT8, Quantization(0.5, -3))
    kernel = graph.constant(
        "kernel", MARK.reshape(1, 1, 1, 20), TensorType.INT8, Quantization(0.25)
    )
    bias = graph.constant("bias", np.array([8]), TensorType.INT32, Quantization(0.125))
    out = graph.tensor("out", (1, 1, 1, 1), TensorType.INT8, Quantization(8.0, 1))
    graph.conv_2d(image, kernel, bias, out, stride=1, activation=Activation.NONE)
    return graph.serialize([image], [out], "test")


def test_the_same_calls_give_the_same_bytes() -> None:
    assert convolution() == convolution()


def test_identifier_and_alignment() -> None:
    data = convolution()
    assert data[4:8] == b"TFL3"
    position = data.index(MARK.tobytes())
    assert position % 16 == 0
    assert int.from_bytes(data[position - 4 : position], "little") == MARK.size


def test_the_interpreter_computes_with_the_scales_that_were_written() -> None:
    interpreter = interpreter_class()(model_content=convolution(), num_threads=1)
    interpreter.allocate_tensors()
    (image,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert image["quantization"] == (0.5, -3)
    values = np.arange(20, dtype=np.int8)
    interpreter.set_tensor(image["index"], values.reshape(1, 1, 1, 20))
    interpreter.invoke()
    real = (0.5 * (values + 3.0)) @ (0.25 * MARK.astype(float)) + 8 * 0.125
    expected = np.clip(np.rint(real / 8.0 + 1), -128, 127)
    assert interpreter.get_tensor(out["index"]).item() == expected
