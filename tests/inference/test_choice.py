"""What stands for ``auto``: the rules, the memory, and a real measurement."""

import json
import logging
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from device import config
from device.errors import TrialError
from device.inference import choice, race, runtimes
from device.inference.choice import candidates, choose
from device.inference.interpreter import Interpreter
from device.inference.ranking import Times, judge, pick
from device.inference.runtimes import Candidate, Choice
from device.inference.trial import Trial, time_calls
from device.library import tflite_file
from device.library.tflite_file import TfliteFile

# Before any test: there, nothing is measured unless it says so.
_CANDIDATES = candidates

XNNPACK = Candidate("tflite-runtime", "xnnpack", 1)
PLAIN = Candidate("tflite-runtime", "none", 1)
OTHER = Candidate("ai-edge-litert", "xnnpack", 1)
TWO = Candidate("tflite-runtime", "xnnpack", 2)
FOUR = Candidate("tflite-runtime", "xnnpack", 4)
FPS = 25.0


@pytest.fixture
def model(colours: Callable[..., Path]) -> TfliteFile:
    return tflite_file.read(colours(softmax=True))


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of its own, in which a choice is made as on a device."""
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    monkeypatch.setattr(choice, "candidates", _CANDIDATES)
    monkeypatch.setattr(runtimes, "usable_cores", lambda: 2)
    return tmp_path / "state"


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was measured, with figures that are made up: XNNPACK loses."""
    made: list[str] = []

    def measure(
        model: TfliteFile, _: config.Model, ways: Sequence[Candidate], fps: float, budget_s: float
    ) -> Mapping[Candidate, Times]:
        assert (fps, budget_s) == (FPS, 3.0)
        made.append(model.path.stem)
        return {way: Times([9.0 if way.delegate == "xnnpack" else 5.0]) for way in ways}

    monkeypatch.setattr(race, "measure", measure)
    return made


@pytest.mark.parametrize(
    ("samples", "best"),
    [
        ({}, None),
        ({XNNPACK: [], PLAIN: []}, None),
        ({XNNPACK: [], PLAIN: [9.0]}, PLAIN),
        ({XNNPACK: [10.0], PLAIN: [9.0]}, PLAIN),
        # Within a twentieth the default stays.
        ({XNNPACK: [10.0], PLAIN: [9.7]}, XNNPACK),
        ({XNNPACK: [9.1], PLAIN: [100.0], OTHER: [4.4]}, OTHER),
        # One slow call does not speak against a delegate, but against threads it does.
        ({XNNPACK: [5.0, 5.0, 500.0], PLAIN: [9.0, 9.0, 9.0]}, XNNPACK),
        ({XNNPACK: [10.0] * 50, TWO: [5.0] * 49 + [400.0]}, XNNPACK),
        # Nor does one slow call speak for threads that it did not happen to meet.
        ({XNNPACK: [10.0, 10.0, 200.0], TWO: [9.0, 9.0, 9.0]}, XNNPACK),
        ({XNNPACK: [10.0], TWO: [5.0]}, TWO),
        # Twice the processors for a tenth is no bargain.
        ({XNNPACK: [10.0], TWO: [9.0]}, XNNPACK),
        ({XNNPACK: [10.0], TWO: [6.0], FOUR: [5.5]}, TWO),
        ({XNNPACK: [10.0], TWO: [9.0], FOUR: [5.0]}, FOUR),
        # Threads of another delegate are no reason.
        ({XNNPACK: [10.0], Candidate("tflite-runtime", "none", 2): [1.0]}, XNNPACK),
        ({TWO: [10.0], FOUR: [9.0]}, TWO),
    ],
)
def test_the_best_is_picked(
    samples: Mapping[Candidate, list[float]],
    best: Candidate | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtimes, "usable_cores", lambda: 8)
    assert pick({candidate: Times(ms) for candidate, ms in samples.items()}) == best


def figures(latency_ms: float, cpu_ms: float) -> Times:
    """Two calls at a camera's pace."""
    return Times([latency_ms] * 2, 2 * cpu_ms / 1e3)


@pytest.mark.parametrize(
    ("samples", "best"),
    [
        # As measured at 10 frames a second, where in a loop two threads took 5.2 ms.
        ({XNNPACK: figures(10.6, 10.6), TWO: figures(13.4, 18.6)}, XNNPACK),
        ({XNNPACK: figures(16.8, 13.0), TWO: figures(7.8, 15.0)}, TWO),
        # Half the time, for threads that spin through the pauses.
        ({XNNPACK: figures(10.0, 10.0), TWO: figures(5.0, 17.0)}, XNNPACK),
        ({XNNPACK: figures(10.0, 10.0), TWO: figures(5.0, 16.0)}, TWO),
        # As fast, for less; and slower, for less.
        ({XNNPACK: figures(10.0, 12.0), OTHER: figures(10.2, 10.0)}, OTHER),
        ({XNNPACK: figures(10.0, 12.0), OTHER: figures(12.0, 10.0)}, XNNPACK),
        ({XNNPACK: figures(10.0, 10.0), OTHER: figures(9.0, 30.0)}, OTHER),
    ],
)
def test_processor_time_counts_too(
    samples: Mapping[Candidate, Times], best: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "usable_cores", lambda: 2)
    assert pick(samples) == best


