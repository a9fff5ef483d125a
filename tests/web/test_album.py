"""The strip of pictures on the page, in a real browser: seen, opened, thrown away."""

import functools
import time

import cv2
import numpy as np
import pytest
from playwright.sync_api import Dialog, Page

from device import config
from device.recordings.rendering import jpeg
from device.sinks.captions import moment
from tests.sinks.examples import camera_health, device_health
from tests.web.browser import (
    CHROMIUM,
    DESKTOP,
    PHONE,
    OpenPage,
    browser,
    keep,
    open_page,
    until,
)
from tests.web.conftest import CONTROLS, Open, View
from tests.web.test_page import complaints

__all__ = ["browser", "open_page"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium"),
]


def take(view: View, label: str, camera: str = "camera") -> str:
    """Keep a picture, and tell the page as the node does each second."""
    picture = np.full((120, 160, 3), 200, np.uint8)
    cv2.putText(picture, label, (4, 66), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (90, 30, 0), 2)
    kept = view.ring.add(jpeg(picture, 85), camera, label, 0.9, moment(time.monotonic()))
    report(view)
    return kept


def report(view: View) -> None:
    view.sink.report(device_health(camera_health(controls=CONTROLS)))


def labels(page: Page) -> list[str]:
    found = page.locator("#strip button").all_text_contents()
    return [text.rstrip("0123456789:., /AMP") for text in found]


def has(page: Page, count: int) -> bool:
    return page.locator("#strip li").count() == count


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.id"))


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_picture_that_is_kept_comes_to_the_strip(
    view: View, open_page: OpenPage, size: tuple[int, int]
) -> None:
    page = open_page(view.url, size)
    until(lambda: page.inner_text("#label") == "espresso")
    assert page.locator("#album").is_hidden()
    for label in ("cat", "dog", "a very long label that no strip has room for"):
        take(view, label)
    until(lambda: page.locator("#strip li").count() == 3)
    assert labels(page) == ["a very long label that no strip has room for", "dog", "cat"]
    loaded = "[...document.querySelectorAll('#strip img')].filter((i) => i.naturalWidth).length"
    until(lambda: page.evaluate(loaded) == 3)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert complaints(page) == []
    keep(page, f"album-{size[0]}")
    # What is there stays as it is: a reader is not thrown out.
    first = page.locator("#strip li:nth-child(2) button")
    first.focus()
    was = focused(page)
    take(view, "bird")
    until(lambda: page.locator("#strip li").count() == 4)
    assert focused(page) == was
    assert labels(page)[0] == "bird"


def test_one_is_opened_and_the_arrows_lead_to_the_others(view: View, open_page: OpenPage) -> None:
    kept = [take(view, label) for label in ("cat", "dog", "bird")]
    page = open_page(view.url)
    until(lambda: page.locator("#strip li").count() == 3)
    # By keys alone: the strip is one stop of the Tab key.
    page.locator("#strip button").first.focus()
    page.keyboard.press("Enter")
    until(lambda: page.locator("#large").is_visible())
    title = page.locator("#large-title")
    assert title.inner_text().startswith("bird, ")
    until(lambda: page.evaluate("document.getElementById('large-picture').naturalWidth") == 160)
    assert page.locator("#large-newer").is_disabled()
    page.keyboard.press("ArrowLeft")
    assert title.inner_text().startswith("bird, ")
    page.keyboard.press("ArrowRight")
    assert title.inner_text().startswith("dog, ")
    page.locator("#large-older").click()
    assert title.inner_text().startswith("cat, ")
    assert page.locator("#large-older").is_disabled()
    assert complaints(page) == []
    keep(page, "album-large")
    save = page.locator("#large-save")
    assert save.get_attribute("href") == f"{view.url}/api/snapshots/{kept[0]}.jpg"
    with page.expect_download() as download:
        save.click()
    assert download.value.suggested_filename == f"{kept[0]}.jpg"
    page.keyboard.press("Escape")
    assert page.locator("#large").is_hidden()
    # Back where one was.
    until(lambda: focused(page) == kept[0])


