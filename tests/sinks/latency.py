"""What history, snapshots and three actions cost the loop: latency of frames with and without them.

usage: python -m tests.sinks.latency [--rounds N] [--json]

The footage by turns in one run, each time whole, in changing order. A frame's latency is from its
capture until the last outlet has had it. The actions are a pin (of gpiozero's mock), a command and
a webhook with a picture to a server of its own process; labels change about every fortieth frame.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import numpy as np

from device import config
from device.events import ActionResult, LabelChange, Observation, Sink
from device.frames import Frame
from device.node import Node

_SERVER = """
import http.server, sys
class Taker(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", 0), Taker)
print(server.server_port, flush=True)
server.serve_forever()
"""


class Stopwatch(Sink):
    """Keeps how old each frame is when all other outlets have had it."""

    name = "stopwatch"

    def __init__(self) -> None:
        self.latency_ms: list[float] = []
        self.changes = 0
        self.done = 0

    def observe(self, observation: Observation) -> None:
        self.latency_ms.append((time.monotonic() - observation.frame.captured_at) * 1e3)

    def change(self, _change: LabelChange, _frame: Frame | None = None, /) -> None:
        self.changes += 1

    def acted(self, result: ActionResult) -> None:
        self.done += result.done


@contextmanager
def server() -> Iterator[str]:
    """A web server in a process of its own, which takes everything."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        yield f"http://127.0.0.1:{child.stdout.readline().strip()}/"
        child.terminate()


def settings(address: str, *, outlets: bool) -> config.Config:
    plain = config.Config(
        camera=(config.Camera(source="footage"),),
        model=config.Model(threads=1),
        terminal=config.Terminal(enabled=False),
        history=config.History(enabled=False),
    )
    if not outlets:
        return plain
    return config.Config(
        camera=plain.camera,
        model=plain.model,
        terminal=plain.terminal,
        history=config.History(enabled=True),
        snapshots=config.Snapshots(enabled=True),
        action=(
            config.Action("lamp", "gpio", on=17),
            config.Action("script", "command", on=("true",), off=("true",)),
            config.Action("phone", "webhook", on=address, off=address, snapshot=True),
        ),
    )


def measure(rounds: int) -> dict[str, float]:
    watches = {False: Stopwatch(), True: Stopwatch()}
    with server() as address:
        for number in range(rounds):
            for outlets in (False, True) if number % 2 else (True, False):
                watch = watches[outlets]
                made = Node(settings(address, outlets=outlets), sinks=(lambda w=watch: w,))  # type: ignore[misc]
                with redirect_stdout(sys.stderr):
                    made.run()
    figures: dict[str, float] = {
        "frames": len(watches[True].latency_ms),
        "changes": watches[True].changes,
        "actions_done": watches[True].done,
    }
    for outlets, name in ((False, "none"), (True, "all")):
        p50, p99 = np.percentile(watches[outlets].latency_ms, (50, 99))
        figures |= {f"{name}_p50_ms": round(float(p50), 2), f"{name}_p99_ms": round(float(p99), 2)}
    figures["p99_ratio"] = round(figures["all_p99_ms"] / figures["none_p99_ms"], 3)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6, help="about 21 s each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ["GPIOZERO_PIN_FACTORY"] = "mock"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABELCAM_STATE"] = folder
        figures = measure(options.rounds)
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:<16} {value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
