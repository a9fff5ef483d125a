"""Webhooks: stored before they are sent, in order, until the server has each of them."""

import contextlib
import hashlib
import hmac
import json
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from device import config
from device.config import Action
from device.errors import ActionError, ConfigError
from device.frames import Frame, PixelFormat
from device.sinks import outbox as outboxes
from device.sinks.actions import stored
from device.sinks.actions.kinds import check_action, open_action
from device.sinks.actions.performer import Occurrence
from device.sinks.actions.sender import Answer, Sender
from device.sinks.actions.stored import MAX_BYTES, SWEEP_S, outbox_name, sweep
from device.sinks.actions.webhook import WebhookPerformer
from device.sinks.actions.webhook.templates import signature
from device.sinks.actions.wording import Delivery
from device.sinks.outbox import Limits, Outbox
from device.sinks.photos import Photo
from tests.actions.http_server import DEADLINE_S, HANG, HttpServer, Reply, http_server

SECRET = "hush-hush-4711"
DAY_S = 86_400.0


def occurrence(
    label: str = "person", *, on: bool = True, photo: Photo | None = None, **fields: Any
) -> Occurrence:
    values: dict[str, Any] = {
        "action": "phone",
        "node": "attic",
        "camera": "door",
        "label": label,
        "on": on,
        "score": 0.875,
        "held_s": 0.0 if on else 125.0,
        "active": (label,) if on else (),
        "model": "m",
        "at": time.monotonic(),
        "wall_at": 1_700_000_000.0,
        "photo": photo,
    }
    return Occurrence(**values | fields)


def photo() -> Photo:
    frame = Frame(np.full((48, 64, 3), 90, np.uint8), PixelFormat.BGR, 64, 48, 0, 0.0)
    return Photo(frame, config.Camera(), None)


class Reports:
    """What came of each occurrence: its label, whether it was done, and what was said."""

    def __init__(self) -> None:
        self.found: list[tuple[str, bool, str]] = []
        self._came = threading.Condition()

    def __call__(self, o: Occurrence, outcome: str | ActionError) -> None:
        with self._came:
            failed = isinstance(outcome, ActionError)
            said = outcome.problem if isinstance(outcome, ActionError) else outcome
            self.found.append((o.label, not failed, said))
            self._came.notify_all()

    def wait_for(self, many: int) -> list[tuple[str, bool, str]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.found) >= many, DEADLINE_S)
            return list(self.found)


