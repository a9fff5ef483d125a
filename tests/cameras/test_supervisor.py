"""Cameras that stall, vanish, break and come back, by a clock that the tests turn."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from device import config
from device.cameras import Camera
from device.cameras.supervisor import CameraSupervisor, Opener, close_all
from device.errors import CameraError, DependencyError, UsageError
from device.frames import Frame, LatestFrame, PixelFormat
from tests.cameras.conftest import MjpegServer

WAIT_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Device:
    """A camera that may be unplugged, freeze, break, or hang in its driver."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.plugged = True
        self.asked = 0
        self.opened = 0
        self.closed = 0
        self.pixels = np.zeros((4, 4, 3), np.uint8)
        self.raises: Exception | None = None
        self.hangs = threading.Event()
        self.release = threading.Event()
        self._change = threading.Condition()
        self._due = 0

    def give(self, count: int = 1) -> None:
        """Let the camera deliver so many frames."""
        with self._change:
            self._due += count
            self._change.notify_all()

    def poke(self) -> None:
        with self._change:
            self._change.notify_all()

    def __call__(self, _: config.Camera, stop: threading.Event) -> Camera:
        self.asked += 1
        if self.raises is not None:
            raise self.raises
        if not self.plugged:
            raise CameraError("it", "no such device; plug the camera in")
        self.opened += 1
        return _Opened(self, stop)


class _Opened(Camera):
    source = "it"

    def __init__(self, device: Device, stop: threading.Event) -> None:
        self.device = device
        self.stop = stop
        self.number = 0

    def read(self) -> Frame | None:
        device = self.device
        with device._change:
            while device._due == 0:
                if device.hangs.is_set():
                    device._change.release()
                    device.release.wait(WAIT_S)
                    device._change.acquire()
                if self.stop.is_set():
                    return None
                if not device.plugged:
                    raise CameraError("it", f"was unplugged after {self.number} frames")
                device._change.wait(0.002)
            device._due -= 1
        self.number += 1
        height, width = 4, 4
        return Frame(device.pixels, PixelFormat.BGR, width, height, self.number, device.clock())

    def close(self) -> None:
        self.device.closed += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(clock: Clock) -> Iterator[Device]:
    device = Device(clock)
    yield device
    device.release.set()


def until(condition: object, what: str = "") -> None:
    """Wait for what another thread does, in real time."""
    assert callable(condition)
    end = time.monotonic() + WAIT_S
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < end, what
        pause.wait(0.001)


class Watched:
    """A supervisor, its slot, and the hands that turn the clock."""

    def __init__(self, opener: Opener, clock: Clock, stall_s: float = 5, give_up_s: float = 120):
        self.clock = clock
        self.slot = LatestFrame()
        settings = config.Camera(name="door", stall_s=stall_s, give_up_s=give_up_s)
        self.supervisor = CameraSupervisor(settings, self.slot, opener, clock)
        self.supervisor.start()
        self.supervisor.play()

    @property
    def state(self) -> str:
        return self.supervisor.state

    def reach(self, state: str, step_s: float = 0.0) -> float:
        """Check until the camera is in the state; returns the seconds on the clock."""
        begun = self.clock.now
        end = time.monotonic() + WAIT_S
        pause = threading.Event()
        while (self.supervisor.check(), self.state)[1] != state:
            assert time.monotonic() < end, f"still {self.state}, not {state}"
            self.clock.now += step_s
            pause.wait(0.002)
        return self.clock.now - begun


@pytest.fixture
def watched(device: Device, clock: Clock) -> Iterator[Watched]:
    watched = Watched(device, clock)
    device.give()
    watched.reach("live")
    yield watched
    device.release.set()
    watched.supervisor.close()


def test_goes_live_with_the_first_frame(device: Device, clock: Clock) -> None:
    watched = Watched(device, clock)
    assert not watched.supervisor.check()
    assert watched.state == "starting"
    device.give()
    until(lambda: watched.slot.seen == 1)
    watched.reach("live")
    assert watched.slot.take() is not None
    assert watched.supervisor.close()
    assert device.closed == 1
    assert "camera-door" not in [t.name for t in threading.enumerate()]


