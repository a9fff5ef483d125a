"""A channel: its recording plays faster or later than it was made, its hours end and begin."""

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.cameras import open_camera
from device.cameras.supervisor import CameraSupervisor
from device.events import UNAVAILABLE, DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame, LatestFrame, PixelFormat
from device.health.meters import CameraMeter
from device.library import catalog
from device.node import Node
from device.pipeline.channel import Channel
from device.pipeline.motion import MotionDetector
from device.pipeline.plan import configured_controls, shared_settings
from device.sinks.record import RecordSink
from tests.conftest import classifier_of, frame_of
from tests.sinks.examples import observation


class Recorder(Sink):
    name = "recorder"

    def __init__(self) -> None:
        self.changes: list[LabelChange] = []
        self.observed: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)

    def change(self, change: LabelChange, *_: object) -> None:
        self.changes.append(change)

    def report(self, health: DeviceHealth) -> None: ...

    def close(self) -> None: ...


def recording(folder: Path, *, frames: int, distance_s: float) -> Path:
    """Frames of plain red."""
    sink = RecordSink(folder, 3600, 1 << 24, lossless=True)
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :, 2] = 255
    for number in range(frames):
        frame = Frame(pixels, PixelFormat.BGR, 8, 8, number, 1000 + number * distance_s)
        sink.observe(msgspec.structs.replace(observation(), frame=frame))
    sink.close()
    return folder


def played(colours: Callable[..., Path], *cameras: config.Camera, frames: int | None) -> Recorder:
    recorder = Recorder()
    settings = config.Config(
        camera=cameras,
        model=config.Model(name=str(colours(softmax=True)), delegate="none", threads=1),
        decide=config.Decide(smoothing_s=0.0, min_hold_s=0.0, enter=0.34, exit=0.33),
        terminal=config.Terminal(enabled=False),
    )
    Node(settings, frames=frames, sinks=(lambda: recorder,)).run()
    return recorder


@pytest.mark.slow
def test_a_label_was_never_held_for_less_than_no_time(
    colours: Callable[..., Path], tmp_path: Path
) -> None:
    # An hour of recording is over in a moment, far ahead of the clock.
    folder = recording(tmp_path / "out", frames=60, distance_s=60)
    fast = config.Camera(name="fast", source=f"replay:{folder}?pace=max")
    live = config.Camera(name="live", source="synthetic", fps=100)
    recorder = played(colours, fast, live, frames=200)
    lost = [change for change in recorder.changes if change.label == UNAVAILABLE]
    assert [change.camera for change in lost] == ["fast"]
    assert lost[0].held_s >= 0
    times = [change.at for change in recorder.changes if change.camera == "fast"]
    assert times == sorted(times)


@pytest.mark.slow
def test_a_replayed_frame_is_as_old_as_it_is_late(
    colours: Callable[..., Path], tmp_path: Path
) -> None:
    folder = recording(tmp_path / "out", frames=20, distance_s=0.01)
    # Late in a second of the clock: times of whole seconds made frames up to a second old.
    time.sleep(0.9 - time.monotonic() % 0.9)
    recorder = played(colours, config.Camera(name="door", source=f"replay:{folder}"), frames=None)
    assert len(recorder.observed) == 20
    ages = sorted(seen.latency_ms for seen in recorder.observed)
    assert ages[len(ages) // 2] < 100


def test_the_terminal_does_not_limit_what_others_get(colours: Callable[..., Path]) -> None:
    recorder = Recorder()
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=100),),
        model=config.Model(name=str(colours(softmax=True)), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False, top=1),
    )
    Node(settings, frames=2, sinks=(lambda: recorder,)).run()
    assert len(recorder.observed[0].predictions) == 3


DECIDE = config.Decide(smoothing_s=0, min_hold_s=0, min_frames=1, enter=0.34, exit=0.33)


@contextlib.contextmanager
def channel_of(model: Path, decide: config.Decide = DECIDE) -> Iterator[Channel]:
    """A channel of a camera that is live."""
    settings = config.Config(model=config.Model(name=str(model)), decide=decide)
    camera = settings.camera[0]
    classifier = classifier_of(str(model))
    supervisor = CameraSupervisor(camera, LatestFrame(), open_camera)
    supervisor.state = "live"
    made = Channel(
        camera,
        shared_settings(settings),
        configured_controls(settings, camera),
        catalog.find(str(model)),
        classifier,
        supervisor,
        CameraMeter(camera.name, camera.source, classifier.description),
        MotionDetector(),
    )
    with contextlib.closing(made):
        yield made


@pytest.fixture
def channel(colours: Callable[..., Path]) -> Iterator[Channel]:
    """A channel that has said a label, of a camera that is live."""
    with channel_of(colours(softmax=True)) as made:
        assert see(made) == "red"
        yield made


def see(channel: Channel) -> str | None:
    """The label of a red frame, where it is looked at."""
    red = np.full((8, 8, 3), (0, 0, 255), np.uint8)
    observation = channel.process(frame_of(red, at=time.monotonic()))
    return observation.label if observation else None


def words(*changes: LabelChange | None) -> list[tuple[str | None, str] | None]:
    return [(change.previous, change.label) if change else None for change in changes]


def test_hours_and_a_camera_that_is_lost_meanwhile(channel: Channel) -> None:
    now = time.monotonic()
    gone = channel.keep_hours(now + 10, on_duty=False)
    assert words(gone, channel.lose(now + 20)) == [("red", "off-duty"), None]
    assert gone is not None
    assert 0 < gone.held_s <= 11
    assert see(channel) is None
    channel._supervisor.state = "lost"
    back = channel.keep_hours(now + 3610, on_duty=True)
    assert words(back) == [("off-duty", "unavailable")]
    assert back is not None
    assert back.held_s == pytest.approx(3600)
    assert words(channel.keep_hours(now + 7200, on_duty=False)) == [("unavailable", "off-duty")]
    channel._supervisor.state = "live"
    assert channel.keep_hours(now + 9000, on_duty=True) is None
    assert see(channel) == "red"


