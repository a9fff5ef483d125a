"""How each camera is doing: counters, frames a second, and milliseconds in each stage.

Adding a frame costs a few float operations; sorting is left to the report, which is
made about once a second. Memory is constant. For the node's thread only.
"""

from array import array
from collections import deque
from collections.abc import Callable

from device.events import (
    Accelerator,
    Beside,
    CameraHealth,
    CameraState,
    Controls,
    Description,
    DeviceHealth,
    Latency,
    Look,
    PictureTrouble,
    SinkHealth,
    StageTimes,
    Vitals,
)

# About half a minute at 30 frames a second: ten frames are beyond the p99, and sorting
# five stages takes well under a millisecond.
RECENT_FRAMES = 1024
FPS_WINDOW_S = 5.0

# The share of the work is of so long, in buckets.
_WORK_WINDOW_S, _WORK_BUCKET_S = 300.0, 10.0

STAGES = ("gate", "preprocess", "invoke", "postprocess", "decide", "total")


class CameraMeter:
    """Counts one camera; the node writes what else CameraHealth says of it as it changes."""

    def __init__(self, name: str, source: str, interpreter: Description) -> None:
        self.name = name
        self.interpreter = interpreter
        self.accelerator: Accelerator | None = None
        self.beside: tuple[Beside, ...] = ()
        self.taught: tuple[str, ...] = ()
        self.source = source
        self.state: CameraState = "starting"
        self.controls: Controls | None = None
        self.problem = ""
        self.age_ms = 0.0
        self.malformed = 0
        self.openings = 0
        self.reopenings = 0
        self.left_behind = 0
        self.picture: tuple[PictureTrouble, ...] = ()
        self.brightness: float | None = None
        self.sharpness: float | None = None
        self.seen = 0
        self.dropped = 0
        self.classified = 0
        self.look: Look = ""
        self._work = _Work()
        self._stages = tuple(_Ring() for _ in STAGES)
        self._times = _Ring()

    def admit(self, look: Look, gate_ms: float, at: float, *, admitted: bool) -> None:
        """Count a frame within the rate limit that the gates admitted, or turned away at ``at``."""
        self.look = look
        self._stages[0].add(gate_ms)
        self._work.add(at, admitted=admitted)

    def add(self, stages: StageTimes, decide_ms: float, total_ms: float, at: float) -> None:
        """Count a classified frame; ``total_ms`` is from its capture to ``at``, its label."""
        _, preprocess, invoke, postprocess, decide, total = self._stages
        preprocess.add(stages.preprocess_ms)
        invoke.add(stages.invoke_ms)
        postprocess.add(stages.postprocess_ms)
        decide.add(decide_ms)
        total.add(total_ms)
        self._times.add(at)
        self.classified += 1

    def health(self, at: float) -> CameraHealth:
        """The record as of ``at``; ``stages`` is empty until a frame was classified."""
        stages = zip(STAGES, self._stages, strict=True) if self.classified else ()
        per_minute, share = self._work.figures(at)
        return CameraHealth(
            name=self.name,
            source=self.source,
            state=self.state,
            seen=self.seen,
            classified=self.classified,
            dropped=self.dropped,
            fps=self._fps(at),
            stages={name: ring.latency() for name, ring in stages},
            controls=self.controls,
            age_ms=self.age_ms,
            malformed=self.malformed,
            openings=self.openings,
            reopenings=self.reopenings,
            left_behind=self.left_behind,
            problem=self.problem,
            picture=self.picture,
            interpreter=self.interpreter,
            accelerator=self.accelerator,
            beside=self.beside,
            taught=self.taught,
            look=self.look,
            classified_per_minute=per_minute,
            work_share=share,
            brightness=self.brightness,
            sharpness=self.sharpness,
        )

    def _fps(self, at: float) -> float:
        """Frames a second over the last FPS_WINDOW_S, or over two frames where those are rarer.

        Counted between frames, so that a steady camera gives a steady number; a wait that
        is longer than the frames' distance counts as well, so that it falls when they cease.
        """
        times = self._times.recent()
        oldest = max(0, len(times) - 2)
        while oldest > 0 and times[oldest - 1] >= at - FPS_WINDOW_S:
            oldest -= 1
        intervals = len(times) - 1 - oldest
        if intervals < 1:
            return 0.0
        span_s = times[-1] - times[oldest]
        overdue_s = max(0.0, at - times[-1] - span_s / intervals)
        return intervals / (span_s + overdue_s) if span_s > 0 else 0.0


