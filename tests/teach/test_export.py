"""A model with its head is one file: other programs and labelcam itself see what the head sees."""

import importlib
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device import config
from device.cli import main
from device.errors import HeadError, ModelError, TeachError
from device.inference.runtimes import RUNTIMES
from device.library import catalog, tflite_file
from device.library.tflite_file import TfliteFile
from device.teach.embedder import Embedder
from device.teach.export import export_model
from device.teach.head import Head, normalized
from device.teach.learner import Samples, learn
from tests.conftest import classifier_of, footage, frame_of
from tests.tiny import colour_model

EXTRACTOR = "models/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
LABELS = ("cat", "coffee ☕", "rocket/space")


def crops(seed: int, count: int) -> list[tuple[int, NDArray[np.uint8]]]:
    """Parts of the shipped photographs, each with the row of its label."""
    chance = np.random.default_rng(seed)
    found = []
    for row, name in enumerate(("cat", "coffee", "rocket")):
        pixels = footage(name).pixels
        for _ in range(count):
            side = int(chance.integers(96, min(pixels.shape[:2])))
            top, left = (int(chance.integers(0, size - side + 1)) for size in pixels.shape[:2])
            part = cv2.resize(pixels[top : top + side, left : left + side], (224, 224))
            found.append((row, part.astype(np.uint8)))
    return found


def taught(model: catalog.Model, labels: tuple[str, ...] = LABELS) -> Head:
    """A head of the three photographs."""
    with Embedder(model, config.Model()) as embedder:
        seen = [(row, embedder.features(frame_of(part))) for row, part in crops(0, 6)]
    samples = Samples(
        np.stack([features for _, features in seen]),
        np.array([row for row, _ in seen], np.intp),
        np.arange(len(seen)),
    )
    return learn(samples, labels, model.file.sha256).head


@pytest.fixture(scope="module", params=["embedded", "extractor"])
def model(request: pytest.FixtureRequest) -> catalog.Model:
    """The two kinds of models that are taught: INT8 with 1000 classes, UINT8 without."""
    if request.param == "embedded":
        return catalog.find(config.Model().name)
    return catalog.find(str(request.getfixturevalue("testdata") / EXTRACTOR))


@pytest.fixture(scope="module")
def head(model: catalog.Model) -> Head:
    return taught(model)


@pytest.fixture(scope="module")
def exported(
    model: catalog.Model, head: Head, tmp_path_factory: pytest.TempPathFactory
) -> TfliteFile:
    path = tmp_path_factory.mktemp("exported") / "mine.tflite"
    export_model(path, model.file, head)
    return tflite_file.read(path)


