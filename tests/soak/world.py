"""What is around a soaked device, and the device itself: a real node with all that it keeps open.

In a replay time stands still but between two rounds of the node's loop: ``World``, a sink of the
node, lets ten seconds pass each time it is told how the device is, has happen what is due, and
gives the camera its next frame. It waits for what is real meanwhile, the network and the disk.

To be imported once the clock is installed.
"""

import os
import queue
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import cv2
import msgspec
import numpy as np

import device.node
import device.pipeline.feeds
from device import config
from device.cameras import Camera
from device.errors import CameraError
from device.events import OFF_DUTY, DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame, PixelFormat, Pixels
from device.sinks.mqtt.sink import MqttSink
from device.sinks.outbox import Outbox
from device.sinks.outbox.storage import Event
from device.sinks.photos import Photos
from device.system import logs
from device.system.paths import MODELS
from tests.soak import script
from tests.soak.clock import Clock
from tests.tiny import colour_model

# Between two frames, and what passes each time the device says how it is.
STEP_S: Final = 10.0
REAL_STEP_S: Final = 0.2
# Between two changes of what the camera sees, on average.
CHANGE_S: Final = 90.0
REAL_CHANGE_S: Final = 2.0
OUTBOX_EVENTS: Final = 100
OUTBOX_MB: Final = 1.0
# Local hours: a pause follows midnight, and another lies in the hour that is skipped in spring
# and comes twice in autumn. Those are the two times ten minutes that begin with these digits.
_HOURS: Final = ("00:10-02:30", "02:40-24:00")
_OFF_DUTY: Final = ("00:0", "02:3")
# So much may wait for the thread of MQTT before time goes on: less than a round of the loop.
_LAG: Final = 4
_PATIENCE_S: Final = 5.0

# What the node itself prints at the end belongs into the log.
_channel = os.dup(1)
os.dup2(2, 1)


def say(**message: Any) -> None:
    """Write a line to whoever started this process, whole, from any thread."""
    os.write(_channel, msgspec.json.encode(message) + b"\n")


def ask(action: str) -> None:
    """Have whoever started this process do something, and wait until it is done."""
    say(ask=action)
    if not sys.stdin.readline():
        os._exit(1)


class Scene(Camera):
    """A camera that shows what ``World`` puts before it, and fails as it says."""

    live = True

    def __init__(self, stop: threading.Event) -> None:
        self.source = "scene"
        self.stuck = False
        self.closed = False
        self._frames: queue.SimpleQueue[Frame | CameraError] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._stop = stop

    def give(self, frame: Frame | CameraError) -> None:
        """Have the camera give this; it lies in the node's slot when this comes back."""
        if self.closed or self.stuck:
            return
        self._idle.clear()
        self._frames.put(frame)
        self._idle.wait(_PATIENCE_S)

    def read(self) -> Frame | None:
        self._idle.set()
        while self.stuck or not self._stop.is_set():
            try:
                found = self._frames.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(found, CameraError):
                raise found
            return found
        return None

    @property
    def is_busy(self) -> bool:
        """Whether its thread has yet to let go, as it was told."""
        return self._stop.is_set() and not (self.stuck or self.closed)

    def close(self) -> None:
        self.closed = True
        self._idle.set()


class Journaled(Outbox):
    """An outbox that says what it has taken, and what its limits took."""

    def add(self, events: Iterable[Event]) -> list[Event]:
        taken = super().add(events)
        for event in taken:
            say(made=event.id, seq=event.seq, label=event.label)
        return taken

    def close(self) -> None:
        super().close()
        say(dropped=self.dropped, damaged=self.damaged)


class PacedSink(MqttSink):
    """The way to the broker, which says how far behind its thread and the network are."""

    @property
    def is_busy(self) -> bool:
        """Whether it connects, or has more to send than a round of the loop makes."""
        if self._link.is_up:
            return self.stored > OUTBOX_EVENTS // 5
        return self._link.connection is not None

    @property
    def lags(self) -> bool:
        """Whether its thread has not yet looked at what happened."""
        return self._inbox.qsize() > _LAG