class Rig:
    """A webhook of the configuration on a state directory of its own."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.reports = Reports()
        self._open: list[WebhookPerformer] = []

    def open(self, url: str, **keys: Any) -> WebhookPerformer:
        settings = Action(name="phone", kind="webhook", on=url, **{"off": url} | keys)
        check_action(settings)
        performer = WebhookPerformer(settings, self.reports, state=self.state)
        self._open.append(performer)
        performer.open()
        return performer

    def secret(self, text: str = SECRET) -> str:
        path = self.state / "secret"
        path.write_text(text + "\n")
        path.chmod(0o640)
        return str(path)

    def close(self) -> None:
        for performer in self._open:
            performer.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with http_server() as made:
        yield made


def test_what_began_and_what_ended_are_posted_as_json(rig: Rig, server: HttpServer) -> None:
    webhook = rig.open(server.url())
    webhook.begin(occurrence())
    webhook.end(occurrence(on=False))
    began, ended = server.wait_for(2)
    assert (began.method, began.path) == ("POST", "/hook")
    assert began.headers["content-type"] == "application/json"
    body = json.loads(began.body)
    assert body.pop("age_s") < DEADLINE_S
    assert body.pop("message").startswith("person at door")
    assert body.pop("clock_synced") in (True, False)
    assert began.headers["x-labelcam-delivery"] == began.headers["idempotency-key"] == body["id"]
    assert body.pop("id")
    assert body == {
        "seq": 1,
        "action": "phone",
        "node": "attic",
        "camera": "door",
        "label": "person",
        "on": True,
        "score": 0.875,
        "held_s": 0.0,
        "active": ["person"],
        "model": "m",
        "at": "2023-11-14T22:13:20.000Z",
        "replayed": False,
    }
    body = json.loads(ended.body)
    assert (body["on"], body["held_s"], body["seq"]) == (False, 125.0, 2)
    assert (began.headers["x-labelcam-event"], ended.headers["x-labelcam-event"]) == ("on", "off")
    assert rig.reports.wait_for(2) == [("person", True, "answered 200 OK")] * 2
    assert "snapshot" not in body


def test_without_an_address_for_the_end_nothing_is_sent(rig: Rig, server: HttpServer) -> None:
    webhook = rig.open(server.url(), off=())
    webhook.end(occurrence("first", on=False))
    webhook.begin(occurrence("second"))
    assert [r[0] for r in rig.reports.wait_for(1)] == ["second"]
    assert len(server.received) == 1


def test_a_picture_goes_out_only_where_it_is_asked_for(rig: Rig, server: HttpServer) -> None:
    plain = rig.open(server.url())
    assert not plain.wants_picture
    with_picture = WebhookPerformer(
        Action(name="other", kind="webhook", on=server.url(), snapshot=True),
        rig.reports,
        state=rig.state,
    )
    assert with_picture.wants_picture
    with contextlib.closing(with_picture):
        with_picture.open()
        with_picture.begin(occurrence(photo=photo()))
        (received,) = server.wait_for(1)
    jpeg = msgspec.json.decode(json.dumps(json.loads(received.body)["snapshot"]), type=bytes)
    assert jpeg.startswith(b"\xff\xd8")


def test_the_verifier_of_the_documentation_takes_ours_and_no_other(
    rig: Rig, server: HttpServer
) -> None:
    """The lines between the fences of docs/actions.md are run as they stand there."""
    page = (Path(__file__).parents[2] / "docs" / "actions.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("<!-- verifier -->\n```python\n")
    code, fence, _ = rest.partition("```")
    assert fence
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    is_ours: Callable[[bytes, str, bytes], bool] = namespace["is_ours"]
    webhook = rig.open(server.url(), secret_file=rig.secret())
    webhook.begin(occurrence())
    (received,) = server.wait_for(1)
    header = received.headers["x-labelcam-signature"]
    assert is_ours(SECRET.encode(), header, received.body)
    assert not is_ours(SECRET.encode(), header, received.body + b" ")
    assert not is_ours(b"another", header, received.body)
    stale = signature(SECRET, received.body, int(time.time()) - 3600)
    assert not is_ours(SECRET.encode(), stale, received.body)


def test_a_signature_is_an_hmac_of_time_and_body() -> None:
    expected = hmac.new(b"k", b"17.{}", hashlib.sha256).hexdigest()
    assert signature("k", b"{}", 17) == f"t=17,v1={expected}"


def test_no_secret_reaches_disk_logs_or_reports(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = Reply(404, f"no hook at /{SECRET} here".encode())
    with http_server(echo) as server:
        url = server.url("/{secret}")
        webhook = rig.open(url, secret_file=rig.secret())
        webhook.begin(occurrence())
        (came,) = rig.reports.wait_for(1)
        (received,) = server.received
        assert received.path == f"/{SECRET}"
        with pytest.raises(ActionError, match="no hook at /… here") as caught:
            webhook.rehearse(occurrence())
    assert SECRET not in caplog.text + repr(came) + repr((webhook, webhook._addresses)) + str(
        caught.value
    )
    webhook.close()
    written = b"".join(p.read_bytes() for p in (rig.state / "actions").iterdir())
    assert written
    assert SECRET.encode() not in written


def test_a_secret_that_everyone_may_read_is_refused(rig: Rig) -> None:
    path = rig.secret()
    Path(path).chmod(0o644)
    with pytest.raises(ConfigError, match=r"action phone: secret_file .* is readable by everyone"):
        rig.open("https://a.example/", secret_file=path)
    with pytest.raises(ConfigError, match=r"secret_file /no/where: No such file or directory"):
        rig.open("https://a.example/", secret_file="/no/where")


def test_a_credential_of_systemd_is_the_secret(
    rig: Rig, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(rig.state))
    path = rig.state / "action-phone"
    path.write_text(SECRET)
    path.chmod(0o400)
    webhook = rig.open(server.url())
    webhook.begin(occurrence())
    (received,) = server.wait_for(1)
    assert "x-labelcam-signature" in received.headers


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"on": "a.example"}, "its address is none; give one as https://host/path"),
        ({"on": ("https://a.example/", "https://b.example/")}, "several addresses as on; give one"),
        ({"on": 17}, "its address is none"),
        ({"ca_file": "/no/where"}, "ca_file /no/where: No such file or directory"),
        ({"template": "slack", "snapshot": True}, "slack takes no pictures this way; leave it out"),
        ({"template": "home-assistant", "snapshot": True}, "takes no pictures"),
        ({"template": "slack", "secret": True}, "slack wants its secret in the address"),
        ({"template": "telegram"}, "telegram needs to know whom to write to"),
        ({"on": "https://a.example/{secret}"}, "{secret} stands in its address; give secret_file"),
    ],
)
def test_what_could_never_work_is_refused_at_once(
    rig: Rig, keys: dict[str, Any], problem: str
) -> None:
    if keys.pop("secret", None):
        keys["secret_file"] = rig.secret()
    settings = Action(**{"name": "phone", "kind": "webhook", "on": "https://a.example/"} | keys)
    with pytest.raises(ConfigError) as caught:
        check_action(settings)
    assert str(caught.value).startswith("action phone: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("url", "keys", "warned"),
    [
        ("http://hooks.example/{secret}", {}, True),
        ("http://hooks.example/topic", {"template": "ntfy"}, True),
        ("http://me:hush@hooks.example/", {}, True),
        ("https://hooks.example/{secret}", {}, False),
        ("http://127.0.0.1:8123/{secret}", {}, False),
        # A signature does not show what it was made with.
        ("http://hooks.example/", {}, False),
    ],
)
def test_a_secret_that_goes_unencrypted_is_warned_of(
    rig: Rig, caplog: pytest.LogCaptureFixture, url: str, keys: dict[str, Any], warned: bool
) -> None:
    check_action(Action(name="phone", kind="webhook", on=url, secret_file=rig.secret(), **keys))
    assert ("its secret goes to hooks.example unencrypted" in caplog.text) is warned


# A server that fails on purpose.


class Clock:
    """Seconds since boot, as the test says."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def delivery(label: str) -> Delivery:
    return Delivery.of(occurrence(label), f"id-{label}", clock_synced=True)


