"""Runtimes and delegates: what is engaged, and what is said when it is not."""

import ctypes
import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device import config
from device.errors import (
    ConfigError,
    DelegateError,
    DependencyError,
    InferenceError,
    ModelError,
    UsageError,
)
from device.inference import xnnpack
from device.inference.interpreter import Interpreter
from device.inference.runtimes import RUNTIMES, Runtime
from device.library import tflite_file
from device.system.paths import MODELS
from tests.tiny import failing_model, softmax_alone

EMBEDDED = MODELS / "efficientnet-lite0-224-int8.tflite"


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


@pytest.mark.parametrize("delegate", ["auto", "xnnpack"])
def test_a_32_bit_build_has_no_xnnpack(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, delegate: str
) -> None:
    if _installed() != "tflite-runtime":
        pytest.skip("ai-edge-litert makes its own XNNPACK delegate")
    monkeypatch.setattr(ctypes, "sizeof", lambda _: 4)
    settings = config.Model(delegate=delegate)  # type: ignore[arg-type]
    file = tflite_file.read(colours(softmax=True))
    if delegate == "auto":
        with Interpreter(file, settings) as interpreter:
            assert interpreter.description.delegate == "none"
            assert "32-bit build of tflite-runtime has none" in interpreter.description.reason
    else:
        with pytest.raises(DelegateError, match="32-bit build of tflite-runtime has none"):
            Interpreter(file, settings)


def test_xnnpack_got_the_flags_it_was_given() -> None:
    if _installed() != "tflite-runtime":
        pytest.skip("ai-edge-litert makes its own XNNPACK delegate")
    library = ctypes.CDLL(importlib.import_module(xnnpack._LIBRARY).__file__)
    flags, pool = library.TfLiteXNNPackDelegateGetFlags, library.TfLiteXNNPackDelegateGetThreadPool
    flags.argtypes = pool.argtypes = [ctypes.c_void_p]
    pool.restype = ctypes.c_void_p
    for threads in (1, 2):
        delegate = xnnpack.XnnpackDelegate(threads)
        pointer = delegate._get_native_delegate_pointer()
        # QS8 and QU8; and more threads than one need a pool.
        assert flags(pointer) == 3
        assert bool(pool(pointer)) == (threads > 1)
        delegate.close()


def test_another_layout_of_xnnpack_s_options_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    if _installed() != "tflite-runtime":
        pytest.skip("ai-edge-litert makes its own XNNPACK delegate")

    class Wider(ctypes.Structure):
        _fields_ = (
            ("num_threads", ctypes.c_int64),
            ("flags", ctypes.c_uint32),
            ("spare", ctypes.c_char * 116),
        )

    monkeypatch.setattr(xnnpack, "_Options", Wider)
    with pytest.raises(DelegateError, match=r"has other options than 2\.14"):
        xnnpack.XnnpackDelegate(1)


@pytest.mark.parametrize("threads", [-1, 65, 10_000])
def test_a_number_of_threads_that_cannot_be(threads: int) -> None:
    with pytest.raises(UsageError, match=f"threads = {threads}: expected 1 to 64, or 0"):
        Interpreter(tflite_file.read(EMBEDDED), config.Model(threads=threads))
    with pytest.raises(ConfigError, match=f"threads = {threads}"):
        config.load(settings=[f"model.threads={threads}"])


def test_no_number_of_threads_means_one_at_least(colours: Callable[..., Path]) -> None:
    with Interpreter(tflite_file.read(colours()), config.Model(threads=0)) as interpreter:
        assert interpreter.description.threads >= 1


def test_a_model_that_loads_and_fails_in_invoke(tmp_path: Path) -> None:
    path = tmp_path / "failing.tflite"
    path.write_bytes(failing_model())
    with Interpreter(tflite_file.read(path), config.Model()) as interpreter:
        for _ in range(3):
            with pytest.raises(InferenceError) as caught:
                interpreter.invoke()
            assert str(caught.value) == (
                f"model failing.tflite: failed in invoke() on {interpreter.description.runtime}: "
                "gather index out of bounds; node number 0 (GATHER) failed to invoke"
            )


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


@pytest.mark.parametrize("missing", RUNTIMES)
def test_a_runtime_that_is_not_installed(missing: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, RUNTIMES[missing], None)
    with pytest.raises(DependencyError, match=f"{missing} is not installed; pip install {missing}"):
        Interpreter(tflite_file.read(EMBEDDED), config.Model(runtime=missing))


@pytest.mark.slow
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