def test_one_is_deleted_after_a_question(view: View, open_page: OpenPage) -> None:
    kept = [take(view, label) for label in ("cat", "dog", "bird")]
    page = open_page(view.url)
    asked: list[str] = []
    answers = [False, True, True, True]

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept() if answers[len(asked) - 1] else dialog.dismiss()

    page.on("dialog", answer)
    until(lambda: page.locator("#strip li").count() == 3)
    page.locator("#strip li:nth-child(2) button").click()
    page.locator("#large-delete").click()
    assert asked == ["Delete this picture?"]
    assert len(view.ring.newest(10)) == 3
    page.locator("#large-delete").click()
    title = page.locator("#large-title")
    until(lambda: title.inner_text().startswith("cat, "))
    assert view.ring.picture(kept[1]) is None
    assert labels(page) == ["bird", "cat"]
    assert not page.locator("#large-newer").is_disabled()
    assert page.locator("#large-older").is_disabled()
    page.locator("#large-delete").click()
    until(lambda: title.inner_text().startswith("bird, "))
    page.locator("#large-delete").click()
    until(lambda: page.locator("#album").is_hidden())
    assert page.locator("#large").is_hidden()
    assert view.ring.newest(10) == []


def test_one_that_went_elsewhere_goes_here_too(view: View, open_page: OpenPage) -> None:
    kept = [take(view, label) for label in ("cat", "dog", "bird")]
    page = open_page(view.url)
    until(lambda: page.locator("#strip li").count() == 3)
    view.ring.remove(kept[1])
    report(view)
    until(lambda: page.locator("#strip li").count() == 2)
    assert labels(page) == ["bird", "cat"]
    view.ring.clear()
    report(view)
    until(lambda: page.locator("#album").is_hidden())


def test_older_ones_come_as_one_scrolls(view: View, open_page: OpenPage) -> None:
    for number in range(60):
        take(view, f"no {number:02}.")
    asked: list[str] = []
    page = open_page(view.url)
    page.on("request", lambda request: asked.append(request.url))
    until(lambda: page.locator("#strip li").count() == 24)
    # A picture that is far out of sight is not fetched.
    until(lambda: page.evaluate("document.querySelector('#strip img').naturalWidth") == 160)
    assert sum(url.endswith(".jpg") for url in asked) < 24
    for count in (48, 60):
        page.evaluate("const s = document.getElementById('strip'); s.scrollLeft = s.scrollWidth")
        until(functools.partial(has, page, count))
    ids = page.evaluate("[...document.querySelectorAll('#strip button')].map((b) => b.id)")
    assert ids == sorted(set(ids), reverse=True)
    # What was loaded stays, when another one comes.
    take(view, "new")
    until(lambda: page.locator("#strip li").count() == 61)


def test_each_camera_has_its_own_and_some_may_only_look(
    open_view: Open, open_page: OpenPage
) -> None:
    view = open_view(config.Camera(name="door"), config.Camera(name="yard"), commands=False)
    view.see(camera="door")
    view.see(camera="yard")
    take(view, "cat", "door")
    take(view, "dog", "yard")
    page = open_page(view.url)
    until(lambda: page.locator("#strip li").count() == 1 and labels(page) == ["cat"])
    page.locator("#cameras button:nth-child(2)").click()
    until(lambda: labels(page) == ["dog"])
    page.locator("#strip button").click()
    assert page.locator("#large-delete").is_hidden()
    assert not page.locator("#large-save").is_hidden()


def test_without_pictures_there_is_no_strip(open_view: Open, open_page: OpenPage) -> None:
    view = open_view(pictures=False)
    view.start()
    take(view, "cat")
    page = open_page(view.url)
    until(lambda: page.inner_text("#label") == "espresso")
    report(view)
    until(lambda: page.locator("#each-sink") and page.inner_text("#link") != "starting")
    assert page.locator("#album").is_hidden()
