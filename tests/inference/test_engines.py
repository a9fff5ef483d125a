"""One contract for all that runs a model, whatever stands behind it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from device import config
from device.errors import InferenceError
from device.inference import runtimes
from device.inference.interpreter import Engine
from device.inference.pool import EnginePool, open_engine
from device.library import catalog
from tests.edgetpu.standin import Standin

# Kind of engine: runtime, delegate, and whether an Edge TPU answers.
KINDS: dict[str, tuple[str, str, bool]] = {
    "tflite-runtime, plain": ("tflite-runtime", "none", False),
    "tflite-runtime, XNNPACK": ("tflite-runtime", "xnnpack", False),
    "ai-edge-litert, plain": ("ai-edge-litert", "none", False),
    "ai-edge-litert, XNNPACK": ("ai-edge-litert", "xnnpack", False),
    "Edge TPU alone": ("auto", "edgetpu", True),
    "failover, on the Edge TPU": ("auto", "auto", True),
    "failover, on the CPU": ("auto", "auto", False),
    "lease": ("auto", "xnnpack", False),
}
Opener = Callable[[], Engine]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    runtime = KINDS[name][0]
    if runtime != "auto" and runtime not in runtimes.installed():
        pytest.skip(f"{runtime} is not installed; pip install {runtime}")
    return name


@pytest.fixture
def opener(kind: str, twins: Callable[..., Path], standin: Standin) -> Opener:
    """Opens one more engine of this kind for the model of colours."""
    runtime, delegate, answers = KINDS[kind]
    model = catalog.find(str(twins()))
    settings = config.Model(
        runtime=runtime,  # type: ignore[arg-type]
        delegate=delegate,  # type: ignore[arg-type]
        edgetpu_library=str(standin.library),
    )
    if not answers:
        standin.tell("absent")
    if kind == "lease":
        pool = EnginePool()
        return lambda: pool.open(model, settings, wait=True)
    return lambda: open_engine(model, settings)


@pytest.fixture
def engine(opener: Opener) -> Iterator[Engine]:
    opened = opener()
    yield opened
    opened.close()


def _answer(engine: Engine, colour: int) -> list[int]:
    """The output for a picture of 8 × 8 pixels of this colour, after one invoke."""
    engine.input()[...] = np.eye(3, dtype=np.uint8)[colour] * 200
    engine.invoke()
    return [int(value) for value in engine.output()[0]]


def test_it_describes_what_it_runs_on(engine: Engine, kind: str) -> None:
    runtime, delegate, answers = KINDS[kind]
    found = engine.description
    expected = {"auto": "edgetpu" if answers else "xnnpack"}.get(delegate, delegate)
    assert found.delegate == expected
    assert runtime in ("auto", found.runtime)
    assert found.version == runtimes.installed()[found.runtime]  # type: ignore[index]
    assert (found.operators_delegated, found.operators_total) == (int(expected != "none"), 1)
    assert bool(found.on_cpu) is (expected == "none")
    assert bool(found.device) is answers
    assert found.reason
    assert "\n" not in found.reason


def test_its_tensors_are_those_it_describes(engine: Engine) -> None:
    (into,), (out,) = engine.description.inputs, engine.description.outputs
    assert (into.shape, into.dtype, out.shape, out.dtype) == (
        (1, 8, 8, 3),
        "uint8",
        (1, 3),
        "uint8",
    )
    engine.invoke()
    for view, tensor in ((engine.input(), into), (engine.output(), out)):
        assert (view.shape, view.dtype.name) == (tensor.shape, tensor.dtype)


def test_it_answers(engine: Engine) -> None:
    for colour in (0, 1, 2, 0):
        assert _answer(engine, colour) == [200 * (channel == colour) for channel in range(3)]


def test_an_output_is_a_copy(engine: Engine) -> None:
    _answer(engine, 0)
    before = engine.output()
    _answer(engine, 1)
    assert before.tolist() == [[200, 0, 0]]
    before[...] = 7
    assert engine.output().tolist() == [[0, 200, 0]]


def test_the_picture_is_written_in_place(engine: Engine) -> None:
    engine.input()[...] = 9
    assert (engine.input() == 9).all()
    assert not engine.input().flags.owndata


def test_it_says_how_an_edge_tpu_is_where_one_may_take_over(engine: Engine, kind: str) -> None:
    health = engine.accelerator
    assert (health is not None) is kind.startswith("failover")
    if health:
        assert health.active is KINDS[kind][2]


def test_it_is_closed_once_and_of_no_use_afterwards(opener: Opener) -> None:
    engine = opener()
    _answer(engine, 2)
    engine.close()
    engine.close()
    # A run is summed up when all is closed.
    assert engine.description.model in ("colours", "colours_edgetpu")
    for use in (engine.input, engine.invoke, engine.output):
        with pytest.raises(InferenceError) as caught:
            use()
        assert "\n" not in str(caught.value)


def test_two_of_a_kind_do_not_disturb_each_other(opener: Opener, kind: str) -> None:
    first, second = opener(), opener()
    assert _answer(first, 0) == [200, 0, 0]
    assert _answer(second, 1) == [0, 200, 0]
    # What is shared is used by turns, whole frames at a time.
    assert first.output().tolist() == [[0, 200, 0] if kind == "lease" else [200, 0, 0]]
    first.close()
    assert _answer(second, 2) == [0, 0, 200]
    second.close()