class Line:
    """A sender on a clock of the test's, with whatever server: ``run`` lets time pass."""

    def __init__(
        self, path: Path, send: Callable[[Delivery, float | None, bool], Answer], keep_h: float = 48
    ) -> None:
        self.clock = Clock()
        self.outcomes: list[tuple[str, str]] = []
        self.waits: list[float] = []
        limits = Limits(10_000, MAX_BYTES, keep_h * 3600)
        self.outbox = Outbox(path, limits, kind=Delivery, clock=self.clock)
        self.sender = Sender(
            "phone", self.outbox, keep_h * 3600, send, self._came,
            clock=self.clock, rng=random.Random(5),
        )  # fmt: skip

    def _came(self, of: Delivery, _age_s: float | None, outcome: str | ActionError) -> None:
        said = outcome.problem if isinstance(outcome, ActionError) else outcome
        self.outcomes.append((of.label, said))

    def run(self, for_s: float) -> None:
        """Let so much time pass, in as many steps as the sender wants; bounded."""
        end = self.clock.now + for_s
        for _ in range(10_000):
            wait_s = self.sender.step()
            if wait_s is None or self.clock.now + wait_s >= end:
                self.clock.now = end
                return
            if wait_s:
                self.waits.append(wait_s)
            self.clock.now += wait_s
        pytest.fail("it never rests")


@contextlib.contextmanager
def line(path: Path, server: HttpServer, **keys: Any) -> Iterator[Line]:
    """A sender to a real server, with a clock of the test's own."""
    settings = Action(name="phone", kind="webhook", on=server.url())
    performer = WebhookPerformer(settings, Reports(), state=path.parent)
    performer.prepare()
    made = Line(path, performer._send, **keys)
    try:
        yield made
    finally:
        made.sender.close()