def probabilities(head: Head, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the head says, whether it is a stranger or not."""
    q = normalized(features, head.power) - head.mean
    logits = (head.weights @ q + head.bias) * np.float32(head.temperature)
    shares = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum(), np.float32)


@pytest.mark.parametrize("module", RUNTIMES.values(), ids=list(RUNTIMES))
@pytest.mark.slow
def test_a_plain_runtime_agrees(
    model: catalog.Model, head: Head, exported: TfliteFile, module: str
) -> None:
    runtime = pytest.importorskip(module, exc_type=ImportError)

    def opened(path: Path) -> Any:
        interpreter = runtime.Interpreter(str(path))
        interpreter.allocate_tensors()
        return interpreter

    def run(interpreter: Any, picture: NDArray[np.uint8]) -> Any:
        given = interpreter.get_input_details()[0]
        values = picture[..., ::-1] if given["dtype"] == np.uint8 else picture[..., ::-1] ^ 0x80
        interpreter.set_tensor(given["index"], values.view(given["dtype"])[None])
        interpreter.invoke()

    plain, whole = opened(model.file.path), opened(exported.path)
    output = plain.get_output_details()[model.file.embedding or 0]
    scale, zero_point = output["quantization"]
    for _, picture in crops(1, 15):
        run(plain, picture)
        run(whole, picture)
        stored = plain.get_tensor(output["index"]).reshape(-1).astype(np.float32)
        wanted = probabilities(head, (stored - zero_point) * np.float32(scale))
        given = whole.get_tensor(whole.get_output_details()[0]["index"])[0]
        assert given == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_labelcam_labels_like_the_head(
    model: catalog.Model, head: Head, exported: TfliteFile
) -> None:
    found = catalog.find(str(exported.path))
    assert found.labels == LABELS
    pictures = crops(2, 10)
    with (
        Embedder(model, config.Model()) as embedder,
        classifier_of(str(exported.path)) as classifier,
    ):
        for row, picture in pictures:
            frame = frame_of(picture)
            wanted = probabilities(head, embedder.features(frame))
            assert classifier.classify(frame) == pytest.approx(wanted, abs=1e-4)
            assert int(wanted.argmax()) == row


def test_what_led_to_the_old_scores_alone_is_not_run(
    model: catalog.Model, exported: TfliteFile
) -> None:
    features = model.file.outputs[model.file.embedding or 0]
    before = next(n for n, o in enumerate(model.file.operators) if features in o.outputs)
    added = [operator.code for operator in exported.operators[before + 1 :]]
    assert added == [6, 19, 75, 11, 9, 25]
    assert exported.operators[: before + 1] == model.file.operators[: before + 1]
    assert exported.gives_probabilities(exported.outputs[0])
    assert exported.embedding is None


def test_classify_takes_it(
    exported: TfliteFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row, picture = crops(3, 1)[1]
    cv2.imwrite(str(tmp_path / "cup.png"), picture)
    assert not main(["classify", "--model", str(exported.path), str(tmp_path / "cup.png")])
    assert LABELS[row] in capsys.readouterr().out.splitlines()[1]


def test_the_same_head_gives_the_same_bytes(
    model: catalog.Model, head: Head, exported: TfliteFile, tmp_path: Path
) -> None:
    export_model(tmp_path / "again.tflite", model.file, head)
    assert (tmp_path / "again.tflite").read_bytes() == exported.path.read_bytes()


@pytest.mark.parametrize(
    "labels",
    [("0", "1", "2"), ("0 dogs", "1 dog", "2 dogs"), ("0: a", "1: b", "no"), ("2", "0", "1")],
)
@pytest.mark.slow
def test_labels_that_are_numbers_stay_as_they_are(tmp_path: Path, labels: tuple[str, ...]) -> None:
    model = catalog.find(config.Model().name)
    export_model(tmp_path / "numbers.tflite", model.file, taught(model, labels))
    assert catalog.find(str(tmp_path / "numbers.tflite")).labels == labels


def test_imprinting_has_no_root(tmp_path: Path) -> None:
    model = catalog.find(config.Model().name)
    chance = np.random.default_rng(0)
    features = chance.random((2, 1280), np.float32)
    head = learn(Samples(features, np.arange(2), np.arange(2)), ("a", "b"), model.file.sha256).head
    export_model(tmp_path / "few.tflite", model.file, head)
    exported = tflite_file.read(tmp_path / "few.tflite")
    assert [operator.code for operator in exported.operators[-5:]] == [6, 19, 11, 9, 25]
    frame = footage("cat")
    with Embedder(model, config.Model()) as embedder, classifier_of(str(exported.path)) as whole:
        wanted = head.scores(embedder.features(frame))
        assert whole.classify(frame) == pytest.approx(wanted, abs=1e-4)


def test_a_head_of_another_model_is_refused(head: Head, tmp_path: Path) -> None:
    (tmp_path / "other.tflite").write_bytes(colour_model())
    with pytest.raises(HeadError, match=r"was not learned on model other\.tflite"):
        export_model(tmp_path / "out.tflite", tflite_file.read(tmp_path / "other.tflite"), head)


def test_a_model_without_features_is_refused(head: Head, tmp_path: Path) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(colour_model())
    other = tflite_file.read(path)
    forged = Head.decode(head.encode(), "it")
    forged.model = other.sha256
    with pytest.raises(ModelError, match="cannot be extended by a head"):
        export_model(tmp_path / "out.tflite", other, forged)
    assert not (tmp_path / "out.tflite").exists()


def test_a_place_that_cannot_be_written_is_one_line(
    model: catalog.Model, head: Head, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TeachError, match="cannot be written: "):
        export_model(tmp_path / "file" / "out.tflite", model.file, head)


def test_other_programs_find_the_labels(exported: TfliteFile) -> None:
    with zipfile.ZipFile(exported.path) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode().splitlines() == list(LABELS)


def test_the_flatbuffer_is_one_to_its_own_library(exported: TfliteFile) -> None:
    flatbuffers = importlib.import_module("flatbuffers")
    data = exported.path.read_bytes()
    assert flatbuffers.util.BufferHasIdentifier(data, 0, b"TFL3")
