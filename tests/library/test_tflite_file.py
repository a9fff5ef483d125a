"""The reader that looks at a model before a runtime does."""

import random
from pathlib import Path

import pytest

from device.errors import ModelError
from device.library import tflite_file
from tests.tiny import colour_model

EMBEDDED = Path(__file__).parent.parent.parent / "models" / "efficientnet-lite0-224-int8.tflite"


def _write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(data)
    return path


def test_it_reads_what_the_writer_wrote(tmp_path: Path) -> None:
    file = tflite_file.read(_write(tmp_path, colour_model(scale=0.5, zero_point=3)))
    image = file.tensors[file.inputs[0]]
    assert (image.name, image.shape, image.dtype) == ("image0", (1, 8, 8, 3), "uint8")
    assert (image.scale, image.zero_point) == (0.5, 3)
    assert [operator.code for operator in file.operators] == [40]  # MEAN
    assert not file.compiled_for_edgetpu


def test_the_embedded_model() -> None:
    file = tflite_file.read(EMBEDDED)
    assert file.tensors[file.inputs[0]].shape == (1, 224, 224, 3)
    assert file.tensors[file.outputs[0]].shape == (1, 1000)
    assert file.gives_probabilities(file.outputs[0])


@pytest.mark.parametrize("softmax", [True, False])
def test_probabilities_are_told_from_the_graph(tmp_path: Path, softmax: bool) -> None:
    file = tflite_file.read(_write(tmp_path, colour_model(softmax=softmax)))
    assert file.gives_probabilities(file.outputs[0]) is softmax


def test_an_edge_tpu_model_hides_its_graph_but_not_its_output(testdata: Path) -> None:
    models = testdata / "models"
    classifier = tflite_file.read(models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite")
    assert classifier.compiled_for_edgetpu
    assert classifier.gives_probabilities(classifier.outputs[0])
    extractor = "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    embedding = tflite_file.read(models / extractor)
    assert not embedding.gives_probabilities(embedding.outputs[0])


def test_every_model_of_the_test_data_is_read(testdata: Path) -> None:
    models = sorted((testdata / "models").glob("*.tflite"))
    assert len(models) >= 9
    for path in models:
        assert tflite_file.read(path).operators


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"TFL3", "not a TensorFlow Lite model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a TensorFlow Lite model"),
        (b"\x1c\x00\x00\x00TFL3", "truncated or corrupt"),
        (b"\xff\xff\xff\xffTFL3" + bytes(50), "truncated or corrupt"),
    ],
)
def test_what_is_no_model(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        tflite_file.read(_write(tmp_path, data))


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        tflite_file.read(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="is a directory"):
        tflite_file.read(tmp_path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = colour_model(softmax=True)
    for length in range(1, len(whole) - 16):
        with pytest.raises(ModelError):
            tflite_file.read(_write(tmp_path, whole[:length]))


@pytest.mark.slow
def test_no_flipped_byte_makes_it_fail_otherwise(tmp_path: Path) -> None:
    whole = bytearray(colour_model(softmax=True))
    rng = random.Random(7)
    refused = 0
    for _ in range(2000):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        try:
            file = tflite_file.read(_write(tmp_path, bytes(broken)))
            for output in file.outputs:
                file.gives_probabilities(output)
        except ModelError:
            refused += 1
    assert refused > 500
