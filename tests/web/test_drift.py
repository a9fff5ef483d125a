"""What is not as usual, on the page: its words, the pictures of then and now, and its button."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from device import config
from device.events import Drift
from device.frames import Frame, PixelFormat
from device.health.drift_pictures import DriftPictures
from device.system.paths import state_directory
from tests.sinks.examples import camera_health, device_health
from tests.web.browser import CHROMIUM, DESKTOP, PHONE, OpenPage, browser, keep, open_page, until
from tests.web.conftest import CONTROLS, Open, View
from tests.web.test_page import complaints

__all__ = ["browser", "open_page"]
ALARM = Drift(
    "nothing recognised 71 % of the time; at these hours usually 20 % to 35 %; less sharp, 0.06; "
    "at these hours usually 0.12 to 0.15",
    1_782_349_200.0,
    pictures=True,
)


def keep_pictures(view: View, name: str = "camera") -> None:
    """Put pictures of an alarm where the device puts them."""
    pictures, camera = DriftPictures(state_directory()), config.Camera(name=name)
    pixels = np.ascontiguousarray(view.photo.pixels)
    fogged = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 8), np.uint8)
    height, width = pixels.shape[:2]
    for work in (
        pictures.keep(camera, Frame(pixels, PixelFormat.BGR, width, height, 0, 0.0), 9),
        pictures.tell(camera, Frame(fogged, PixelFormat.BGR, width, height, 0, 0.0), 9),
    ):
        work()


def report(view: View, drift: Drift, name: str = "camera") -> None:
    view.sink.report(device_health(camera_health(name=name, controls=CONTROLS, drift=drift)))


def test_pictures_of_then_and_now_are_given_to_who_may_see_pictures(open_view: Open) -> None:
    view = open_view(config.Camera(name="yard/gate"))
    assert view.ask("/api/drift/yard/gate/then.jpg").error == (
        "no picture was kept; see drift.pictures"
    )
    keep_pictures(view, "yard/gate")
    for which in ("then", "now"):
        given = view.ask(f"/api/drift/yard/gate/{which}.jpg")
        assert given.status == 200
        assert given.headers["content-type"] == "image/jpeg"
        picture = cv2.imdecode(np.frombuffer(given.body, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert max(picture.shape) == 320
    assert view.ask("/api/drift/no%20such/now.jpg").status == 404
    assert view.ask("/api/drift/..%2f..%2fetc/now.jpg").status == 404
    assert view.ask("/api/drift/yard/gate/other.jpg").status == 404


def test_no_pictures_are_given_where_they_are_turned_off(open_view: Open) -> None:
    view = open_view(pictures=False)
    keep_pictures(view)
    assert view.ask("/api/drift/camera/now.jpg").status == 403


def test_pictures_are_for_those_with_the_token(open_view: Open, tmp_path: Path) -> None:
    from device.sinks.web import token as web_token

    web_token.make(tmp_path / "token")
    view = open_view(token_file=str(tmp_path / "token"))
    keep_pictures(view)
    assert view.ask("/api/drift/camera/now.jpg").status == 401


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt install chromium")
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_says_what_is_not_as_usual_and_takes_it_for_normal(
    size: tuple[int, int], view: View, open_page: OpenPage
) -> None:
    page = open_page(view.url, size)
    notice = page.locator("#drift")
    until(lambda: page.locator("#label").text_content() == "espresso")
    assert not notice.is_visible()
    keep_pictures(view)
    report(view, ALARM)
    until(notice.is_visible)
    assert ALARM.change in (page.locator("#drift-text").text_content() or "")
    for which in ("then", "now"):
        image = page.locator(f"#drift-{which}")
        until(lambda image=image: image.evaluate("one => one.naturalWidth") == 320)  # type: ignore[misc]
    keep(page, f"drift-{size[0]}")
    assert complaints(page) == []
    page.get_by_role("button", name="This is normal now").click()
    until(lambda: view.device.commands)
    [command] = view.device.commands
    assert (command.camera, command.key) == ("camera", "accept_drift")
    report(view, Drift(learning="1 of 7 days learnt"))
    until(lambda: not notice.is_visible())
