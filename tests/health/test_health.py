"""Counters, latencies and frames a second, all on invented times."""

import pytest

from device.events import Description, Latency, StageTimes
from device.health.meters import FPS_WINDOW_S, RECENT_FRAMES, STAGES, CameraMeter, Health
from device.health.vitals import Board

VITALS = Board().read()
STAGE_TIMES = StageTimes(preprocess_ms=1.0, invoke_ms=10.0, postprocess_ms=0.5)


def description(runtime: str = "tflite-runtime") -> Description:
    return Description(
        model="m",
        runtime=runtime,
        version="2.14.0",
        delegate="xnnpack",
        operators_delegated=63,
        operators_total=64,
        on_cpu=("SOFTMAX",),
        threads=1,
        inputs=(),
        outputs=(),
    )


def feed(meter: CameraMeter, *, fps: float, frames: int, start: float = 0.0) -> float:
    """Adds frames at a steady rate and returns the time of the last one."""
    for number in range(frames):
        meter.add(STAGE_TIMES, 0.25, 12.0, start + number / fps)
    return start + (frames - 1) / fps


def test_a_new_meter_has_counted_nothing() -> None:
    health = CameraMeter("door", "/dev/video0", description()).health(at=5.0)
    assert (health.name, health.source, health.state) == ("door", "/dev/video0", "starting")
    assert (health.seen, health.classified, health.dropped, health.fps) == (0, 0, 0, 0.0)
    assert health.stages == {}


def test_every_stage_is_reported_in_order() -> None:
    meter = CameraMeter("door", "synthetic", description())
    meter.admit("", 0.125, 1.0, admitted=True)
    meter.add(STAGE_TIMES, decide_ms=0.25, total_ms=12.0, at=1.0)
    stages = meter.health(at=1.0).stages
    assert tuple(stages) == STAGES
    assert [stages[name].mean_ms for name in STAGES] == [0.125, 1.0, 10.0, 0.5, 0.25, 12.0]


def test_percentiles_are_nearest_ranks() -> None:
    meter = CameraMeter("door", "synthetic", description())
    for number in range(200, 0, -1):
        meter.add(STAGE_TIMES, 0.0, float(number), at=0.0)
    assert meter.health(at=0.0).stages["total"] == Latency(100.5, p50_ms=100.0, p99_ms=198.0)


def test_the_only_frame_is_every_percentile() -> None:
    meter = CameraMeter("door", "synthetic", description())
    meter.add(STAGE_TIMES, 0.0, 7.0, at=0.0)
    assert meter.health(at=0.0).stages["total"] == Latency(7.0, 7.0, 7.0)


def test_the_mean_is_of_all_frames_and_percentiles_of_recent_ones() -> None:
    meter = CameraMeter("door", "synthetic", description())
    for _ in range(RECENT_FRAMES):
        meter.add(STAGE_TIMES, 0.0, 100.0, at=0.0)
    for _ in range(RECENT_FRAMES):
        meter.add(STAGE_TIMES, 0.0, 10.0, at=0.0)
    assert meter.health(at=0.0).stages["total"] == Latency(55.0, p50_ms=10.0, p99_ms=10.0)
    assert meter.classified == 2 * RECENT_FRAMES


@pytest.mark.parametrize("fps", [0.05, 1.0, 9.7, 30.0, 240.0])
@pytest.mark.parametrize("frames", [2, 50, RECENT_FRAMES, 3 * RECENT_FRAMES + 7])
def test_a_steady_rate_is_read_exactly(fps: float, frames: int) -> None:
    meter = CameraMeter("door", "synthetic", description())
    last = feed(meter, fps=fps, frames=frames)
    assert meter.health(at=last).fps == pytest.approx(fps)
    assert meter.health(at=last + 0.9 / fps).fps == pytest.approx(fps)


def test_frames_a_second_are_of_the_recent_past() -> None:
    meter = CameraMeter("door", "synthetic", description())
    last = feed(meter, fps=100, frames=500)
    last = feed(meter, fps=10, frames=60, start=last + 0.1)
    assert meter.health(at=last).fps == pytest.approx(10, rel=0.01)


def test_frames_a_second_fall_when_frames_cease() -> None:
    meter = CameraMeter("door", "synthetic", description())
    last = feed(meter, fps=30, frames=300)
    rates = [meter.health(at=last + wait_s).fps for wait_s in (0.0, 1.0, FPS_WINDOW_S, 100.0)]
    assert rates == sorted(rates, reverse=True)
    assert rates[1] == pytest.approx(30 * 4 / 5, rel=0.02)
    assert rates[-1] < 0.02


def test_frames_without_time_between_them_have_no_rate() -> None:
    meter = CameraMeter("door", "synthetic", description())
    meter.add(STAGE_TIMES, 0.0, 1.0, at=3.0)
    assert meter.health(at=3.0).fps == 0.0
    meter.add(STAGE_TIMES, 0.0, 1.0, at=3.0)
    assert meter.health(at=3.0).fps == 0.0


def test_a_report_has_every_camera_with_its_interpreter_and_the_board() -> None:
    health = Health(100.0, lambda: VITALS)
    door = health.camera("door", "a.mp4", description())
    yard = health.camera("yard", "b.mp4", description("ai-edge-litert"))
    door.state, door.seen, door.dropped = "live", 7, 2
    yard.state = "lost"
    report = health.report(at=103.5)
    assert report.uptime_s == 3.5
    assert report.vitals is VITALS
    assert [c.interpreter and c.interpreter.runtime for c in report.cameras] == [
        "tflite-runtime",
        "ai-edge-litert",
    ]
    assert report.interpreter.runtime == "tflite-runtime"
    seen = [(c.name, c.source, c.state, c.seen, c.dropped) for c in report.cameras]
    assert seen == [("door", "a.mp4", "live", 7, 2), ("yard", "b.mp4", "lost", 0, 0)]