class Health:
    """Every camera's meter, and the board's vital signs, read by ``read_vitals``."""

    def __init__(self, started_at: float, read_vitals: Callable[[], Vitals]) -> None:
        self._started_at = started_at
        self._read_vitals = read_vitals
        self._meters: list[CameraMeter] = []

    def camera(self, name: str, source: str, interpreter: Description) -> CameraMeter:
        """A new meter, reported after those that were made before it."""
        meter = CameraMeter(name, source, interpreter)
        self._meters.append(meter)
        return meter

    def report(
        self, at: float, interval_s: float = 60.0, sinks: tuple[SinkHealth, ...] = ()
    ) -> DeviceHealth:
        """The state of the device as of ``at``, which leaves it each ``interval_s``."""
        first = self._meters[0]
        return DeviceHealth(
            uptime_s=at - self._started_at,
            cameras=tuple(meter.health(at) for meter in self._meters),
            interpreter=first.interpreter,
            vitals=self._read_vitals(),
            accelerator=first.accelerator,
            sinks=sinks,
            interval_s=interval_s,
        )


class _Work:
    """How many frames were admitted and classified in the last minutes."""

    def __init__(self) -> None:
        # (number of the bucket, frames admitted by the rate limit, of those classified)
        self._buckets: deque[list[int]] = deque(maxlen=round(_WORK_WINDOW_S / _WORK_BUCKET_S))
        self._begun_at: float | None = None

    def add(self, at: float, *, admitted: bool) -> None:
        if self._begun_at is None:
            self._begun_at = at
        number = int(at / _WORK_BUCKET_S)
        if not self._buckets or self._buckets[-1][0] != number:
            self._buckets.append([number, 0, 0])
        self._buckets[-1][1] += 1
        self._buckets[-1][2] += admitted

    def figures(self, at: float) -> tuple[float, float]:
        """Frames classified a minute, and their share; 0 and 1 of no frame."""
        first = int(at / _WORK_BUCKET_S) + 1 - round(_WORK_WINDOW_S / _WORK_BUCKET_S)
        recent = [bucket for bucket in self._buckets if bucket[0] >= first]
        offered, classified = sum(b[1] for b in recent), sum(b[2] for b in recent)
        if self._begun_at is None or not offered:
            return 0.0, 1.0
        since = max(self._begun_at, first * _WORK_BUCKET_S)
        # Of less than a second no rate can be told.
        return 60 * classified / max(at - since, 1.0), classified / offered


class _Ring:
    """The last RECENT_FRAMES values, and the sum and number of all there ever were."""

    __slots__ = ("_count", "_sum", "_values")

    def __init__(self) -> None:
        self._values = array("d", bytes(8 * RECENT_FRAMES))
        self._sum = 0.0
        self._count = 0

    def add(self, value: float) -> None:
        self._values[self._count % RECENT_FRAMES] = value
        self._count += 1
        self._sum += value

    def recent(self) -> list[float]:
        """The values that are left, oldest first."""
        values = self._values.tolist()
        if self._count <= RECENT_FRAMES:
            return values[: self._count]
        start = self._count % RECENT_FRAMES
        return values[start:] + values[:start]

    def latency(self) -> Latency:
        """Mean of all values, percentiles of the recent ones by nearest rank."""
        values = sorted(self.recent())
        if not values:
            return Latency(0.0, 0.0, 0.0)
        # The nearest rank is ceil(p * n), counted from 1; -(-a // b) rounds up in integers.
        p50, p99 = (values[-(-percent * len(values) // 100) - 1] for percent in (50, 99))
        return Latency(self._sum / self._count, p50, p99)
