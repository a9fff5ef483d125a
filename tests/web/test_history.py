"""The past, for programs and on the page."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page

from device.sinks.web import history
from tests.history.plausible import write
from tests.history.story import Story, change, result
from tests.web.browser import AXE, CHROMIUM, DESKTOP, PHONE, OpenPage, browser, open_page, until
from tests.web.conftest import Open, View

Show = Callable[[tuple[int, int]], Page]

__all__ = ["browser", "open_page"]


@pytest.fixture
def state(open_view: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    return tmp_path / "history.db"


@pytest.fixture
def view(state: Path, open_view: Open) -> View:
    made = open_view()
    made.start("cup")
    return made


def ask(view: View, path: str = "", **query: Any) -> Any:
    text = "&".join(f"{key}={value}" for key, value in query.items())
    return view.ask(f"/api/history{path}?{text}").json


def test_what_was_seen_and_done(state: Path, view: View) -> None:
    story = Story(state)
    story.wall_offset = time.time() - 100
    story.start()
    story.tell(change(10, "cat"), result(10.5), change(20), now=30)
    found = ask(view)
    (interval,) = found["intervals"]
    assert (interval["camera"], interval["label"]) == ("door", "cat")
    assert interval["end"] - interval["begin"] == pytest.approx(10)
    assert found["actions"][0]["action"] == "lamp"
    assert (found["cameras"], found["labels"], found["gaps"]) == (["door"], ["cat"], [])
    assert (found["more"], found["begun"]) == (False, interval["begin"])
    assert abs(found["now"] - time.time()) < 60
    assert ask(view, camera="gate")["intervals"] == []
    assert ask(view, label="dog")["intervals"] == []
    assert ask(view, until=interval["begin"] - 1)["intervals"] == []
    (total,) = ask(view, "/totals", by="day")["totals"]
    assert (total["seconds"], total["times"]) == (10, 1)


def test_an_answer_is_bounded(state: Path, view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "ROWS_MAX", 5)
    write(state, 3, 1, time.time())
    found = ask(view, since=0)
    assert len(found["intervals"]) == 5
    assert found["more"] is True
    begins = [one["begin"] for one in found["intervals"]]
    assert begins == sorted(begins, reverse=True)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("?since=never", "since is a number of seconds since 1970"),
        ("?since=nan", "since is a number"),
        ("?until=1e300", "until is a number"),
        ("?since=20&until=10", "since is before until"),
        ("/totals?by=minute", "by is hour or day"),
        ("/totals?since=0", "since is before until, by 35 days at most"),
    ],
)
def test_what_makes_no_sense(state: Path, view: View, path: str, words: str) -> None:
    answer = view.ask(f"/api/history{path}")
    assert answer.status == 422
    assert words in answer.json["error"]


def test_where_there_is_none(view: View) -> None:
    answer = view.ask("/api/history")
    assert answer.status == 404
    assert "nothing was seen yet, or history is off" in answer.json["error"]


def test_a_damaged_one(state: Path, view: View) -> None:
    state.write_text("a letter to my aunt, " * 100)
    answer = view.ask("/api/history")
    assert answer.status == 404
    assert "is damaged" in answer.json["error"]


def test_it_weighs_little(view: View) -> None:
    assert len(view.ask("/history.js").body) <= 8200


shown = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")


@pytest.fixture
def open_past(state: Path, view: View, open_page: OpenPage) -> Show:
    """The page with the day before yesterday, of a history of two weeks."""
    write(state, 14, 1, time.time())

    def show(size: tuple[int, int]) -> Page:
        page = open_page(view.url, size)
        page.evaluate("timeline.scrollIntoView()")
        until(lambda: not page.evaluate("past.hidden"))
        first = page.inner_text("#past-day")
        page.click("#past-before")
        until(lambda: page.inner_text("#past-day") != first)
        until(lambda: page.evaluate("lanes.querySelectorAll('i').length") > 3)
        return page

    return show


@shown
@pytest.mark.slow
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_a_day_and_a_week(open_past: Show, size: tuple[int, int]) -> None:
    page = open_past(size)
    lanes = page.evaluate("[...lanes.querySelectorAll('div > span')].map(e => e.textContent)")
    assert {"cat", "person"} <= set(lanes)
    assert page.locator("#week tbody td").count() == 7 * 24
    assert "cat" in page.evaluate("document.querySelector('#week tbody td').title")
    page.click("#past summary")
    assert page.locator("#past-rows tr").count() > 3
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run('#past')")
    assert [v["id"] for v in found["violations"]] == []
    # The day after today has nothing to show.
    yesterday = page.inner_text("#past-day")
    page.click("#past-after")
    until(lambda: page.inner_text("#past-day") != yesterday)
    today = page.inner_text("#past-day")
    page.click("#past-after")
    assert page.inner_text("#past-day") == today


@shown
@pytest.mark.slow
def test_keys_zoom_and_move_and_lead_through_the_week(
    open_past: Show,
) -> None:
    page = open_past(DESKTOP)
    ticks = "[...lanes.querySelectorAll('.scale span')].map(e => e.textContent)"
    whole = page.evaluate(ticks)
    page.focus("#lanes")
    for _ in range(3):
        page.keyboard.press("+")
    zoomed = page.evaluate(ticks)
    assert zoomed != whole
    page.keyboard.press("ArrowRight")
    assert page.evaluate(ticks) != zoomed
    page.keyboard.press("Home")
    assert page.evaluate(ticks) == whole
    page.focus("#week tbody td")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    said = page.inner_text("#week-said")
    assert " 1:00: " in said
    assert page.evaluate("document.activeElement.cellIndex") == 2


@shown
@pytest.mark.slow
def test_a_device_without_a_history_shows_none(view: View, open_page: OpenPage) -> None:
    page = open_page(view.url, DESKTOP)
    page.evaluate("timeline.scrollIntoView()")
    until(lambda: page.inner_text("#label") == "cup")
    assert page.evaluate("past.hidden")