@pytest.mark.parametrize(("cores", "best"), [(2, XNNPACK), (3, TWO)])
def test_all_cores_must_bring_more(
    cores: int, best: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "usable_cores", lambda: cores)
    assert pick({XNNPACK: Times([10.0]), TWO: Times([6.5])}) == best
    assert pick({XNNPACK: Times([10.0]), TWO: Times([5.5])}) == TWO


def test_the_reason_names_all_that_ran() -> None:
    slow = figures(100.0, 150.0)
    made = judge({XNNPACK: Times([12.0, 10.0, 11.0], 0.036), PLAIN: Times(), TWO: slow})
    assert made is not None
    assert made.reason == (
        "best measured here: tflite-runtime xnnpack 1 thread 11 ms, CPU 12; "
        "others: tflite-runtime xnnpack 2 threads 100 ms, CPU 150"
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (config.Model(), ("ai-edge-litert", "none", 2)),
        (config.Model(delegate="xnnpack"), ("ai-edge-litert", "xnnpack", 2)),
        (config.Model(runtime="tflite-runtime", threads=3), ("tflite-runtime", "none", 3)),
    ],
)
def test_what_is_set_by_name_stays(settings: config.Model, expected: tuple[str, str, int]) -> None:
    applied = Choice(Candidate("ai-edge-litert", "none", 2), "").apply_to(settings)
    assert (applied.runtime, applied.delegate, applied.threads) == expected


def test_a_chosen_xnnpack_may_still_be_gone_without() -> None:
    assert Choice(XNNPACK, "").apply_to(config.Model()).delegate == "auto"


