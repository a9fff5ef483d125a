"""A real browser for the tests: Debian's Chromium."""

import shutil
import socket
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.web.conftest import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium")
AXE = resources.files("axe_playwright_python") / "axe.min.js"
DESKTOP, PHONE = (1280, 820), (390, 844)
OPTIONS = [
    "--no-sandbox",  # refuses to run as root with one
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PICTURE = """() => {
    const video = document.getElementById("video"), canvas = document.createElement("canvas");
    if (!video.naturalWidth) return "";
    canvas.width = canvas.height = 16;
    canvas.getContext("2d").drawImage(video, 0, 0, 16, 16);
    return canvas.toDataURL();
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield started
        started.close()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens an address; at the end nothing may have gone wrong or to another place."""
    wrong: list[str] = []
    contexts = []

    def make(
        url: str, size: tuple[int, int] = DESKTOP, dark: bool = False, touch: bool = False
    ) -> Page:
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            has_touch=touch,
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1e3)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.extend([said.text] * (said.type == "error")))
        page.on("request", lambda r: wrong.extend([r.url] * (not r.url.startswith(url))))
        page.goto(url)
        return page

    yield make
    for context in contexts:
        context.close()
    # What the device refuses is an error to the browser's console as well.
    assert [text for text in wrong if "the server responded with a status of" not in text] == []


def until(happened: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    """Wait for it; the page forbids evaluating text, and with it the browser's own waiting."""
    deadline = time.monotonic() + patience_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def keep(page: Page, name: str) -> None:
    """Make a picture of the page that a person can look at."""
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
