"""The page of a tuning in a real browser, opened from the disk as its reader opens it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from device import config
from device.config import Decide
from device.recordings.format import INDEX
from device.tune.page import write_page
from device.tune.recordings import read_streams
from device.tune.truth import TRUTH, Interval, read_truth, write_truth
from device.tune.tune import Request, tune
from tests.tune.made import NAMES, intervals, make
from tests.web.browser import AXE, CHROMIUM, DESKTOP, PHONE, browser, keep
from tests.web.conftest import PATIENCE_S

__all__ = ["browser"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium"),
]
SETTINGS = config.Config(model=config.Model(name="made"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("tune") / "it", intervals(6))


@pytest.fixture(scope="module")
def file(recording: Path) -> Path:
    path = recording.parent / "page.html"
    assert tune(Request([recording], html=path), SETTINGS) == 0
    return path


class Open:
    """Opens pages; at the end nothing may have gone wrong, or asked for anything."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.wrong: list[str] = []

    def __call__(
        self, file: Path, size: tuple[int, int] = DESKTOP, *, dark: bool = False, **more: bool
    ) -> Page:
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            bypass_csp=more.get("axe", False),
            offline=True,
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE_S * 1e3)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda said: self.wrong.append(said.text))
        page.on(
            "request",
            lambda r: self.wrong.extend([r.url] * (not r.url.startswith(("file:", "data:")))),
        )
        page.goto(file.as_uri())
        return page


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    opener = Open(browser)
    yield opener
    for context in browser.contexts:
        context.close()
    assert opener.wrong == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_is_for_everybody(
    open_page: Open, file: Path, size: tuple[int, int], dark: bool
) -> None:
    page = open_page(file, size, dark=dark, axe=True)
    assert "finds 12 of 12 true changes" in page.inner_text("#summary")
    keep(page, f"tune-{size[0]}-{'dark' if dark else 'light'}")
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run()")
    assert [f"{v['id']}: {[n['target'] for n in v['nodes']]}" for v in found["violations"]] == []
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= size[0], "nothing is wider than the screen"


def test_settings_are_compared(open_page: Open, file: Path) -> None:
    page = open_page(file)
    rows = page.locator("#settings tr")
    assert rows.count() == 12
    page.get_by_role("radio", name="naive top-1").check()
    assert "Of “naive top-1”" in page.inner_text("#which")
    assert page.locator("#marks td.false").count() > 20
    page.get_by_role("radio", name="best 1", exact=True).check()
    assert page.locator("#marks td.false").count() == 0
    assert page.locator("#marks tr").count() == 12


def pixels(page: Page) -> str:
    shown: str = page.evaluate("document.getElementById('timeline').toDataURL()")
    return shown


def test_the_timeline_is_zoomed_by_keys(open_page: Open, file: Path) -> None:
    page = open_page(file)
    whole, drawn = page.inner_text("#where"), pixels(page)
    page.focus("#timeline")
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.inner_text("#where") != whole
    assert pixels(page) != drawn
    page.keyboard.press("ArrowRight")
    near = page.inner_text("#where")
    page.keyboard.press("Home")
    assert page.inner_text("#where").startswith("00:00.0")
    assert page.inner_text("#where") != near
    page.keyboard.press("0")
    assert page.inner_text("#where") == whole
    page.get_by_role("radio", name="naive top-1").check()
    page.focus("#timeline")
    page.keyboard.press("+")
    before = page.inner_text("#where")
    page.keyboard.press("n")
    assert page.inner_text("#where") != before


def saved(page: Page, folder: Path) -> list[Interval]:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save truth").click()
    assert download.value.suggested_filename == TRUTH
    download.value.save_as(folder / TRUTH)
    return [line.interval for line in read_truth(folder / TRUTH)]


def test_truth_is_marked_by_drawing_and_by_keys_changed_and_saved(
    open_page: Open, recording: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "unmarked"
    empty.mkdir()
    for name in (INDEX, "recorded.scores"):
        (empty / name).write_bytes((recording / name).read_bytes())
    file = tmp_path / "page.html"
    assert tune(Request([empty], html=file), SETTINGS) == 0
    page = open_page(file)
    assert page.inner_text("#summary").startswith("Mark what was to be seen")
    assert page.locator("#tried").is_hidden()
    place = page.locator("#timeline").bounding_box()
    assert place is not None
    lanes = json.loads(page.inner_text("#data"))["streams"][0]["lanes"]
    x, y = place["x"], place["y"] + 40
    page.mouse.move(x + 200, y)
    page.mouse.down()
    page.mouse.move(x + 400, y, steps=4)
    page.mouse.up()
    assert page.locator("#truth tr").count() == 1
    begin, end = (float(page.locator("#truth input").nth(n).input_value()) for n in (0, 1))
    assert 1 < begin < end
    page.focus("#timeline")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    page.keyboard.press("+")
    page.keyboard.press("m")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("m")
    assert page.locator("#truth tr").count() == 2
    page.get_by_label("from, interval 1").fill("1.5")
    page.get_by_label("from, interval 1").press("Enter")
    page.get_by_label("to, interval 1").fill("0.5")
    page.get_by_label("to, interval 1").press("Enter")
    assert float(page.get_by_label("to, interval 1").input_value()) == end, "before its begin"
    found = saved(page, tmp_path)
    assert found[0] == Interval(1.5, end, lanes[0]["label"])
    assert found[1].label == lanes[1]["label"]
    page.get_by_role("button", name="remove").first.click()
    assert [one.label for one in saved(page, tmp_path)] == [lanes[1]["label"]]


def test_labels_of_strangers_are_text(open_page: Open, tmp_path: Path) -> None:
    evil = "</script><script>document.title = 'evil'</script><b onclick=x>"
    folder = make(tmp_path / "it", intervals(2), names=(*NAMES, evil))
    write_truth(folder / TRUTH, [Interval(1, 2, evil), Interval(3, 4, "cat")])
    write_page(tmp_path / "page.html", read_streams([folder], SETTINGS), [], Decide())
    page = open_page(tmp_path / "page.html")
    assert page.title() == "labelcam tune"
    assert page.locator("#truth select").first.input_value() == evil
    assert page.locator("b").count() == 0


def test_an_hour_is_still_a_small_page(open_page: Open, tmp_path: Path) -> None:
    folder = make(tmp_path / "it", [], length_s=3600, fps=20)
    file = tmp_path / "page.html"
    (folder / TRUTH).unlink()
    assert tune(Request([folder], html=file), SETTINGS) == 0
    assert file.stat().st_size < 1 << 20
    page = open_page(file)
    assert page.inner_text("#where") == "00:00.0 to 1:00:00.0"


def test_several_cameras_are_looked_at_one_after_the_other(open_page: Open, tmp_path: Path) -> None:
    truth = [Interval(2, 5, "cat", "door/a"), Interval(3, 6, "cup", "door/b")]
    folder = make(tmp_path / "it", truth, cameras=("door/a", "door/b"))
    file = tmp_path / "page.html"
    write_page(file, read_streams([folder], SETTINGS), [], Decide())
    page = open_page(file)
    assert page.locator("#truth select").first.input_value() == "cat"
    page.get_by_label("Recording").select_option("door/b")
    assert page.locator("#truth select").first.input_value() == "cup"
    assert saved(page, tmp_path) == truth