def test_silence_is_a_stall_by_the_age_of_the_last_frame(
    watched: Watched, device: Device, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    clock.now += 4.9
    assert not watched.supervisor.check()
    clock.now += 0.2
    assert watched.supervisor.check()
    assert watched.state == "stalled"
    assert watched.supervisor.problem == "gave no frame for 5.1 s"
    assert watched.slot.take() is None, "the frame of before the stall is the past"
    watched.reach("lost")
    assert caplog.messages == [
        "camera it: gave no frame for 5.1 s; opening it again until it is back"
    ]


def test_a_frame_that_comes_after_the_stall_is_not_taken(
    watched: Watched, device: Device, clock: Clock
) -> None:
    seen = watched.slot.seen
    device.hangs.set()
    device.poke()
    clock.now += 6
    assert watched.supervisor.check()
    device.give(5)
    device.release.set()
    watched.reach("lost")
    assert watched.slot.seen == seen
    assert not watched.slot.pending


@pytest.mark.slow
def test_fifty_times_stalled_or_vanished_it_is_back_within_three_seconds(
    watched: Watched, device: Device, clock: Clock
) -> None:
    for turn in range(50):
        if turn % 2:
            device.plugged = False
            device.poke()
            watched.reach("lost")
            clock.now += 7.3 * turn % 11  # it may return at any moment between two attempts
            watched.supervisor.check()
            device.plugged = True
        else:
            clock.now += 6
            watched.reach("lost")
        assert not watched.slot.pending
        device.give()
        assert watched.reach("live", step_s=0.1) <= 3.0
        assert watched.slot.take() is not None
    assert watched.supervisor.reopenings == 50
    assert watched.supervisor.left_behind == 0
    assert device.opened - device.closed == 1


def test_what_is_lost_is_told_once_and_when_it_is_back(
    watched: Watched, device: Device, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    device.plugged = False
    device.poke()
    watched.reach("lost")
    asked = device.asked
    while device.asked < asked + 5:
        clock.now += 0.1
        watched.supervisor.check()
    device.plugged = True
    device.give()
    watched.reach("live", step_s=0.1)
    assert caplog.messages[0] == (
        "camera it: was unplugged after 1 frames; opening it again until it is back"
    )
    assert len(caplog.messages) == 2
    assert caplog.messages[1].startswith("camera it: back after ")
    assert watched.supervisor.problem == ""


def test_a_thread_stuck_in_its_driver_is_left_behind_and_replaced_once(
    watched: Watched, device: Device, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = watched.supervisor
    device.hangs.set()
    device.poke()
    clock.now += 6
    watched.reach("stalled")
    clock.now += 2.1
    watched.reach("lost")
    assert (supervisor.left_behind, supervisor.stuck) == (1, False)
    watched.supervisor.check()
    until(lambda: device.opened == 2)
    # The second hangs as well: no third is made, whatever time passes.
    clock.now += 20
    watched.reach("stalled")
    clock.now += 2.1
    watched.reach("lost")
    assert (supervisor.left_behind, supervisor.stuck) == (2, True)
    for _ in range(50):
        clock.now += 1
        supervisor.check()
    assert device.opened == 2
    assert supervisor.problem == "its driver holds two threads; only a new start helps"
    assert [m for m in caplog.messages if "left behind" in m] == [
        "camera it: its driver did not return in 2 s; that thread is left behind, another thread "
        "takes over",
        "camera it: its driver did not return in 2 s; that thread is left behind, no other thread "
        "is tried",
    ]
    # When the driver lets go after all, it goes on.
    device.hangs.clear()
    device.release.set()
    until(lambda: device.closed == 2)
    device.give()
    watched.reach("live", step_s=0.1)
    assert supervisor.left_behind == 0


def test_gives_up_after_its_time_and_says_why(
    watched: Watched, device: Device, clock: Clock
) -> None:
    device.plugged = False
    device.poke()
    watched.reach("lost")
    assert not watched.supervisor.gave_up()
    clock.now += 121
    assert watched.supervisor.gave_up()
    assert str(watched.supervisor.failure()) == (
        "camera it: was unplugged after 1 frames; gave up after 121 s"
    )


def test_never_gives_up_where_told_so(device: Device, clock: Clock) -> None:
    device.plugged = False
    watched = Watched(device, clock, give_up_s=0)
    watched.reach("lost")
    clock.now += 1e7
    assert not watched.supervisor.gave_up()
    watched.supervisor.close()


def test_absent_from_the_start_it_is_waited_for(
    device: Device, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    device.plugged = False
    watched = Watched(device, clock)
    watched.reach("lost")
    clock.now += 121
    assert watched.supervisor.gave_up()
    device.plugged = True
    device.give()
    watched.reach("live", step_s=0.1)
    assert not watched.supervisor.gave_up()
    assert watched.supervisor.reopenings == 1
    watched.supervisor.close()


def test_what_does_not_open_is_told_to_who_waits(device: Device, clock: Clock) -> None:
    device.plugged = False
    watched = Watched(device, clock)
    with pytest.raises(CameraError, match="camera it: no such device; plug the camera in"):
        watched.supervisor.wait_until_open(threading.Event().is_set)


@pytest.mark.parametrize("kind", [UsageError, DependencyError])
def test_what_no_opening_would_mend_ends_it(
    kind: type[Exception], device: Device, clock: Clock
) -> None:
    device.raises = kind("never")
    watched = Watched(device, clock)
    watched.reach("ended")
    with pytest.raises(kind, match="never"):
        watched.slot.take()


def test_a_driver_that_fails_unforeseen_is_opened_again(
    device: Device, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    device.raises = ZeroDivisionError("division by zero")
    watched = Watched(device, clock)
    watched.reach("lost")
    assert watched.supervisor.problem == (
        "its driver failed with ZeroDivisionError: division by zero"
    )
    device.raises = None
    device.give()
    watched.reach("live", step_s=0.1)
    watched.supervisor.close()


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4, 1), np.uint8), np.zeros((2, 4, 3), np.uint8), np.zeros((4, 4, 3), np.uint16)],
)
def test_a_malformed_frame_is_a_counted_skip(
    watched: Watched, device: Device, pixels: NDArray[Any], caplog: pytest.LogCaptureFixture
) -> None:
    good = device.pixels
    for _ in range(3):
        seen = watched.slot.seen
        device.pixels = pixels
        device.give()
        until(lambda: device._due == 0)
        device.pixels = good
        device.give()
        until(lambda seen=seen: watched.slot.seen == seen + 1)
    watched.supervisor.check()
    assert watched.supervisor.malformed == 3
    assert watched.state == "live"
    assert caplog.messages == [
        f"camera it: skipped a frame that has {pixels.dtype} pixels of shape {pixels.shape} as BGR"
    ]


def test_malformed_frames_alone_are_a_stall(watched: Watched, device: Device, clock: Clock) -> None:
    device.pixels = np.zeros((4, 4), np.uint8)
    device.give(3)
    until(lambda: device._due == 0)
    clock.now += 6
    watched.reach("stalled")
    assert watched.supervisor.problem == (
        "gave no frame but malformed ones, the last has uint8 pixels of shape (4, 4) as BGR, for "
        "6.0 s"
    )


def test_the_age_of_a_frame_is_measured(watched: Watched, device: Device, clock: Clock) -> None:
    late = Clock()
    late.now = clock.now - 0.04
    device.clock = late
    seen = watched.slot.seen
    device.give()
    until(lambda: watched.slot.seen == seen + 1)
    until(lambda: not watched.supervisor.check() and watched.supervisor.age_ms > 0)
    assert watched.supervisor.age_ms == pytest.approx(40)


def test_a_recording_waits_until_it_may_play_and_ends() -> None:
    slot = LatestFrame()
    stop = threading.Event()
    settings = config.Camera(source=str(Path(__file__)), name="door", fps=200)

    class Recording(Camera):
        source, live, number = "recording", False, 0

        def read(self) -> Frame | None:
            self.number += 1
            pixels = np.zeros((4, 4, 3), np.uint8)
            return Frame(pixels, PixelFormat.BGR, 4, 4, 0, 0.0) if self.number < 4 else None

        def close(self) -> None: ...

    supervisor = CameraSupervisor(settings, slot, lambda *_: Recording())
    supervisor.start()
    supervisor.wait_until_open(stop.is_set)
    assert supervisor.source == "recording"
    assert slot.take(0.05) is None
    supervisor.play()
    until(lambda: (supervisor.check(), supervisor.state)[1] == "ended")
    assert slot.seen == 3
    assert slot.take() is not None
    assert slot.ended


def test_a_recording_may_begin_anew_at_its_end() -> None:
    slot = LatestFrame()

    class Short(Camera):
        source, live, number = "recording", False, 0

        def read(self) -> Frame | None:
            self.number += 1
            pixels = np.zeros((4, 4, 3), np.uint8)
            return Frame(pixels, PixelFormat.BGR, 4, 4, 0, 0.0) if self.number == 1 else None

        def close(self) -> None: ...

    supervisor = CameraSupervisor(config.Camera(), slot, lambda *_: Short())
    supervisor.start()
    supervisor.play(loop=True)
    until(lambda: (supervisor.check(), slot.seen)[1] >= 3)
    assert supervisor.state != "ended"
    assert not slot.ended
    supervisor.close()


def test_a_recording_that_breaks_is_not_played_again() -> None:
    slot = LatestFrame()
    opened = []

    class Broken(Camera):
        source, live = "recording", False

        def read(self) -> Frame | None:
            raise CameraError("recording", "broke off")

        def close(self) -> None: ...

    def opener(settings: config.Camera, stop: threading.Event) -> Camera:
        opened.append(settings)
        return Broken()

    supervisor = CameraSupervisor(config.Camera(), slot, opener)
    supervisor.start()
    supervisor.play()
    until(lambda: (supervisor.check(), supervisor.state)[1] == "ended")
    with pytest.raises(CameraError, match="broke off"):
        slot.take()
    assert len(opened) == 1


def test_is_opened_again_under_the_name_that_holds(device: Device, clock: Clock) -> None:
    asked: list[str] = []

    def opener(settings: config.Camera, stop: threading.Event) -> Camera:
        asked.append(settings.source)
        camera = device(settings, stop)
        camera.again = "usb:1209:0001"
        return camera

    watched = Watched(opener, clock)
    device.give()
    watched.reach("live")
    device.plugged = False
    device.poke()
    watched.reach("lost")
    device.plugged = True
    device.give()
    watched.reach("live", step_s=0.1)
    assert asked == ["auto", "usb:1209:0001"]
    watched.supervisor.close()


def test_every_frame_of_a_replay_is_taken() -> None:
    slot = LatestFrame()

    class Replay(Camera):
        source, live, every_frame, number = "replay", False, True, 0

        def read(self) -> Frame | None:
            self.number += 1
            pixels = np.zeros((4, 4, 3), np.uint8)
            frame = Frame(pixels, PixelFormat.BGR, 4, 4, self.number, 0.0)
            return frame if self.number <= 20 else None

        def close(self) -> None: ...

    supervisor = CameraSupervisor(config.Camera(), slot, lambda *_: Replay())
    supervisor.start()
    supervisor.play()
    numbers = []
    while not slot.ended:
        supervisor.check()
        if frame := slot.take(0.01):
            numbers.append(frame.number)
    assert numbers == list(range(1, 21))
    assert slot.dropped == 0


def test_several_stuck_drivers_share_the_time_to_close(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    devices = [Device(clock) for _ in range(4)]
    watched = [Watched(device, clock) for device in devices]
    for device, it in zip(devices, watched, strict=True):
        device.give()
        it.reach("live")
        device.hangs.set()
    begun = time.monotonic()
    close_all((it.supervisor for it in watched), timeout_s=0.2)
    assert time.monotonic() - begun < 1.0
    assert sum("left behind" in message for message in caplog.messages) == 4
    for device in devices:
        device.release.set()
    for it in watched:
        assert it.supervisor.close()


def test_a_password_is_not_shown_before_opening_either() -> None:
    settings = config.Camera(source="rtsp://u:secret@cam/ch1")
    assert CameraSupervisor(settings, LatestFrame()).source == "rtsp://…@cam/ch1"
    assert "secret" not in repr(settings)


@pytest.mark.slow
def test_a_process_ends_cleanly_though_a_stream_hangs(server: MjpegServer) -> None:
    """The thread stays in FFmpeg's read; the process must still exit, and with 0."""
    code = f"""
import threading
from device import config
from device.cameras.supervisor import CameraSupervisor
from device.frames import LatestFrame
slot = LatestFrame()
it = CameraSupervisor(config.Camera(source={server.url("/hang")!r}), slot)
it.start()
it.wait_until_open(threading.Event().is_set)
while slot.seen < 3:
    slot.take(1)
print(it.close(0.2))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert "left behind" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def reopen_synthetic(times: int) -> tuple[int, int]:
    """Open, read and lose the synthetic camera; descriptors and resident kB gained meanwhile."""

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    clock = Clock()
    slot = LatestFrame()
    settings = config.Camera(source="synthetic?fail_after=2", width=64, height=48, fps=240)
    supervisor = CameraSupervisor(settings, slot, clock=clock)
    supervisor.start()
    before = (0, 0)
    warm_up = max(10, times // 10)
    for turn in range(times + warm_up):
        if turn == warm_up:
            before = descriptors(), resident_kb()
        opening = supervisor._opening
        assert opening is not None
        assert opening.join(WAIT_S)
        supervisor.check()
        clock.now += 3
        supervisor.check()
    supervisor.close()
    return descriptors() - before[0], resident_kb() - before[1]


def test_reopening_leaks_neither_descriptors_nor_memory() -> None:
    assert reopen_synthetic(20)[0] == 0


@pytest.mark.slow
def test_a_thousand_reopenings_leak_neither_descriptors_nor_memory() -> None:
    descriptors, memory_kb = reopen_synthetic(1000)
    assert descriptors == 0
    assert memory_kb < 256
