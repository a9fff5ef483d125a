"""Past crashers, a few hundred inputs for each surface, and that what is found is reported."""

import json
import os
import threading
from pathlib import Path
from random import Random

import pytest

from device.inference import proof
from device.inference.proof import prove
from tests.fuzz import runner, worker
from tests.fuzz.__main__ import main
from tests.fuzz.surface import Surface
from tests.fuzz.surfaces import SURFACES

CRASHERS = sorted((Path(__file__).parent / "crashers").glob("*/*"))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=f"{path.parent.name}/{path.name}",
            # A child for each runtime.
            marks=[pytest.mark.slow] if path.parent.name == "proofs" else [],
        )
        for path in CRASHERS
    ],
)
def test_a_past_crasher_does_no_harm(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "prove", prove)
    with worker.opened(path.parent.name, tmp_path) as surface:
        before = worker.peak_kb()
        surface.feed(path.read_bytes())
        assert worker.peak_kb() - before <= surface.memory_mb << 10


def test_crashers_are_small() -> None:
    assert CRASHERS
    assert max(path.stat().st_size for path in CRASHERS) <= 5120


class Harm(Surface):
    """Does what no surface may do; the first byte of an input says what, the numbers of 0 to 3."""

    name = "harm"
    share = 1
    limit_s = 1.0

    def make(self, chance: Random) -> bytes:
        return bytes([chance.randrange(4)])

    def feed(self, data: bytes) -> None:
        match data[0]:
            case 0:
                raise ValueError("told by itself")
            case 1:
                os.abort()
            case 2:
                threading.Event().wait()


# As the child's module, with one surface more.
HARMFUL = (
    "from tests.fuzz import surfaces, test_fuzz, worker;"
    "surfaces.SURFACES['harm'] = test_fuzz.Harm;"
    "worker.main()"
)


@pytest.mark.slow
def test_harm_is_counted_kept_and_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SURFACES, "harm", Harm)
    made = [worker.input_of(Harm(tmp_path), 1, number)[0] for number in range(8)]
    result = runner.run("harm", tmp_path, seed=1, inputs=8, seconds=60, worker=("-c", HARMFUL))
    counts = [made.count(what) for what in range(3)]
    assert min(counts) > 0
    assert [result.tracebacks, result.crashes, result.hangs] == counts
    assert result.inputs == 8
    kept = {path.name.partition("-")[0]: path for path in tmp_path.glob("*-*[0-9a-f]")}
    assert {kind: path.read_bytes() for kind, path in kept.items()} == {
        "traceback": b"\0",
        "crash": b"\1",
        "hang": b"\2",
    }
    assert "told by itself" in kept["traceback"].with_suffix(".txt").read_text()
    assert kept["crash"].with_suffix(".txt").read_text().startswith("SIGABRT")


@pytest.mark.slow
def test_the_command_gives_figures_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--inputs", "40", "--surface", "commands", "--surface", "labels", "--json"]
    monkeypatch.setattr("sys.argv", ["fuzz", *options, "--keep", str(tmp_path)])
    assert main() == 0
    said = json.loads(capsys.readouterr().out)
    assert said["surfaces"].keys() == {"commands", "labels"}
    assert 40 <= said["total"]["inputs"] <= 42
    assert said["total"]["crashes"] == said["total"]["hangs"] == said["total"]["tracebacks"] == 0


@pytest.mark.parametrize("name", SURFACES)
@pytest.mark.slow
def test_some_inputs_do_no_harm(name: str, tmp_path: Path) -> None:
    inputs = 3 if name == "proofs" else 300
    result = runner.run(name, tmp_path, seed=7, inputs=inputs, seconds=45)
    assert [path.read_text() for path in tmp_path.glob("*.txt")] == []
    assert result.inputs
    assert not result.bad


@pytest.mark.parametrize("name", SURFACES)
def test_the_same_seed_makes_the_same_inputs(name: str, tmp_path: Path) -> None:
    with worker.opened(name, tmp_path) as one:
        made = [worker.input_of(one, 1, number) for number in range(5)]
        assert made == [worker.input_of(one, 1, number) for number in range(5)]
        assert len(set(made)) > 1
