"""The running device: builds the parts, owns the threads, the signals and the loop.

Frames come from one thread a camera through a ``LatestFrame`` slot; everything else, from
the gate to the sinks, happens on the main thread, one frame at a time.
"""

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from device import catalog, config
from device.cameras.capture import CaptureThread
from device.classifier import Classifier
from device.decider import Decider
from device.events import LabelChange, Observation, Sink
from device.frames import Frame, LatestFrame
from device.gate import Gate
from device.health import CameraMeter, Health
from device.sinks.lines import OutputClosed
from device.sinks.terminal import TerminalSink, print_summary

_log = logging.getLogger("labelcam.node")

_REPORT_S = 1.0
# How long a wait may last before the loop looks whether a signal came.
_WAIT_S = 0.2
_SINK_RETRY_S = 10.0


class Node:
    """The device, from its configuration to its end.

    ``frames`` ends the run after so many classified frames; without it a run ends when every
    camera has ended, or by SIGINT or SIGTERM.
    """

    def __init__(self, settings: config.Config, frames: int | None = None) -> None:
        self._settings = settings
        self._frames = frames
        self._started_at = time.monotonic()
        self._stop = threading.Event()
        self._ready = threading.Condition()
        self._channels: list[_Channel] = []
        self._sinks: list[_Outlet] = []
        self._terminal: TerminalSink | None = None
        self._health: Health | None = None
        self._model_name = ""
        self._classified = 0
        self._report_due = 0.0

    def run(self) -> int:
        """Run to the end and print the summary; returns the exit code.

        Raises LabelcamError for what keeps the device from working.
        """
        with self._signals(), contextlib.suppress(OutputClosed):
            try:
                self._startup()
                self._main_loop()
            finally:
                self._shutdown()
            self._summarize()
        return 0

    def _startup(self) -> None:
        settings = self._settings
        # The cameras first: they open in their own threads while the model loads in this one.
        captures = []
        for camera in settings.camera:
            slot = LatestFrame(self._ready)
            captures.append((camera, slot, CaptureThread(camera, slot, self._stop)))
            captures[-1][2].start()
        model = catalog.find(settings.model.name, settings.model.labels)
        self._model_name = model.name
        for camera, slot, capture in captures:
            classifier = Classifier(model, settings.model, camera)
            self._health = self._health or Health(classifier.description, self._started_at)
            self._channels.append(
                _Channel(
                    camera.name,
                    slot,
                    capture,
                    Gate(settings.gate),
                    classifier,
                    Decider(settings.decide, model.labels),
                    self._health.camera(camera.name, capture.source),
                )
            )
        for channel in self._channels:
            channel.capture.wait_until_open()
            channel.meter.source = channel.capture.source
        self._open_sinks()

    def _open_sinks(self) -> None:
        if self._settings.jsonl.enabled:
            from device.sinks.jsonl import JsonlSink

            self._sinks.append(_Outlet(JsonlSink))
        elif self._settings.terminal.enabled:
            self._sinks.append(_Outlet(self._open_terminal))

    def _open_terminal(self) -> Sink:
        self._terminal = TerminalSink(self._settings.terminal, self._started_at)
        return self._terminal

    def _main_loop(self) -> None:
        while not self._stop.is_set():
            with self._ready:
                self._ready.wait_for(self._has_work, _WAIT_S)
            # Each camera in turn, so that a fast one never starves another.
            for channel in self._channels:
                frame = channel.slot.take()
                if frame is not None and channel.gate.admits(frame.captured_at):
                    self._handle(channel, frame)
                if self._frames is not None and self._classified >= self._frames:
                    return
            now = time.monotonic()
            if now >= self._report_due:
                self._report_due = now + _REPORT_S
                self._report(now)
            if all(channel.slot.ended for channel in self._channels):
                return

    def _has_work(self) -> bool:
        return any(channel.slot.pending for channel in self._channels)

    def _handle(self, channel: "_Channel", frame: Frame) -> None:
        """Classify one frame, decide, and tell the sinks."""
        scores = channel.classifier.classify(frame)
        scored = time.perf_counter()
        decision = channel.decider.update(scores, frame.captured_at)
        decide_ms = (time.perf_counter() - scored) * 1e3
        now = time.monotonic()
        latency_ms = (now - frame.captured_at) * 1e3
        stages = channel.classifier.stages
        channel.meter.state = "live"
        channel.meter.add(stages, decide_ms, latency_ms, now)
        self._classified += 1
        if decision is not None:
            change = LabelChange(
                camera=channel.name,
                label=decision.label,
                score=decision.score,
                previous=decision.previous,
                held_s=decision.held_s,
                model=self._model_name,
                at=decision.at,
            )
            for outlet in self._sinks:
                outlet.deliver(lambda sink: sink.change(change))
        observation = Observation(
            camera=channel.name,
            frame=frame,
            predictions=channel.classifier.top(self._settings.terminal.top),
            label=channel.decider.label,
            score=channel.decider.score,
            stages=stages,
            latency_ms=latency_ms,
            at=now,
        )
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.observe(observation))

    def _report(self, now: float) -> None:
        self._count_frames()
        assert self._health is not None
        snapshot = self._health.snapshot(now)
        for outlet in self._sinks:
            outlet.deliver(lambda sink: sink.report(snapshot))

    def _count_frames(self) -> None:
        for channel in self._channels:
            channel.meter.seen = channel.slot.seen
            channel.meter.dropped = channel.slot.dropped
            if channel.slot.ended:
                channel.meter.state = "ended"

    def _shutdown(self) -> None:
        self._stop.set()
        for channel in self._channels:
            channel.capture.close()
        for outlet in self._sinks:
            outlet.close()
        for channel in self._channels:
            channel.classifier.close()

    def _summarize(self) -> None:
        if self._health is None:
            return
        self._count_frames()
        out = sys.stderr if self._settings.jsonl.enabled else sys.stdout
        print_summary(self._health.snapshot(time.monotonic()), out)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM only set a flag; the loop sees it within _WAIT_S."""

        def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
            self._stop.set()

        before = {n: signal.signal(n, ask_to_stop) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Channel:
    """One camera's way through the node, from its slot to its decider."""

    def __init__(
        self,
        name: str,
        slot: LatestFrame,
        capture: CaptureThread,
        gate: Gate,
        classifier: Classifier,
        decider: Decider,
        meter: CameraMeter,
    ) -> None:
        self.name = name
        self.slot = slot
        self.capture = capture
        self.gate = gate
        self.classifier = classifier
        self.decider = decider
        self.meter = meter


