"""The node: cameras side by side, sinks kept apart, and the slot between the threads."""

import logging
import threading

import numpy as np
import pytest

from device import config, node
from device.errors import CameraError
from device.events import LabelChange, Observation, Snapshot
from device.frames import Frame, LatestFrame
from device.node import Node
from device.sinks.lines import OutputClosed
from tests.conftest import frame_of


class Recorder:
    """A sink that keeps what it was told, and fails when it is told to."""

    name = "recorder"

    def __init__(self) -> None:
        self.observed: list[Observation] = []
        self.changed: list[LabelChange] = []
        self.reported: list[Snapshot] = []
        self.closed = 0
        self.fails: Exception | None = None

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)
        if self.fails:
            raise self.fails

    def change(self, change: LabelChange) -> None:
        self.changed.append(change)

    def report(self, snapshot: Snapshot) -> None:
        self.reported.append(snapshot)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The sink that nodes open in place of the terminal."""
    sink = Recorder()
    monkeypatch.setattr(Node, "_open_terminal", lambda _: sink)
    return sink


def _frame(number: int) -> Frame:
    return frame_of(np.full((2, 2, 3), number, np.uint8))


def test_a_newer_frame_replaces_an_older_and_is_counted() -> None:
    slot = LatestFrame()
    for number in range(3):
        slot.put(_frame(number))
    taken = slot.take()
    assert taken is not None
    assert taken.pixels[0, 0, 0] == 2
    assert (slot.seen, slot.dropped) == (3, 2)
    assert slot.take() is None


def test_the_last_frame_comes_before_the_end_and_its_error() -> None:
    slot = LatestFrame()
    slot.put(_frame(0))
    slot.end(CameraError("x", "broke off"))
    before = slot.ended
    assert slot.take() is not None
    assert (before, slot.ended) == (False, True)
    with pytest.raises(CameraError, match="camera x: broke off"):
        slot.take()


def test_a_wait_ends_as_soon_as_a_frame_comes() -> None:
    slot = LatestFrame()
    thread = threading.Thread(target=slot.put, args=(_frame(1),))
    thread.start()
    assert slot.take(timeout_s=20) is not None
    thread.join()


def test_two_cameras_go_their_own_ways(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = tuple(config.Camera(name=name, source="synthetic") for name in ("door", "yard"))
    assert Node(config.Config(camera=cameras), frames=20).run() == 0
    seen = [observation.camera for observation in recorder.observed]
    assert len(seen) == 20
    assert {"door", "yard"} == set(seen)
    assert [change.camera for change in recorder.changed].count("door") <= 1
    assert recorder.closed == 1
    summary = capsys.readouterr().out
    assert "door (" in summary
    assert "yard (" in summary


def test_a_sink_that_fails_reaches_nobody_else(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node, "_SINK_RETRY_S", 0.0)
    recorder.fails = ZeroDivisionError("no")
    with caplog.at_level(logging.INFO):
        assert Node(config.Config(camera=(config.Camera(source="synthetic"),)), frames=3).run() == 0
    said = [record.getMessage() for record in caplog.records]
    assert said[:2] == [
        "sink recorder: no; trying again in 0 s",
        "sink recorder: works again",
    ]
    assert len(recorder.observed) == 3


def test_a_sink_whose_reader_has_gone_ends_the_run_in_silence(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    recorder.fails = OutputClosed()
    assert Node(config.Config(camera=(config.Camera(source="synthetic"),))).run() == 0
    assert len(recorder.observed) == 1
    assert recorder.closed == 1
    assert capsys.readouterr() == ("", "")


def test_a_rate_limit_holds(recorder: Recorder) -> None:
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=100),), gate=config.Gate(max_fps=20)
    )
    Node(settings, frames=6).run()
    times = [observation.frame.captured_at for observation in recorder.observed]
    assert times[-1] - times[0] >= 4 / 20
