"""The Edge TPU beside the CPU: who classifies, who takes over, and what is said of it."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.errors import DelegateError, InferenceError, ModelError
from device.events import Accelerator, DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.inference.edgetpu import failover
from device.inference.edgetpu.failover import Failover
from device.inference.edgetpu.marker import Marker
from device.inference.edgetpu.owner import owner
from device.inference.interpreter import Interpreter
from device.inference.pool import EnginePool, open_engine
from device.library import catalog
from device.node import Node
from device.pipeline.classifier import Classifier
from device.pipeline.ensemble import open_ensemble
from tests.conftest import classifier_of, frame_of
from tests.edgetpu.standin import Standin

FRAME_S = 1 / 15
COLOURS = ("red", "green", "blue")


class Clock:
    """Monotonic seconds that go on when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Rig:
    """A classifier of colours that fails over, fed frame by frame."""

    def __init__(self, model: catalog.Model, settings: config.Model) -> None:
        self.clock = Clock()
        self.engine = Failover(model, settings, Interpreter(model.file, settings), self.clock)
        self.classifier = Classifier(model, self.engine)
        self.frames = 0

    def settle(self) -> None:
        """Until the Edge TPU's thread has done what it was asked."""
        if self.engine._opening:
            wait([self.engine._opening], timeout=20)

    def classify(self) -> tuple[str, str]:
        """The next frame's label, and what is active after it; checks that the label is right."""
        colour = self.frames % 3
        self.frames += 1
        self.clock.now_s += FRAME_S
        self.classifier.classify(_solid(colour))
        assert self.classifier.top(1)[0].label == COLOURS[colour]
        return COLOURS[colour], self.classifier.description.delegate

    @property
    def health(self) -> Accelerator:
        assert self.classifier.accelerator is not None
        return self.classifier.accelerator


def _solid(colour: int) -> Frame:
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[..., 2 - colour] = 255
    return frame_of(pixels)


@pytest.fixture
def settings(standin: Standin) -> config.Model:
    return config.Model(edgetpu_library=str(standin.library))


@pytest.fixture
def rig(
    twins: Callable[..., Path], settings: config.Model, caplog: pytest.LogCaptureFixture
) -> Iterator[Rig]:
    caplog.set_level(logging.INFO, "labelcam")
    made = Rig(catalog.find(str(twins())), settings)
    yield made
    made.classifier.close()


