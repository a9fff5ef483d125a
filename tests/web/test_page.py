"""The page in a real browser: Debian's Chromium, at the size of a desktop and of a phone."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import Page

from device.events import OFF_DUTY
from device.sinks.web import token as web_token
from tests.sinks.examples import camera_health, change, device_health
from tests.web.browser import (
    AXE,
    CHROMIUM,
    DESKTOP,
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
from tests.web.conftest import CONTROLS, PATIENCE_S, Open, View

__all__ = ["browser", "open_page"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium"),
]


@pytest.fixture
def moving(view: View) -> Iterator[View]:
    """A web view whose camera sees something else each time."""
    over = threading.Event()

    def play() -> None:
        tick = 0
        while not over.wait(0.05):
            tick += 1
            view.photo.pixels[:, : 40 * (tick % 10)] ^= 255
            view.see(view.label)
            if tick % 10 == 0:
                view.sink.report(device_health(camera_health(controls=view.controls)))

    thread = threading.Thread(target=play)
    thread.start()
    yield view
    over.set()
    thread.join()


def complaints(page: Page) -> list[str]:
    """What axe finds wrong with the page for people who do not see or use it as others do."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    return [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]]


@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
def test_pictures_move_and_a_label_appears(
    moving: View, open_page: OpenPage, name: str, size: tuple[int, int]
) -> None:
    page = open_page(moving.url, size)
    until(lambda: page.inner_text("#label") == "espresso")
    until(lambda: page.evaluate(PICTURE))
    seen = page.evaluate(PICTURE)
    until(lambda: page.evaluate(PICTURE) != seen)
    assert page.inner_text("#scores li:first-child .name") == "espresso"
    assert page.inner_text("#link") == "29.8 frames a second"
    moving.label = "cup"
    moving.sink.change(change(label="cup", previous="espresso", at=time.monotonic()))
    until(lambda: page.inner_text("#label") == "cup")
    assert page.inner_text("#changes li:first-child .what") == "cup"
    assert page.locator("#stages tbody tr").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    keep(page, f"page-{name}")


def test_labels_that_come_and_go_by_themselves_are_all_shown(
    view: View, open_page: OpenPage
) -> None:
    begun = time.monotonic() - 50
    for label, at, on, active in (
        ("espresso", 0, True, ("espresso",)),
        ("cup", 10, True, ("espresso", "cup")),
        ("espresso", 20, False, ("cup",)),
        ("espresso", 35, True, ("cup", "espresso")),
    ):
        view.sink.change(
            change(label=label, on=on, active=active, previous=None, at=begun + at, held_s=20.0)
        )
    view.see(active=("espresso", "cup"))
    view.sink.report(device_health(camera_health(controls=CONTROLS)))
    page = open_page(view.url, DESKTOP)
    until(lambda: page.inner_text("#label") == "espresso + cup")
    assert page.locator("#scores li[data-active] .name").all_inner_texts() == ["espresso", "cup"]
    until(lambda: page.locator("#band i").count() == 3)
    # The cup is there all the time, in a lane of its own.
    boxes = page.evaluate(
        "[...document.querySelectorAll('#band i')]"
        ".map((i) => [i.title, i.offsetTop, i.offsetHeight])"
    )
    assert boxes == [["espresso", 0, 15], ["cup", 15, 15], ["espresso", 0, 15]]
    rows = [text.split("\n") for text in page.locator("#changes li").all_inner_texts()]
    assert [(row[1], row[2].startswith("now")) for row in rows] == [
        ("espresso", True),
        ("cup", True),
        ("espresso", False),
    ]
    assert complaints(page) == []
    keep(page, "page-many-labels")


def test_it_shows_in_two_seconds_what_a_camera_sees(open_page: OpenPage, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = ["web.enabled=true", f"web.port={port}", "jsonl.enabled=true"]
    options = [f"--set={setting}" for setting in settings]
    process = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", "footage", *options],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"LABELCAM_STATE": str(tmp_path)},
    )
    try:
        until(lambda: is_open(port))
        started = time.monotonic()
        page = open_page(f"http://127.0.0.1:{port}")
        until(lambda: page.evaluate(PICTURE))
        until(lambda: page.inner_text("#label") == "cup")
        took_s = time.monotonic() - started
        keep(page, "page-footage")
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    # Half of that where nothing else runs.
    assert took_s < 2.0


