"""``python -m tests.soak --days 30`` (or ``--minutes 30`` of real time): what time costs.

A real node with its outbox, its web view and a real Mosquitto lives through a month: frames,
midnights, both changes of the hour, year's ends, steps of the clock, rotated logs, full disks,
and cuts of the broker and of the camera. With ``--days`` the time is injected and a month takes
some minutes; with ``--minutes`` it is real, with the embedded model at five frames a second.

Resident memory, descriptors, threads and the disk are measured meanwhile, and must not grow; each
event that the outbox did not drop and count must reach a subscriber, in order.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device.events import OFF_DUTY
from tests.chaos.__main__ import ROOT, Subscriber, count
from tests.mqtt.mosquitto import MISSING, PROGRAM, Door, Mosquitto, free_port
from tests.soak.figures import Sample, judge, summarize
from tests.soak.plot import draw
from tests.soak.script import DAY_S, ZONE

ARRIVE_S = 20.0


class Surroundings:
    """What the device asks for: its broker, its log and somebody who looks at its page."""

    def __init__(self, folder: Path, web_port: int) -> None:
        self._folder = folder
        self.log = folder / "log"
        self.log_bytes = 0
        self.web_failures = 0
        self.visits = 0
        self.broker = Mosquitto(folder / "broker").start()
        self.subscriber = Subscriber(self.broker.port)
        self.door = Door(self.broker.port, self.subscriber.ready)
        self._page = f"http://127.0.0.1:{web_port}"
        self._watched: Any = None
        self._stopped = False
        self.asked: dict[str, Callable[[], None]] = {
            "kill broker": self._kill,
            "start broker": self._start,
            "pause broker": self._pause,
            "hang broker": self._hang,
            "resume broker": self._resume,
            "cut broker": self.door.cut,
            "move log": self._move_log,
            "truncate log": self._truncate_log,
            "visit page": self._visit,
        }

    def _kill(self) -> None:
        self.subscriber.ready.clear()
        self._stopped = True
        self.broker.kill()

    def _start(self) -> None:
        if self._stopped:
            self.broker.start()
            self._stopped = False
        self.subscriber.ready.wait(10)

    def _pause(self) -> None:
        if not self._stopped:
            self.broker.pause()

    def _hang(self) -> None:
        """Cut the device off; the broker takes its next connection and does not answer."""
        self._pause()
        self.door.cut()

    def _resume(self) -> None:
        if not self._stopped:
            self.broker.resume()

    def _move_log(self) -> None:
        """As logrotate does with ``create``: who has the file open goes on writing into it."""
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".1"))

    def _truncate_log(self) -> None:
        """As logrotate does with ``copytruncate``."""
        for path in self._folder.glob("log*"):
            self.log_bytes += path.stat().st_size
            os.truncate(path, 0)

    def _visit(self) -> None:
        """Look at all there is, and leave the stream of events open until the next visit."""
        self.visits += 1
        try:
            for path in ("/", "/metrics", "/api/state", "/healthz"):
                with urllib.request.urlopen(self._page + path, timeout=10) as answer:
                    answer.read()
            with (
                contextlib.suppress(urllib.error.HTTPError),  # 503 without a camera
                urllib.request.urlopen(self._page + "/api/snapshot.jpg", timeout=10) as answer,
            ):
                answer.read()
            if self._watched is not None:
                self._watched.close()
            self._watched = urllib.request.urlopen(self._page + "/api/events", timeout=10)
            self._watched.readline()
        except OSError:
            self.web_failures += 1

    def close(self) -> None:
        if self._watched is not None:
            self._watched.close()
        self.log_bytes += sum(path.stat().st_size for path in self._folder.glob("log*"))
        self.door.close()
        self.subscriber.close()
        self.broker.stop()


class Told:
    """What the device says of itself while it lives."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.made: dict[str, int] = {}
        self.figures: dict[str, Any] = {
            "dropped": 0, "damaged": 0, "off_duty": 0, "off_duty_by_the_clock": 0
        }  # fmt: skip

    def take(self, message: dict[str, Any]) -> None:
        """Note a line of its, all but what it asks for."""
        match message:
            case {"sample": sample}:
                self.samples.append(Sample(**sample))
            case {"made": identity, "seq": seq, "label": label}:
                self.made[identity] = seq
                self.figures["off_duty"] += label == OFF_DUTY
            case {"has_to_be": _}:
                self.figures["off_duty_by_the_clock"] += 1
            case {"dropped": dropped, "damaged": damaged}:
                self.figures["dropped"] += dropped
                self.figures["damaged"] += damaged
            case {"failed": why}:
                self.figures["failed"] = why