def labels(server: HttpServer) -> list[str]:
    return [json.loads(request.body)["label"] for request in server.received]


@pytest.mark.slow
def test_a_server_that_answers_500_for_a_day_gets_everything_in_order_after_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with http_server(Reply(500, b"out of order")) as server, line(tmp_path / "o.db", server) as on:
        for label in "abc":
            on.sender.put(delivery(label))
            on.run(60.0)
        on.run(DAY_S)
        tries = len(server.received)
        assert set(labels(server)) == {"a"}
        # 24 h of waits of 2 min at most: no flood, and no more than that after it is mended.
        assert 720 <= tries <= 3000
        assert max(on.waits) <= 120
        assert on.sender.problem == (
            f"127.0.0.1:{server.port}: 500 Internal Server Error: out of order"
        )
        assert on.sender.waiting == 3
        server.turns = [Reply(200)]
        on.run(120.0)
        assert labels(server)[tries:] == ["a", "b", "c"]
        assert len({r.headers["x-labelcam-delivery"] for r in server.received[: tries + 1]}) == 1
        assert all(json.loads(r.body)["replayed"] for r in server.received[1 : tries + 1])
        assert json.loads(server.received[tries].body)["age_s"] > DAY_S
        assert on.outcomes == [(label, "answered 200 OK") for label in "abc"]
        assert (on.sender.waiting, on.sender.problem, on.sender.dropped) == (0, "", 0)
    said = [record.message for record in caplog.records if "phone" in record.message]
    assert len(said) == 2
    assert "kept and tried again" in said[0]
    assert said[1] == "action phone: its server answers again"


@pytest.mark.slow
def test_what_no_server_ever_takes_is_given_up_after_its_time(tmp_path: Path) -> None:
    with http_server(Reply(503)) as server, line(tmp_path / "o.db", server, keep_h=1) as on:
        on.sender.put(delivery("a"))
        on.run(1800.0)
        on.sender.put(delivery("b"))
        on.run(1900.0)
        where = f"127.0.0.1:{server.port}"
        said = f"not delivered within 1 h ({where}: 503 Service Unavailable)"
        assert on.outcomes == [("a", said)]
        assert on.sender.waiting == 1
        on.run(3600.0)
        assert [label for label, _ in on.outcomes] == ["a", "b"]
        assert (on.sender.waiting, on.sender.expired, on.sender.dropped) == (0, 2, 2)


def test_a_refusal_for_good_is_said_counted_and_keeps_nothing_up(tmp_path: Path) -> None:
    turns = [Reply(200), Reply(404, b"no such hook"), Reply(200)]
    with http_server(*turns) as server, line(tmp_path / "o.db", server) as on:
        for label in "abc":
            on.sender.put(delivery(label))
        on.run(10.0)
        assert labels(server) == ["a", "b", "c"]
        where = f"127.0.0.1:{server.port}"
        assert on.outcomes == [
            ("a", "answered 200 OK"),
            ("b", f"refused: {where}: 404 Not Found: no such hook"),
            ("c", "answered 200 OK"),
        ]
        assert (on.sender.refused, on.sender.delivered, on.sender.dropped) == (1, 2, 1)


@pytest.mark.parametrize(
    ("asked", "least_s", "most_s"),
    [("30", 30, 33), ("0", 0.5, 0.55), ("86400", 3600, 3960)],
)
def test_a_server_that_wants_to_be_left_alone_is_within_bounds(
    tmp_path: Path, asked: str, least_s: float, most_s: float
) -> None:
    turns = [Reply(429, headers={"Retry-After": asked}), Reply(200)]
    with http_server(*turns) as server, line(tmp_path / "o.db", server) as on:
        on.sender.put(delivery("a"))
        wait_s = on.sender.step()
        assert wait_s is not None
        assert least_s <= wait_s <= most_s
        on.clock.now += wait_s - 0.01
        # A new delivery does not make it any sooner.
        on.sender.put(delivery("b"))
        assert on.sender.step() == pytest.approx(0.01)
        assert len(server.received) == 1
        on.clock.now += 0.02
        on.run(5.0)
        assert labels(server) == ["a", "a", "b"]