class World(Sink):
    """What is around the device: time, what the camera sees, and all that goes wrong."""

    name = "world"

    def __init__(self, folder: Path, length_s: float, seed: int, clock: Clock | None) -> None:
        self.mqtt: PacedSink
        self._folder = folder
        self._length_s = length_s
        self._clock = clock
        self._events = script.write(length_s, seed, turns_clock=clock is not None)
        self._chance = random.Random(seed + 1)
        self._begun_at = self._now()
        self._pictures = _footage() if clock is None else _colours()
        self._shown = 0
        self._change_due = 0.0
        self._number = 0
        self._camera: Scene | None = None
        self._stuck: list[Scene] = []
        self._present = True
        self._silent = False
        self._off_duty = False
        self._broker_answers = True
        self._drain_until = 0.0
        self._soft_limit, self._hard_limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def open_camera(self, _settings: config.Camera, stop: threading.Event, **_: object) -> Camera:
        """The camera as it is now. Raises CameraError while it is away."""
        if not self._present:
            raise CameraError("scene", "is not there; plug it in")
        self._camera = Scene(stop)
        return self._camera

    def observe(self, _observation: Observation) -> None:
        """Nothing: frames are counted in health."""

    def change(self, _change: LabelChange, *_: object) -> None:
        """Nothing: the outbox says what it takes."""

    def report(self, health: DeviceHealth) -> None:
        try:
            self._turn(health)
        except Exception as error:  # noqa: BLE001 - a node would isolate a sink that fails, and go on
            say(failed=f"{type(error).__name__}: {error}")
            os._exit(1)

    def close(self) -> None:
        """Nothing is open."""

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock.now

    def _turn(self, health: DeviceHealth) -> None:
        if self._clock is not None:
            self._wait_for_what_is_real()
            self._clock.advance(STEP_S)
        now_s = self._now() - self._begun_at
        while self._events and self._events[0].at_s <= now_s:
            self._happen(self._events.pop(0), health)
        if now_s >= self._length_s:
            self._end()
        elif self._clock is not None:
            self._show(CHANGE_S)
            self._look_at_the_wall(self._clock.wall())

    def _look_at_the_wall(self, at: float) -> None:
        """Say each time at which the device has to be off duty from now on."""
        local = time.localtime(at)
        off_duty = f"{local.tm_hour:02}:{local.tm_min:02}"[:4] in _OFF_DUTY
        if off_duty and not self._off_duty:
            say(has_to_be=OFF_DUTY)
        self._off_duty = off_duty

    def play(self, ended: threading.Event) -> None:
        """Show the camera five frames a second of the real time, until the event."""
        while not ended.wait(REAL_STEP_S):
            self._show(REAL_CHANGE_S)

    def _show(self, change_s: float) -> None:
        """Give the camera a frame, where it takes any; what it shows changes now and then."""
        now = self._now()
        if now >= self._change_due:
            self._change_due = now + self._chance.expovariate(1 / change_s)
            self._shown = (self._shown + 1) % len(self._pictures)
        camera = self._camera
        if self._silent or camera is None:
            return
        self._number += 1
        # A sensor has noise: two frames that are the same would be a frozen picture.
        pixels = self._pictures[self._shown] ^ np.uint8(self._number & 1)
        height, width, _ = pixels.shape
        camera.give(Frame(pixels, PixelFormat.BGR, width, height, self._number, now))

    def _wait_for_what_is_real(self) -> None:
        """Wait until thread, disk and broker have done what they can do by now."""
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until and (
            self.mqtt.lags
            or (self._broker_answers and self.mqtt.is_busy)
            or (self._camera is not None and self._camera.is_busy)
        ):
            time.sleep(0.001)

    def _end(self) -> None:
        """End the run once the outbox is empty, or has had long enough for it."""
        self._drain_until = self._drain_until or time.monotonic() + 30
        if self.mqtt.stored and time.monotonic() < self._drain_until:
            return
        os.kill(os.getpid(), signal.SIGTERM)

    def _happen(self, event: script.Event, health: DeviceHealth) -> None:
        what, _, whom = event.action.partition(" ")
        match whom:
            case "wall":
                assert self._clock is not None
                base = self._clock.wall() if what == "nudge" else 0.0
                self._clock.set_wall(base + event.value)
            case "broker":
                ask(event.action)
                self._broker_answers = what in ("start", "resume", "cut")
            case "camera":
                self._turn_camera(what)
            case "disk":
                # Every write to a file fails, as on a disk that is full; pipes and sockets work.
                limit = 0 if what == "fill" else self._soft_limit
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, self._hard_limit))
            case "log" | "page":
                ask(event.action)
            case _:
                say(sample=self._measure(event.at_s, health))

    def _turn_camera(self, what: str) -> None:
        camera = self._camera
        self._present, self._silent = what != "lose", what in ("lose", "stall")
        if what == "return":
            while self._stuck:
                self._stuck.pop().stuck = False
        elif what == "stick" and camera is not None:
            camera.stuck = True
            self._stuck.append(camera)
        elif what == "lose" and camera is not None:
            camera.give(CameraError("scene", "was pulled out"))

    def _measure(self, at_s: float, health: DeviceHealth) -> dict[str, float]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        state = self._folder / "state"
        blocks = sum(path.stat().st_blocks for path in state.rglob("*") if path.is_file())
        return {
            "at_s": at_s,
            "rss_mb": pages * resource.getpagesize() / 2**20,
            "descriptors": len(list(Path("/proc/self/fd").iterdir())),
            "threads": len(list(Path("/proc/self/task").iterdir())),
            "disk_kb": blocks / 2,
            "frames": sum(camera.classified for camera in health.cameras),
            "stored": self.mqtt.stored,
        }