def test_only_threads_that_have_a_core_are_tried(
    model: TfliteFile, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cores, expected in ((1, {1}), (2, {1, 2}), (3, {1, 2}), (4, {1, 2, 4}), (64, {1, 2, 4})):
        monkeypatch.setattr(runtimes, "usable_cores", lambda cores=cores: cores)
        assert {way.threads for way in candidates(model, config.Model())} == expected
    assert {way.threads for way in candidates(model, config.Model(threads=3))} == {3}


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ({}, 4),
        ({"a/b": "max 100000"}, 4),
        ({"a/b": "200000 100000"}, 2),
        ({"a/b": "max 100000", "a": "150000 100000"}, 1),
        ({"a/b": "50000 100000"}, 1),
        ({"a/b": "nonsense"}, 4),
    ],
)
def test_cores_are_those_of_affinity_and_control_group(
    quotas: Mapping[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("0::/a/b\n")
    for group, quota in quotas.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(runtimes, "_PROC", tmp_path)
    monkeypatch.setattr(runtimes, "_CGROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert runtimes.usable_cores() == cores


def test_a_processor_is_known_by_its_numbers_and_its_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = "CPU implementer\t: 0x41\nCPU variant\t: 0x{0}\nCPU part\t: 0xd0b\nCPU revision\t: 1\n"
    (tmp_path / "cpuinfo").write_text(core.format(4) * 4)
    (tmp_path / "board").write_text("Raspberry Pi 5 Model B Rev 1.0\0")
    monkeypatch.setattr(choice, "_PROC", tmp_path)
    monkeypatch.setattr(choice, "_BOARD", tmp_path / "board")
    before = choice.cpu_identity()
    assert before == f"{os.uname().machine}, Raspberry Pi 5 Model B Rev 1.0, 0x41, 0x4, 0xd0b, 1"
    (tmp_path / "cpuinfo").write_text(core.format(3) * 4)
    assert choice.cpu_identity() != before


def test_versions_are_known_without_an_import(model: TfliteFile) -> None:
    with Interpreter(model, config.Model()) as interpreter:
        description = interpreter.description
    assert runtimes.installed()[description.runtime] == description.version  # type: ignore[index]


def test_a_choice_is_made_once(
    model: TfliteFile, state: Path, measurements: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        made = choose(model, config.Model(), fps=FPS)
        again = choose(model, config.Model(), fps=FPS)
    assert measurements == ["colours"]
    assert made is not None
    assert made.best.delegate == "none"
    assert again == made
    assert [r.getMessage().split(":")[0] for r in caplog.records] == ["model colours"] * 2
    assert "at most 3 s" in caplog.records[0].getMessage()
    assert [path.name for path in state.iterdir()] == ["choices.json"]


def test_a_choice_is_made_again_when_what_it_holds_for_changes(
    model: TfliteFile,
    colours: Callable[..., Path],
    state: Path,
    measurements: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choose(model, config.Model(), fps=FPS)
    choose(tflite_file.read(colours("other.tflite", softmax=False)), config.Model(), fps=FPS)
    choose(model, config.Model(threads=1), fps=FPS)
    monkeypatch.setattr(choice, "cpu_identity", lambda: "another")
    choose(model, config.Model(), fps=FPS)
    monkeypatch.setattr(runtimes, "usable_cores", lambda: 4)
    choose(model, config.Model(), fps=FPS)
    name = next(iter(runtimes.installed()))
    monkeypatch.setattr(runtimes, "installed", lambda: {name: "99"})
    choose(model, config.Model(), fps=FPS)
    assert measurements == ["colours", "other", *["colours"] * 4]
    choose(model, config.Model(), fps=FPS)
    assert len(measurements) == 6


def test_what_was_measured_in_another_way_is_measured_anew(
    model: TfliteFile, state: Path, measurements: list[str]
) -> None:
    made = choose(model, config.Model(), fps=FPS)
    records = json.loads((state / "choices.json").read_bytes())
    assert records[0]["key"].pop("method") == 2
    (state / "choices.json").write_text(json.dumps(records))
    assert choose(model, config.Model()) is None
    assert choose(model, config.Model(), fps=FPS) == made
    assert measurements == ["colours"] * 2


@pytest.mark.parametrize("damaged", [b'[{"key": \xff', b'[{"key":' * 100_000])
def test_a_damaged_memory_is_no_memory(
    model: TfliteFile, state: Path, measurements: list[str], damaged: bytes
) -> None:
    state.mkdir()
    (state / "choices.json").write_bytes(damaged)
    choose(model, config.Model(), fps=FPS)
    assert measurements == ["colours"]
    assert choose(model, config.Model()) is not None


def test_memory_is_bounded(model: TfliteFile, state: Path, measurements: list[str]) -> None:
    for threads in range(1, 41):
        choose(model, config.Model(threads=threads), fps=FPS)
    assert len(msgspec.json.decode((state / "choices.json").read_bytes())) == 32


def test_a_state_directory_that_cannot_be_written(
    model: TfliteFile,
    state: Path,
    measurements: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    state.touch()
    assert choose(model, config.Model(), fps=FPS) is not None
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{state}/choices.json cannot be written (")
    assert "LABELCAM_STATE" in warnings[0]


def test_nothing_is_measured_where_nothing_is_open(
    model: TfliteFile, state: Path, measurements: list[str]
) -> None:
    name = next(iter(runtimes.installed()))
    assert choose(model, config.Model()) is None
    assert choose(model, config.Model(runtime=name, delegate="none", threads=1), fps=FPS) is None
    assert choose(model, config.Model(delegate="edgetpu"), fps=FPS) is None
    assert measurements == []


def test_a_machine_too_slow_to_measure_is_not_asked_again(
    model: TfliteFile, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "BUDGET_S", 0.0)
    made = choose(model, config.Model(), fps=FPS)
    assert made is not None
    assert (made.best.delegate, made.best.threads) == ("xnnpack", 1)
    assert "nothing ran within 0 s" in made.reason
    assert choose(model, config.Model()) == made


def test_a_model_that_does_not_run_is_not_remembered(
    state: Path, testdata: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tflite_file.read(testdata / "models" / "model_invoking_error.tflite")
    assert choose(file, config.Model(), fps=FPS) is None
    assert "nothing could be measured" in caplog.text
    assert not state.exists()


def test_a_pause_follows_each_call_and_its_processor_time_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pauses: list[float] = []

    def spin(seconds: float) -> None:
        pauses.append(seconds)
        end = time.process_time() + 0.01
        while time.process_time() < end:
            pass

    monkeypatch.setattr(time, "sleep", spin)
    times = time_calls(lambda: None, 3, 60.0, interval_s=20.0)
    assert len(times.ms) == len(pauses) == 3
    assert all(0.0 < pause < 20.0 for pause in pauses)
    assert times.cpu_s >= 0.03
    assert sum((times, times), Times()).cpu_ms == pytest.approx(times.cpu_ms)


@pytest.mark.slow
def test_a_real_measurement(model: TfliteFile, state: Path) -> None:
    start = time.monotonic()
    made = choose(model, config.Model(), fps=FPS)
    assert time.monotonic() - start < 4.0
    assert made is not None
    assert made.reason.startswith("best measured here: ")
    with Interpreter(model, config.Model(), made) as interpreter:
        got = interpreter.description
    assert (got.runtime, got.threads) == (made.best.runtime, made.best.threads)
    assert got.delegate == made.best.delegate
    assert got.reason == made.reason


def test_a_child_that_hangs_fails_or_dies_is_told_apart() -> None:
    run = race._Run(0, 1, 0.1, 0.0)
    with Trial("device.inference.race", name="it") as trial:
        with pytest.raises(TrialError, match=r"^it: IndexError: list index out of range$"):
            trial.ask(run, int, 20.0)
        trial._process.send_signal(signal.SIGSTOP)
        with pytest.raises(TrialError, match=r"^it: gave no answer in 0\.1 s$"):
            trial.ask(run, int, 0.1)
        with pytest.raises(TrialError, match=r"^it: is over$"):
            trial.ask(run, int, 20.0)
    with Trial("device.inference.race", name="it") as trial:
        trial._process.kill()
        trial._process.wait()
        with pytest.raises(TrialError, match=r"^it: was ended by SIGKILL$"):
            trial.ask(run, int, 20.0)
    with pytest.raises(TrialError, match=r"^/nonexistent/python: cannot be run: No such file"):
        Trial("x.py", python="/nonexistent/python")
