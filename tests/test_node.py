"""The node: cameras side by side, sinks kept apart, and the slot between the threads."""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.cameras import Camera
from device.control.commands import Command
from device.errors import CameraError, OutputClosed
from device.events import ActionResult, DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame, LatestFrame
from device.health import picture as picture_health
from device.health.vitals import Board
from device.node import Node
from device.pipeline.duty import Duty
from device.sinks import outlet
from tests.conftest import frame_of


class Recorder(Sink):
    """A sink that keeps what it was told, and fails when it is told to."""

    name = "recorder"

    def __init__(self) -> None:
        self.observed: list[Observation] = []
        self.changed: list[LabelChange] = []
        self.reported: list[DeviceHealth] = []
        self.closed = 0
        self.fails: Exception | None = None

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)
        if self.fails:
            raise self.fails

    def change(self, change: LabelChange, *_: object) -> None:
        self.changed.append(change)

    def report(self, snapshot: DeviceHealth) -> None:
        self.reported.append(snapshot)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The sink that nodes open in place of the terminal."""
    sink = Recorder()
    monkeypatch.setattr("device.sinks.terminal.open_sink", lambda _: sink)
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
    assert (before, slot.ended, slot.pending) == (False, False, True)
    with pytest.raises(CameraError, match="camera x: broke off"):
        slot.take()
    assert slot.ended


def test_a_wait_ends_as_soon_as_a_frame_comes() -> None:
    slot = LatestFrame()
    thread = threading.Thread(target=slot.put, args=(_frame(1),))
    thread.start()
    assert slot.take(timeout_s=20) is not None
    thread.join()


@pytest.mark.slow
def test_two_cameras_go_their_own_ways(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = tuple(config.Camera(name=name, source="synthetic") for name in ("door", "yard"))
    assert Node(config.Config(camera=cameras), frames=20).run() == 0
    seen = [observation.camera for observation in recorder.observed]
    assert len(seen) == 20
    assert {"door", "yard"} == set(seen)
    changes = sorted((change.camera, change.label, change.previous) for change in recorder.changed)
    assert changes == [("door", "unknown", None), ("yard", "unknown", None)]
    assert recorder.closed == 1
    summary = capsys.readouterr().out
    assert "door (" in summary
    assert "yard (" in summary


def test_a_sink_that_fails_reaches_nobody_else(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlet, "RETRY_S", 0.0)
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


@pytest.mark.slow
def test_a_rate_limit_holds(recorder: Recorder) -> None:
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=100),), gate=config.Gate(max_fps=20)
    )
    Node(settings, frames=6).run()
    times = [observation.frame.captured_at for observation in recorder.observed]
    assert times[-1] - times[0] >= 4 / 20


class TestCamerasThatFail:
    """What the sinks learn of a camera that stalls, with a camera that is told when to."""

    @pytest.fixture
    def opener(self, monkeypatch: pytest.MonkeyPatch) -> "Flaky":
        flaky = Flaky()
        monkeypatch.setattr("device.pipeline.feeds.open_camera", flaky)
        return flaky

    @pytest.mark.slow
    def test_no_stale_label_and_the_state_at_once(
        self, recorder: Recorder, opener: "Flaky", colours: Callable[..., Path]
    ) -> None:
        opener.stalls_after = [6]
        settings = config.Config(
            camera=(config.Camera(name="door", stall_s=0.5, watch_picture=False),),
            model=config.Model(name=str(colours(softmax=True))),
            decide=config.Decide(enter=0.35, exit=0.2, min_frames=2, smoothing_s=0),
        )
        assert Node(settings, frames=12).run() == 0
        labels = [(change.previous, change.label) for change in recorder.changed]
        assert labels == [(None, "red"), ("red", "unavailable"), ("unavailable", "red")]
        assert recorder.changed[1].score == 0
        assert recorder.changed[1].held_s == pytest.approx(0.5, abs=0.4)
        states = [snapshot.cameras[0].state for snapshot in recorder.reported]
        order = [
            state for state, before in zip(states, [None, *states], strict=False) if state != before
        ]
        assert order[-4:] == ["live", "stalled", "lost", "live"]
        last = recorder.reported[-1].cameras[0]
        assert (last.reopenings, last.problem) == (1, "")
        while_away = [o for o in recorder.observed if o.label == "red"]
        gone_at, back_at = recorder.changed[1].at, recorder.changed[2].at
        assert not [o for o in while_away if gone_at < o.at < back_at]

    @pytest.mark.usefixtures("recorder")
    def test_a_camera_that_was_given_up_ends_the_process_with_its_reason(
        self, opener: "Flaky", colours: Callable[..., Path]
    ) -> None:
        opener.absent = True
        settings = config.Config(
            camera=(config.Camera(name="door", give_up_s=0.2),),
            model=config.Model(name=str(colours(softmax=True))),
        )
        with pytest.raises(CameraError, match=r"it: no such device; gave up after 0 s"):
            Node(settings, patient=True).run()
        with pytest.raises(CameraError, match=r"it: no such device$"):
            Node(settings).run()

    @pytest.mark.slow
    def test_one_that_works_keeps_the_process_while_another_is_away(
        self, recorder: Recorder, opener: "Flaky", colours: Callable[..., Path]
    ) -> None:
        opener.absent_name = "yard"
        cameras = tuple(
            config.Camera(name=name, give_up_s=0.1, watch_picture=False)
            for name in ("door", "yard")
        )
        settings = config.Config(
            camera=cameras,
            model=config.Model(name=str(colours(softmax=True))),
            gate=config.Gate(motion="off"),  # plain red is a scene at rest
        )
        assert Node(settings, frames=40, patient=True).run() == 0
        assert {observation.camera for observation in recorder.observed} == {"door"}
        last = recorder.reported[-1]
        assert [camera.state for camera in last.cameras] == ["live", "lost"]

    @pytest.mark.usefixtures("opener")
    @pytest.mark.slow
    def test_a_frozen_picture_is_reported(
        self,
        recorder: Recorder,
        colours: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(picture_health, "_FROZEN_S", 0.1)
        monkeypatch.setattr(picture_health, "PERIOD_S", 0.05)
        settings = config.Config(
            camera=(config.Camera(name="door"),),
            model=config.Model(name=str(colours(softmax=True))),
            gate=config.Gate(motion="off"),  # plain red is a scene at rest
        )
        Node(settings, frames=60).run()
        assert "frozen" in recorder.reported[-1].cameras[0].picture

    @pytest.mark.slow
    def test_a_snapshot_is_the_large_picture_where_the_camera_has_one(
        self, recorder: Recorder, opener: "Flaky", colours: Callable[..., Path]
    ) -> None:
        opener.large = True
        settings = config.Config(
            camera=(config.Camera(name="door", watch_picture=False),),
            model=config.Model(name=str(colours(softmax=True))),
            gate=config.Gate(motion="off"),  # plain red is a scene at rest
        )
        device = Node(settings, frames=30)
        threading.Timer(0.1, device.controller.submit, [Command("door", "snapshot")]).start()
        device.run()
        (snapshot,) = [o.snapshot for o in recorder.observed if o.snapshot]
        assert snapshot.width == 64
        # What was classified is small, also of the frame that came with the large one.
        assert all(o.frame.width == 16 for o in recorder.observed)


class Flaky:
    """Opens a camera that shows plain red a hundred times a second, until it stalls."""

    def __init__(self) -> None:
        self.stalls_after: list[int] = []
        self.absent = False
        self.absent_name = ""
        self.large = False

    def __call__(self, settings: config.Camera, stop: threading.Event, **_: object) -> Camera:
        if self.absent or settings.name == self.absent_name:
            raise CameraError("it", "no such device")
        camera = _Red(stop, self.stalls_after.pop(0) if self.stalls_after else None)
        camera.has_large = self.large
        return camera


class _Red(Camera):
    source = "it"

    def __init__(self, stop: threading.Event, stalls_after: int | None) -> None:
        self._stop = stop
        self._left = stalls_after

    def read(self) -> Frame | None:
        if self._stop.wait(None if self._left == 0 else 0.01):
            return None
        if self._left is not None:
            self._left -= 1
        red = np.zeros((16, 16, 3), np.uint8) + np.array([0, 0, 255], np.uint8)
        frame = frame_of(red, at=time.monotonic())
        if not self.picture_wanted:
            return frame
        self.picture_wanted = False
        return dataclasses.replace(frame, large=frame_of(np.zeros((48, 64, 3), np.uint8)))

    def close(self) -> None: ...


@pytest.mark.slow
def test_regions_of_one_camera_have_labels_of_their_own(
    recorder: Recorder, colours: Callable[..., Path], tmp_path: Path
) -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32, 2], picture[:, 32:, 0] = 255, 255  # red on the left, blue on the right
    cv2.imwrite(str(tmp_path / "halves.png"), picture)
    regions = (
        config.Region(name="left", box=(0.0, 0.0, 0.5, 1.0)),
        config.Region(name="right", box=(0.5, 0.0, 1.0, 1.0)),
    )
    settings = config.Config(
        camera=(config.Camera(name="door", source=str(tmp_path / "halves.png"), regions=regions),),
        model=config.Model(name=str(colours(softmax=True))),
        decide=config.Decide(enter=0.35, exit=0.2),
    )
    Node(settings, frames=20).run()
    assert {(change.camera, change.label) for change in recorder.changed} == {
        ("door/left", "red"),
        ("door/right", "blue"),
    }
    assert [camera.name for camera in recorder.reported[-1].cameras] == ["door/left", "door/right"]


@pytest.mark.slow
def test_a_camera_has_a_model_of_its_own(recorder: Recorder, colours: Callable[..., Path]) -> None:
    other = colours("other.tflite", softmax=True)
    other.with_suffix(".txt").write_text("rot\ngrün\nblau\n")
    cameras = (
        config.Camera(name="door", source="synthetic"),
        config.Camera(name="yard", source="synthetic", model=str(other)),
    )
    settings = config.Config(camera=cameras, model=config.Model(name=str(colours(softmax=True))))
    Node(settings, frames=20).run()
    labels = {(o.camera, p.label) for o in recorder.observed for p in o.predictions}
    assert {label for camera, label in labels if camera == "door"} == {"red", "green", "blue"}
    assert {label for camera, label in labels if camera == "yard"} == {"rot", "grün", "blau"}


@pytest.mark.slow
def test_four_cameras_share_the_machine_fairly(recorder: Recorder) -> None:
    cameras = tuple(config.Camera(name=f"c{n}", source="synthetic", fps=30) for n in range(4))
    Node(config.Config(camera=cameras), frames=400).run()
    counts = [sum(o.camera == camera.name for o in recorder.observed) for camera in cameras]
    assert max(counts) <= 1.1 * min(counts), counts


def seeing(model: Path, gate: config.Gate) -> config.Config:
    """A camera with a hundred frames a second, of which each has a label soon."""
    return config.Config(
        camera=(config.Camera(name="door", source="synthetic", fps=100),),
        model=config.Model(name=str(model), delegate="none", threads=1),
        decide=config.Decide(enter=0.34, exit=0.33, min_frames=2, smoothing_s=0, min_hold_s=0),
        gate=gate,
        terminal=config.Terminal(enabled=False),
    )


class Watch(Recorder):
    """Sets the clock on the wall forward whenever a label is told, and ends the run."""

    def __init__(self, hours: list[int]) -> None:
        super().__init__()
        self._hours = hours
        self._ended: DeviceHealth | None = None

    def __call__(self) -> float:
        return 3600.0 * self._hours[0]

    def change(self, change: LabelChange, *_: object) -> None:
        super().change(change)
        if len(self._hours) > 1:
            del self._hours[0]

    def report(self, snapshot: DeviceHealth) -> None:
        super().report(snapshot)
        if len(self._hours) == 1:
            self._ended = self._ended or snapshot
            if snapshot.cameras[0].seen > self._ended.cameras[0].seen + 10:
                raise OutputClosed


def test_outside_its_hours_nothing_is_classified_and_the_label_says_so(
    colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # It starts before its hours; they begin, and end when something was seen.
    told = Watch([6, 7, 22])
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setattr("device.pipeline.feeds.Duty", partial(Duty, wall_clock=told))
    monkeypatch.setattr("device.node._REPORT_S", 0.02)
    gate = config.Gate(hours=("07:00-22:00",))
    with caplog.at_level(logging.INFO):
        Node(seeing(colours(softmax=True), gate), sinks=(lambda: told,)).run()
    said = [(change.previous, change.label, change.score > 0) for change in told.changed]
    assert said == [
        (None, "off-duty", False),
        ("off-duty", "unknown", True),
        ("unknown", "off-duty", False),
    ]
    begun_at, ended_at = told.changed[1].at, told.changed[2].at
    assert told.changed[1].held_s >= 0
    assert told.observed
    assert not [seen for seen in told.observed if seen.at > ended_at]
    assert begun_at < ended_at
    assert told.reported[-1].cameras[0].look == "off duty"
    hours = [message for message in caplog.messages if message.startswith("hours: ")]
    assert hours == ["hours: off duty; nothing is classified", "hours: on duty", hours[0]]


class Heater(Recorder):
    """Heats the board, and cools it after some reports."""

    def __init__(self, zone: Path) -> None:
        super().__init__()
        self._zone = zone

    def report(self, snapshot: DeviceHealth) -> None:
        super().report(snapshot)
        hot = [report for report in self.reported if report.governed_by]
        self._zone.write_text("90000" if len(hot) < 30 else "40000")
        if hot and not snapshot.governed_by:
            raise OutputClosed


@pytest.mark.slow
def test_a_hot_board_is_spared_until_it_is_cool(
    colours: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal")
    (zone / "temp").write_text("40000")
    told = Heater(zone / "temp")
    monkeypatch.setattr("device.node.vitals.Board", partial(Board, root=tmp_path))
    monkeypatch.setattr("device.node._REPORT_S", 0.02)
    Node(seeing(colours(softmax=True), config.Gate()), sinks=(lambda: told,)).run()
    states = [(report.governed_by, report.rate_share) for report in told.reported]
    order = [state for state, before in pairwise([*states, None]) if state != before]
    assert order == [("", 1.0), ("hot", 0.0), ("", 1.0)]
    # The reports from the first of the hot to the last are 29 apart; a frame a second is less.
    hot = [report.cameras[0] for report in told.reported if report.governed_by]
    assert "hot" in {camera.look for camera in hot}
    assert told.reported[0].cameras[0].look != "hot"
    assert hot[-1].seen - hot[0].seen > 10
    assert hot[-1].classified - hot[0].classified <= (hot[-1].seen - hot[0].seen) / 10 + 1


def test_what_actions_do_at_the_end_is_told_to_the_others(
    colours: Callable[..., Path],
) -> None:
    told: list[str] = []

    class Listener(Sink):
        name = "listener"

        def acted(self, result: ActionResult) -> None:
            told.append(result.detail)

    class Actor(Sink):
        name = "actor"

        def close(self) -> None:
            node._results.append(
                ActionResult("a", "gpio", "c", "cat", False, True, "off", 1.0, 2.0)
            )

    node = Node(seeing(colours(softmax=True), config.Gate()), sinks=(Listener, Actor), frames=1)
    node.run()
    assert told == ["off"]
