"""A robot that does what labelcam sees: go, left, right; it stops at anything else.

Two motors on a driver board, through gpiozero. It stops when nothing is heard of labelcam for
SILENCE_S, so give the feed a heartbeat. docs/robot.md says how to teach the words.

    python3 robot.py [SOCKET]
"""

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

SOCKET = "/run/labelcam/labels.sock"
CAMERA = "camera"
# Each motor's two pins: forward and backward.
LEFT_PINS, RIGHT_PINS = (4, 14), (17, 18)
# How fast each motor turns, from -1 to 1; a word that is not here stops both.
MOVES = {"go": (0.6, 0.6), "left": (-0.4, 0.4), "right": (0.4, -0.4)}
STOP = (0.0, 0.0)
SILENCE_S = 1.0
RETRY_S = 1.0

Drive = Callable[[float, float], None]


def events(path: str) -> Iterator[dict[str, Any] | None]:
    """What labelcam says; None where it was silent. Ends when the feed does."""
    with socket.socket(socket.AF_UNIX) as feed:
        feed.settimeout(SILENCE_S)
        feed.connect(path)
        buffer = b""
        while True:
            try:
                data = feed.recv(65536)
            except TimeoutError:
                yield None
                continue
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for line in lines:
                yield json.loads(line)


def move(event: dict[str, Any]) -> tuple[float, float]:
    """How fast the motors turn for what is in force."""
    word = event["active"][0] if event["active"] else ""
    return MOVES.get(word, STOP)


def follow(path: str, drive: Drive) -> None:
    """Drive by the feed until it ends; stop then, and wherever it falls silent."""
    try:
        for event in events(path):
            if event is None:
                drive(*STOP)
            elif event["camera"] == CAMERA:
                drive(*move(event))
    finally:
        drive(*STOP)


def open_motors() -> Drive:
    """Take the pins; what comes back sets how fast the left and the right motor turn."""
    from gpiozero import Motor

    left, right = Motor(*LEFT_PINS), Motor(*RIGHT_PINS)

    def drive(left_speed: float, right_speed: float) -> None:
        left.value, right.value = left_speed, right_speed

    return drive


def main() -> None:
    """Follow the feed for ever, and wait for it where it is not there."""
    drive = open_motors()
    # So that motors are stopped by `systemctl stop` as by Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    path = sys.argv[1] if len(sys.argv) > 1 else SOCKET
    while True:
        try:
            follow(path, drive)
        except (FileNotFoundError, ConnectionError) as error:
            print(f"{path}: {error.strerror}; waiting for labelcam", file=sys.stderr)
        time.sleep(RETRY_S)


if __name__ == "__main__":
    main()
