"""Finding a model and its labels, and refusing what is no classifier."""

import csv
import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from device.errors import LabelsError, ModelError
from device.library import catalog
from device.library.labels import read_labels
from device.system.paths import MODELS
from tests.tiny import colour_model, edgetpu_model

EMBEDDED = "efficientnet-lite0-224-int8"


def test_the_embedded_model_by_name() -> None:
    model = catalog.find(EMBEDDED)
    assert model.name == EMBEDDED
    assert len(model.labels) == 1000
    assert model.labels[0] == "tench"


def test_a_copy_of_a_known_model_finds_its_labels_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.tflite"
    path.write_bytes((MODELS / f"{EMBEDDED}.tflite").read_bytes())
    model = catalog.find(str(path))
    assert model.name == "mine"
    assert model.labels == catalog.find(EMBEDDED).labels


def test_labels_beside_the_model(colours: Callable[..., Path]) -> None:
    path = colours()
    assert catalog.find(str(path)).labels == ("red", "green", "blue")
    path.with_suffix(".txt").rename(path.with_name("colours_labels.txt"))
    assert catalog.find(str(path)).labels == ("red", "green", "blue")
    path.with_name("colours_labels.txt").rename(path.with_name("labels.txt"))
    assert catalog.find(str(path)).labels == ("red", "green", "blue")
    path.with_name("labels.txt").unlink()
    with pytest.raises(LabelsError, match=r"has no labels; .* put colours.txt beside the model"):
        catalog.find(str(path))