@pytest.mark.slow
def test_what_waits_is_bounded_and_the_newest_stay(tmp_path: Path) -> None:
    def never(_delivery: Delivery, _age_s: float | None, _replayed: bool) -> Answer:
        return Answer(503, "no")

    on = Line(tmp_path / "o.db", never)
    large = msgspec.structs.replace(delivery("x"), snapshot=os.urandom(1 << 20))
    for number in range(30):
        on.sender.put(msgspec.structs.replace(large, label=str(number)))
    assert on.outbox.size_bytes <= MAX_BYTES
    # A picture of a megabyte is 1.4 in the file.
    assert 13 <= on.sender.waiting <= 15
    assert on.sender.dropped == 30 - on.sender.waiting
    oldest = on.outbox.pending(0, 1)[0].event
    assert oldest.label == str(30 - on.sender.waiting)
    on.sender.close()


@pytest.mark.slow
def test_order_and_nothing_lost_whatever_the_server_does(tmp_path: Path) -> None:
    rng = random.Random(11)

    def sometimes(handler: Any) -> None:
        status = rng.choice([200, 500, 503, 408, 302])
        if rng.random() < 0.2:
            return  # hangs up without an answer
        handler.send_response(status)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with http_server(sometimes) as server, line(tmp_path / "o.db", server) as on:
        made = [str(number) for number in range(40)]
        for label in made:
            on.sender.put(delivery(label))
            on.run(rng.choice([0.0, 1.0, 30.0]))
        on.run(DAY_S)
        arrived = labels(server)
        assert [label for label, said in on.outcomes if said == "answered 200 OK"] == made
    assert list(dict.fromkeys(arrived)) == made
    assert arrived == sorted(arrived, key=int)


# Restarts.


