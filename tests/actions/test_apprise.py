"""Apprise as it is installed, against a real server that fails on purpose."""

import base64
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from device.config import Action
from device.errors import ActionError, ConfigError, DependencyError
from device.sinks import retry
from device.sinks.actions.apprise import ApprisePerformer
from device.sinks.actions.kinds import check_action, open_action
from tests.actions.http_server import DEADLINE_S, HANG, HttpServer, Reply, http_server
from tests.actions.test_webhook import Reports, occurrence, photo

# Of a module that Apprise imports up to Python 3.12.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
pytest.importorskip("apprise", reason="apprise is not installed; see tests/requirements.txt")

SECRET = "hush-hush-4711"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for seconds until it is tried again."""
    monkeypatch.setattr(retry, "FIRST_S", 0.02)


class Rig:
    """An action of Apprise on a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.reports = Reports()
        self._open: list[ApprisePerformer] = []

    def settings(self, *lines: str, **keys: Any) -> Action:
        if lines:
            path = self.state / "services"
            path.write_text("# where it goes\n\n" + "\n".join(lines) + "\n")
            path.chmod(0o640)
            keys["secret_file"] = str(path)
        return Action(**{"name": "phone", "kind": "apprise", "on": "{secret}"} | keys)

    def open(self, *lines: str, **keys: Any) -> ApprisePerformer:
        settings = self.settings(*lines, **keys)
        check_action(settings)
        performer = ApprisePerformer(settings, self.reports, state=self.state)
        self._open.append(performer)
        performer.open()
        return performer

    def close(self) -> None:
        for performer in self._open:
            performer.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def address(server: HttpServer, path: str = "hook") -> str:
    return f"json://127.0.0.1:{server.port}/{path}"


def bodies(server: HttpServer) -> list[dict[str, Any]]:
    return [json.loads(request.body) for request in server.received]


@pytest.mark.slow
def test_a_message_goes_to_every_address_of_the_file(rig: Rig) -> None:
    with http_server() as one, http_server() as two:
        action = rig.open(address(one, SECRET), address(two))
        action.begin(occurrence())
        action.end(occurrence(on=False))
        assert rig.reports.wait_for(1) == [("person", True, "taken by JSON, JSON")]
        assert [request.path for request in one.received] == [f"/{SECRET}"]
        (body,) = bodies(two)
    assert (body["title"], body["attachments"]) == ("attic", [])
    assert body["message"].startswith("person at door")


@pytest.mark.slow
def test_the_picture_is_attached_where_it_is_asked_for(rig: Rig) -> None:
    with http_server() as server:
        action = rig.open(address(server), snapshot=True)
        assert action.wants_picture
        action.begin(occurrence(photo=photo()))
        rig.reports.wait_for(1)
        (attached,) = bodies(server)[0]["attachments"]
    assert (attached["filename"], attached["mimetype"]) == ("snapshot.jpg", "image/jpeg")
    assert base64.b64decode(attached["base64"]).startswith(b"\xff\xd8")


@pytest.mark.slow
def test_a_server_that_fails_gets_it_later_and_the_others_once(rig: Rig) -> None:
    with http_server() as good, http_server(Reply(500), Reply(503), Reply(200)) as bad:
        action = rig.open(address(good), address(bad), message="{label}!")
        for label in ("a", "b"):
            action.begin(occurrence(label))
        assert [(r[0], r[1]) for r in rig.reports.wait_for(2)] == [("a", True), ("b", True)]
        assert [body["message"] for body in bodies(good)] == ["a!", "b!"]
        assert [body["message"] for body in bodies(bad)] == ["a!", "a!", "a!", "b!"]


@pytest.mark.slow
def test_what_a_run_left_behind_is_sent_by_the_next(rig: Rig) -> None:
    with http_server(Reply(500)) as server:
        first = rig.open(address(server))
        first.begin(occurrence("a"))
        server.wait_for(1)
        first.close()
        server.turns = [Reply(200)]
        before = len(server.received)
        rig.open(address(server))
        assert rig.reports.wait_for(1) == [("a", True, "taken by JSON")]
        assert len(server.received) == before + 1


@pytest.mark.slow
def test_a_service_that_never_answers_is_left_in_time(rig: Rig) -> None:
    with http_server(HANG) as server:
        # Longer than the test lasts: it is ours that counts.
        action = rig.open(f"{address(server)}?rto=300")
        action.total_s = 0.3
        settings = rig.settings(f"{address(server)}?rto=300")
        with pytest.raises(ActionError, match=r"JSON: no answer within 0.3 s"):
            action.rehearse(occurrence())
        with pytest.raises(ActionError, match="JSON: has not answered the last time yet"):
            action.rehearse(occurrence())
        began = time.monotonic()
        action.close()
        assert time.monotonic() - began < 10
        assert len(server.received) == 1
        assert settings.secret_file
    for thread in threading.enumerate():
        if thread.name == "labelcam-apprise":
            thread.join(DEADLINE_S)
            assert not thread.is_alive()


@pytest.mark.slow
def test_no_redirect_is_followed(rig: Rig) -> None:
    with http_server() as inside:
        away = Reply(302, headers={"Location": inside.url("/admin")})
        with http_server(away) as outside:
            action = rig.open(address(outside))
            with pytest.raises(ActionError, match="JSON: "):
                action.rehearse(occurrence())
        assert inside.received == []


@pytest.mark.slow
def test_no_part_of_an_address_reaches_logs_or_reports(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger().setLevel(logging.DEBUG)
    with http_server(Reply(403, f"not {SECRET}".encode())) as server:
        url = f"json://user-x:{SECRET}@127.0.0.1:{server.port}/{SECRET}?+X-Key={SECRET}"
        action = rig.open(url)
        with pytest.raises(ActionError) as caught:
            action.rehearse(occurrence())
        assert server.received
    said = str(caught.value) + caplog.text + repr(action._services) + repr(action.settings)
    assert SECRET not in said
    assert "user-x" not in said
    assert "error=403" in str(caught.value)


@pytest.mark.parametrize("line", ["nonsense", "nosuch://x/y", "tgram://", "json://", f"x{SECRET}"])
def test_an_address_of_no_service_is_refused_at_once_and_not_repeated(rig: Rig, line: str) -> None:
    with pytest.raises(ConfigError, match=r"action phone: an address is of no service") as caught:
        check_action(rig.settings(line))
    assert SECRET not in str(caught.value)


def test_a_file_that_everyone_may_read_or_that_is_empty_is_refused(rig: Rig) -> None:
    settings = rig.settings("json://localhost/")
    path = Path(settings.secret_file or "")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="is readable by everyone"):
        check_action(settings)
    path.chmod(0o600)
    path.write_text("# nothing\n")
    with pytest.raises(ConfigError, match="has no line with a secret"):
        check_action(settings)
    with pytest.raises(ConfigError, match="give secret_file"):
        check_action(rig.settings())


@pytest.mark.parametrize("missing", ["apprise", "apprise.attachment.memory"])
def test_without_the_package_its_command_is_named(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DependencyError, match=r"pip install 'apprise>=2.3'"):
        check_action(rig.settings("json://localhost/"))


@pytest.mark.slow
def test_a_rehearsal_says_by_whom_it_was_taken(rig: Rig) -> None:
    with http_server() as server:
        action = open_action(rig.settings(on=address(server)), rig.reports)
        assert action.rehearse(occurrence()) == "taken by JSON"
        assert action.rehearse(occurrence(on=False)) == "nothing to be sent"
        action.close()
    assert len(server.received) == 1
