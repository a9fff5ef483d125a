"""What each service gets, against what its documentation asks for; and the words for people."""

import email
import email.header
import json
import time
from email.message import Message
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.config import Action
from device.config.message import EXAMPLES
from device.config.message import check as check_message
from device.sinks.actions.webhook.address import parse
from device.sinks.actions.webhook.post import Request
from device.sinks.actions.webhook.templates import Webhook
from device.sinks.actions.wording import MAX_CHARS, Delivery, message
from device.sinks.wire import iso
from device.system.secret import trust

SECRET = "123:abc"
JPEG = b"\xff\xd8 a picture \xff\xd9"
# Ten minutes past noon here, wherever here is.
NOON = time.mktime((2026, 3, 4, 12, 3, 0, 0, 0, -1))


def delivery(**fields: Any) -> Delivery:
    values: dict[str, Any] = {
        "id": "id-1",
        "camera": "door",
        "at": iso(NOON),
        "clock_synced": True,
        "label": "person",
        "score": 0.87,
        "previous": None,
        "held_s": 0.0,
        "model": "m",
        "active": ("person",),
        "action": "phone",
        "node": "attic",
    }
    return Delivery(**values | fields)


def request(url: str, of: Delivery, **keys: Any) -> Request:
    settings = Action(name="phone", kind="webhook", on=url, **keys)
    webhook = Webhook(settings, SECRET, trust("", ""))
    return webhook.request(webhook.letter(of, NOON), parse(url, SECRET), NOON)


def parts(made: Request) -> dict[str, Message]:
    """The parts of a form by their names."""
    head = f"Content-Type: {made.headers['Content-Type']}\r\n\r\n".encode()
    found = {}
    for part in email.message_from_bytes(head + made.body).get_payload():
        assert isinstance(part, Message)
        found[str(part.get_param("name", header="content-disposition"))] = part
    return found


def test_ntfy_gets_a_text_with_a_title_and_a_token() -> None:
    made = request("https://ntfy.sh/my-topic", delivery(), template="ntfy")
    assert (made.method, made.host, made.target) == ("POST", "ntfy.sh", "/my-topic")
    assert made.body == b"person at door since 12:03"
    assert made.headers["X-Title"] == "attic"
    assert made.headers["Authorization"] == f"Bearer {SECRET}"


def test_ntfy_gets_a_picture_as_the_body_and_the_words_as_a_header() -> None:
    made = request(
        "https://ntfy.sh/t", delivery(label="Füße\r\nX-Evil: 1", snapshot=JPEG), template="ntfy"
    )
    assert (made.method, made.body) == ("PUT", JPEG)
    assert made.headers["X-Filename"] == "snapshot.jpg"
    header = made.headers["X-Message"]
    assert header.isascii()
    assert header.isprintable()
    said = "".join(
        part if isinstance(part, str) else part.decode(code or "ascii")
        for part, code in email.header.decode_header(header)
    )
    assert said == "Füße X-Evil: 1 at door since 12:03"


def test_slack_gets_a_text_in_which_no_label_calls_anybody() -> None:
    made = request(
        "https://hooks.slack.com/services/{secret}",
        delivery(label="<!channel> & co"),
        template="slack",
    )
    assert made.target == "/services/123:abc"
    assert json.loads(made.body) == {"text": "&lt;!channel&gt; &amp; co at door since 12:03"}
    assert "Authorization" not in made.headers


def test_discord_gets_a_text_that_mentions_nobody_and_a_picture_beside_it() -> None:
    url = "https://discord.com/api/webhooks/1/{secret}"
    made = request(url, delivery(label="@everyone"), template="discord")
    fields = {
        "content": "@everyone at door since 12:03", "allowed_mentions": {"parse": []},
    }  # fmt: skip
    assert json.loads(made.body) == fields
    form = parts(request(url, delivery(label="@everyone", snapshot=JPEG), template="discord"))
    assert json.loads(bytes(form["payload_json"].get_payload(decode=True))) == fields
    picture = form["files[0]"]
    assert (picture.get_payload(decode=True), picture.get_content_type()) == (JPEG, "image/jpeg")
    assert picture.get_filename() == "snapshot.jpg"


