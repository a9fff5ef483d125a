"""``python -m tests.sinks.figures``: what pictures of changes cost the loop, memory and the disk.

The loop: microseconds of ``change`` on the node's thread, at ten changes a second with a disk that
keeps up and at a thousand with one that does not, each in a frame of its own. The photo:
milliseconds on the thread that writes. The ring: seconds until a start knows of 5,000 pictures,
and until a page has the newest. With --rounds also the labels: milliseconds from capture to label
of a whole device with six pictures a second and with none, in rounds that take turns, of which the
lower quartile counts.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from device import config
from device.events import Observation
from device.frames import Frame, PixelFormat
from device.node import Node
from device.recordings.rendering import photo
from device.sinks.captions import moment
from device.sinks.photos import Photos
from device.sinks.ring import Ring, open_ring
from device.sinks.snapshots import SnapshotSink
from tests.conftest import footage
from tests.sinks.examples import change
from tests.web.conftest import FakeDevice

SIZES = ((640, 480), (1280, 720), (1920, 1080))
PICTURES = 5000


def scene(width: int, height: int) -> Frame:
    """A photograph in this size."""
    pixels = footage("coffee").pixels
    rows = np.linspace(0, pixels.shape[0] - 1, height).astype(int)
    columns = np.linspace(0, pixels.shape[1] - 1, width).astype(int)
    return Frame(pixels[rows][:, columns].copy(), PixelFormat.BGR, width, height, 0, 0.0)


def loop(folder: Path, *, per_s: float, for_s: float, blur: bool) -> dict[str, Any]:
    """Microseconds of one change on the thread that classifies."""
    settings = config.Snapshots(blur=blur)
    ring = open_ring(settings, folder)
    sink = SnapshotSink(ring, Photos(settings, [config.Camera()], FakeDevice()))
    base, took = scene(640, 480), []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.monotonic()
    for number in range(int(per_s * for_s)):
        time.sleep(max(0.0, begun + number / per_s - time.monotonic()))
        pixels = base.pixels.copy()
        frame = Frame(pixels, base.format, base.width, base.height, number, time.monotonic())
        made = change(label=f"label {number % 7}", at=time.monotonic())
        started = time.perf_counter()
        sink.change(made, frame)
        took.append((time.perf_counter() - started) * 1e6)
    sink.close()
    took.sort()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {
        "changes": len(took),
        "median_us": round(statistics.median(took), 1),
        "p99_us": round(took[int(0.99 * len(took))], 1),
        "kept": ring.prepare()[0],
        "lost": sink.lost,
        "peak_grew_mb": round(grown / 1024, 1),
    }


def photos() -> dict[str, Any]:
    """Milliseconds and bytes of one photo."""
    found = {}
    for width, height in SIZES:
        frame = scene(width, height)
        for blur, clear in (("", None), (" blurred", (0.25, 0.25, 0.75, 0.75))):
            make = partial(photo, frame, 0, mirror=False, clear=clear)
            took, size = [_timed(make) for _ in range(15)], len(make())
            found[f"{width}x{height}{blur}"] = {
                "ms": round(statistics.median(took) * 1e3, 2),
                "bytes": size,
            }
    return found


def ring(folder: Path) -> dict[str, Any]:
    """Seconds of a start on a folder with many pictures, and of what a page asks for."""
    settings = config.Snapshots(count=PICTURES, mb=100_000)
    picture, first = (
        photo(scene(640, 480), 0, mirror=False, quality=10),
        open_ring(settings, folder),
    )
    taken = moment(time.monotonic())
    adding = _timed(lambda: first.add(picture, "camera", "cat", 0.9, taken))
    (name,) = (path.name for path in first.folder.iterdir())
    data = (first.folder / name).read_bytes()
    for number in range(2, PICTURES + 1):
        (first.folder / f"{number:010d}{name[10:]}").write_bytes(data)
    started = open_ring(settings, folder)
    return {
        "pictures": PICTURES,
        "start_s": round(_timed(started.prepare), 4),
        "newest_24_s": round(_timed(lambda: started.newest(24)), 4),
        "one_more_s": round(_timed(lambda: started.add(picture, "camera", "cat", 0.9, taken)), 4),
        "first_s": round(adding, 4),
    }


class Taker(SnapshotSink):
    """Notes the latencies, and takes a picture of every fifth frame where it is ``on``."""

    def __init__(self, ring: Ring, photos: Photos, *, on: bool) -> None:
        super().__init__(ring, photos)
        self.latencies_ms: list[float] = []
        self._on = on

    def observe(self, observation: Observation) -> None:
        self.latencies_ms.append(observation.latency_ms)
        count = len(self.latencies_ms)
        if self._on and count % 5 == 0:
            self.change(change(label=f"label {count % 7}", at=observation.at), observation.frame)


def labels(folder: Path, rounds: int, frames: int = 300) -> dict[str, Any]:
    """Median and p99 from capture to label, in milliseconds, with pictures and without."""
    found: dict[bool, list[list[float]]] = {False: [], True: []}
    for number, turn in itertools.product(range(rounds), range(2)):
        on = bool((number + turn) % 2)
        found[on].append(_run(folder / f"{number}-{on}", frames, on=on))
        print(f"\r{number + 1}/{rounds}", end="", file=sys.stderr)
    print(file=sys.stderr)
    return {
        ("with pictures" if on else "without"): {
            "median_ms": round(_quiet(statistics.median(times) for times in values), 2),
            "p99_ms": round(_quiet(statistics.quantiles(times, n=100)[98] for times in values), 2),
        }
        for on, values in found.items()
    }


def _run(folder: Path, frames: int, *, on: bool) -> list[float]:
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=30.0),),
        model=config.Model(threads=1, delegate="xnnpack"),
        terminal=config.Terminal(enabled=False),
        history=config.History(enabled=False),
    )
    takers: list[Taker] = []

    def open_taker() -> Taker:
        photos = Photos(settings.snapshots, settings.camera, node.controller)
        takers.append(Taker(open_ring(settings.snapshots, folder), photos, on=on))
        return takers[0]

    node = Node(settings, frames=frames, sinks=[open_taker])
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())):
        node.run()
    return takers[0].latencies_ms[30:]


def _quiet(values: Iterable[float]) -> float:
    return statistics.quantiles(values, n=4)[0]


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the disk is that is measured")
    parser.add_argument("--rounds", type=int, default=0, help="of a whole device, 10 s each twice")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        os.environ["LABELCAM_STATE"] = str(folder / "state")
        figures = {
            "calm": loop(folder / "calm", per_s=10, for_s=10, blur=False),
            "calm, blurred": loop(folder / "blur", per_s=10, for_s=10, blur=True),
            "storm": loop(folder / "storm", per_s=1000, for_s=5, blur=False),
            "photo": photos(),
            "ring": ring(folder / "ring"),
        }
        if given.rounds:
            figures["labels"] = labels(folder / "labels", given.rounds)
    json.dump(figures, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