def test_dragging_on_the_picture_chooses_the_region(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url)
    until(lambda: page.evaluate(PICTURE))
    until(lambda: page.locator("#frame[data-can-draw]").count())
    box = page.locator("#frame").bounding_box()
    assert box
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    assert page.locator("#drawn").is_visible()
    page.mouse.up()
    until(lambda: moving.device.commands)
    (command,) = moving.device.commands
    assert (command.camera, command.key) == ("camera", "region")
    assert command.value == pytest.approx((0.25, 0.2, 0.75, 0.8), abs=0.01)
    moving.controls = type(CONTROLS)(True, 0.5, 0.3, 0.0, "m", (0.25, 0.2, 0.75, 0.8))
    page.locator("#region").wait_for(state="visible")
    until(lambda: page.locator("[name=right]").input_value() == "75")
    keep(page, "page-region")


def test_a_finger_scrolls_until_it_is_asked_to_draw(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url, PHONE, touch=True)
    until(lambda: page.locator("#frame[data-can-draw]").count())
    assert page.locator("#frame").evaluate("e => getComputedStyle(e).touchAction") == "pan-y"
    page.locator("#draw").tap()
    assert page.locator("#frame").evaluate("e => getComputedStyle(e).touchAction") == "none"


def test_everything_can_be_done_with_the_keyboard(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url)
    until(lambda: page.locator("#enabled").is_enabled())
    page.focus("#enabled")
    page.keyboard.press("Space")
    page.focus("#enter")
    page.keyboard.press("ArrowRight")
    page.focus("[name=left]")
    page.keyboard.type("20")
    page.keyboard.press("Tab")
    until(lambda: len(moving.device.commands) == 3)
    asked = [(command.key, command.value) for command in moving.device.commands]
    assert asked == [("enabled", False), ("enter", 0.51), ("region", (0.2, 0, 1, 1))]


def test_a_camera_that_is_off_or_lost_shows_no_label(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url)
    until(lambda: page.locator("#enabled").is_enabled())
    page.click("#enabled")
    until(lambda: moving.device.commands)
    moving.controls = type(CONTROLS)(False, 0.5, 0.3, 0.0, "m")
    until(lambda: page.inner_text("#label") == "switched off")
    assert page.locator("#enabled").get_attribute("aria-checked") == "false"
    assert page.locator("#scores li").count() == 0
    assert page.locator("#veil").is_visible()


def test_outside_its_hours_a_camera_shows_no_label(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url)
    until(lambda: page.locator("#scores li").count() > 0)
    moving.sink.change(change(label=OFF_DUTY, score=0.0, at=time.monotonic()))
    until(lambda: page.inner_text("#label") == "off duty")
    assert page.locator("#scores li").count() == 0
    assert page.inner_text("#veil") == "off duty"


def test_what_limits_the_rate_is_said(view: View, open_page: OpenPage) -> None:
    page = open_page(view.url)
    health = device_health(camera_health(controls=CONTROLS))
    for share, words in ((0.375, "38 %: hot"), (0.0, "a frame a second: hot")):
        view.sink.report(msgspec.structs.replace(health, rate_share=share, governed_by="hot"))
        until(lambda words=words: words in page.inner_text("#facts"))  # type: ignore[misc]


def test_a_refusal_is_told(moving: View, open_page: OpenPage) -> None:
    moving.device.error = "command enter: Expected `exit` < `enter` (0.2), met 0.3"
    page = open_page(moving.url)
    until(lambda: page.locator("#enter").is_enabled())
    page.fill("#enter", "0.2")
    page.locator("#note").wait_for(state="visible")
    assert page.inner_text("#note") == moving.device.error


def test_without_pictures(open_view: Open, open_page: OpenPage) -> None:
    view = open_view(pictures=False)
    view.start()
    page = open_page(view.url)
    until(lambda: page.inner_text("#label") == "espresso")
    assert page.inner_text("#veil") == "Pictures are turned off"
    assert page.locator("#video").get_attribute("src") is None
    assert page.locator("#snapshot").is_hidden()


