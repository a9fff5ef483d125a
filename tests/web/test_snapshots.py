"""The pictures of what began, as a program asks for them and throws them away."""

import logging
import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device import config
from device.recordings.rendering import photo
from device.sinks.captions import moment
from device.sinks.web import token as web_token
from tests.conftest import footage
from tests.web.conftest import Open, Reply, View

JPEG = photo(footage("coffee"), 0, mirror=False, quality=30)
WRITE = {"X-Labelcam": "1"}


def keep(view: View, label: str = "espresso", camera: str = "camera") -> str:
    return view.ring.add(JPEG, camera, label, 0.9, moment(time.monotonic()))


def listed(view: View, query: str = "") -> list[str]:
    answer = view.ask(f"/api/snapshots{query}")
    assert answer.status == 200
    return [one["label"] for one in answer.json["snapshots"]]


def throw(view: View, path: str, **headers: str) -> Reply:
    return view.ask(f"/api/snapshots{path}", "DELETE", headers=WRITE | headers)


def test_they_are_listed_newest_first_in_pages(view: View) -> None:
    assert view.ask("/api/snapshots").json == {"snapshots": [], "more": False}
    keys = [keep(view, f"label {n}", ("camera", "yard/left")[n % 2]) for n in range(30)]
    answer = view.ask("/api/snapshots").json
    assert answer["more"] is True
    assert len(answer["snapshots"]) == 24
    newest = answer["snapshots"][0]
    assert set(newest) == {"id", "at", "age_s", "camera", "label", "score"}
    assert (newest["id"], newest["label"], newest["score"]) == (keys[29], "label 29", 0.9)
    assert 0 <= newest["age_s"] < 60
    rest = view.ask(f"/api/snapshots?before={answer['snapshots'][-1]['id']}").json
    assert [one["label"] for one in rest["snapshots"]] == [f"label {n}" for n in range(5, -1, -1)]
    assert rest["more"] is False
    assert listed(view, "?camera=yard%2Fleft&limit=2") == ["label 29", "label 27"]
    assert listed(view, "?camera=nobody") == []
    assert listed(view, "?before=0") == []


@pytest.mark.parametrize("limit", ["0", "101", "-1", "", "x", "1e2", "٣", "9" * 400])
def test_a_limit_that_is_none_is_refused(view: View, limit: str) -> None:
    answer = view.ask(f"/api/snapshots?limit={quote(limit)}")
    assert answer.status == 422
    assert answer.error == "limit is a number from 1 to 100"


def test_a_picture_is_kept_by_the_browser_of_who_may_see_it(view: View) -> None:
    key = keep(view)
    answer = view.ask(f"/api/snapshots/{key}.jpg")
    assert answer.status == 200
    assert answer.body == view.ring.picture(key)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "private, max-age=86400, immutable"
    etag = answer.headers["etag"]
    again = view.ask(f"/api/snapshots/{key}.jpg", headers={"If-None-Match": etag})
    assert (again.status, again.body) == (304, b"")
    assert view.ask(f"/api/snapshots/{key}.jpg", "HEAD").status == 200


@pytest.mark.slow
@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.one_of(
        st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40),
        st.sampled_from(
            ["../secret", "..%2fsecret", "%2e%2e/secret", "....//secret", "/etc/passwd", "secret"]
        ),
        st.from_regex(r"[0-9]{10}-[0-9]{8}T[0-9]{6}Z", fullmatch=True),
    ),
    st.booleans(),
)
def test_no_address_leads_out_of_the_folder(view: View, text: str, raw: bool) -> None:
    secret = view.ring.folder.parent / "secret.jpg"
    if not secret.exists():
        keep(view)
        secret.write_bytes(b"secret")
    path = text if raw and re.fullmatch(r"[!-~]+", text) else quote(text, safe="")
    for answer in (view.ask(f"/api/snapshots/{path}.jpg"), throw(view, f"/{path}.jpg")):
        assert answer.status in (400, 404, 405)
        assert b"secret" not in answer.body.replace(path.encode(), b"")
    # Of a slash at its end the address without it is told, on this device.
    assert throw(view, f"/{path}").status in (307, 400, 404, 405)
    assert secret.read_bytes() == b"secret"
    assert len(view.ring.newest(10)) == 1


def test_one_is_thrown_away_and_then_all(view: View, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    keys = [keep(view, f"label {number}") for number in range(3)]
    answer = throw(view, f"/{keys[1]}")
    assert (answer.status, answer.json) == (200, {"removed": 1})
    assert listed(view) == ["label 2", "label 0"]
    assert view.ask(f"/api/snapshots/{keys[1]}.jpg").status == 404
    assert throw(view, f"/{keys[1]}").status == 404
    assert throw(view, "").json == {"removed": 2}
    assert listed(view) == []
    said = [r.getMessage() for r in caplog.records if r.name == "labelcam.audit"]
    assert said == [
        f"security: changed: snapshot {keys[1]} removed, by web view, from 127.0.0.1",
        "security: changed: all snapshots removed, 2 of them, by web view, from 127.0.0.1",
    ]


def test_a_page_of_another_site_throws_nothing_away(view: View) -> None:
    key = keep(view)
    assert view.ask(f"/api/snapshots/{key}", "DELETE").status == 403
    assert throw(view, f"/{key}", Origin="http://evil.example").status == 403
    assert throw(view, "", **{"Sec-Fetch-Site": "cross-site"}).status == 403
    assert listed(view) == ["espresso"]


def test_without_commands_they_are_only_shown(open_view: Open) -> None:
    view = open_view(commands=False)
    key = keep(view)
    assert listed(view) == ["espresso"]
    for path in ("", f"/{key}"):
        answer = throw(view, path)
        assert (answer.status, answer.error) == (403, "commands are turned off; see web.commands")
    assert listed(view) == ["espresso"]


def test_without_pictures_there_are_none(open_view: Open) -> None:
    view = open_view(pictures=False)
    key = keep(view)
    for answer in (
        view.ask("/api/snapshots"),
        view.ask(f"/api/snapshots/{key}.jpg"),
        throw(view, f"/{key}"),
        throw(view, ""),
    ):
        assert (answer.status, answer.error) == (403, "pictures are turned off; see web.pictures")
    assert view.ring.picture(key) is not None


def test_the_token_is_asked_for(open_view: Open, tmp_path: Path) -> None:
    token = web_token.make(tmp_path / "token")
    view = open_view(token_file=str(tmp_path / "token"))
    key = keep(view)
    assert view.ask("/api/snapshots").status == 401
    assert view.ask(f"/api/snapshots/{key}.jpg").status == 401
    assert throw(view, f"/{key}").status == 401
    bearer = {"Authorization": f"Bearer {token}"}
    assert view.ask(f"/api/snapshots/{key}.jpg", headers=bearer).status == 200
    assert throw(view, f"/{key}", **bearer).status == 200


def test_a_folder_that_cannot_be_used_is_no_fault(view: View) -> None:
    view.ring.folder.write_text("mine")
    assert listed(view) == []
    answer = throw(view, "")
    assert answer.status == 409
    assert answer.error == "the folder of the pictures: not a directory"


def test_the_state_says_when_to_look_again(view: View) -> None:
    before = view.ask("/api/state").json["album"]
    key = keep(view)
    with_one = view.ask("/api/state").json["album"]
    throw(view, f"/{key}")
    assert len({before, with_one, view.ask("/api/state").json["album"]}) == 3


def test_where_no_pictures_are_kept_no_folder_is_made(view: View) -> None:
    assert config.Snapshots().enabled is False
    assert listed(view) == []
    assert not view.ring.folder.exists()