def _said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_it_dies_at_frame_50_of_200_and_returns_at_120(
    rig: Rig, standin: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    rig.settle()
    active, late = [], 0
    for number in range(200):
        if number == 50:
            standin.tell("fail", "absent")
        elif number == 120:
            standin.tell()
        start = time.perf_counter()
        active.append(rig.classify()[1])
        late += time.perf_counter() - start > FRAME_S
        rig.settle()
    assert len(active) == 200
    assert late <= 1
    # Three failures in a row, on frames 50 to 52; tried again 1, 2 and 4 s after each other,
    # the last time when it is back, and taken between two frames.
    on_cpu = [number for number, delegate in enumerate(active) if delegate != "edgetpu"]
    assert on_cpu[0] == 52
    assert 120 < on_cpu[-1] < 170
    assert on_cpu == list(range(on_cpu[0], on_cpu[-1] + 1))
    assert _said(caplog) == [
        "the Edge TPU takes over (pci apex_0): an Edge TPU answers, the self-test agreed with the "
        "CPU",
        "the Edge TPU failed 3 times in a row: model colours_edgetpu.tflite: failed in invoke() "
        f"on {rig.engine.description.runtime}: USB transfer error 1 [LibUsbDataInCallback]; node "
        "number 1 (EdgeTpuDelegateForCustomOp) failed to invoke; the CPU takes over, the Edge TPU "
        "is tried again in 1 s",
        "the Edge TPU is not used: pci apex_0 does not open; another program may hold it, or it "
        "lost power: end that program, else plug it in again; the CPU classifies, the Edge TPU is "
        "tried again in 2 s",
        "the Edge TPU takes over (pci apex_0): an Edge TPU answers, the self-test agreed with the "
        "CPU",
    ]
    assert rig.health == Accelerator(True, 3, 3, "the self-test agreed with the CPU")
    assert standin.ask("threads") == 1


def test_no_frame_waits_while_it_is_opened(rig: Rig, standin: Standin) -> None:
    rig.settle()
    rig.classify()
    standin.tell("fail", "wait")
    for _ in range(100):  # the retry at frame 18 is stuck for as long as we like
        rig.classify()
    assert rig.engine._opening is not None
    assert not rig.engine._opening.done()
    standin.tell()
    rig.settle()
    assert rig.classify()[1] == "edgetpu"


def test_it_begins_on_the_cpu_without_waiting(
    twins: Callable[..., Path], standin: Standin, settings: config.Model
) -> None:
    model = catalog.find(str(twins()))
    standin.tell("wait")
    with Classifier(model, open_engine(model, settings, wait=False)) as classifier:
        classifier.classify(_solid(1))
        assert classifier.top(1)[0].label == "green"
        assert classifier.description.delegate != "edgetpu"
        assert classifier.description.reason.endswith("; opening the Edge TPU")
        standin.tell()
    owner().submit(int).result(20)
    assert standin.ask("delegates") == 0


def test_a_few_errors_change_nothing(rig: Rig, standin: Standin) -> None:
    rig.settle()
    for _ in range(5):
        rig.classify()
        standin.tell("fail")
        rig.classify()
        rig.classify()
        standin.tell()
    assert rig.health == Accelerator(True, 1, 10, "the self-test agreed with the CPU")


def test_errors_here_and_there_count_as_well_in_the_end(
    rig: Rig,
    standin: Standin,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(failover, "_MAX_ERRORS", 4)
    rig.settle()
    for _ in range(4):
        rig.classify()
        standin.tell("fail")
        rig.classify()
        standin.tell()
    assert not rig.health.active
    assert "the Edge TPU failed 4 times: " in _said(caplog)[-1]
    rig.clock.now_s += 1
    rig.classify()
    rig.settle()
    standin.tell("fail")
    rig.classify()  # takes it back, and the count begins anew
    assert rig.health.active


def test_one_that_keeps_failing_is_tried_ever_more_rarely(rig: Rig, standin: Standin) -> None:
    rig.settle()
    waits = []
    for _ in range(11):
        standin.tell()
        while rig.classify()[1] != "edgetpu":
            rig.clock.now_s = max(rig.clock.now_s, rig.engine._retry_at)
            rig.settle()
        standin.tell("fail")
        while rig.classify()[1] == "edgetpu":
            pass
        waits.append(rig.engine._retry_at - rig.clock.now_s)
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300])
    standin.tell()
    while rig.classify()[1] != "edgetpu":
        rig.clock.now_s = max(rig.clock.now_s, rig.engine._retry_at)
        rig.settle()
    # After five good minutes it is trusted again.
    rig.clock.now_s += 300
    standin.tell("fail")
    while rig.classify()[1] == "edgetpu":
        pass
    assert rig.engine._retry_at - rig.clock.now_s == pytest.approx(1)


