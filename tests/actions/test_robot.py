"""The robot of docs/robot.md: taught words drive two motors on mock pins, by a real run."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPWMPin

from device import config
from device.cli import main
from tests.conftest import FOOTAGE

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "docs" / "examples"
LIMIT_S = 30.0
# What each word is taught with, and what the pins 4, 14, 17 and 18 are then.
CARDS = {"go": "cat", "left": "coffee", "right": "rocket", "stop": ""}
PINS = {
    "stop": (0.0, 0.0, 0.0, 0.0),
    "go": (0.6, 0.0, 0.6, 0.0),
    "left": (0.0, 0.4, 0.4, 0.0),
    "right": (0.4, 0.0, 0.0, 0.4),
}


@pytest.fixture
def robot(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example as a module, on a board of mock pins."""
    factory = MockFactory(pin_class=MockPWMPin)
    monkeypatch.setattr(Device, "pin_factory", factory)
    spec = importlib.util.spec_from_file_location("robot", EXAMPLES / "robot.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    factory.reset()


def pins() -> tuple[float, ...]:
    factory = Device.pin_factory
    return tuple(round(float(factory.pin(number).state), 3) for number in (4, 14, 17, 18))


def wait_until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float:
    """Seconds until it holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit_s, pins()
        time.sleep(0.005)
    return time.monotonic() - began


def event(*active: str, camera: str = "camera") -> bytes:
    return json.dumps({"camera": camera, "active": active}).encode() + b"\n"


@contextlib.contextmanager
def fed(robot: ModuleType, tmp_path: Path) -> Iterator[socket.socket]:
    """The robot, with a feed that the test speaks for."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=robot.follow, args=(str(path), robot.open_motors()))
        thread.start()
        feed, _ = listener.accept()
        with feed:
            yield feed
        thread.join(LIMIT_S)
        assert not thread.is_alive()


def test_each_word_turns_the_motors_its_way_and_all_else_stops(
    robot: ModuleType, tmp_path: Path
) -> None:
    with fed(robot, tmp_path) as feed:
        for word in ("go", "left", "right", "stop", "go", "somebody", "left"):
            feed.sendall(event(word))
            wait_until(lambda word=word: pins() == PINS.get(word, PINS["stop"]))  # type: ignore[misc]
        feed.sendall(event("go", camera="another"))
        feed.sendall(event())
        wait_until(lambda: pins() == PINS["stop"])


def test_it_stops_when_the_feed_ends(robot: ModuleType, tmp_path: Path) -> None:
    with fed(robot, tmp_path) as feed:
        feed.sendall(event("go"))
        wait_until(lambda: pins() == PINS["go"])
    assert pins() == PINS["stop"]


def test_without_a_feed_it_stands(robot: ModuleType) -> None:
    said: list[Any] = []
    with pytest.raises(FileNotFoundError):
        robot.follow("/nowhere/labels.sock", lambda *speeds: said.append(speeds))
    assert said == [robot.STOP]


@pytest.mark.slow
def test_it_stops_when_the_feed_is_silent(robot: ModuleType, tmp_path: Path) -> None:
    with fed(robot, tmp_path) as feed:
        feed.sendall(event("go"))
        wait_until(lambda: pins() == PINS["go"])
        assert wait_until(lambda: pins() == PINS["stop"]) < 2 * robot.SILENCE_S
        feed.sendall(event("go"))
        wait_until(lambda: pins() == PINS["go"])


def card(name: str, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture that stands for a word, each a little different."""
    if name:
        picture = cv2.imread(str(FOOTAGE / f"{name}.jpg"))
        assert picture is not None
        height, width = picture.shape[:2]
        picture = picture[number * 2 : height - number, number * 3 : width - number]
    else:
        picture = np.full((240, 320, 3), 90 + number, np.uint8)
    return cv2.convertScaleAbs(cv2.resize(picture, (320, 240)), alpha=0.9 + 0.02 * number).astype(
        np.uint8
    )


@pytest.mark.slow
def test_taught_words_drive_it_and_a_labelcam_that_hangs_or_ends_stops_it(
    robot: ModuleType, tmp_path: Path
) -> None:
    for word, name in CARDS.items():
        folder = tmp_path / word
        folder.mkdir()
        for number in range(6):
            cv2.imwrite(str(folder / f"{number}.png"), card(name, number))
        assert main(["teach", "add", "--lessons", "robot", word, str(folder)]) == 0
    shown = tmp_path / "shown"
    shown.mkdir()
    words = ["stop", "go", "left", "right", "stop", *["go"] * 40]
    # Each is shown for a second.
    for number, word in enumerate(words):
        cv2.imwrite(str(shown / f"{number}.jpg"), card(CARDS[word], number % 4))
    path = tmp_path / "labels.sock"
    labelcam = subprocess.Popen(
        [
            *(sys.executable, "-m", "device", "run", "--config", EXAMPLES / "robot.toml"),
            *("--source", shown, "--set", "camera.lessons=robot", "--set", "camera.fps=15"),
            *("--set", f"feed.path={path}", "--set", "camera.stall_s=30"),
            *("--set", "terminal.enabled=false"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    states: list[tuple[float, ...]] = []
    drive = robot.open_motors()

    def driven(left: float, right: float) -> None:
        drive(left, right)
        if states[-1:] != [pins()]:
            states.append(pins())

    wait_until(path.exists)
    thread = threading.Thread(target=robot.follow, args=(str(path), driven))
    thread.start()
    try:
        wait_until(lambda: states[-2:] == [PINS["stop"], PINS["go"]] and len(states) >= 6)
        assert states == [PINS[word] for word in words[:6]]
        # A labelcam that hangs says nothing, and one that goes on goes on.
        labelcam.send_signal(signal.SIGSTOP)
        assert wait_until(lambda: pins() == PINS["stop"]) < 2 * robot.SILENCE_S
        labelcam.send_signal(signal.SIGCONT)
        wait_until(lambda: pins() == PINS["go"])
        labelcam.kill()
        thread.join(LIMIT_S)
        assert pins() == PINS["stop"]
    finally:
        labelcam.send_signal(signal.SIGCONT)
        labelcam.kill()
        labelcam.communicate()
        thread.join(LIMIT_S)


def test_the_examples_are_as_the_page_has_them() -> None:
    page = (ROOT / "docs" / "robot.md").read_text(encoding="utf-8")
    assert (EXAMPLES / "robot.toml").read_text(encoding="utf-8") in page
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / "docs" / target).exists(), target
    loaded = config.load(EXAMPLES / "robot.toml")
    assert loaded.feed.enabled
    assert loaded.feed.heartbeat_s < 1.0
