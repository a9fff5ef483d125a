"""``python -m tests.chaos --broker-kills N --node-kills N --json``.

A real node makes a label change twenty times a second and tells a real Mosquitto, while both
are killed (SIGKILL) at random times. At the end everything the outbox ever took must have
reached a subscriber, in order; duplicates may only be repetitions of the same id.
"""

import argparse
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.mqtt.mosquitto import MISSING, PROGRAM, Door, Mosquitto

ROOT = Path(__file__).resolve().parents[2]
DRAIN_S = 150.0


class Received(msgspec.Struct):
    id: str
    seq: int


class Subscriber:
    """Notes every event that the broker passes on.

    At QoS 0, so that it writes nothing: a send that fails would close the socket of a killed
    broker before what lies in it was read.
    """

    def __init__(self, port: int) -> None:
        self.events: list[Received] = []
        self.ready = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(0.05, 0.1)  # type: ignore[arg-type]
        self._client.on_connect = lambda client, *_: client.subscribe("labelcam/+/+/event", 0)
        self._client.on_subscribe = lambda *_: self.ready.set()
        self._client.on_message = self._note
        self._client.connect_async("127.0.0.1", port)
        self._client.loop_start()

    def _note(self, _client: object, _data: object, message: paho.MQTTMessage) -> None:
        self.events.append(msgspec.json.decode(message.payload, type=Received))

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def run(folder: Path, broker_kills: int, node_kills: int, rate: float, seed: int) -> dict[str, int]:
    """Kill so often, let everything arrive, and count."""
    broker = Mosquitto(folder / "broker").start()
    subscriber = Subscriber(broker.port)
    door = Door(broker.port, subscriber.ready)
    progress = Counter[str]()
    killers = [
        threading.Thread(
            target=_kill_brokers, args=(broker, subscriber, broker_kills, seed, progress)
        ),
        threading.Thread(
            target=_kill_nodes, args=(folder, door.port, node_kills, rate, seed + 1, progress)
        ),
    ]
    try:
        for killer in killers:
            killer.start()
        while any(killer.is_alive() for killer in killers):
            _show(progress, broker_kills, node_kills, len(subscriber.events))
            time.sleep(0.5)
        node = _start_node(folder, door.port, rate)
        time.sleep(2)
        # A node that makes no more changes, but still has the old ones to send.
        node.terminate()
        node.wait(20)
        node = _start_node(folder, door.port, 0.01)
        _drain(folder, subscriber)
        node.kill()
        node.wait(20)
    finally:
        door.close()
        subscriber.close()
        broker.stop()
        print(file=sys.stderr)
    return count(_made(folder), subscriber.events)


def count(made: dict[str, int], received: list[Received]) -> dict[str, int]:
    """What became of the changes made, by id with their sequence numbers."""
    times = Counter(event.id for event in received)
    first: dict[str, int] = {}
    for event in received:
        first.setdefault(event.id, event.seq)
    # The node may have been killed between taking a change and writing it down.
    sent = made | first
    numbers = set(sent.values())
    gaps = max(numbers, default=0) - len(numbers)
    order = list(first.values())
    return {
        "sent": len(sent),
        "received": len(first),
        "lost": len(sent.keys() - first.keys()) + gaps,
        "out_of_order": sum(later < sooner for sooner, later in itertools.pairwise(order)),
        "duplicates_same_id": sum(number - 1 for number in times.values()),
        "duplicates_other_id": len(order) - len(set(order)),
    }


def _made(folder: Path) -> dict[str, int]:
    lines = (folder / "made").read_text().split("\n")
    pairs = [line.split() for line in lines if line]
    return {identity: int(seq) for seq, identity in pairs}


def _drain(folder: Path, subscriber: Subscriber) -> None:
    """Wait until the subscriber has what was made, or has had long enough for it."""
    deadline = time.monotonic() + DRAIN_S
    while time.monotonic() < deadline:
        if _made(folder).keys() <= {event.id for event in list(subscriber.events)}:
            return
        time.sleep(0.2)


def _start_node(folder: Path, port: int, rate: float) -> "subprocess.Popen[bytes]":
    with (folder / "node.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.node", str(folder), str(port), str(rate)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "LABELCAM_STATE": str(folder / "state")},
        )


def _kill_nodes(
    folder: Path, port: int, times: int, rate: float, seed: int, progress: Counter[str]
) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        node = _start_node(folder, port, rate)
        # From before it has loaded its libraries until well into its work.
        time.sleep(chance.uniform(0.2, 6.0))
        node.kill()
        node.wait(20)
        progress["node"] += 1
    node = _start_node(folder, port, rate)
    while not progress["brokers done"]:
        time.sleep(0.2)
    node.terminate()
    node.wait(20)


def _kill_brokers(
    broker: Mosquitto, subscriber: Subscriber, times: int, seed: int, progress: Counter[str]
) -> None:
    chance = random.Random(seed)
    for _ in range(times):
        subscriber.ready.wait(30)
        time.sleep(chance.uniform(0.5, 4.0))
        subscriber.ready.clear()
        broker.kill()
        time.sleep(chance.uniform(0.0, 1.0))
        broker.start()
        progress["broker"] += 1
    progress["brokers done"] = 1


def _show(progress: Counter[str], broker_kills: int, node_kills: int, received: int) -> None:
    if sys.stderr.isatty():
        print(
            f"\rbroker {progress['broker']}/{broker_kills}  node {progress['node']}/{node_kills}  "
            f"{received} received ",
            end="",
            file=sys.stderr,
        )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--broker-kills", type=int, default=10, metavar="N")
    parser.add_argument("--node-kills", type=int, default=10, metavar="N")
    parser.add_argument("--rate", type=float, default=20.0, help="label changes a second (20)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a folder for logs and state, kept afterwards")
    parser.add_argument("--json", action="store_true", help="only the result, as JSON")
    options = parser.parse_args()
    if not PROGRAM:
        print(MISSING, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="labelcam-chaos-") as folder:
        place = options.keep or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        result = run(place, options.broker_kills, options.node_kills, options.rate, options.seed)
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(f"{key:<20} {number}" for key, number in result.items()))
    bad = result["lost"] + result["out_of_order"] + result["duplicates_other_id"]
    return 1 if bad or not result["sent"] else 0


if __name__ == "__main__":
    sys.exit(main())