def test_one_that_answers_wrongly_is_not_taken(
    rig: Rig, standin: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    # The thread may have tested it already: let it go, and come back wrong.
    rig.settle()
    standin.tell("fail")
    while rig.engine._active is not rig.engine._cpu or rig.health.changes < 2:
        rig.classify()
    standin.tell("wrong")
    for _ in range(60):
        assert rig.classify()[1] != "edgetpu"
        rig.settle()
    assert "in the self-test it says 'green' where the CPU says 'red'" in rig.health.reason
    assert sum("in the self-test" in line for line in _said(caplog)) == 1
    standin.tell()
    for _ in range(120):
        rig.classify()
        rig.settle()
    assert rig.health.active


def test_without_a_device_the_cpu_works_and_it_is_said_once(
    twins: Callable[..., Path],
    standin: Standin,
    settings: config.Model,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.INFO, "labelcam")
    (tmp_path / "root/dev/apex_0").unlink()
    rig = Rig(catalog.find(str(twins())), settings)
    for _ in range(200):
        assert rig.classify()[1] != "edgetpu"
        rig.settle()
    assert [line for line in _said(caplog) if "Edge TPU" in line] == [
        "the Edge TPU is not used: no Edge TPU found; plug one in: `lsusb` then shows 1a6e:089a or "
        "18d1:9302, or there is a /dev/apex_0; the CPU classifies, the Edge TPU is tried again in "
        "1 s"
    ]
    assert (rig.health.active, rig.health.changes) == (False, 0)
    # Plugged in later, it is found.
    (tmp_path / "root/dev/apex_0").touch()
    rig.clock.now_s += 300
    rig.classify()
    rig.settle()
    assert rig.classify()[1] == "edgetpu"
    rig.classifier.close()


def test_an_opening_without_end_is_reported(
    rig: Rig, standin: Standin, caplog: pytest.LogCaptureFixture
) -> None:
    rig.settle()
    rig.classify()
    standin.tell("fail", "wait")
    while not rig.engine._opening:
        rig.classify()
    rig.clock.now_s += 91
    rig.classify()
    rig.classify()
    assert sum("has not come to an end for 90 s" in line for line in _said(caplog)) == 1


def test_auto_waits_until_it_is_known_for_a_single_picture(
    twins: Callable[..., Path], settings: config.Model
) -> None:
    with classifier_of(twins(), settings) as classifier:
        assert classifier.description.delegate == "edgetpu"
        assert classifier.accelerator is not None
        assert classifier.accelerator.active


def test_by_name_it_is_used_or_an_error(
    twins: Callable[..., Path], standin: Standin, settings: config.Model
) -> None:
    model = catalog.find(str(twins()))
    named = msgspec.structs.replace(settings, delegate="edgetpu")
    with Classifier(model, open_engine(model, named)) as classifier:
        classifier.classify(_solid(2))
        assert classifier.top(1)[0].label == "blue"
        assert (classifier.description.delegate, classifier.accelerator) == ("edgetpu", None)
        standin.tell("fail")
        with pytest.raises(InferenceError, match="USB transfer error"):
            classifier.classify(_solid(2))
    standin.tell("absent")
    with pytest.raises(DelegateError, match="does not open"):
        open_engine(model, named)
    owner().submit(int).result(20)
    assert standin.ask("delegates") == 0


def test_other_delegates_leave_the_twin_alone(
    twins: Callable[..., Path], settings: config.Model
) -> None:
    plain = msgspec.structs.replace(settings, delegate="none")
    with classifier_of(twins(), plain) as classifier:
        assert (classifier.description.delegate, classifier.accelerator) == ("none", None)


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ({"side": 9}, r"its inputs are uint8 1×9×9×3 .*, expected uint8 1×8×8×3"),
        ({"classes": 4}, r"its outputs are uint8 1×4 .*, expected uint8 1×3"),
        ({"dtype": "int8"}, r"its inputs are int8 1×8×8×3"),
        ({"scale": 1 / 255}, r"\(scale 0\.0078125, zero point 128\); compile colours\.tflite"),
    ],
)
def test_a_twin_of_another_model_is_refused(
    twins: Callable[..., Path],
    settings: config.Model,
    caplog: pytest.LogCaptureFixture,
    differences: dict[str, object],
    message: str,
) -> None:
    model = catalog.find(str(twins(**differences)))
    with Classifier(model, open_engine(model, settings)) as classifier:
        classifier.classify(_solid(0))
        assert classifier.top(1)[0].label == "red"
        assert classifier.description.delegate != "edgetpu"
    assert [r.levelname for r in caplog.records if "is no twin of colours" in r.message] == [
        "WARNING"
    ]
    with pytest.raises(ModelError, match=message):
        open_engine(model, msgspec.structs.replace(settings, delegate="edgetpu"))


