"""Keeps one camera running: its thread, its state, and opening it again when it fails."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from device import config
from device.cameras import Camera, open_camera, shown
from device.errors import CameraError, DependencyError, LabelcamError, UsageError
from device.events import CameraState
from device.frames import LatestFrame

_log = logging.getLogger("labelcam.cameras")

Opener = Callable[[config.Camera, threading.Event], Camera]

# Doubled up to the longest: with that, a camera that returns is back within three seconds.
_RETRY_S = 1.0
_RETRY_MAX_S = 2.0
# To look for its first frame a camera may take longer than between two frames.
_OPEN_S = 15.0
# A camera's own time-outs have passed by then: a thread that is still in its driver is stuck.
_LEAVE_S = 2.0


class CameraSupervisor:
    """One camera from the first opening to the last.

    Each opening has a thread, named ``camera-NAME``, that puts the frames into the slot.
    ``check``, called several times a second by whoever takes them, notices by the age of the
    last frame that the camera has stalled, whatever its driver says; the thread is told to
    let go and the camera is opened again, at first after a second. A thread that does not
    return from its driver is left behind and replaced; while two are stuck no third is made.

    A recording that fails ends the slot with its error: only what is live is opened again.
    """

    def __init__(
        self,
        settings: config.Camera,
        slot: LatestFrame,
        opener: Opener = open_camera,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = settings.name
        self.source = shown(settings.source)
        self.state: CameraState = "starting"
        self.live = True
        self.problem = ""
        self.openings = 0
        self.reopenings = 0
        self.malformed = 0
        self.age_ms = 0.0
        self._settings = settings
        self._slot = slot
        self._open = opener
        self._clock = clock
        self._play = threading.Event()
        self._loop = False
        self._opening: _Opening | None = None
        self._left_behind: list[_Opening] = []
        self._error: Exception | None = None
        self._retry_at = 0.0
        self._retry_s = _RETRY_S
        self._leave_by: float | None = None
        self._away_since = clock()
        self._malformed_before = 0

    @property
    def left_behind(self) -> int:
        """How many threads are stuck in the camera's driver."""
        return len(self._left_behind)

    @property
    def stuck(self) -> bool:
        """Whether only a new process can open the camera again."""
        return self.left_behind > 1

    def start(self) -> None:
        """Begin to open the camera and come back at once. A recording waits for ``play``."""
        self._begin(self._clock())

    def wait_until_open(self, stop: Callable[[], bool]) -> None:
        """Wait until the camera is open, or ``stop()``. Raises what opening raised."""
        opening = self._opening
        assert opening is not None
        while not opening.opened.wait(0.05) and not stop():
            pass
        if opening.camera is None and opening.error is not None:
            raise opening.error
        self._learn(opening)

    def play(self, *, loop: bool = False) -> None:
        """Let a recording run: whoever takes its frames is ready. ``loop`` begins it anew."""
        self._loop = loop
        self._play.set()

    def check(self) -> bool:
        """Look after the camera; whether its state has changed.

        Raises what no further opening would mend: a source that could never be one, or a
        package that is missing.
        """
        now, before = self._clock(), self.state
        self._left_behind = [opening for opening in self._left_behind if not opening.finished]
        opening = self._opening
        if opening is None:
            if self.state != "ended" and now >= self._retry_at and not self.stuck:
                self._begin(now)
        elif opening.finished:
            self._finish_opening(opening, now)
        elif self._leave_by is not None:
            if now >= self._leave_by:
                self._leave_behind(opening, now)
        elif opening.frame_at is None:
            if now - opening.begun_at > max(_OPEN_S, self._settings.stall_s):
                self._stall(opening, now, opening.begun_at)
        elif opening.is_live and now - opening.frame_at > self._settings.stall_s:
            self._stall(opening, now, opening.frame_at)
        else:
            self._is_live(opening, now)
        return self.state != before

    def ask_for_picture(self) -> bool:
        """Have one of the next frames carry its ``large`` one; whether the camera has any."""
        camera = self._opening.camera if self._opening else None
        if camera is None or not camera.has_large:
            return False
        camera.picture_wanted = True
        return True

    def gave_up(self) -> bool:
        """Whether the camera was away for longer than ``give_up_s``."""
        limit_s = self._settings.give_up_s
        away = self.state in ("starting", "stalled", "lost")
        return away and limit_s > 0 and self._clock() - self._away_since > limit_s

    def failure(self) -> CameraError:
        """Why the process should end after ``gave_up``."""
        away_s = self._clock() - self._away_since
        problem = self.problem or "gave no frame"
        return CameraError(self.source, f"{problem}; gave up after {away_s:.0f} s")

    def stop(self) -> None:
        """Tell the thread to let the camera go, and come back at once."""
        self.state = "ended"
        if self._opening is not None:
            self._opening.stop.set()
        self._play.set()

    def close(self, timeout_s: float = 1.5) -> bool:
        """Stop; False when the camera did not let go in time and its thread was left behind."""
        self.stop()
        opening = self._opening
        if opening is not None and not opening.join(timeout_s):
            _log.warning(
                "camera %s: its driver did not return in %.2g s; left behind",
                self.source,
                timeout_s,
            )
            return False
        return True

    def _begin(self, now: float) -> None:
        self._leave_by = None
        self.openings += 1
        self._malformed_before = self.malformed
        self._opening = _Opening(self._settings, self._slot, self._open, self._play, self._clock)
        self._opening.start(now)

    def _learn(self, opening: "_Opening") -> None:
        """What an open camera says of itself."""
        camera = opening.camera
        if camera is None:
            return
        self.source, self.live = camera.source, camera.live
        if camera.again:
            # The same device, whatever it is called when it is back.
            self._settings = msgspec.structs.replace(self._settings, source=camera.again)

    def _is_live(self, opening: "_Opening", now: float) -> None:
        self.age_ms = opening.age_ms
        self._count_malformed(opening)
        if self.state == "live":
            return
        self._learn(opening)
        if self.state != "starting":
            self.reopenings += 1
            _log.info("camera %s: back after %.1f s", self.source, now - self._away_since)
        self.state, self.problem = "live", ""
        self._retry_s = _RETRY_S

    def _stall(self, opening: "_Opening", now: float, since: float) -> None:
        """Tell the thread to leave the camera; what it puts from here on is not taken."""
        if opening.abandon():
            what = f"no frame but malformed ones, the last {opening.fault}," * bool(opening.fault)
            self._away("stalled", f"gave {what or 'no frame'} for {now - since:.1f} s", opening)
        self._leave_by = now + _LEAVE_S

    def _finish_opening(self, opening: "_Opening", now: float) -> None:
        """The thread has ended, and let the camera go."""
        self._learn(opening)
        self._count_malformed(opening)
        error, self._opening = opening.error, None
        if error is None and self._loop:
            self._retry_at = now
        elif error is None and self._leave_by is None:
            self.state = "ended"
            self._slot.end()
        elif not self.live or isinstance(error, UsageError | DependencyError):
            # A recording would begin anew, and what the configuration lacks does not come.
            self.state = "ended"
            self._slot.end(error)
        else:
            if self._leave_by is None:
                self._away("lost", _reason(error, self.source), opening)
            self.state = "lost"
            self._retry_at = now + self._retry_s
            self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    def _leave_behind(self, opening: "_Opening", now: float) -> None:
        self._left_behind.append(opening)
        self._opening, self._leave_by = None, None
        self.state = "lost"
        self._retry_at = now
        if self.stuck:
            self.problem = "its driver holds two threads; only a new start helps"
            what = "no other thread is tried"
        else:
            what = "another thread takes over"
        _log.warning(
            "camera %s: its driver did not return in %g s; that thread is left behind, %s",
            self.source,
            _LEAVE_S,
            what,
        )

    def _away(self, state: CameraState, problem: str, opening: "_Opening") -> None:
        """Note why the camera is not live; logged once, not for each attempt to mend it."""
        first = self.state == "live" or not self.problem
        if self.state == "live":
            self._away_since = opening.frame_at or opening.begun_at
        self.state, self.problem = state, problem
        self._slot.clear()
        if first:
            _log.warning("camera %s: %s; opening it again until it is back", self.source, problem)

    def _count_malformed(self, opening: "_Opening") -> None:
        first = not self.malformed
        skipped = opening.camera.skipped if opening.camera else 0
        self.malformed = self._malformed_before + opening.malformed + skipped
        if first and self.malformed:
            fault = opening.fault or "is damaged"
            _log.warning("camera %s: skipped a frame that %s", self.source, fault)