def test_given_labels_come_before_all_others(colours: Callable[..., Path], tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("rot\ngrün\nblau\n")
    assert catalog.find(str(colours()), str(mine)).labels == ("rot", "grün", "blau")


@pytest.mark.parametrize(
    ("change", "message"),
    [("red\ngreen\n", "one line too short|add it as the first line"), ("a\nb\nc\nd\n", "too long")],
)
def test_a_label_file_a_line_off(colours: Callable[..., Path], change: str, message: str) -> None:
    path = colours()
    path.with_suffix(".txt").write_text(change)
    with pytest.raises(LabelsError, match=message):
        catalog.find(str(path))


@pytest.mark.parametrize("name", ["efficientnet", "cats", "no-such-model"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(ModelError, match=f"neither a .tflite file nor one of: .*{EMBEDDED}"):
        catalog.find(name)


def test_a_catalogue_model_whose_file_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.entries()  # the catalogue itself stays the shipped one
    monkeypatch.setattr(catalog, "MODELS", tmp_path)
    (tmp_path / f"{EMBEDDED}.tflite").write_bytes(colour_model())
    with pytest.raises(ModelError, match="does not match the catalogue's SHA-256"):
        catalog.find(EMBEDDED)


def test_more_than_one_input(colours: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="has 2 inputs; expected one picture"):
        catalog.find(str(colours(inputs=2)))


def test_an_output_that_is_no_list_of_scores(colours: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"gives shape \[1, 1\]; expected a score a class"):
        catalog.find(str(colours(channels=1)))


def test_colours_before_rows(colours: Callable[..., Path]) -> None:
    # Eight "channels" and three rows: as PyTorch lays pictures out.
    path = colours(side=3, channels=8)
    with pytest.raises(ModelError, match=r"takes the colours first, \[1, 3, 3, 8\]; convert it"):
        catalog.find(str(path))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_eight_bits_without_a_scale(colours: Callable[..., Path], dtype: str) -> None:
    with pytest.raises(ModelError, match=f"has an input of {dtype} without a scale"):
        catalog.find(str(colours(dtype=dtype, scale=0)))


def test_labels_inside_the_model_come_before_those_beside_it(
    colours: Callable[..., Path],
) -> None:
    path = colours()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "rosso\nverde\nblu\n")
    model = catalog.find(str(path))
    assert model.labels == ("rosso", "verde", "blu")
    assert model.labels_from == f"{path} itself"
    path.with_suffix(".txt").unlink()
    assert catalog.find(str(path)).labels == ("rosso", "verde", "blu")


def test_labels_inside_that_do_not_fit(colours: Callable[..., Path]) -> None:
    path = colours()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "rosso\nverde\n")
    with pytest.raises(LabelsError, match="has 2 names for the 3 outputs"):
        catalog.find(str(path))


def test_the_twin_beside_a_model(twins: Callable[..., Path]) -> None:
    path = twins()
    twin = catalog.find(str(path)).twin
    assert twin is not None
    assert twin.path.name == "colours_edgetpu.tflite"
    # Named itself it is used as it is, with no labels of its own but those given.
    chosen = catalog.find(str(twin.path), str(path.with_suffix(".txt")))
    assert chosen.file.path == twin.path
    assert chosen.twin is None


def test_a_file_that_is_no_twin(colours: Callable[..., Path]) -> None:
    path = colours()
    beside = path.with_name("colours_edgetpu.tflite")
    beside.write_bytes(colour_model())  # not compiled for the Edge TPU
    assert catalog.find(str(path)).twin is None
    # One of another model is refused, aloud, where it is to be used.
    beside.write_bytes(edgetpu_model(side=16))
    assert catalog.find(str(path)).twin is not None


def test_the_known_twin_of_a_known_model(testdata: Path) -> None:
    path = testdata / "models" / "mobilenet_v1_0.25_128_quant.tflite"
    twin = catalog.find(str(path)).twin
    assert twin is not None
    assert twin.path.name == "mobilenet_v1_0.25_128_quant_edgetpu.tflite"


def test_another_file_in_place_of_a_known_twin(testdata: Path, tmp_path: Path) -> None:
    name = "mobilenet_v1_0.25_128_quant"
    model = tmp_path / f"{name}.tflite"
    model.write_bytes((testdata / "models" / f"{name}.tflite").read_bytes())
    data = bytearray((testdata / "models" / f"{name}_edgetpu.tflite").read_bytes())
    data[-1] ^= 1
    (tmp_path / f"{name}_edgetpu.tflite").write_bytes(data)
    assert catalog.find(str(model)).twin is None


def test_a_model_of_the_catalogue_that_is_not_here() -> None:
    with pytest.raises(ModelError, match="not on this device; run: labelcam models fetch mobilene"):
        catalog.find("mobilenet-v2-birds")
    with pytest.raises(ModelError, match=r"not on this device; build it: python -m models\.lite0"):
        catalog.find("efficientnet-lite0-192-int8")


def test_fetched_models_are_found_with_their_labels_and_twin(
    testdata: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    assert "mobilenet-v1-0.25-128" not in catalog.installed()
    (tmp_path / "models").mkdir()
    for file in (testdata / "models").glob("mobilenet_v*"):
        (tmp_path / "models" / file.name).symlink_to(file)
    model = catalog.find("mobilenet-v1-0.25-128")
    assert model.file.path.parent == tmp_path / "models"
    assert model.twin is not None
    assert model.labels[:2] == ("background", "tench")
    assert "mobilenet-v1-0.25-128" in catalog.installed()
    # Its labels are fetched too, and are not here.
    assert "mobilenet-v2-birds" not in catalog.installed()
    (tmp_path / "models" / "inat_bird_labels.txt").symlink_to(
        testdata / "labels" / "inat_bird_labels.txt"
    )
    birds = catalog.find("mobilenet-v2-birds")
    assert birds.labels[0] == "Haemorhous cassinii (Cassin's Finch)"
    assert birds.labels[-1] == "background"
    assert catalog.find("mobilenet-v1-1.0-224-embedding").labels == ()


def test_what_ships_is_as_the_catalogue_says() -> None:
    shipped = 0
    for name, entry in catalog.entries().items():
        path = MODELS / entry.cpu.file
        if not path.exists():
            assert entry.cpu.url or entry.built_by, name
            continue
        shipped += 1
        model = catalog.find(name)
        assert model.file.size_bytes == entry.cpu.bytes
        tensor = model.file.tensors[model.file.inputs[0]]
        width, height = entry.input.width, entry.input.height
        assert tensor.shape == (1, height, width, 3)
        assert tensor.dtype == entry.input.type
        assert (tensor.scale, tensor.zero_point) == (entry.input.scale, entry.input.zero_point)
        assert entry.labels is not None
        assert len(model.labels) == entry.labels.count
        assert model.file.gives_probabilities(model.file.outputs[0])
    assert shipped >= 2


def test_every_address_is_pinned_to_a_commit() -> None:
    commit = "google-coral/test_data/104342d2d3480b3e66203073dac24f4e2dbb4c41"
    for entry in catalog.entries().values():
        for file in (entry.cpu, entry.edgetpu, entry.labels):
            if file and file.url:
                assert file.url == f"https://raw.githubusercontent.com/{commit}/{file.file}"
                assert file.bytes > 0


def test_published_figures_have_their_source() -> None:
    for name, entry in catalog.entries().items():
        if entry.published:
            assert "source" in entry.published, name


def test_sizes_and_hashes_are_the_known_ones(testdata: Path) -> None:
    with (testdata / "catalogue-facts.tsv").open() as file:
        facts = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    used = set()
    for entry in catalog.entries().values():
        for one in (entry.cpu, entry.edgetpu):
            if one and one.url:
                known = facts[one.file]
                assert (str(one.bytes), one.sha256) == (known["bytes"], known["sha256"])
                used.add(one.file)
    # What hears is not in the catalogue.
    assert used == {file for file in facts if not file.startswith("yamnet")}


def test_models_of_the_test_data_are_as_the_catalogue_says(testdata: Path) -> None:
    seen = 0
    for entry in catalog.entries().values():
        path = testdata / "models" / entry.cpu.file
        if not path.exists() or entry.task != "classification":
            continue
        seen += 1
        labels = ""
        if entry.labels and entry.labels.url:
            labels = str(testdata / "labels" / entry.labels.file)
            assert hashlib.sha256(Path(labels).read_bytes()).hexdigest() == entry.labels.sha256
            assert Path(labels).stat().st_size == entry.labels.bytes
        model = catalog.find(str(path), labels)
        tensor = model.file.tensors[model.file.inputs[0]]
        assert tensor.shape == (1, entry.input.height, entry.input.width, 3)
        assert tensor.dtype == entry.input.type
        if entry.input.scale is not None:
            assert (tensor.scale, tensor.zero_point) == (entry.input.scale, entry.input.zero_point)
        assert model.file.gives_probabilities(model.file.outputs[0])
        assert entry.labels is not None
        assert len(model.labels) == entry.labels.count
    assert seen >= 4


def test_the_shipped_names_are_in_the_order_of_corals(testdata: Path) -> None:
    theirs = read_labels(testdata / "labels" / "imagenet_labels.txt")
    ours = read_labels(MODELS / "labels" / "imagenet-1000.txt")
    assert theirs[0] == "background"
    differing = {
        (their.partition(",")[0], our)
        for their, our in zip(theirs[1:], ours, strict=True)
        if their.partition(",")[0] != our
    }
    # Made distinct or clearer, see models/README.md.
    assert differing == {
        ("crane (135)", "crane (bird)"),
        ("crane (518)", "crane (machine)"),
        ("maillot", "maillot (tank suit)"),
        ("Pembroke", "Pembroke Welsh corgi"),
        ("Cardigan", "Cardigan Welsh corgi"),
    }