def test_beside_a_model_on_the_edge_tpu_the_sensor_stays_on_the_cpu(
    twins: Callable[..., Path], standin: Standin, settings: config.Model
) -> None:
    sensor = catalog.find("mobilenet-v1-person-96")
    model = replace(catalog.find(str(twins())), beside=(sensor,))
    for wanted in ("auto", "edgetpu"):
        standin.tell()
        asked = msgspec.structs.replace(settings, delegate=wanted)
        with open_ensemble(EnginePool(), model, asked, config.Camera()) as ensemble:
            engine: Any = ensemble._engine
            if wanted == "auto":
                engine._engine.wait_until_opened()
            ensemble.classify(_solid(2))
            (beside,) = ensemble.beside
            assert ensemble.description.delegate == "edgetpu"
            assert (beside.interpreter.delegate, beside.accelerator) == ("xnnpack", None)
            assert ensemble.classify(_solid(2))[3:].sum() == pytest.approx(1, abs=0.02)
            if wanted == "auto":
                # The Edge TPU goes, and neither model loses a frame.
                standin.tell("fail", "absent")
                for _ in range(4):
                    scores = ensemble.classify(_solid(2))
                    assert ensemble.labels[scores[:3].argmax()] == "blue"
                    assert scores[3:].sum() == pytest.approx(1, abs=0.02)
                assert ensemble.description.delegate != "edgetpu"
                assert ensemble.beside[0].problem == ""


def test_the_twin_of_what_is_beside_is_used_and_fails_over(
    twins: Callable[..., Path], standin: Standin, settings: config.Model
) -> None:
    first = replace(catalog.find("mobilenet-v1-person-96"), beside=(catalog.find(str(twins())),))
    with open_ensemble(EnginePool(), first, settings, config.Camera()) as ensemble:
        engine: Any = ensemble._others[0]._classifier._engine
        engine._engine.wait_until_opened()
        scores = ensemble.classify(_solid(1))
        assert ensemble.labels[2 + scores[2:].argmax()] == "green"
        (beside,) = ensemble.beside
        assert beside.accelerator == Accelerator(True, 1, 0, "the self-test agreed with the CPU")
        standin.tell("fail", "absent")
        for _ in range(3):
            assert ensemble.labels[2 + ensemble.classify(_solid(1))[2:].argmax()] == "green"
        (beside,) = ensemble.beside
        assert beside.accelerator is not None
        assert (beside.accelerator.active, beside.problem) == (False, "")


def test_a_real_model_and_its_real_twin(
    testdata: Path, standin: Standin, settings: config.Model
) -> None:
    model = catalog.find(str(testdata / "models" / "mobilenet_v1_0.25_128_quant.tflite"))
    assert model.twin is not None
    standin.tell("class=968")
    with Classifier(model, open_engine(model, settings)) as classifier:
        # Of the pictures that ship the CPU is sure of the coffee: an espresso, row 968 here.
        assert classifier.labels[968] == "espresso"
        assert classifier.description.delegate == "edgetpu"
    standin.tell("class=967")
    with Classifier(model, open_engine(model, settings)) as classifier:
        assert classifier.description.delegate != "edgetpu"
        assert "'espresso'" in classifier.description.reason


class Recorder(Sink):
    """A sink that keeps what it was told."""

    name = "recorder"

    def __init__(self) -> None:
        self.observed: list[Observation] = []
        self.reported: list[DeviceHealth] = []

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)

    def change(self, change: LabelChange, *_: object) -> None:
        pass

    def report(self, snapshot: DeviceHealth) -> None:
        self.reported.append(snapshot)

    def close(self) -> None:
        pass