class _Outlet:
    """A sink, isolated: what it raises is reported here and reaches nobody else.

    After a fault it is closed, and opened again when something is to be delivered and
    _SINK_RETRY_S have passed. OutputClosed alone goes through: it ends the run.
    """

    def __init__(self, opener: Callable[[], Sink]) -> None:
        self._open = opener
        self._sink: Sink | None = opener()
        self._retry_at = 0.0

    def deliver(self, call: Callable[[Sink], None]) -> None:
        """Make the call on the sink, or on nothing while it is out of order."""
        try:
            if self._sink is None:
                if time.monotonic() < self._retry_at:
                    return
                self._sink = self._open()
                _log.info("sink %s: works again", self._sink.name)
            call(self._sink)
        except OutputClosed:
            raise
        except Exception as error:  # noqa: BLE001 - here a sink is isolated
            name = self._sink.name if self._sink else "that failed"
            _log.warning("sink %s: %s; trying again in %g s", name, error, _SINK_RETRY_S)
            self.close()
            self._retry_at = time.monotonic() + _SINK_RETRY_S

    def close(self) -> None:
        """Close the sink, whatever it makes of it."""
        sink, self._sink = self._sink, None
        if sink:
            try:
                sink.close()
            except OutputClosed:
                pass
            except Exception as error:  # noqa: BLE001 - here a sink is isolated
                _log.warning("sink %s: %s while closing", sink.name, error)
