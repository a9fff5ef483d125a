"""``import labelcam``: the module for other programs, and its documentation."""

import re
from pathlib import Path

import numpy as np
import pytest

from device import labelcam
from device.recordings.pictures import read_picture
from tests.conftest import footage

ROOT = Path(__file__).parent.parent
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def coffee() -> labelcam.Picture:
    pixels: labelcam.Picture = footage("coffee").pixels[..., ::-1]
    return pixels


def test_a_picture_has_everyday_words(coffee: labelcam.Picture) -> None:
    with labelcam.Classifier() as classifier:
        best, *rest = classifier.classify(coffee)
        scores = classifier.scores(coffee)
    assert best.label == "cup"
    assert 0.9 < best.score <= 1
    assert [one.score for one in rest] == sorted((one.score for one in rest), reverse=True)
    assert scores.dtype == np.float32
    assert scores.shape == (len(classifier.labels),)
    assert "person" in classifier.labels
    assert "no person" not in classifier.labels


def test_the_model_s_own_labels_where_they_are_wanted(coffee: labelcam.Picture) -> None:
    with labelcam.Classifier(groups="") as classifier:
        assert classifier.classify(coffee, top=1)[0].label == "espresso"
        assert len(classifier.labels) == 1000


def test_colours_are_red_green_blue() -> None:
    frame = read_picture(ROOT / "models" / "footage" / "coffee.jpg")
    with labelcam.Camera(str(ROOT / "models" / "footage" / "coffee.jpg")) as camera:
        picture = next(iter(camera))
    assert (picture == frame.pixels[..., ::-1]).all()


def test_a_recording_ends() -> None:
    with labelcam.Camera("synthetic", width=64, height=48, fps=240) as camera:
        pictures = [picture for picture, _ in zip(camera, range(3), strict=False)]
    assert [picture.shape for picture in pictures] == [(48, 64, 3)] * 3


def test_a_decider_of_labels_of_one_s_own() -> None:
    decider = labelcam.Decider(["left", "right"], min_frames=1, smoothing_s=0.0, mode="any")
    (change,) = decider.update(np.array([0.9, 0.1], np.float32), at=1.0)
    assert (change.label, decider.label, decider.active) == ("left", "left", ("left",))


@pytest.mark.parametrize(
    "picture", [np.zeros((2, 2)), np.zeros((2, 2, 3)), np.zeros((2, 2, 4), np.uint8)]
)
def test_what_is_no_picture(picture: labelcam.Picture) -> None:
    with labelcam.Classifier() as classifier, pytest.raises(ValueError, match=r"met (float|uint8)"):
        classifier.classify(picture)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(labelcam.LabelcamError, match=r"neither a .tflite file nor one of"):
        labelcam.Classifier("mobilnet")
    with pytest.raises(labelcam.LabelcamError, match="cannot be read as groups"):
        labelcam.Classifier(groups="/nonexistent.toml")
    with pytest.raises(labelcam.LabelcamError, match="nonexistent"):
        labelcam.Camera("/nonexistent.mp4")
    with pytest.raises(labelcam.LabelcamError, match="unknown field `hight`"):
        labelcam.Camera("synthetic", hight=3)
    with pytest.raises(labelcam.LabelcamError, match="exit"):
        labelcam.Decider(["a"], enter=0.2, exit=0.4)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=["webcam", "picture"])
def test_the_documentation_is_right(
    snippet: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setitem(__import__("sys").modules, "labelcam", labelcam)
    # The clip stands for the webcam.
    source = snippet.replace('Camera("auto")', 'Camera("footage")')
    exec(compile(source, "docs/python.md", "exec"), {})
    said = capsys.readouterr().out.split("\n")
    assert said[0].startswith("cup ")
