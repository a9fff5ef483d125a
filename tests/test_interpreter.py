"""Runtimes and delegates: what is engaged, and what is said when it is not."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from device import catalog, config, tflite_file, xnnpack
from device.errors import DelegateError, DependencyError, ModelError
from device.interpreter import RUNTIMES, Interpreter
from tests.tiny import softmax_alone

EMBEDDED = catalog.MODELS / "efficientnet-lite0-224-int8.tflite"


def _installed() -> str:
    with Interpreter(tflite_file.read(EMBEDDED), config.Model()) as interpreter:
        return interpreter.description.runtime


@pytest.mark.parametrize("delegate", ["auto", "xnnpack"])
def test_xnnpack_is_engaged_and_proved_from_the_graph(delegate: str) -> None:
    settings = config.Model(delegate=delegate, threads=1)  # type: ignore[arg-type]
    with Interpreter(tflite_file.read(EMBEDDED), settings) as interpreter:
        got = interpreter.description
        assert got.delegate == "xnnpack"
        # All but the quantize operators at both ends and the softmax.
        assert (got.operators_delegated, got.operators_total) == (60, 63)
        assert got.on_cpu == ("QUANTIZE", "SOFTMAX")
        assert got.threads == 1
        assert got.runtime in RUNTIMES
        assert got.inputs[0].shape == (1, 224, 224, 3)
        assert got.outputs[0].shape == (1, 1000)


def test_no_delegate_means_none() -> None:
    with Interpreter(tflite_file.read(EMBEDDED), config.Model(delegate="none")) as interpreter:
        got = interpreter.description
        assert (got.delegate, got.operators_delegated) == ("none", 0)
        assert "CONV_2D" in got.on_cpu


def test_delegated_and_plain_agree(colours: Callable[..., Path]) -> None:
    file = tflite_file.read(colours(softmax=True))
    picture = np.zeros((1, 8, 8, 3), np.uint8)
    picture[..., 1] = 255
    scores = []
    delegates: tuple[Literal["auto", "none"], ...] = ("auto", "none")
    for delegate in delegates:
        settings = config.Model(delegate=delegate)
        with Interpreter(file, settings) as interpreter:
            np.copyto(interpreter.input(), picture)
            interpreter.invoke()
            scores.append(interpreter.output()[0].astype(int))
    assert scores[0].argmax() == scores[1].argmax() == 1
    assert np.abs(scores[0] - scores[1]).max() <= 1


def test_auto_goes_on_and_says_why_where_xnnpack_is_missing(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if _installed() != "tflite-runtime":
        pytest.skip("ai-edge-litert makes its own XNNPACK delegate")
    # The armv7l wheel exports no XNNPACK; the C library does not either.
    monkeypatch.setattr(xnnpack, "_LIBRARY", "_ctypes")
    file = tflite_file.read(colours(softmax=True))
    with Interpreter(file, config.Model()) as interpreter:
        assert interpreter.description.delegate == "none"
        assert "does not export it" in interpreter.description.reason
        interpreter.invoke()
    assert [r.levelname for r in caplog.records if "does not export it" in r.message] == ["WARNING"]
    with pytest.raises(DelegateError, match="does not export it"):
        Interpreter(file, config.Model(delegate="xnnpack"))


def test_a_delegate_that_takes_nothing_is_an_error_when_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "softmax.tflite"
    path.write_bytes(softmax_alone())
    file = tflite_file.read(path)
    with Interpreter(file, config.Model()) as interpreter:
        assert interpreter.description.delegate == "none"
    with pytest.raises(DelegateError, match=r"took none of the 1 operators of softmax\.tflite"):
        Interpreter(file, config.Model(delegate="xnnpack"))


def test_an_edge_tpu_model_on_the_cpu(testdata: Path) -> None:
    path = testdata / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    with pytest.raises(ModelError, match="compiled for the Edge TPU"):
        Interpreter(tflite_file.read(path), config.Model())


def test_a_cpu_model_on_the_edge_tpu() -> None:
    with pytest.raises(DelegateError, match="is not compiled for the Edge TPU"):
        Interpreter(tflite_file.read(EMBEDDED), config.Model(delegate="edgetpu"))


def test_an_operator_that_no_runtime_has(testdata: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tflite_file.read(testdata / "models" / "model_invoking_error.tflite")
    with pytest.raises(ModelError, match="unresolved custom op: fake-op-double") as caught:
        Interpreter(file, config.Model())
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_the_runtime_prints_nothing_to_the_user(
    colours: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    with Interpreter(tflite_file.read(colours(softmax=True)), config.Model()) as interpreter:
        interpreter.invoke()
    assert capfd.readouterr() == ("", "")


def test_a_runtime_that_is_not_installed() -> None:
    missing = next(r for r in RUNTIMES if r != _installed())
    with pytest.raises(DependencyError, match=f"{missing} is not installed; pip install {missing}"):
        Interpreter(tflite_file.read(EMBEDDED), config.Model(runtime=missing))  # type: ignore[arg-type]


def test_opening_and_closing_again_and_again_keeps_no_memory(colours: Callable[..., Path]) -> None:
    file = tflite_file.read(colours(softmax=True))

    def resident_kb() -> int:
        status = Path("/proc/self/statm").read_text().split()
        return int(status[1]) * 4

    for _ in range(20):
        Interpreter(file, config.Model()).close()
    before = resident_kb()
    for _ in range(200):
        Interpreter(file, config.Model()).close()
    assert resident_kb() - before < 2000
