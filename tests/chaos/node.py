"""The node of the chaos test: a real one, whose camera changes its colour with every frame.

Run as a process of its own, to be killed. A change is made once the outbox has taken it; its
id is then appended to a journal, which outlives the process.
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import device.node
import device.pipeline.feeds
from device import config
from device.cameras import Camera
from device.cameras.pace import Pace
from device.frames import Frame, PixelFormat
from device.sinks.mqtt.sink import MqttSink
from device.sinks.outbox import Limits, Outbox
from device.sinks.outbox.storage import Event
from device.sinks.photos import Photos
from tests.tiny import colour_model

SIDE = 8


class Flicker(Camera):
    """Red, green, blue and so on, a frame of each."""

    live = True

    def __init__(self, settings: config.Camera, stop: threading.Event, **_: object) -> None:
        self.source = "flicker"
        self._fps = settings.fps
        self._pace = Pace(stop)
        self._number = 0

    def read(self) -> Frame | None:
        number = self._number
        if not self._pace.wait_until(number / self._fps):
            return None
        self._number += 1
        pixels = np.zeros((SIDE, SIDE, 3), np.uint8)
        pixels[:, :, number % 3] = 255
        return Frame(pixels, PixelFormat.BGR, SIDE, SIDE, number, time.monotonic())

    def close(self) -> None:
        """Nothing to let go."""


class Journaled(Outbox):
    """An outbox that writes down what it has taken."""

    def __init__(self, journal: Path, path: Path, limits: Limits) -> None:
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        super().__init__(path, limits)

    def add(self, events: Iterable[Event]) -> list[Event]:
        taken = super().add(events)
        lines = "".join(f"{event.seq} {event.id}\n" for event in taken)
        if not self.trouble:
            os.write(self._journal, lines.encode())
        return taken


def main(folder: Path, port: int, rate: float) -> int:
    model = folder / "colours.tflite"
    if not model.exists():
        model.with_suffix(".txt").write_text("red\ngreen\nblue\n")
        model.write_bytes(colour_model(softmax=True, scale=1 / 16))
    settings = config.Config(
        camera=(config.Camera(fps=rate),),
        model=config.Model(name=str(model), delegate="none", threads=1),
        decide=config.Decide(smoothing_s=0.0, min_frames=1, min_hold_s=0.0),
        terminal=config.Terminal(enabled=False),
        mqtt=config.Mqtt(host="127.0.0.1", port=port, node="chaos", interval_s=5.0),
    )
    vars(device.pipeline.feeds)["open_camera"] = Flicker
    outbox = functools.partial(Journaled, folder / "made")

    def open_sink() -> MqttSink:
        return MqttSink(
            settings.mqtt,
            settings.camera,
            node.controller,
            Photos(settings.snapshots, settings.camera, node.controller),
            state=folder / "state",
            make_outbox=outbox,
        )

    node = device.node.Node(settings, sinks=[open_sink])
    return node.run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