def test_a_page_that_nobody_sees_takes_nothing(moving: View, open_page: OpenPage) -> None:
    page = open_page(moving.url)
    until(lambda: moving.metric("labelcam_web_watchers") == 1)
    hide = "value => { Object.defineProperty(document, 'hidden', { value, configurable: true });"
    hide += "document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    until(lambda: moving.metric("labelcam_web_watchers") == 0)
    page.evaluate(hide, False)
    until(lambda: moving.metric("labelcam_web_watchers") == 1)


def test_it_says_when_the_device_has_gone(open_view: Open, open_page: OpenPage) -> None:
    view = open_view()
    view.start()
    page = open_page(view.url)
    until(lambda: page.inner_text("#link") == "29.8 frames a second")

    def shows_a_picture() -> object:
        view.see()  # a browser shows one once the next has begun
        return page.evaluate("video.naturalWidth")

    until(shows_a_picture)
    shape = page.evaluate("frame.getBoundingClientRect().toJSON()")
    view.sink.close()
    until(lambda: page.inner_text("#link") == "no connection")
    # By the browser's own clock.
    assert re.fullmatch(r"no answer since \d\d:\d\d", page.inner_text("#label"))
    assert page.inner_text("#veil") == page.inner_text("#label")
    assert page.locator("#scores li").count() == 0
    assert page.evaluate("controls.inert && teach.inert")
    assert page.evaluate("frame.getBoundingClientRect().toJSON()") == shape
    again = open_view(port=view.port)
    again.start("cup")
    until(lambda: page.inner_text("#label") == "cup", 20)
    assert not page.evaluate("controls.inert || teach.inert")


def test_it_says_when_a_device_has_fallen_silent(moving: View, open_page: OpenPage) -> None:
    # As after a power cut: the connection stays open, and nothing comes. By this clock each event
    # is eleven seconds after the one before.
    page = open_page(moving.url)
    until(lambda: page.inner_text("#label") == "espresso")
    page.evaluate("(at => Date.now = () => at += 11000)(Date.now())")
    until(lambda: page.inner_text("#link") == "no connection")


def test_a_token_that_is_refused_is_not_sent_again_and_again(
    open_view: Open, open_page: OpenPage, tmp_path: Path
) -> None:
    token = web_token.make(tmp_path / "token")
    view = open_view(token_file=str(tmp_path / "token"))
    view.start()
    page = open_page(view.url)
    page.fill("#token", token)
    page.click("button")
    until(lambda: page.inner_text("#label") == "espresso")
    wrong = {"Authorization": "Bearer wrong"}
    assert [view.ask("/api/state", headers=wrong).status for _ in range(6)][-1] == 429
    page.context.add_cookies([{"name": "labelcam", "value": "wrong", "url": view.url}])
    # As when the browser has kept the page, and the token is another meanwhile.
    page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', {persisted: true}))")
    page.wait_for_url("**/login")


def test_logging_in(open_view: Open, open_page: OpenPage, tmp_path: Path) -> None:
    token = web_token.make(tmp_path / "token")
    view = open_view(token_file=str(tmp_path / "token"))
    view.start()
    page = open_page(view.url)
    assert page.url == f"{view.url}/login"
    page.fill("#token", "wrong")
    page.click("button")
    page.locator("[role=alert]").wait_for()
    assert complaints(page) == []
    keep(page, "page-login")
    page.fill("#token", token)
    page.click("button")
    until(lambda: page.inner_text("#label") == "espresso")
    assert page.evaluate("document.cookie") == ""
    page.click("#logout button")
    page.wait_for_url("**/login")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_accessibility(
    moving: View, open_page: OpenPage, dark: bool, size: tuple[int, int]
) -> None:
    page = open_page(moving.url, size, dark)
    until(lambda: page.evaluate(PICTURE))
    until(lambda: page.locator("#stages tbody tr").count())
    assert complaints(page) == []
    if dark:
        keep(page, "page-dark")
