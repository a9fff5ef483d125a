"""A picture of each label that begins: of which ones, how many, and what a bad disk comes to."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device import config
from device.control.commands import Device
from device.errors import ConfigError
from device.events import OFF_DUTY, UNAVAILABLE, LabelChange
from device.frames import Frame, PixelFormat
from device.pipeline.plan import check_words
from device.recordings.rendering import photo
from device.sinks import open_sinks, snapshots
from device.sinks.captions import Moment
from device.sinks.outlet import Outlet, Run
from device.sinks.photos import Photos
from device.sinks.ring import Limits, Ring
from device.sinks.snapshots import SnapshotSink
from tests.sinks.examples import change
from tests.web.conftest import FakeDevice

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 20.0
CAMERA = config.Camera()


def frame_of(number: int = 0, width: int = 64, height: int = 48) -> Frame:
    pixels = np.full((height, width, 3), number % 256, np.uint8)
    return Frame(pixels, PixelFormat.BGR, width, height, number, time.monotonic())


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def began(label: str, *active: str, **different: Any) -> LabelChange:
    return change(label=label, at=time.monotonic(), active=active or (label,), **different)


class NoRoom:
    """A disk as os.statvfs has it."""

    f_bavail = 1000
    f_frsize = 4096


class Gated(Ring):
    """A ring whose disk takes nothing until it is let, and may fail."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Limits(1000, 100 << 20, 1e9), reserve_mb=0)
        self.opened = threading.Event()
        self.opened.set()
        self.fault: Exception | None = None
        self.tries = 0

    def add(self, picture: bytes, camera: str, label: str, score: float, taken: Moment) -> str:
        self.tries += 1
        assert self.opened.wait(PATIENCE_S)
        if self.fault:
            raise self.fault
        return super().add(picture, camera, label, score, taken)


@pytest.fixture
def ring(tmp_path: Path) -> Gated:
    return Gated(tmp_path / "snapshots")


@pytest.fixture
def make(ring: Gated) -> Iterator[Callable[..., SnapshotSink]]:
    made: list[SnapshotSink] = []

    def open_one(*wanted: str, device: Device | None = None) -> SnapshotSink:
        photos = Photos(config.Snapshots(), [CAMERA], device or FakeDevice())
        made.append(SnapshotSink(ring, photos, wanted))
        return made[-1]

    yield open_one
    ring.opened.set()
    for sink in made:
        sink.close()


Make = Callable[..., SnapshotSink]


def labels(ring: Ring) -> list[str]:
    return [shown.label for shown in reversed(ring.newest(1000))]


def test_the_beginning_of_a_label_is_a_picture_and_nothing_else_is(make: Make, ring: Gated) -> None:
    sink = make()
    sink.change(began("cat"), frame_of())
    sink.change(began("dog", "cat", "dog"), frame_of(1))
    sink.change(change(label="cat", on=False, active=("dog",)), frame_of(2))
    sink.change(change(label="unknown"), frame_of(3))
    sink.change(change(label=UNAVAILABLE), None)
    sink.change(change(label=OFF_DUTY), None)
    # A camera that is back, and one that says nothing of a frame.
    sink.change(began("bird", previous=UNAVAILABLE), frame_of(4))
    sink.change(began("fish"), None)
    sink.close()
    assert labels(ring) == ["cat", "dog", "bird"]
    assert sink.lost == 0


def test_only_the_labels_that_are_wanted(make: Make, ring: Gated) -> None:
    sink = make("dog", "bird")
    for number, label in enumerate(("cat", "dog", "fish", "bird")):
        sink.change(began(label), frame_of(number))
    sink.close()
    assert labels(ring) == ["dog", "bird"]