def test_the_node_reports_which_of_them_classifies(
    twins: Callable[..., Path], settings: config.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    before = set(threading.enumerate())
    monkeypatch.setattr("device.sinks.terminal.open_sink", lambda _: recorder)
    monkeypatch.setattr("device.node._REPORT_S", 0.0)
    model = msgspec.structs.replace(settings, name=str(twins()))
    cameras = (
        config.Camera(name="door", source="synthetic", fps=240),
        config.Camera(name="yard", source="synthetic", fps=240),
    )

    def report(snapshot: DeviceHealth) -> None:
        recorder.reported.append(snapshot)
        if snapshot.accelerator and snapshot.accelerator.active:
            os.kill(os.getpid(), signal.SIGTERM)

    recorder.report = report  # type: ignore[method-assign]
    assert Node(config.Config(camera=cameras, model=model)).run() == 0
    first, last = recorder.reported[0], recorder.reported[-1]
    assert first.accelerator is not None
    assert last.accelerator == Accelerator(True, 1, 0, "the self-test agreed with the CPU")
    assert (last.interpreter.delegate, last.interpreter.device) == ("edgetpu", "pci apex_0")
    # Two cameras, and one thread that owns the Edge TPU.
    names = [thread.name for thread in set(threading.enumerate()) - before]
    assert names.count("labelcam-edgetpu") == 1


def test_a_marker_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "run" / "edgetpu"
    marker = Marker(path)
    assert (marker.interrupted, marker.times) == (False, 0)
    with pytest.raises(OSError, match="unavailable"):
        Marker(path)  # one process at a time
    marker.close()
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from device.inference.edgetpu.marker import Marker\n"
        "marker = Marker(Path(sys.argv[1])); marker.begin(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    for times in (1, 2):
        killed = subprocess.run([sys.executable, "-c", code, path], check=False)
        assert killed.returncode == -signal.SIGKILL
        marker = Marker(path)
        assert (marker.interrupted, marker.times) == (True, times)
        marker.close()
    marker = Marker(path)
    assert (marker.interrupted, marker.times) == (False, 2)
    marker.begin()
    marker.end()
    marker.forgive()
    marker.close()
    marker = Marker(path)
    assert (marker.interrupted, marker.times) == (False, 0)
    marker.close()


def test_a_marker_of_something_else_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "edgetpu"
    path.write_bytes(b"\xff" * 300)
    marker = Marker(path)
    assert (marker.interrupted, marker.times) == (False, 0)
    marker.close()
    assert path.read_bytes() == b"idle    0      \n"


_RUN = """
import sys
from pathlib import Path
from device import cli
from device.inference.edgetpu import device, engine, owner
device.ROOT = Path(sys.argv[1])
engine.HANG_S = 0.3
owner._END_S = 0.3
sys.exit(cli.main(sys.argv[2:]))
"""


def _run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.slow
def test_a_hung_invoke_ends_the_process_and_the_next_start_is_on_the_cpu(
    twins: Callable[..., Path], standin: Standin, tmp_path: Path
) -> None:
    model = twins()
    common = ["run", "--source", "synthetic", "--set", f"model.name={model}"]
    common += ["--set", f"model.edgetpu_library={standin.library}"]
    # It passes the self-test, which is its first invoke(), and hangs when it has work to do.
    standin.tell("hang=2")
    hung = _run(tmp_path / "root", *common, "--set", "camera.fps=100", "--frames", "100000")
    assert hung.returncode == 1
    lines = [line for line in hung.stderr.splitlines() if "Edge TPU" in line]
    assert "has not come back from invoke() for 0.3 s" in lines[-1]
    assert lines[-1].startswith("labelcam: model colours_edgetpu.tflite")
    assert (tmp_path / "run/edgetpu").read_bytes().startswith(b"working")
    standin.tell()
    after = _run(tmp_path / "root", *common, "--frames", "3")
    assert after.returncode == 0
    assert (
        "the Edge TPU is not used: the last run ended while the Edge TPU was at work (it hung, or "
        "crashed); the CPU classifies, the Edge TPU is tried again in 60 s"
    ) in after.stderr
    assert re.search(r"colours on [\w.-]+ [\d.]+, (?:xnnpack|no delegate)", after.stdout)
    assert (tmp_path / "run/edgetpu").read_bytes() == b"idle    1      \n"


def test_after_a_hang_it_is_tried_later_and_forgiven(
    twins: Callable[..., Path], standin: Standin, settings: config.Model, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/edgetpu").write_bytes(b"working 2      \n")
    rig = Rig(catalog.find(str(twins())), settings)
    assert "the last run ended while the Edge TPU was at work" in rig.health.reason
    rig.classify()
    rig.settle()
    assert rig.classify()[1] != "edgetpu"
    rig.clock.now_s += 240
    rig.classify()
    rig.settle()
    assert rig.classify()[1] == "edgetpu"
    rig.clock.now_s += 300
    rig.classify()
    rig.classifier.close()
    owner().submit(int).result(20)
    assert (tmp_path / "run/edgetpu").read_bytes() == b"idle    0      \n"
