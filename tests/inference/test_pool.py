"""Who shares an engine, and who closes it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from device import config
from device.errors import InferenceError, UsageError
from device.inference import pool
from device.inference.interpreter import Engine, Interpreter
from device.inference.pool import EnginePool
from device.library import catalog
from device.library.catalog import Model
from tests.tiny import colour_model


@pytest.fixture
def model(colours: Callable[..., Path]) -> Model:
    return catalog.find(str(colours()))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Every engine that was opened, in order."""
    engines: list[Engine] = []
    open_engine = pool.open_engine

    def keep(*arguments: object, **options: object) -> Engine:
        engines.append(open_engine(*arguments, **options))  # type: ignore[arg-type]
        return engines[-1]

    monkeypatch.setattr(pool, "open_engine", keep)
    return engines


def test_the_same_model_and_settings_share_one_engine(model: Model, opened: list[Engine]) -> None:
    engines, settings = EnginePool(), config.Model()
    assert engines.share(model, settings) is None
    first = engines.open(model, settings, wait=True)
    # By whatever name it was asked for.
    named = msgspec.structs.replace(settings, name="colours", labels="x.txt")
    second = engines.open(catalog.find(str(model.file.path)), named, wait=True)
    third = engines.share(model, settings)
    assert third is not None
    assert len(opened) == 1
    assert [lease.shared for lease in (first, second, third)] == [False, True, True]


def test_other_settings_or_bytes_have_an_engine_of_their_own(
    model: Model, opened: list[Engine]
) -> None:
    engines = EnginePool()
    engines.open(model, config.Model(), wait=True)
    engines.open(model, config.Model(delegate="none"), wait=True)
    model.file.path.write_bytes(colour_model(softmax=True))
    engines.open(catalog.find(str(model.file.path)), config.Model(), wait=True)
    assert len(opened) == 3


def test_the_last_lease_closes_the_engine(model: Model, opened: list[Engine]) -> None:
    engines, settings = EnginePool(), config.Model()
    leases = [engines.open(model, settings, wait=True) for _ in range(3)]
    for lease in leases[:2]:
        lease.close()
        lease.close()
        with pytest.raises(InferenceError, match="used after it was closed"):
            lease.invoke()
    leases[2].invoke()
    leases[2].close()
    with pytest.raises(InferenceError, match=r"colours\.tflite: was used after it was closed"):
        opened[0].invoke()
    assert engines.share(model, settings) is None
    engines.open(model, settings, wait=True).invoke()
    assert len(opened) == 2


def test_what_cannot_be_opened_leaves_nothing_behind(model: Model) -> None:
    engines = EnginePool()
    with pytest.raises(UsageError, match="threads = 65"):
        engines.open(model, config.Model(threads=65), wait=True)
    assert engines.share(model, config.Model(threads=65)) is None


def test_a_model_without_a_twin_runs_in_an_interpreter(model: Model) -> None:
    engine = pool.open_engine(model, config.Model())
    assert isinstance(engine, Interpreter)
    engine.close()