def test_a_word_that_no_camera_says_is_told() -> None:
    asked = config.Config(snapshots=config.Snapshots(enabled=True, labels=("cat", "dgo")))
    with pytest.raises(ConfigError, match=r"snapshots.labels: 'dgo' is no label .*dog"):
        check_words(asked, {"cat", "dog"})
    check_words(config.Config(snapshots=config.Snapshots(labels=("dgo",))), {"cat"})


def test_labels_that_begin_in_one_frame_are_encoded_once(
    make: Make, ring: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    def count(frame: Frame, *arguments: Any) -> bytes:
        encoded.append(frame.number)
        return photo(frame, *arguments)

    monkeypatch.setattr("device.sinks.photos.photo", count)
    sink, frame = make(), frame_of(7)
    for label in ("cat", "dog", "bird"):
        sink.change(began(label, "cat", "dog", "bird"), frame)
    sink.close()
    assert labels(ring) == ["cat", "dog", "bird"]
    assert encoded == [7]


def test_the_loop_never_waits_and_memory_is_bounded(
    make: Make, ring: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    """A thousand changes, each in a frame of 640 x 480, while the disk hangs."""
    ring.opened.clear()
    sink = make()
    sink.change(began("first"), frame_of())
    until(lambda: ring.tries == 1)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(1000):
            sink.change(began(f"label {number}"), frame_of(number, 640, 480))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    # 18 frames of 0.92 MB, and the one that is being made.
    assert grown < snapshots.QUEUE_BYTES + 3e6
    waiting = snapshots.QUEUE_BYTES // (640 * 480 * 3)
    assert sink.lost == 1000 - waiting
    assert caplog.text.count("changes come faster than pictures are written") == 1
    ring.opened.set()
    sink.close()
    # The newest are kept.
    assert labels(ring) == ["first", *(f"label {n}" for n in range(1000 - waiting, 1000))]


def test_many_labels_of_one_small_frame_are_bounded_too(make: Make, ring: Gated) -> None:
    ring.opened.clear()
    sink, frame = make(), frame_of(0, 640, 480)
    for number in range(500):
        sink.change(began(f"label {number}"), frame)
    # One is with the thread that writes, or still waits.
    assert 500 - sink.lost in (snapshots.QUEUE_COUNT, snapshots.QUEUE_COUNT + 1)


def test_a_frame_over_what_may_wait_is_still_kept(make: Make, ring: Gated) -> None:
    sink = make()
    sink.change(began("cat"), frame_of(0, 3000, 2000))
    sink.close()
    assert labels(ring) == ["cat"]


def test_a_disk_that_fails_is_said_once_and_comes_back_by_itself(
    make: Make, ring: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshots, "RETRY_S", 0.001)
    caplog.set_level(logging.INFO)
    sink = make()
    outlet = Outlet(lambda: sink)
    until(lambda: "kept in" in caplog.text)
    ring.fault = OSError(28, "No space left on device")
    sink.change(began("cat"), frame_of())
    until(lambda: ring.tries >= 5)
    where = str(ring.folder)
    assert outlet.look().problem == f"{where}: no space left on device"
    ring.fault = None
    # Without another change: the picture that was refused is written.
    until(lambda: not sink.problem)
    assert labels(ring) == ["cat"]
    assert outlet.look().problem == ""
    said = [r.getMessage() for r in caplog.records if r.name == "labelcam.snapshots"]
    assert said == [
        f"snapshots: kept in {where}, 0 so far, 0.0 MB",
        f"snapshots: {where}: no space left on device; labelcam goes on, and tries it again",
        f"snapshots: {where} takes pictures again",
    ]


def test_a_folder_that_cannot_be_had_is_said_at_the_start(
    make: Make, ring: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(snapshots, "RETRY_S", 0.001)
    ring.folder.write_text("mine")
    sink = make()
    until(lambda: sink.problem)
    assert sink.problem == f"{ring.folder}: is a file and should be a folder"
    ring.folder.unlink()
    until(lambda: not sink.problem)
    assert ring.folder.is_dir()
    assert caplog.text.count("is a file") == 1


def test_a_picture_that_cannot_be_made_costs_no_other(
    make: Make, ring: Gated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(frame: Frame, *arguments: Any) -> bytes:
        if frame.number == 1:
            raise cv2.error("no such thing")
        return photo(frame, *arguments)

    monkeypatch.setattr("device.sinks.photos.photo", fail)
    sink = make()
    for number, label in enumerate(("cat", "dog", "bird")):
        sink.change(began(label), frame_of(number))
    sink.close()
    assert labels(ring) == ["cat", "bird"]
    assert sink.lost == 1
    assert "a picture cannot be made: no such thing" in caplog.text


def test_what_never_came_to_be_is_counted_at_the_end(
    make: Make, ring: Gated, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make()
    ring.fault = OSError(30, "Read-only file system")
    for number in range(3):
        sink.change(began("cat"), frame_of(number))
    sink.close()
    sink.close()
    assert sink.lost == 3
    assert "snapshots: 3 pictures came to nothing" in caplog.text


def test_at_the_end_the_disk_is_asked_once_more(make: Make, ring: Gated) -> None:
    sink = make()
    ring.fault = OSError(30, "Read-only file system")
    for number in range(3):
        sink.change(began(f"label {number}"), frame_of(number))
    until(lambda: sink.problem)
    ring.fault = None
    sink.close()
    assert labels(ring) == ["label 0", "label 1", "label 2"]
    assert sink.lost == 0


def test_what_is_told_of_a_full_disk_reads_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Ring(tmp_path / "snapshots", Limits(9, 100 << 20, 1e9))
    monkeypatch.setattr(os, "statvfs", lambda _path: NoRoom)
    sink = SnapshotSink(kept, Photos(config.Snapshots(), [CAMERA], FakeDevice()))
    sink.change(began("cat"), frame_of())
    until(lambda: sink.problem)
    sink.close()
    expected = f"{kept.folder}: less than 50 MB of the disk are free"
    assert sink.problem == expected
    assert f"snapshots: {expected}; labelcam goes on, and tries it again" in caplog.text


def test_no_picture_comes_to_disk_unless_it_is_turned_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    off = config.Config(terminal=config.Terminal(enabled=False))
    assert open_sinks(Run(off, off.camera, FakeDevice(), (), 0.0)) == []
    assert list(tmp_path.iterdir()) == []
    on = config.load(settings=["snapshots.enabled=true", "terminal.enabled=false"])
    (outlet,) = open_sinks(Run(on, on.camera, FakeDevice(), (), 0.0))
    outlet.deliver(lambda sink: sink.change(began("cat"), frame_of()))
    outlet.close()
    (kept,) = (tmp_path / "snapshots").iterdir()
    assert kept.name.endswith("_camera_cat.jpg")


@pytest.mark.long
@pytest.mark.slow
def test_a_run_leaves_a_picture_of_what_it_saw(tmp_path: Path) -> None:
    settings = ["snapshots.enabled=true", "jsonl.enabled=true", "camera.rotate=90"]
    # What is fastest is not measured first.
    settings += ["model.threads=1", "model.delegate=xnnpack"]
    done = subprocess.run(
        [sys.executable, "-m", "device", "run", "--source", "footage", "--frames=90"]
        + [f"--set={setting}" for setting in settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"LABELCAM_STATE": str(tmp_path)},
    )
    assert f"snapshots: kept in {tmp_path / 'snapshots'}, 0 so far, 0.0 MB" in done.stderr
    changes = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    seen = [c["label"] for c in changes if c["active"]]
    assert seen
    kept = sorted((tmp_path / "snapshots").iterdir())
    assert [path.stem.split("_")[2] for path in kept] == [
        label.lower().replace(" ", "-") for label in seen
    ]
    picture = cv2.imread(str(kept[0]))
    assert picture is not None
    assert picture.shape[0] > picture.shape[1]
