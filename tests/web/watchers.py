"""What watchers of the web view cost inference: ``python -m tests.web.watchers``.

Runs a device on synthetic frames and lets 0, 1 and 50 people look at its page by turns, a
video and an event stream each, from another process. Says how long a frame took, from the
moment it was taken from its slot to its label, and how old its label was.
"""

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
from collections.abc import Sequence

from device import config
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.node import Node

COUNTS = (0, 1, 50)
# Connections take a moment; what comes meanwhile is not counted.
_SETTLE_FRAMES = 15


class Rounds(Sink):
    """A sink that counts frames, and changes the number of watchers after each round."""

    name = "rounds"

    def __init__(self, port: int, frames: int) -> None:
        self.took_ms: dict[int, list[float]] = {count: [] for count in COUNTS}
        self.latency_ms: dict[int, list[float]] = {count: [] for count in COUNTS}
        self._port = port
        self._frames = frames + _SETTLE_FRAMES
        self._seen = 0
        self._watching: subprocess.Popen[bytes] | None = None

    def observe(self, observation: Observation) -> None:
        turn, frame = divmod(self._seen, self._frames)
        self._seen += 1
        count = COUNTS[turn % len(COUNTS)]
        if frame == 0:
            self._watch(count)
        if frame >= _SETTLE_FRAMES:
            stages = observation.stages
            took = stages.preprocess_ms + stages.invoke_ms + stages.postprocess_ms
            self.took_ms[count].append(took)
            self.latency_ms[count].append(observation.latency_ms)

    def change(self, change: LabelChange, *_: object) -> None:
        """Nothing: labels do not matter here."""

    def report(self, snapshot: DeviceHealth) -> None:
        """Nothing: frames are counted one by one."""

    def close(self) -> None:
        self._watch(0)

    def _watch(self, count: int) -> None:
        if self._watching:
            self._watching.kill()
            self._watching.wait()
            self._watching = None
        if count:
            program = [sys.executable, "-m", "tests.web.watchers", "--watch", str(count)]
            self._watching = subprocess.Popen([*program, "--port", str(self._port)])


def watch(port: int, count: int) -> None:
    """Be so many watchers, until killed."""
    # Real ones are on other machines and take nothing from this one's processors.
    os.nice(19)
    selector = selectors.DefaultSelector()
    for path in ("/api/video.mjpg", "/api/events") * count:
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        selector.register(connection, selectors.EVENT_READ, connection)
    while True:
        for key, _ in selector.select():
            key.data.recv(1 << 20)


def measure(port: int, frames: int, rounds: int, fps: float) -> dict[int, dict[str, float]]:
    """Milliseconds by the number of watchers."""
    sink = Rounds(port, frames)
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=fps),),
        terminal=config.Terminal(enabled=False),
        web=config.Web(enabled=True, port=port),
    )
    total = rounds * len(COUNTS) * (frames + _SETTLE_FRAMES)
    Node(settings, frames=total, sinks=[lambda: sink]).run()
    return {
        count: {
            "frames": len(sink.took_ms[count]),
            "took_p50_ms": statistics.median(sink.took_ms[count]),
            "took_p99_ms": statistics.quantiles(sink.took_ms[count], n=100)[98],
            "latency_p50_ms": statistics.median(sink.latency_ms[count]),
            "latency_p99_ms": statistics.quantiles(sink.latency_ms[count], n=100)[98],
        }
        for count in COUNTS
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100, help="frames in a round (100)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds for each number (5)")
    parser.add_argument("--fps", type=float, default=15.0, help="frames a second (15)")
    parser.add_argument("--port", type=int, default=8097)
    parser.add_argument("--watch", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.watch:
        watch(options.port, options.watch)
    found = measure(options.port, options.frames, options.rounds, options.fps)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
