"""What the device counts and times, for Prometheus; docs/metrics.md lists it all.

Timing a frame costs the node's thread four calls of a microsecond. What else there is, is made
when somebody asks, from the state of that moment.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Protocol, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
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
from device.system.text import printable

# When a series began says nothing that its restart does not.
disable_created_metrics()  # type: ignore[no-untyped-call]

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
        self._active: dict[str, Observation] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        histogram = partial(Histogram, registry=self._registry, buckets=_BOUNDS_S)
        self._latency = histogram(
            "labelcam_latency_seconds", "From the capture of a frame to its label", ["camera"]
        )
        self._stages = histogram(
            "labelcam_stage_seconds",
            "Time of a frame in one stage of the classifier",
            ["camera", "stage"],
        )
        self._changes = Counter(
            "labelcam_label_changes",
            "How often a label became active",
            ["camera", "label"],
            registry=self._registry,
        )
        # Looking children up costs more than timing with them.
        self._timers: dict[str, tuple[Histogram, ...]] = {}
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def observe(self, observation: Observation) -> None:
        """Time one classified frame."""
        camera, stages = observation.camera, observation.stages
        if camera not in self._timers:
            name = printable(camera)
            of_stages = (self._stages.labels(name, stage) for stage in _STAGES)
            self._timers[camera] = (self._latency.labels(name), *of_stages)
        latency, preprocess, invoke, postprocess = self._timers[camera]
        latency.observe(observation.latency_ms / 1e3)
        preprocess.observe(stages.preprocess_ms / 1e3)
        invoke.observe(stages.invoke_ms / 1e3)
        postprocess.observe(stages.postprocess_ms / 1e3)
        self._active[camera] = observation

    def change(self, change: LabelChange) -> None:
        """Count a label that began."""
        if change.on:
            self._changes.labels(printable(change.camera), printable(change.label)).inc()

    def report(self, health: DeviceHealth) -> None:
        """Keep the state of the device."""
        self._health = health

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The metrics of the moment, as the registry asks for them."""
        yield self._scores()
        if self._health is not None:
            yield from _of_device(self._health)
            yield from _of_board(self._health.vitals)
            yield from _of_cameras(self._health.cameras)
        if self.web is not None:
            yield from _of_web(self.web)

    def _scores(self) -> Metric:
        score = GaugeMetricFamily(
            "labelcam_label_score_ratio",
            "Smoothed score of the active label",
            labels=["camera", "label"],
        )
        for camera, observation in list(self._active.items()):
            if observation.label is not None:
                names = [printable(camera), printable(observation.label)]
                score.add_metric(names, observation.score)
        return score


def _of_device(health: DeviceHealth) -> Iterator[Metric]:
    interpreter = health.interpreter
    yield InfoMetricFamily(
        "labelcam",
        "What runs",
        value={
            "version": __version__,
            "model": printable(interpreter.model),
            "runtime": f"{interpreter.runtime} {interpreter.version}",
            "delegate": interpreter.delegate,
            "threads": str(interpreter.threads),
        },
    )
    yield GaugeMetricFamily(
        "labelcam_uptime_seconds", "Time since the start", value=health.uptime_s
    )
    yield GaugeMetricFamily(
        "labelcam_rate_share_ratio",
        "The share of the full rate that heat and budget leave",
        value=health.rate_share,
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
    throttled, disk_mb = vitals.throttling, vitals.disk_mb
    for name, documentation, value in (
        ("temperature_celsius", "The processor's", vitals.temperature_c),
        (
            "throttled",
            "Whether the board is slowed by heat or its power supply",
            None if throttled is None else bool(throttled),
        ),
        ("disk_free_bytes", "Where the state is kept", disk_mb and disk_mb * 2**20),
        ("wifi_signal_dbm", "Wireless", vitals.wifi_dbm),
        ("clock_synced", "Whether a time server sets it", vitals.clock_synced),
    ):
        if value is not None:
            yield GaugeMetricFamily(f"labelcam_{name}", documentation, value=value)


_Read = Callable[[CameraHealth], float]
_CAMERA_COUNTERS: dict[str, tuple[str, _Read]] = {
    "frames_captured": ("Frames that came", lambda camera: camera.seen),
    "frames_classified": ("Frames looked at", lambda camera: camera.classified),
    "frames_dropped": ("Frames that a newer one replaced", lambda camera: camera.dropped),
    "frames_malformed": ("Frames that were no pictures", lambda camera: camera.malformed),
    "camera_reopenings": ("How often a camera came back", lambda camera: camera.reopenings),
}
_CAMERA_GAUGES: dict[str, tuple[str, _Read]] = {
    "frame_age_seconds": (
        "How old the newest frame was when it came",
        lambda camera: camera.age_ms / 1e3,
    ),
    "frames_per_second": ("Frames classified, lately", lambda camera: camera.fps),
    "camera_enabled": (
        "Whether it is switched on",
        lambda camera: camera.controls is None or camera.controls.enabled,
    ),
    "drift": (
        "Whether its answers are other than its own past weeks had them",
        lambda camera: camera.drift is not None and bool(camera.drift.change),
    ),
}


def _of_cameras(cameras: Iterable[CameraHealth]) -> Iterator[Metric]:
    for family, table in (
        (CounterMetricFamily, _CAMERA_COUNTERS),
        (GaugeMetricFamily, _CAMERA_GAUGES),
    ):
        for name, (documentation, read) in table.items():
            metric = family(f"labelcam_{name}", documentation, labels=["camera"])
            for camera in cameras:
                metric.add_metric([printable(camera.name)], float(read(camera)))
            yield metric
    state = StateSetMetricFamily("labelcam_camera_state", "How a camera is", labels=["camera"])
    picture = StateSetMetricFamily(
        "labelcam_picture_trouble", "What is wrong with a picture", labels=["camera"]
    )
    beside = GaugeMetricFamily(
        "labelcam_model_beside_up", "Whether a model beside works", labels=["camera", "model"]
    )
    for camera in cameras:
        labels = [printable(camera.name)]
        state.add_metric(labels, {s: s == camera.state for s in get_args(CameraState)})
        troubles = {t: t in camera.picture for t in get_args(PictureTrouble)}
        picture.add_metric(labels, troubles)
        for other in camera.beside:
            beside.add_metric([*labels, printable(other.interpreter.model)], not other.problem)
    yield from (state, picture, beside)


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
