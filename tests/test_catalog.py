"""Finding a model and its labels, and refusing what is no classifier."""

from collections.abc import Callable
from pathlib import Path

import pytest

from device import catalog
from device.errors import LabelsError, ModelError
from tests.tiny import colour_model

EMBEDDED = "efficientnet-lite0-224-int8"


def test_the_embedded_model_by_name() -> None:
    model = catalog.find(EMBEDDED)
    assert model.name == EMBEDDED
    assert len(model.labels) == 1000
    assert model.labels[0] == "tench"


def test_a_copy_of_a_known_model_finds_its_labels_by_hash(tmp_path: Path) -> None:
    path = tmp_path / "mine.tflite"
    path.write_bytes((catalog.MODELS / f"{EMBEDDED}.tflite").read_bytes())
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
