"""What the device counts and times, for Prometheus; docs/metrics.md lists it all.

Counting is a few additions on the node's thread. The metrics themselves are made when
somebody asks, from the counts of that moment.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from device import __version__
from device.events import (
    CameraHealth,
    CameraState,
    DeviceHealth,
    LabelChange,
    Observation,
    PictureTrouble,
    Vitals,
)

# From a small model on a fast machine to a large one on a Raspberry Pi Zero, in seconds.
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_STAGES = ("preprocess", "invoke", "postprocess")


class Web(Protocol):
    """What the web view counts itself."""

    @property
    def watchers(self) -> int:
        """Who watches live pictures now."""

    @property
    def encoded(self) -> int:
        """Live pictures that were encoded."""

    @property
    def refused(self) -> Mapping[int, int]:
        """Refused requests by status."""


class Metrics(Collector):
    """Counts for the node's thread to add to, and their exposition for any other.

    Everything has a registry of its own, so that what other libraries count stays out.
    """

    CONTENT_TYPE = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.web: Web | None = None
        self._health: DeviceHealth | None = None
        self._stages: dict[tuple[str, str], _Histogram] = {}
        self._latency: dict[str, _Histogram] = {}
        self._changes: dict[tuple[str, str], int] = {}
        self._active: dict[str, Observation] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def observe(self, observation: Observation) -> None:
        """Time one classified frame."""
        camera = observation.camera
        if camera not in self._latency:
            self._latency[camera] = _Histogram()
            for stage in _STAGES:
                self._stages[camera, stage] = _Histogram()
        self._latency[camera].add_ms(observation.latency_ms)
        stages = observation.stages
        self._stages[camera, "preprocess"].add_ms(stages.preprocess_ms)
        self._stages[camera, "invoke"].add_ms(stages.invoke_ms)
        self._stages[camera, "postprocess"].add_ms(stages.postprocess_ms)
        self._active[camera] = observation

    def change(self, change: LabelChange) -> None:
        """Count a change of label."""
        key = change.camera, change.label
        self._changes[key] = self._changes.get(key, 0) + 1

    def report(self, health: DeviceHealth) -> None:
        """Keep the state of the device."""
        self._health = health

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """All metrics of the moment, as the registry asks for them."""
        yield from self._timed()
        if self._health is not None:
            yield from _of_device(self._health)
            yield from _of_board(self._health.vitals)
            yield from _of_cameras(self._health.cameras)
        if self.web is not None:
            yield from _of_web(self.web)

    def _timed(self) -> Iterator[Metric]:
        latency = HistogramMetricFamily(
            "labelcam_latency_seconds",
            "From the capture of a frame to its label",
            labels=["camera"],
        )
        for camera, histogram in list(self._latency.items()):
            histogram.put(latency, [camera])
        yield latency
        stages = HistogramMetricFamily(
            "labelcam_stage_seconds",
            "Time of a frame in one stage of the classifier",
            labels=["camera", "stage"],
        )
        for (camera, stage), histogram in list(self._stages.items()):
            histogram.put(stages, [camera, stage])
        yield stages
        changes = CounterMetricFamily(
            "labelcam_label_changes",
            "How often a label became the active one",
            labels=["camera", "label"],
        )
        for (camera, label), count in list(self._changes.items()):
            changes.add_metric([camera, label], count)
        yield changes
        score = GaugeMetricFamily(
            "labelcam_label_score_ratio",
            "Smoothed score of the active label",
            labels=["camera", "label"],
        )
        for camera, observation in list(self._active.items()):
            if observation.label is not None:
                score.add_metric([camera, observation.label], observation.score)
        yield score


class _Histogram:
    """How many times fell under each bound, and their sum."""

    __slots__ = ("_counts", "_sum_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add_ms(self, milliseconds: float) -> None:
        seconds = milliseconds / 1e3
        self._counts[bisect_left(_BOUNDS_S, seconds)] += 1
        self._sum_s += seconds

    def put(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Add it to the family; Prometheus' buckets count all that is under their bound."""
        counts, total = list(self._counts), 0
        buckets = []
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        family.add_metric(labels, buckets, self._sum_s)


