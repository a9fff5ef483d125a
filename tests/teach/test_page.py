"""Two labels taught by the page in a real browser: on the page, at the broker, after a restart."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page

from device import config
from device.cameras import open_camera
from device.sinks.record import RecordSink
from tests.mqtt.conftest import Listener, broker, listener
from tests.mqtt.mosquitto import Mosquitto
from tests.sinks.examples import observation
from tests.web.browser import (
    CHROMIUM,
    PHONE,
    PICTURE,
    ROOT,
    OpenPage,
    browser,
    is_open,
    keep,
    open_page,
    until,
)
from tests.web.conftest import PATIENCE_S

__all__ = ["broker", "browser", "listener", "open_page"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium"),
]


@pytest.fixture
def slow_footage(tmp_path: Path) -> Path:
    """The footage that ships, at a quarter of its pace, so that there is time to teach."""
    sink = RecordSink(tmp_path / "footage", 3600, 1 << 28, lossless=False)
    with open_camera(config.Camera(source="footage")) as camera:
        while (frame := camera.read()) is not None:
            slow = replace(frame, captured_at=frame.number / 3)
            sink.observe(msgspec.structs.replace(observation(), frame=slow))
    sink.close()
    return tmp_path / "footage"


@contextlib.contextmanager
def running(source: Path, state: Path, port: int, broker: int) -> Iterator[str]:
    settings = [
        "web.enabled=true", f"web.port={port}", "jsonl.enabled=true",
        "mqtt.enabled=true", f"mqtt.port={broker}", "mqtt.host=127.0.0.1", "mqtt.node=pi",
        "teach.keep_pictures=true", "decide.min_hold_s=0.2",
    ]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", f"replay:{source}"]
        + [f"--set={setting}" for setting in settings],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LABELCAM_STATE": str(state)},
    )
    try:
        until(lambda: is_open(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def hold(page: Page, label: str, pictures: int) -> None:
    """Hold the button until so many pictures were taught as this."""
    page.fill("#teach-label", label)
    page.locator("#teach-hold").hover()
    page.mouse.down()
    until(lambda: page.inner_text("#teach-said") == f"{pictures} pictures of “{label}”", 30)
    page.mouse.up()
    until(lambda: page.locator(f'#taught [data-group="{label}"]').count() == 1)


@pytest.mark.timeout(180)
def test_two_labels_by_the_page(
    open_page: OpenPage,
    slow_footage: Path,
    tmp_path: Path,
    broker: Mosquitto,
    listener: Listener,
) -> None:
    state = tmp_path / "state"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        free_port = free.getsockname()[1]
    with running(slow_footage, state, free_port, broker.port) as url:
        page = open_page(url)
        until(lambda: page.evaluate(PICTURE))
        until(lambda: page.inner_text("#label") == "cup")
        keep(page, "page-teach-before")
        hold(page, "my cup", 5)
        page.set_viewport_size({"width": 1280, "height": 1180})
        keep(page, "page-teach-first")
        until(lambda: "cat" in page.inner_text("#label").lower(), 40)
        hold(page, "the cat/#", 5)
        until(lambda: page.inner_text("#label") == "the cat/#")
        until(lambda: "Right in" in page.inner_text("#teach-grade"))
        page.click("#teach-confusion summary")
        right = page.locator("#teach-confusion td.right")
        until(lambda: all(right.all_inner_texts()))
        assert right.count() == 2
        page.locator("#teach-confusion table").scroll_into_view_if_needed()
        keep(page, "page-teach-confusion")
        page.click("#teach-confusion summary")
        page.locator("#label").scroll_into_view_if_needed()
        assert page.inner_text("#scores li:first-child .name") == "the cat/#"
        assert page.locator('#taught [data-group="my cup"] [data-entry]').count() >= 5
        keep(page, "page-teach")
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        page.locator("#teach").scroll_into_view_if_needed()
        keep(page, "page-teach-phone")
        page.set_viewport_size({"width": 1280, "height": 900})
        _correct(page)
        listener.wait(lambda: "the cat/#" in _labels(listener))
        page.close()
    with running(slow_footage, state, free_port, broker.port) as url:
        page = open_page(url)
        until(lambda: page.inner_text("#label") == "my cup")
        listener.wait(lambda: _labels(listener)[-1] == "my cup")
        page.close()


def _correct(page: Page) -> None:
    """A picture is moved to the other label, thrown out, and both are taken back."""

    def count(label: str) -> int:
        return page.locator(f'#taught [data-group="{label}"] [data-entry]').count()

    cups, cats = count("my cup"), count("the cat/#")
    page.locator('#taught [data-group="my cup"] [data-entry]').first.click()
    page.get_by_label("Move the chosen pictures to the cat/#").click()
    until(lambda: (count("my cup"), count("the cat/#")) == (cups - 1, cats + 1))
    page.locator('#taught [data-group="the cat/#"] [data-entry]').last.click()
    page.click("#teach-out")
    until(lambda: (count("my cup"), count("the cat/#")) == (cups - 1, cats))
    page.click("#teach-undo")
    page.click("#teach-undo")
    until(lambda: (count("my cup"), count("the cat/#")) == (cups, cats))


def _labels(listener: Listener) -> list[str]:
    events = [m.payload for m in listener.messages if m.topic.endswith("/event")]
    return [json.loads(event)["label"] for event in events]
