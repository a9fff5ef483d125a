"""Turns a trained Keras model into the full-integer .tflite file that a device runs."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device.errors import ModelError
from device.library import tflite_file
from models.backend import TensorFlowMissingError, load_tensorflow
from models.dataset import Dataset, DatasetError, load_pictures, read_dataset
from models.lite0 import write_atomically
from models.train import as_input

# More representative pictures move the ranges no further (a hundred are what TensorFlow's own
# guide suggests as the least).
PICTURES: Final = 200
_SOFTMAX: Final = 25  # of BuiltinOperator in the TensorFlow Lite schema


class QuantizationError(RuntimeError):
    """A model that cannot be quantized, or was not to the last tensor."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (
        DatasetError,
        QuantizationError,
        TensorFlowMissingError,
        ModelError,
        OSError,
        ValueError,
    ) as error:
        print(f"quantize: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.quantize",
        description="Quantize a .keras model of models.train to INT8, a scale per channel.",
    )
    parser.add_argument("model", type=Path, help="the .keras file")
    parser.add_argument(
        "pictures", type=Path, help="the folder that it was trained on; ranges are taken from it"
    )
    parser.add_argument("--out", type=Path, required=True, help="the .tflite file to write")
    parser.add_argument(
        "--io", choices=("uint8", "int8"), default="uint8", help="dtype of picture and scores"
    )
    parser.add_argument(
        "--float", action="store_true", dest="float32", help="float32, to compare with"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow chooses")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.out.suffix != ".tflite":
        raise QuantizationError(f"--out {options.out}: expected a name that ends in .tflite")
    labels = options.model.with_suffix(".txt")
    if not labels.exists():
        raise QuantizationError(f"{labels}: the labels of the model are missing; train writes them")
    tf = load_tensorflow(options.threads)
    model = tf.keras.models.load_model(options.model, compile=False)
    # The pooled features as second output: the device teaches new classes on them.
    pooled = model.get_layer("pool").output
    model = tf.keras.Model(model.input, [model.output, pooled], name="mobilenet")
    pictures = representative(read_dataset(options.pictures), model.input_shape[1], options.seed)
    data = convert(tf, model, pictures, io=options.io, float32=options.float32)
    write_atomically(options.out, data)
    if not options.float32:
        check_integer(options.out)
    write_atomically(options.out.with_suffix(".txt"), labels.read_bytes())
    print(
        f"{options.out}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}, "
        f"labels in {options.out.with_suffix('.txt')}"
    )


def representative(data: Dataset, size: int, seed: int) -> NDArray[np.uint8]:
    """Up to PICTURES of them, of all classes alike, as the device crops them."""
    chance = np.random.default_rng(seed)
    rows = chance.permutation(len(data))
    # Round by round one of each class.
    turns = np.zeros(len(data), np.int64)
    for row in range(len(data.classes)):
        mine = np.flatnonzero(data.labels[rows] == row)
        turns[mine] = np.arange(len(mine))
    chosen = rows[np.argsort(turns, kind="stable")][:PICTURES]
    return load_pictures([data.files[row] for row in chosen], size)


def convert(
    tf: Any, model: Any, pictures: NDArray[np.uint8], *, io: str = "uint8", float32: bool = False
) -> bytes:
    """The .tflite file of a Keras model; its input is the pixel, scaled to -1 to 1.

    INT8 has a scale per channel in convolutions, and one for a dense layer. `io` is the dtype of
    its ends; ranges are those that its tensors have for `pictures`.
    """
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if not float32:

        def samples() -> Iterator[list[NDArray[np.float32]]]:
            for picture in pictures:
                yield [as_input(picture[np.newaxis])]
            # Black and white, so that the input's steps are the pixels whatever was seen.
            for pixel in (0, 255):
                yield [as_input(np.full_like(pictures[:1], pixel))]

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        # A scale per channel in the last layer's matrix is read by few runtimes and delegates.
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        converter.representative_dataset = samples
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = getattr(tf, io)
    with warnings.catch_warnings(), contextlib.redirect_stdout(StringIO()):
        # The converter tells of its own inner steps, and warns of statistics that only the
        # quantization-aware training of TensorFlow 1 had.
        warnings.simplefilter("ignore")
        data: bytes = converter.convert()
    return scores_first(data)


def scores_first(data: bytes) -> bytes:
    """The .tflite file with the output of the softmax as its first.

    The converter puts several outputs into an order of its own, and a device reads the first.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(data)
    graph = model.subgraphs[0]
    scores: set[int] = set()
    for node in graph.operators:
        # With pictures and scores as uint8, what changes the number format comes behind it.
        is_softmax = model.operatorCodes[node.opcodeIndex].builtinCode == _SOFTMAX
        if is_softmax or scores.intersection(node.inputs):
            scores.update(node.outputs)
    graph.outputs = sorted(graph.outputs, key=lambda output: output not in scores)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def check_integer(path: Path) -> None:
    """Raise QuantizationError if a tensor of the file computes in floating point."""
    file = tflite_file.read(path)
    used = {i for node in file.operators for i in (*node.inputs, *node.outputs) if i >= 0}
    floats = [file.tensors[i].name for i in used if file.tensors[i].dtype.startswith("float")]
    if floats:
        raise QuantizationError(f"{path}: {len(floats)} tensors are still float, as {floats[0]}")


if __name__ == "__main__":
    sys.exit(main())
