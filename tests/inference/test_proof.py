"""A model file that would end the process is an error that names it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device import config
from device.errors import InferenceError, ModelError
from device.inference import choice, proof, runtimes, trial
from device.inference.choice import candidates, choose
from device.inference.explain import explain
from device.inference.pool import open_engine
from device.library import catalog, tflite_file
from device.library.catalog import Model
from tests.conftest import FOOTAGE
from tests.tiny import colour_model, constant_input_model, failing_model, operator_bytes

# Before any test: there, no model is proved and nothing measured unless it says so.
_PROVE, _CANDIDATES = proof.prove, candidates
MODEL = colour_model(softmax=True)


def _changed(position: int) -> bytes:
    return MODEL[:position] + bytes([MODEL[position] ^ 0x80]) + MODEL[position + 1 :]


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was tried in a child, with a state directory in which nothing has passed."""
    names: list[str] = []

    class Child(trial.Trial):
        def __init__(self, module: str, *, name: str) -> None:
            names.append(name)
            super().__init__(module, name=name)

    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(proof, "prove", _PROVE)
    monkeypatch.setattr(proof, "_passed", [])
    monkeypatch.setattr(trial, "Trial", Child)
    return names


@pytest.fixture
def damaged(colours: Callable[..., Path]) -> Model:
    path = colours()
    path.write_bytes(constant_input_model())
    return catalog.find(str(path))


@pytest.mark.slow
def test_a_file_that_ends_the_runtime_ends_a_child(damaged: Model, children: list[str]) -> None:
    message = r"^model \S+/colours\.tflite: cannot be run \(\S+ [0-9.]+: was ended by SIG\w+\): it"
    for _ in range(2):  # never remembered
        with pytest.raises(ModelError, match=message):
            open_engine(damaged, config.Model())
    assert len(children) == 2
    _, problems = explain(str(damaged.file.path))
    assert [problem for problem in problems if "was ended by SIG" in problem]


def test_it_is_not_measured_either(
    damaged: Model,
    children: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(choice, "candidates", _CANDIDATES)
    with pytest.raises(ModelError, match="was ended by SIG"):
        choose(damaged.file, config.Model(), fps=30.0)
    assert "going on" not in caplog.text


def test_a_file_that_never_comes_back(
    colours: Callable[..., Path], children: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_TIMEOUT_S", 0.0)
    with pytest.raises(ModelError, match=r"colours\.tflite: .* gave no answer in 0\.0 s"):
        open_engine(catalog.find(str(colours())), config.Model())


@pytest.mark.slow
def test_a_file_is_proved_once_for_each_runtime(
    colours: Callable[..., Path], children: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tflite_file.read(colours())
    for _ in range(2):
        proof.prove(file, config.Model())
        # As the next start finds it.
        monkeypatch.setattr(proof, "_passed", [])
    assert len(children) == 1
    runtime = next(iter(runtimes.installed()))
    monkeypatch.setattr(runtimes, "installed", lambda: {runtime: "99"})
    proof.prove(file, config.Model())
    assert children[1:] == [f"{runtime} 99"]


def test_without_a_place_to_remember_it_is_proved_once_a_run(
    colours: Callable[..., Path], children: list[str], tmp_path: Path
) -> None:
    (tmp_path / "state").touch()
    for _ in range(2):
        proof.prove(tflite_file.read(colours()), config.Model())
    assert len(children) == 1


def test_a_file_of_the_catalogue_is_known_by_its_hash(children: list[str]) -> None:
    model = catalog.find(config.Model().name)
    open_engine(model, config.Model()).close()
    assert children == []


def test_an_error_of_the_runtime_is_left_to_who_loads_the_file(
    tmp_path: Path, children: list[str]
) -> None:
    path = tmp_path / "failing.tflite"
    path.write_bytes(failing_model())
    engine = open_engine(Model("failing", tflite_file.read(path), ()), config.Model())
    with pytest.raises(InferenceError, match="gather index out of bounds"):
        engine.invoke()
    engine.close()
    assert len(children) == 1


def _labelcam(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "device", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ("classify", FOOTAGE / "cat.jpg", "--model"),
        ("run", "--source", FOOTAGE / "cat.jpg", "--set"),
        ("models", "show"),
    ],
    ids=["classify", "run", "show"],
)
@pytest.mark.slow
def test_commands_end_with_the_name_of_the_file(
    arguments: tuple[object, ...], damaged: Model
) -> None:
    path = damaged.file.path
    ran = _labelcam(*arguments, f"model.name={path}" if "run" in arguments else path)
    assert ran.returncode == 1
    (line,) = [one for one in (ran.stderr + ran.stdout).splitlines() if "was ended by SIG" in one]
    assert str(path) in line
    assert "going on" not in ran.stderr


_CLASSIFY_EACH = """
import contextlib, io, json, sys
from device.cli import main
for model in sys.stdin.read().split():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["classify", sys.argv[1], "--model", model])
    print(json.dumps([model, code, err.getvalue()]), flush=True)
"""


@pytest.mark.slow
def test_no_changed_byte_of_an_operator_ends_the_process(tmp_path: Path) -> None:
    paths = []
    for position in operator_bytes(MODEL):
        paths.append(tmp_path / f"{position}.tflite")
        paths[-1].write_bytes(_changed(position))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    ran = subprocess.run(
        [sys.executable, "-c", _CLASSIFY_EACH, FOOTAGE / "cat.jpg"],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        timeout=58,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    outcomes = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [outcome[0] for outcome in outcomes] == list(map(str, paths))
    for path, code, err in outcomes:
        # Many a byte means nothing; what cannot be run is one line that names the file.
        assert code in (0, 1)
        if code:
            assert err.startswith("labelcam: model ")
            assert Path(path).name in err
            assert err.count("\n") == 1
    # Some are refused when the file is read, the others when a child has tried it.
    assert sum(code for _, code, _ in outcomes) >= 5