def _colours() -> list[Pixels]:
    """Blue, green and red."""
    colours = np.eye(3, dtype=np.uint8) * np.uint8(254)
    return [np.broadcast_to(colour, (8, 8, 3)).copy() for colour in colours]


def _footage() -> list[Pixels]:
    """The pictures that ship."""
    found = [cv2.imread(str(path)) for path in sorted((MODELS / "footage").glob("*.jpg"))]
    return [np.asarray(cv2.resize(picture, (640, 480)), np.uint8) for picture in found]


def _settings(folder: Path, broker_port: int, web_port: int, *, replay: bool) -> config.Config:
    model = config.Model()
    if replay:
        path = folder / "colours.tflite"
        path.with_suffix(".txt").write_text("blue\ngreen\nred\n")
        path.write_bytes(colour_model(softmax=True, scale=1 / 16))
        model = config.Model(name=str(path), delegate="none", threads=1)
    return config.Config(
        # At a frame in ten seconds.
        camera=(config.Camera(stall_s=120.0 if replay else 5.0, give_up_s=0.0),),
        model=model,
        decide=config.Decide(smoothing_s=0.0, min_frames=1, min_hold_s=0.0),
        gate=config.Gate(hours=_HOURS if replay else ()),
        terminal=config.Terminal(enabled=False),
        web=config.Web(enabled=True, port=web_port),
        mqtt=config.Mqtt(
            host="127.0.0.1",
            port=broker_port,
            node="soak",
            images=True,
            security=True,
            outbox_events=OUTBOX_EVENTS,
            outbox_mb=OUTBOX_MB,
        ),
    )


def live(
    folder: Path,
    broker_port: int,
    web_port: int,
    length_s: float,
    seed: int,
    clock: Clock | None,
) -> int:
    """Have a node live for so long; returns its exit code."""
    logs.configure(verbose=False)
    settings = _settings(folder, broker_port, web_port, replay=clock is not None)
    world = World(folder, length_s, seed, clock)
    vars(device.pipeline.feeds)["open_camera"] = world.open_camera
    if clock is not None:
        # While no camera gives frames, each round of the loop would take as long.
        vars(device.node)["_WAIT_S"] = 0.002

    def open_mqtt() -> MqttSink:
        photos = Photos(settings.snapshots, settings.camera, node.controller)
        world.mqtt = PacedSink(
            settings.mqtt, settings.camera, node.controller, photos, make_outbox=Journaled
        )
        return world.mqtt

    node = device.node.Node(settings, sinks=[open_mqtt, lambda: world])
    if clock is not None:
        return node.run()
    ended = threading.Event()
    player = threading.Thread(target=world.play, args=(ended,))
    player.start()
    try:
        return node.run()
    finally:
        ended.set()
        player.join()