def close_all(supervisors: Iterable[CameraSupervisor], timeout_s: float = 1.5) -> None:
    """Close them at the same time, all within ``timeout_s``."""
    supervisors = list(supervisors)
    for supervisor in supervisors:
        supervisor.stop()
    until = time.monotonic() + timeout_s
    for supervisor in supervisors:
        supervisor.close(max(0.0, until - time.monotonic()))


class _Opening:
    """A camera from being opened to being closed, in a thread of its own."""

    def __init__(
        self,
        settings: config.Camera,
        slot: LatestFrame,
        opener: Opener,
        play: threading.Event,
        clock: Callable[[], float],
    ) -> None:
        self.stop = threading.Event()
        self.opened = threading.Event()
        self.finished = False
        self.camera: Camera | None = None
        self.error: Exception | None = None
        self.begun_at = 0.0
        self.frame_at: float | None = None
        self.age_ms = 0.0
        self.malformed = 0
        self.fault = ""
        self._settings = settings
        self._slot = slot
        self._open = opener
        self._play = play
        self._clock = clock
        # A daemon, because a driver call that never comes back must not keep the process.
        self._thread = threading.Thread(
            target=self._run, name=f"camera-{settings.name}", daemon=True
        )

    @property
    def is_live(self) -> bool:
        return self.camera is not None and self.camera.live

    def start(self, now: float) -> None:
        self.begun_at = now
        self._thread.start()

    def abandon(self) -> bool:
        """Have no frame of it taken any more; False when it has just ended by itself."""
        # The thread holds this lock while it puts a frame, so that none comes after this.
        with self._slot.ready:
            self.stop.set()
            return not self.finished

    def join(self, timeout_s: float) -> bool:
        """Whether the thread has ended within the time."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.camera = camera = self._open(self._settings, self.stop)
            self.opened.set()
            with contextlib.closing(camera):
                self._read(camera)
        except Exception as caught:  # noqa: BLE001 - raised in the thread that takes the frames
            _log.debug("camera %s", self._settings.name, exc_info=True)
            # Its traceback would hold this opening, which holds it, and with both the last frame.
            self.error = caught.with_traceback(None)
        self.finished = True
        self.opened.set()
        with self._slot.ready:
            self._slot.ready.notify_all()

    def _read(self, camera: Camera) -> None:
        if not camera.live:
            self._play.wait()
        while not self.stop.is_set() and (frame := camera.read()) is not None:
            if fault := frame.fault():
                self.fault = fault
                self.malformed += 1
                continue
            if camera.every_frame:
                self._slot.put_in_turn(frame, self.stop)
            else:
                with self._slot.ready:
                    if self.stop.is_set():
                        return
                    self._slot.put(frame)
            now = self._clock()
            self.age_ms = max(0.0, now - frame.captured_at) * 1e3
            self.frame_at = now


def _reason(error: Exception | None, source: str) -> str:
    """The error without the camera's name, which the log line has already."""
    if not isinstance(error, LabelcamError):
        return f"its driver failed with {type(error).__name__}: {error}"
    return str(error).removeprefix(f"camera {source}: ")
