"""What feed and actions cost, and how quick they are: `python -m tests.actions.figures [--json]`.

The embedded model classifies a photograph as a camera of ten frames a second has it. Every tenth
frame changes the label: that goes to the feed, which programs in processes of their own read, and
to three actions: a pin that follows the score (mock), a command and a webhook with a real server.
Rounds with and without the actions alternate. Takes about two minutes. Exits with 1 where a goal is
missed.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from device import config
from device.events import LabelChange, Observation, Prediction, Sink, StageTimes
from device.sinks.actions.sink import ActionsSink
from device.sinks.feed import FeedSink
from device.sinks.photos import Photos
from tests.conftest import classifier_of, footage
from tests.web.conftest import FakeDevice

FPS = 10.0
ROUNDS, FRAMES, EVERY = 6, 80, 10
READERS = 4
FEED_GOAL_MS = 5.0
# Of all readers but the first the lines are only taken; the first prints how old each is.
READER = """
import json, socket, sys, time
stream = socket.socket(socket.AF_UNIX)
stream.connect(sys.argv[1])
print("ready", flush=True)
for line in stream.makefile("rb"):
    now = time.monotonic()
    label = json.loads(line)["label"]
    if label:
        print((now - float(label.partition(" ")[0])) * 1e3)
"""


# Takes every post, in a process of its own as a server has one.
SERVER = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """A server that takes every post; its address."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        process.kill()


@contextlib.contextmanager
def actions(address: str) -> Iterator[tuple[Sink, list[float]]]:
    """Three actions, and how long each thing that they did took, in milliseconds."""
    settings = config.Config(
        action=(
            config.Action(name="lamp", kind="gpio", on=17, pwm=True),
            config.Action(name="bell", kind="command", on=("/bin/true",), off=("/bin/true",)),
            config.Action(name="hook", kind="webhook", on=address, off=address),
        )
    )
    photos = Photos(settings.snapshots, settings.camera, FakeDevice())
    took: list[float] = []
    sink = ActionsSink(settings, photos, lambda result: took.append(result.took_ms))
    try:
        yield sink, took
    finally:
        sink.close()


class Loop:
    """The main thread's work: a frame to scores, and every tenth frame a change of label."""

    def __init__(self) -> None:
        self._classifier = classifier_of(config.Model().name, config.Model(threads=1))
        self._frame = footage("cat")
        self._number = 0
        self._active: tuple[str, ...] = ()

    def run(self, sinks: list[Sink], changes_us: dict[str, list[float]]) -> list[float]:
        """Milliseconds that each frame took; what a change took in each sink goes to its list."""
        took: list[float] = []
        due = time.monotonic()
        for _ in range(FRAMES):
            due += 1 / FPS
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.perf_counter()
            self._step(sinks, changes_us)
            took.append((time.perf_counter() - began) * 1e3)
        return took

    def _step(self, sinks: list[Sink], changes_us: dict[str, list[float]]) -> None:
        scores = self._classifier.classify(self._frame)
        self._number += 1
        now = time.monotonic()
        if self._number % EVERY == 0:
            label = f"{now!r} cat"
            self._active = (label,)
            change = LabelChange("camera", label, 0.9, None, 1.0, "model", now, active=self._active)
            for sink in sinks:
                began = time.perf_counter()
                sink.change(change, self._frame)
                changes_us.setdefault(sink.name, []).append((time.perf_counter() - began) * 1e6)
        score = float(scores.max())
        label = self._active[0] if self._active else "unknown"
        observation = Observation(
            "camera",
            self._frame,
            (Prediction(label, 0, score),),
            label,
            score,
            StageTimes(0.0, 0.0, 0.0),
            0.0,
            now,
            active=self._active,
        )
        for sink in sinks:
            sink.observe(observation)


def percentiles(values: list[float]) -> dict[str, float]:
    return {
        "count": len(values),
        "p50": round(float(np.percentile(values, 50)), 3),
        "p99": round(float(np.percentile(values, 99)), 3),
        "max": round(max(values), 3),
    }


def measure(folder: Path) -> dict[str, Any]:
    loop = Loop()
    with_actions: list[float] = []
    without: list[float] = []
    ratios: list[float] = []
    changes_us: dict[str, list[float]] = {}
    path = folder / "labels.sock"
    feed = FeedSink(path, ["camera"])
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(path)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(READERS)
    ]
    for reader in readers:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
    with server() as address, actions(address) as (sink, took):
        loop.run([feed], {})
        for _ in range(ROUNDS):
            without += (alone := loop.run([feed], {}))
            with_actions += (beside := loop.run([feed, sink], changes_us))
            ratios.append(float(np.percentile(beside, 99) / np.percentile(alone, 99)))
    feed.close()
    ages = [float(line) for reader in readers for line in reader.communicate()[0].splitlines()]
    return {
        "label to a program, ms": percentiles(ages),
        f"a change on the loop's thread, feed with {READERS}, µs": percentiles(changes_us["feed"]),
        "a change on the loop's thread, three actions, µs": percentiles(changes_us["actions"]),
        "a frame without actions, ms": percentiles(without),
        "a frame with three actions, ms": percentiles(with_actions),
        "p99 of a frame, with by without": {
            "of all": round(float(np.percentile(with_actions, 99) / np.percentile(without, 99)), 3),
            "median of rounds": round(statistics.median(ratios), 3),
        },
        "a change to what was done, ms": percentiles(took),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    os.environ["GPIOZERO_PIN_FACTORY"] = "mock"
    os.environ["GPIOZERO_MOCK_PIN_CLASS"] = "mockpwmpin"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABELCAM_STATE"] = folder
        figures = measure(Path(folder))
    if options.json:
        print(json.dumps(figures, ensure_ascii=False))
    else:
        for name, found in figures.items():
            values = found.items() if isinstance(found, dict) else [("", found)]
            print(f"{name:60}" + "  ".join(f"{key} {value}" for key, value in values))
    return 0 if figures["label to a program, ms"]["p99"] <= FEED_GOAL_MS else 1


if __name__ == "__main__":
    sys.exit(main())