def test_telegram_gets_who_is_written_to_from_the_address() -> None:
    url = "https://api.telegram.org/bot{secret}?chat_id=-42"
    made = request(url, delivery(), template="telegram")
    assert made.target == "/bot123:abc/sendMessage"
    assert json.loads(made.body) == {"chat_id": "-42", "text": "person at door since 12:03"}
    made = request(url, delivery(snapshot=JPEG), template="telegram")
    assert made.target == "/bot123:abc/sendPhoto"
    form = parts(made)
    assert form["chat_id"].get_payload(decode=True) == b"-42"
    assert form["caption"].get_payload(decode=True) == b"person at door since 12:03"
    assert form["photo"].get_payload(decode=True) == JPEG


def test_home_assistant_gets_what_an_automation_can_use() -> None:
    made = request(
        "http://homeassistant.local:8123/api/webhook/{secret}",
        delivery(),
        template="home-assistant",
    )
    assert (made.port, made.target, made.tls) == (8123, "/api/webhook/123:abc", None)
    body = json.loads(made.body)
    assert (body["label"], body["on"], body["camera"]) == ("person", True, "door")
    assert (body["title"], body["message"]) == ("attic", "person at door since 12:03")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "person at door since 12:03"),
        ({"clock_synced": False}, "person at door"),
        ({"on": False, "held_s": 125.4}, "no person at door any more, after 2 min 5 s"),
        ({"on": False, "held_s": 59.6}, "no person at door any more, after 1 min 0 s"),
        ({"on": False, "held_s": 9_000.0}, "no person at door any more, after 2 h 30 min"),
        ({"on": False, "held_s": 200_000.0}, "no person at door any more, after 2 d 7 h"),
        ({"at": iso(NOON - 86_400)}, "person at door since 2026-03-03 12:03"),
        ({"label": "a\x1b[2Jb\nc"}, "a\\u001b[2Jb c at door since 12:03"),
    ],
)
def test_people_are_told_what_where_and_since_when(fields: dict[str, Any], said: str) -> None:
    settings = Action(name="phone", kind="webhook", on="https://a.example/")
    assert message(settings, delivery(**fields), NOON) == said


def test_the_configuration_has_words_of_its_own() -> None:
    settings = Action(
        name="phone",
        kind="webhook",
        on="https://a.example/",
        message="{label:>8}|{score:.0%}|{camera}|{node}|{since}|{event}|{{}}\n2",
        message_off="{label} left at {until} after {held} ({held_s:.0f})",
    )
    assert message(settings, delivery(), NOON) == "  person|87%|door|attic|12:03|began|{}\n2"
    ended = delivery(on=False, held_s=120.0)
    assert message(settings, ended, NOON) == "person left at 12:03 after 2 min 0 s (120)"
    assert len(message(settings, delivery(label="x" * 5000), NOON)) == MAX_CHARS


@pytest.mark.parametrize(
    "text",
    [
        "{labels}", "{}", "{0}", "{label.__class__}", "{label[0]}", "{score!r}", "{label:{held}}",
        "{label:999999999}", "{score:.99999}", "{", "}", "{label", "{score:d}", "{label:.0%}",
        "{settings}", "{secret}", "{held_s:>999}", "{score:,}",
    ],
)  # fmt: skip
def test_what_is_no_plain_field_is_refused_with_the_configuration(text: str) -> None:
    with pytest.raises(ValueError, match=r"Expected `message` with fields as \{label\}"):
        Action(name="phone", kind="webhook", on="https://a.example/", message=text)


@given(st.text(max_size=60))
def test_a_text_that_is_taken_can_be_said_of_anything(text: str) -> None:
    try:
        check_message("message", text)
    except ValueError:
        return
    settings = Action(name="phone", kind="webhook", on="https://a.example/", message=text)
    for of in (delivery(), delivery(on=False, label="{label}", score=1.0)):
        assert len(message(settings, of, NOON)) <= MAX_CHARS


def test_fields_are_those_that_are_checked_with() -> None:
    text = "".join(f"{{{field}}}" for field in EXAMPLES)
    settings = Action(name="phone", kind="webhook", on="https://a.example/", message=text)
    assert message(settings, delivery(), NOON)


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `template` only where `kind` is webhook"):
        msgspec.convert({"name": "x", "kind": "gpio", "on": 4, "template": "ntfy"}, Action)