def test_what_a_run_left_behind_is_sent_by_the_next(rig: Rig) -> None:
    with http_server(Reply(503)) as server:
        first = rig.open(server.url())
        first.begin(occurrence("a"))
        first.begin(occurrence("b"))
        server.wait_for(1)
        first.close()
        assert rig.reports.found == []
        (name,) = [p.name for p in (rig.state / "actions").iterdir() if p.suffix == ".db"]
        assert name == outbox_name("phone")
        server.turns = [Reply(200)]
        before = len(server.received)
        rig.open(server.url())
        rig.reports.wait_for(2)
    assert labels(server)[before:] == ["a", "b"]
    again = [json.loads(request.body) for request in server.received[before:]]
    assert all(body["replayed"] for body in again)
    assert again[0]["id"] == json.loads(server.received[0].body)["id"]


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_sends_loses_nothing(rig: Rig) -> None:
    with http_server(HANG) as server:
        script = f"""
            import sys
            from device.config import Action
            from device.sinks.actions.webhook import WebhookPerformer
            from pathlib import Path
            from tests.actions.test_webhook import occurrence
            settings = Action(name="phone", kind="webhook", on={server.url()!r})
            webhook = WebhookPerformer(settings, print, state=Path({str(rig.state)!r}))
            webhook.open()
            for label in "abc":
                webhook.begin(occurrence(label))
            print("stored", flush=True)
            sys.stdin.read()
        """
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "stored\n"
        server.wait_for(1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stdin.close()
    with http_server() as server:
        rig.open(server.url())
        rig.reports.wait_for(3)
    assert labels(server) == ["a", "b", "c"]


def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(rig: Rig, server: HttpServer) -> None:
    folder = rig.state / "actions"
    folder.mkdir()
    (folder / outbox_name("phone")).write_bytes(b"no database" * 500)
    webhook = rig.open(server.url())
    webhook.begin(occurrence("a"))
    rig.reports.wait_for(1)
    assert labels(server) == ["a"]
    assert len(list(folder.glob("*.broken-*"))) == 1


def test_a_server_that_hangs_keeps_nothing_from_being_stored_nor_the_end(rig: Rig) -> None:
    with http_server(HANG) as server:
        webhook = rig.open(server.url())
        webhook.begin(occurrence("a"))
        server.wait_for(1)
        began = time.monotonic()
        webhook.begin(occurrence("b"))
        webhook.close()
        assert time.monotonic() - began < 10
    box = Outbox(
        rig.state / "actions" / outbox_name("phone"), Limits(9, 1 << 20, 1e9), kind=Delivery
    )
    assert [waiting.event.label for waiting in box.pending(0, 9)] == ["a", "b"]
    box.close()
    assert rig.reports.found == []


def test_what_waits_when_the_run_ends_is_sent_while_the_server_takes_it(
    rig: Rig, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "GOODBYE_S", DEADLINE_S)
    webhook = rig.open(server.url())
    for label in "abc":
        webhook.begin(occurrence(label))
    webhook.cancel()
    webhook.close()
    assert labels(server) == ["a", "b", "c"]


def test_what_is_wrong_is_told_with_how_many_wait(rig: Rig) -> None:
    with http_server(Reply(503)) as server:
        webhook = rig.open(server.url())
        webhook.begin(occurrence())
        deadline = time.monotonic() + DEADLINE_S
        while not webhook.problem and time.monotonic() < deadline:
            time.sleep(0.005)
        where = f"127.0.0.1:{server.port}"
        assert webhook.problem == f"{where}: 503 Service Unavailable (1 waiting)"


def test_a_full_disk_does_not_stop_deliveries(
    rig: Rig, server: HttpServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "RETRY_S", 0.05)
    (rig.state / "actions").write_text("a file where the folder would be")
    webhook = rig.open(server.url())
    webhook.begin(occurrence("a"))
    assert rig.reports.wait_for(1) == [("a", True, "answered 200 OK")]


# What a person tries.


def test_a_rehearsal_sends_once_and_says_what_the_server_answered(rig: Rig) -> None:
    with http_server(Reply(204), Reply(502, b"bad gateway"), Reply(200)) as server:
        settings = Action(name="phone", kind="webhook", on=server.url())
        performer = open_action(settings, rig.reports)
        assert performer.rehearse(occurrence()) == "answered 204 No Content"
        where = f"127.0.0.1:{server.port}"
        with pytest.raises(ActionError, match=f"{where}: 502 Bad Gateway: bad gateway"):
            performer.rehearse(occurrence())
        assert performer.rehearse(occurrence(on=False)) == "nothing to be sent"
        assert len(server.received) == 2
        performer.close()
    assert not (rig.state / "actions").exists()


def test_what_actions_that_are_gone_left_behind_is_deleted_in_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "actions"
    folder.mkdir()
    kept = [outbox_name("phone"), outbox_name("phone") + "-wal"]
    old = [outbox_name("gone"), outbox_name("phone") + ".broken-1", "young.db"]
    now = time.time()
    for name in (*kept, *old):
        (folder / name).write_text("pictures")
        os.utime(folder / name, (0, now - SWEEP_S - 60))
    os.utime(folder / "young.db", (0, now - SWEEP_S + 60))
    sweep(["phone"], tmp_path, now)
    assert {path.name for path in folder.iterdir()} == {*kept, "young.db"}
    sweep([], tmp_path / "nowhere")


def test_a_fault_of_its_own_is_said_once_and_does_not_end_it(
    rig: Rig, server: HttpServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stored, "FAULT_S", 0.01)
    faults = iter([ZeroDivisionError("by me"), ZeroDivisionError("by me")])
    webhook = rig.open(server.url())
    send = webhook.send

    def failing(*given: Any, **named: Any) -> Answer:
        if fault := next(faults, None):
            raise fault
        return send(*given, **named)

    monkeypatch.setattr(webhook, "send", failing)
    webhook.begin(occurrence())
    assert rig.reports.wait_for(1) == [("person", True, "answered 200 OK")]
    assert [r.message for r in caplog.records if "fault" in r.message] == [
        "action phone: internal fault, please report it: ZeroDivisionError: by me"
    ]


def test_names_of_actions_that_look_alike_have_files_of_their_own() -> None:
    names = [outbox_name(name) for name in ("Lamp 1", "lamp-1", "..", "ü" * 64, "a\n")]
    assert len(set(names)) == len(names)
    assert all(len(name) < 100 and name.isascii() and "/" not in name for name in names)
