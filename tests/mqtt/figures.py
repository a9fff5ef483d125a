"""``python -m tests.mqtt.figures``: what MQTT costs the card and the loop that classifies.

Writes: bytes that a thousand label changes bring to the disk, with a broker that answers at
once and with none, beside the least that a flush for each takes, and how long one takes until
it is safe. Loop: milliseconds from capture to label with the broker up, down and stalled, and
without MQTT, in rounds that take turns, so that drift hits all alike; ten changes a second. Of
the rounds the lower quartile counts, since what else a machine does only ever makes them
longer.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from device import config
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.node import Node
from device.sinks.mqtt.sink import MqttSink
from device.sinks.outbox import Limits, Outbox
from device.sinks.outbox.storage import Event
from device.sinks.photos import Photos
from tests.mqtt.mosquitto import MISSING, PROGRAM, Mosquitto, free_port

EVENTS = 1000
# What a change takes in the outbox, about.
_LINE_BYTES = 300
SITUATIONS = ("without", "up", "down", "stalled")


def writes(folder: Path) -> dict[str, Any]:
    """What EVENTS label changes cost the disk under ``folder``, in bytes."""
    prompt = _fill(folder / "prompt", prompt=True)
    return {
        "events": EVENTS,
        "broker_up": prompt,
        "broker_down": _fill(folder / "down"),
        "least_bytes": _append(folder / "bare"),
    }


def _append(path: Path) -> int:
    """Bytes to the disk for as many bare lines, each flushed: no way to keep one costs less."""
    before = _written()
    with path.open("wb", buffering=0) as file:
        for _ in range(EVENTS):
            file.write(bytes(_LINE_BYTES))
            os.fdatasync(file.fileno())
    return _written() - before


def _fill(folder: Path, *, prompt: bool = False) -> dict[str, float]:
    path = folder / "outbox.db"
    box = Outbox(path, Limits(10**6, 1 << 30, 1e9))
    box.add([_event()])
    wal = path.with_name(path.name + "-wal")
    before, log_before, times = _written(), wal.stat().st_size, []
    for _ in range(EVENTS):
        start = time.perf_counter()
        box.add([_event()])
        times.append((time.perf_counter() - start) * 1e3)
        if prompt:
            box.acknowledge(box.newest)
    found = {
        "log_bytes": wal.stat().st_size - log_before,
        "disk_bytes": _written() - before,
        "median_ms": statistics.median(times),
        "p99_ms": statistics.quantiles(times, n=100)[98],
    }
    box.close()
    return found


def _written() -> int:
    """Bytes that this process has caused to be written to disk."""
    os.sync()
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def _event() -> Event:
    return Event(
        id="019a0000-0000-7000-8000-000000000000",
        camera="camera",
        at="2026-01-02T03:04:05.678Z",
        clock_synced=True,
        label="Egyptian cat",
        score=0.9312,
        previous="unknown",
        held_s=12.345,
        model="efficientnet-lite0-224-int8",
    )


class Stopwatch(Sink):
    """A sink that notes the latencies, and makes a label change of every fifth frame."""

    name = "stopwatch"

    def __init__(self, sink: MqttSink | None, warm_up: int = 30) -> None:
        self.latencies_ms: list[float] = []
        self._sink = sink
        self._warm_up = warm_up

    def observe(self, observation: Observation) -> None:
        self.latencies_ms.append(observation.latency_ms)
        if self._sink is not None and len(self.latencies_ms) % 5 == 0:
            label = f"label {len(self.latencies_ms)}"
            at = observation.frame.captured_at
            self._sink.change(LabelChange("camera", label, 0.9, "unknown", 0.1, "m", at))

    def change(self, change: LabelChange, *_: object) -> None:
        """Nothing: changes are made here."""

    def report(self, snapshot: DeviceHealth) -> None:
        """Nothing to tell."""

    def close(self) -> None:
        del self.latencies_ms[: self._warm_up]


def loop(folder: Path, rounds: int, frames: int) -> dict[str, dict[str, float]]:
    """Median and p99 of the latency in each situation, in milliseconds."""
    found: dict[str, list[list[float]]] = {situation: [] for situation in SITUATIONS}
    for number, turn in itertools.product(range(rounds), range(len(SITUATIONS))):
        # Each situation comes first as often as last.
        situation = SITUATIONS[(number + turn) % len(SITUATIONS)]
        found[situation].append(_run(folder / f"{situation}-{number}", situation, frames))
        print(f"\r{number + 1}/{rounds} {situation:<8}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {
        situation: {
            "median_ms": _quiet(statistics.median(times) for times in values),
            "p99_ms": _quiet(statistics.quantiles(times, n=100)[98] for times in values),
        }
        for situation, values in found.items()
    }


def _quiet(values: Iterable[float]) -> float:
    """The lower quartile."""
    return statistics.quantiles(values, n=4)[0]


def _run(folder: Path, situation: str, frames: int) -> list[float]:
    broker = Mosquitto(folder / "broker")
    if situation in ("up", "stalled"):
        broker.start()
    port = broker.port if situation != "down" else free_port()
    settings = config.Config(
        camera=(config.Camera(source="synthetic", width=320, height=240, fps=50.0),),
        model=config.Model(threads=1, delegate="xnnpack"),
        terminal=config.Terminal(enabled=False),
        mqtt=config.Mqtt(host="127.0.0.1", port=port, node="figures", interval_s=5.0),
    )
    sinks: list[MqttSink] = []
    watches: list[Stopwatch] = []

    def open_mqtt() -> MqttSink:
        photos = Photos(settings.snapshots, settings.camera, node.controller)
        sinks.append(
            MqttSink(
                settings.mqtt, settings.camera, node.controller, photos, state=folder / "state"
            )
        )
        if situation == "stalled":
            threading.Thread(target=stall, daemon=True).start()
        return sinks[0]

    def open_watch() -> Stopwatch:
        watches.append(Stopwatch(sinks[0] if sinks else None))
        return watches[0]

    def stall() -> None:
        while sinks[0].problem:
            time.sleep(0.01)
        broker.pause()

    openers: list[Callable[[], Sink]] = [open_mqtt, open_watch]
    if situation == "without":
        del openers[0]
    node = Node(settings, frames=frames, sinks=openers)
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        node.run()
    broker.stop()
    return watches[0].latencies_ms


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mqtt.figures", description=__doc__)
    parser.add_argument("--rounds", type=int, default=16)
    parser.add_argument("--frames", type=int, default=400, help="classified in each round (400)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args()
    if not PROGRAM:
        print(MISSING, file=sys.stderr)
        return 1
    # Not in /tmp, which is memory on many machines.
    with tempfile.TemporaryDirectory(prefix=".figures-", dir=Path.cwd()) as name:
        folder = Path(name)
        os.environ["LABELCAM_STATE"] = str(folder / "state")
        found = {"writes": writes(folder), "loop": loop(folder, options.rounds, options.frames)}
    if options.json:
        print(json.dumps(found))
        return 0
    for situation in ("broker_up", "broker_down"):
        row = found["writes"][situation]
        print(
            f"{EVENTS} changes, {situation}: {row['log_bytes'] / 1e6:.2f} MB to the log, "
            f"{row['disk_bytes'] / 1e6:.2f} MB to the disk, "
            f"{row['median_ms']:.2f} ms each, p99 {row['p99_ms']:.2f} ms"
        )
    print(f"{EVENTS} bare lines: {found['writes']['least_bytes'] / 1e6:.2f} MB to the disk")
    for situation, row in found["loop"].items():
        print(f"{situation:<8} median {row['median_ms']:6.2f} ms  p99 {row['p99_ms']:6.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