def _of_device(health: DeviceHealth) -> Iterator[Metric]:
    interpreter = health.interpreter
    yield InfoMetricFamily(
        "labelcam",
        "What runs",
        value={
            "version": __version__,
            "model": interpreter.model,
            "runtime": f"{interpreter.runtime} {interpreter.version}",
            "delegate": interpreter.delegate,
            "threads": str(interpreter.threads),
        },
    )
    yield GaugeMetricFamily(
        "labelcam_uptime_seconds", "Time since the start", value=health.uptime_s
    )
    sinks = GaugeMetricFamily("labelcam_sink_up", "Whether a way out works", labels=["sink"])
    for sink in health.sinks:
        sinks.add_metric([sink.name], float(not sink.problem))
    yield sinks
    accelerator = health.accelerator
    if accelerator is not None:
        yield GaugeMetricFamily(
            "labelcam_edgetpu_active", "Whether the Edge TPU classifies", value=accelerator.active
        )
        yield CounterMetricFamily(
            "labelcam_edgetpu_errors",
            "Frames on which the Edge TPU failed",
            value=accelerator.errors,
        )
        yield CounterMetricFamily(
            "labelcam_edgetpu_changes",
            "How often Edge TPU and CPU took over from each other",
            value=accelerator.changes,
        )


def _of_board(vitals: Vitals) -> Iterator[Metric]:
    if vitals.temperature_c is not None:
        yield GaugeMetricFamily(
            "labelcam_temperature_celsius", "The processor's", value=vitals.temperature_c
        )
    if vitals.throttling is not None:
        yield GaugeMetricFamily(
            "labelcam_throttled",
            "Whether the board is slowed by heat or its power supply",
            value=bool(vitals.throttling),
        )
    if vitals.disk_mb is not None:
        yield GaugeMetricFamily(
            "labelcam_disk_free_bytes", "Where the state is kept", value=vitals.disk_mb * 2**20
        )
    if vitals.wifi_dbm is not None:
        yield GaugeMetricFamily("labelcam_wifi_signal_dbm", "Wireless", value=vitals.wifi_dbm)
    if vitals.clock_synced is not None:
        yield GaugeMetricFamily(
            "labelcam_clock_synced", "Whether a time server sets it", value=vitals.clock_synced
        )


def _of_cameras(cameras: Iterable[CameraHealth]) -> Iterator[Metric]:
    labels = ["camera"]
    seen = CounterMetricFamily("labelcam_frames_captured", "Frames that came", labels=labels)
    classified = CounterMetricFamily(
        "labelcam_frames_classified", "Frames looked at", labels=labels
    )
    dropped = CounterMetricFamily(
        "labelcam_frames_dropped", "Frames that a newer one replaced", labels=labels
    )
    malformed = CounterMetricFamily(
        "labelcam_frames_malformed", "Frames that were no pictures", labels=labels
    )
    reopenings = CounterMetricFamily(
        "labelcam_camera_reopenings", "How often a camera came back", labels=labels
    )
    age = GaugeMetricFamily(
        "labelcam_frame_age_seconds", "How old the newest frame was when it came", labels=labels
    )
    rate = GaugeMetricFamily(
        "labelcam_frames_per_second", "Frames classified, lately", labels=labels
    )
    enabled = GaugeMetricFamily(
        "labelcam_camera_enabled", "Whether it is switched on", labels=labels
    )
    state = StateSetMetricFamily("labelcam_camera_state", "How a camera is", labels=labels)
    picture = StateSetMetricFamily(
        "labelcam_picture_trouble", "What is wrong with a picture", labels=labels
    )
    for camera in cameras:
        name = [camera.name]
        seen.add_metric(name, camera.seen)
        classified.add_metric(name, camera.classified)
        dropped.add_metric(name, camera.dropped)
        malformed.add_metric(name, camera.malformed)
        reopenings.add_metric(name, camera.reopenings)
        age.add_metric(name, camera.age_ms / 1e3)
        rate.add_metric(name, camera.fps)
        enabled.add_metric(name, float(camera.controls is None or camera.controls.enabled))
        state.add_metric(name, {s: s == camera.state for s in get_args(CameraState)})
        picture.add_metric(name, {t: t in camera.picture for t in get_args(PictureTrouble)})
    yield from (seen, classified, dropped, malformed, reopenings)
    yield from (age, rate, enabled, state, picture)


def _of_web(web: Web) -> Iterator[Metric]:
    yield GaugeMetricFamily(
        "labelcam_web_watchers", "Who watches live pictures", value=web.watchers
    )
    yield CounterMetricFamily(
        "labelcam_web_pictures_encoded", "Live pictures that were encoded", value=web.encoded
    )
    refused = CounterMetricFamily(
        "labelcam_web_requests_refused", "Requests that were refused", labels=["status"]
    )
    for status, count in list(web.refused.items()):
        refused.add_metric([str(status)], count)
    yield refused
