"""What learning costs the loop: latency of frames while lessons are learned, and while none is.

usage: python -m tests.teach.latency [--rounds N] [--frames N] [--fps N] [--json]

Both in turn in one run, on the embedded model with ten labels of twenty pictures each, which are
learned again with every lesson.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from device import config
from device.control.commands import Answer, Command
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.library import catalog
from device.node import Node
from device.teach.lessons import Picture
from device.teach.teacher import Teacher


class Stopwatch(Sink):
    """Keeps the latency of each frame, by whether lessons were learned meanwhile."""

    name = "stopwatch"

    def __init__(self, frames: int, rounds: int) -> None:
        self.node: Node | None = None
        self.latency_ms: dict[bool, list[float]] = {False: [], True: []}
        self.lessons = 0
        self._frames = frames
        self._left = 2 * rounds * frames
        self._learning = False

    def observe(self, observation: Observation) -> None:
        assert self.node is not None
        self.latency_ms[self._learning].append(observation.latency_ms)
        self._left -= 1
        if self._left <= 0:
            self.node.restart()
        elif self._left % self._frames == 0:
            self._learning = not self._learning
            if self._learning:
                self._teach()

    def _teach(self) -> None:
        assert self.node is not None
        self.node.controller.submit(Command("camera", "teach", "label 0"), self._answered)

    def _answered(self, answer: Answer) -> None:
        assert not answer.error, answer.error
        self.lessons += 1
        if self._learning:
            self._teach()

    def change(self, change: LabelChange, *_: object) -> None: ...

    def report(self, health: DeviceHealth) -> None: ...

    def close(self) -> None: ...


def measure(rounds: int, frames: int, fps: float) -> dict[str, float]:
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=fps),),
        model=config.Model(threads=1),
        terminal=config.Terminal(enabled=False),
    )
    model = catalog.find(settings.model.name).file.sha256
    chance = np.random.default_rng(0)
    with Teacher("default", model, settings.teach) as teacher:
        for label in range(10):
            features = chance.gamma(0.4, 1.0, (20, 2, 1280)).astype(np.float32)
            features[..., 100 * label : 100 * label + 100] += 1
            pictures = [Picture(one, os.urandom(32), 320, 240) for one in features]
            teacher.lessons.add(f"label {label}", pictures)
        teacher.learn()
    watch = Stopwatch(frames, rounds)
    node = Node(settings, sinks=(lambda: watch,))
    watch.node = node
    node.run()
    figures: dict[str, float] = {"lessons": watch.lessons}
    for learning, name in ((False, "alone"), (True, "learning")):
        p50, p99 = np.percentile(watch.latency_ms[learning], (50, 99))
        figures |= {f"{name}_p50_ms": round(float(p50), 2), f"{name}_p99_ms": round(float(p99), 2)}
    figures["p99_ratio"] = round(figures["learning_p99_ms"] / figures["alone_p99_ms"], 3)
    return figures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--frames", type=int, default=150, help="of each kind in a round")
    parser.add_argument("--fps", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        # As `labelcam` has it: read when NumPy is loaded.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.execv(sys.executable, sys.orig_argv)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LABELCAM_STATE"] = str(Path(folder))
        figures = measure(options.rounds, options.frames, options.fps)
    if options.json:
        print(json.dumps(figures))
    else:
        print("\n".join(f"{name:<16} {value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