def test_hours_and_a_camera_that_is_switched_off_meanwhile(channel: Channel) -> None:
    now = time.monotonic()
    channel.keep_hours(now, on_duty=False)
    off = msgspec.structs.replace(channel.controls, enabled=False)
    on = channel.controls
    # Whatever is switched, it stays off duty.
    assert words(channel.apply(off), channel.apply(on), channel.apply(off)) == [None] * 3
    assert words(channel.keep_hours(now + 60, on_duty=True)) == [("off-duty", "unavailable")]
    assert channel.apply(on) is None
    assert see(channel) == "red"


BEGUN_AT = time.monotonic()


def red(number: int, colour: int = 2) -> Frame:
    """A plain frame, red or of another channel, ten a second."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., colour] = 255
    return frame_of(pixels, at=BEGUN_AT + 60 + number / 10)


class TestAtRest:
    """The channel of a live camera whose picture is plain red, ten frames a second."""

    @pytest.fixture
    def resting(self, channel: Channel) -> Channel:
        for number in range(100):
            channel.process(red(number))
        return channel

    def test_few_frames_are_classified_and_health_says_so(self, resting: Channel) -> None:
        resting.update_meter()
        health = resting._meter.health(time.monotonic())
        assert health.look in ("settled", "re-check")
        assert health.classified < 20
        assert health.work_share == health.classified / 101
        assert health.classified_per_minute > 0
        assert "gate" in health.stages

    def test_a_snapshot_is_the_next_frame(self, resting: Channel) -> None:
        assert resting.process(red(101)) is None
        resting.request_snapshot()
        observation = resting.process(red(102))
        assert observation is not None
        assert observation.snapshot is observation.frame
        assert resting.process(red(103)) is None

    def test_another_region_is_looked_at_at_once(self, resting: Channel) -> None:
        controls = msgspec.structs.replace(resting.controls, region=(0.0, 0.0, 0.5, 0.5))
        resting.apply(controls)
        assert resting.process(red(101)) is not None
        assert resting.process(red(102)) is None

    def test_another_colour_is_another_label_within_a_frame(self, resting: Channel) -> None:
        observation = resting.process(red(101, colour=0))
        assert observation is not None
        assert len(observation.changes) == 1
        assert observation.changes[0].label == "blue"


def frame(*bgr: int) -> Frame:
    return frame_of(np.full((8, 8, 3), bgr, np.uint8), at=time.monotonic())


def test_what_a_frame_gave_is_told_in_the_words_that_are_decided_on(
    colours: Callable[..., Path], tmp_path: Path
) -> None:
    groups = tmp_path / "groups.toml"
    groups.write_text('warm = ["red"]\ncool = ["green", "blue"]\n')
    decide = msgspec.structs.replace(DECIDE, groups=str(groups), alias={"warm": "hot"})
    with channel_of(colours(softmax=True), decide) as made:
        seen = made.process(frame(0, 0, 255))
        assert seen is not None
        assert (seen.label, seen.active) == ("hot", ("hot",))
        assert [p.label for p in seen.predictions] == ["hot", "cool"]
        assert sum(p.score for p in seen.predictions) == pytest.approx(1, abs=0.02)
    with channel_of(colours(softmax=True), msgspec.structs.replace(DECIDE, deny=("red",))) as made:
        seen = made.process(frame(0, 0, 255))
        assert seen is not None
        assert {p.label for p in seen.predictions} <= {"green", "blue"}


def test_of_many_labels_each_is_a_change_of_its_own(colours: Callable[..., Path]) -> None:
    decide = msgspec.structs.replace(DECIDE, mode="any", enter=0.3, exit=0.25)
    with channel_of(colours(softmax=True), decide) as made:
        both = made.process(frame(0, 255, 255))  # yellow
        assert both is not None
        assert {change.label for change in both.changes} == {"red", "green"}
        assert [len(change.active) for change in both.changes] == [1, 2]
        green = made.process(frame(0, 255, 0))
        assert green is not None
        (ended,) = green.changes
        assert (ended.label, ended.on, ended.active) == ("red", False, ("green",))
        lost = made.lose(time.monotonic())
        assert lost is not None
        assert (lost.label, lost.previous, lost.active) == (UNAVAILABLE, "green", ())
        back = made.process(frame(0, 255, 0))
        assert back is not None
        assert [(c.label, c.previous, c.on) for c in back.changes] == [("green", UNAVAILABLE, True)]


@pytest.mark.parametrize("mode", ["one", "any"])
def test_scores_that_are_none_are_said_once_and_make_no_label(
    colours: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mode: Any,
) -> None:
    with channel_of(colours(softmax=True), msgspec.structs.replace(DECIDE, mode=mode)) as made:
        broken = np.array([np.nan, np.inf, 1e30], np.float32)
        monkeypatch.setattr(made.classifier, "classify", lambda _: broken)
        for _ in range(3):
            seen = made.process(frame(0, 0, 255))
            assert seen is not None
            assert (seen.label, seen.score) == ("unknown", 0.0)
            assert [p.score for p in seen.predictions] == [0.0]
    lines = [record.message for record in caplog.records]
    assert lines == [
        "camera camera: colours gave scores that are no probabilities; they count as 0"
    ]