def run(folder: Path, length_s: float, seed: int, *, replay: bool) -> dict[str, Any]:
    """Let a device live for so long, and say what that cost it and what became of its events."""
    begun = time.monotonic()
    web_port = free_port()
    around, told = Surroundings(folder, web_port), Told()
    node = _start(folder, around, web_port, length_s, seed, replay=replay)
    try:
        assert node.stdin is not None
        assert node.stdout is not None
        for line in node.stdout:
            message = json.loads(line)
            if "ask" in message:
                around.asked[message["ask"]]()
                node.stdin.write(b"\n")
                node.stdin.flush()
            else:
                told.take(message)
                _show(told.samples, length_s, len(around.subscriber.events))
        told.figures["exit"] = node.wait(30)
        if not told.samples:
            raise RuntimeError(f"the device did not start: {around.log.read_text()[-500:]}")
        deadline = time.monotonic() + ARRIVE_S
        while (events := count(told.made, list(around.subscriber.events)))["lost"] > told.figures[
            "dropped"
        ] and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        node.kill()
        around.close()
        print(file=sys.stderr)
    ids = list(dict.fromkeys(event.id for event in around.subscriber.events))
    return {
        "samples": told.samples,
        **summarize(told.samples),
        **events,
        **told.figures,
        "ids_in_order": ids == sorted(ids),
        "visits": around.visits,
        "web_failures": around.web_failures,
        "log_bytes": around.log_bytes,
        "took_s": round(time.monotonic() - begun, 1),
    }


def _start(
    folder: Path, around: Surroundings, web_port: int, length_s: float, seed: int, *, replay: bool
) -> "subprocess.Popen[bytes]":
    arguments = (folder, around.door.port, web_port, length_s, seed)
    command = [sys.executable, "-m", "tests.soak.node", *map(str, arguments)]
    with around.log.open("ab") as log:
        return subprocess.Popen(
            [*command, "--replay"] if replay else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "LABELCAM_STATE": str(folder / "state"), "TZ": ZONE},
        )


def _show(samples: list[Sample], length_s: float, received: int) -> None:
    if samples and sys.stderr.isatty():
        print(
            f"\r{samples[-1].at_s / length_s:4.0%}  {samples[-1].frames:.0f} frames  "
            f"{received} events  {samples[-1].rss_mb:.1f} MB ",
            end="",
            file=sys.stderr,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--days", type=float, default=30.0, help="of injected time (30)")
    length.add_argument("--minutes", type=float, help="of real time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for logs and state, kept afterwards")
    parser.add_argument("--png", type=Path, metavar="FILE", help="draw what was measured")
    parser.add_argument("--json", action="store_true", help="only the result, as JSON")
    options = parser.parse_args()
    if not PROGRAM:
        print(MISSING, file=sys.stderr)
        return 1
    length_s = options.minutes * 60 if options.minutes else options.days * DAY_S
    with tempfile.TemporaryDirectory(prefix="labelcam-soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = run(folder, length_s, options.seed, replay=not options.minutes)
    samples = found.pop("samples")
    if options.png:
        options.png.write_bytes(draw(samples))
    faults = judge(found)
    if options.json:
        print(json.dumps(found | {"faults": faults}))
    else:
        print("\n".join(f"{key:<22} {value}" for key, value in found.items()))
        print("\n".join(f"FAULT: {fault}" for fault in faults) or "nothing grows, nothing is lost")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
