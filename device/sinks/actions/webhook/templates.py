"""What each service wants: a request for a delivery, with address, headers and body.

As documented: https://docs.ntfy.sh/publish, https://docs.slack.dev/messaging (incoming webhooks),
https://docs.discord.com/developers/resources/webhook, https://core.telegram.org/bots/api,
https://www.home-assistant.io/docs/automation/trigger (webhook).
"""

import base64
import hashlib
import hmac
import secrets
import ssl
from collections.abc import Callable, Iterable, Mapping
from email.header import Header
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from device import config
from device.sinks.actions.webhook.address import PLACE, Address
from device.sinks.actions.webhook.post import Request
from device.sinks.actions.wording import Delivery, message, title

_JSON = {"Content-Type": "application/json"}


class Letter(NamedTuple):
    """A delivery as it is sent now: ``said`` for people, ``age_s`` as MQTT has it, ``replayed``
    where it was tried before or may have been."""

    delivery: Delivery
    title: str
    said: str
    age_s: float | None
    replayed: bool

    @property
    def fields(self) -> dict[str, Any]:
        """What programs are told: the event as MQTT says it, and what people are told."""
        d = self.delivery
        return {
            "id": d.id,
            "seq": d.seq,
            "action": d.action,
            "node": d.node,
            "camera": d.camera,
            "label": d.label,
            "on": d.on,
            "score": d.score,
            "held_s": d.held_s,
            "active": d.active,
            "model": d.model,
            "at": d.at,
            "clock_synced": d.clock_synced,
            "age_s": None if self.age_s is None else round(max(0.0, self.age_s), 3),
            "replayed": self.replayed,
            "message": self.said,
        }


class Content(NamedTuple):
    """A template's part of a request; ``suffix`` is added to the path, ``query`` replaces it."""

    headers: dict[str, str]
    body: bytes
    method: str = "POST"
    suffix: str = ""
    query: str | None = None


class Webhook:
    """Requests for the deliveries of one action."""

    def __init__(self, settings: config.Action, secret: str, trust: ssl.SSLContext) -> None:
        self._settings = settings
        self._secret = secret
        self._trust = trust

    def letter(
        self, delivery: Delivery, now: float, age_s: float | None = 0.0, *, replayed: bool = False
    ) -> Letter:
        """The delivery as it is sent now; ``now`` is wall time."""
        said = message(self._settings, delivery, now)
        return Letter(delivery, title(delivery), said, age_s, replayed)

    def request(self, letter: Letter, address: Address, now: float) -> Request:
        """What is sent to an address; ``now`` is wall time, which the signature covers."""
        template = TEMPLATES[self._settings.template or "json"]
        content = template.make(letter, address)
        headers = {
            # The same for every attempt: who has it already throws it away.
            "Idempotency-Key": letter.delivery.id,
            "X-Labelcam-Delivery": letter.delivery.id,
            "X-Labelcam-Event": "on" if letter.delivery.on else "off",
            **content.headers,
        }
        if address.authorization:
            headers["Authorization"] = address.authorization
        if self._secret and template.prove and not address.holds_secret:
            headers |= template.prove(self._secret, content.body, int(now))
        query = address.query if content.query is None else content.query
        return Request(
            content.method,
            address.host,
            address.port,
            f"{address.path}{content.suffix}{'?' * bool(query)}{query}",
            headers,
            content.body,
            self._trust if address.tls else None,
        )


def signature(secret: str, body: bytes, now: int) -> str:
    """``t`` is the time of sending, ``v1`` the HMAC-SHA256 of ``t``, a dot and the body."""
    digest = hmac.new(secret.encode(), b"%d." % now + body, hashlib.sha256)
    return f"t={now},v1={digest.hexdigest()}"


def _signed(secret: str, body: bytes, now: int) -> dict[str, str]:
    return {"X-Labelcam-Signature": signature(secret, body, now)}


def _bearer(secret: str, _body: bytes, _now: int) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def _json(letter: Letter, _address: Address) -> Content:
    fields = letter.fields
    if letter.delivery.snapshot:
        fields["snapshot"] = base64.b64encode(letter.delivery.snapshot).decode()
    return Content(_JSON, msgspec.json.encode(fields))


def _ntfy(letter: Letter, _address: Address) -> Content:
    headers = {"X-Title": _header(letter.title)}
    if (snapshot := letter.delivery.snapshot) is None:
        return Content(headers | {"Content-Type": "text/plain; charset=utf-8"}, _text(letter))
    headers |= {
        "X-Message": _header(letter.said),
        "X-Filename": "snapshot.jpg",
        "Content-Type": "image/jpeg",
    }
    return Content(headers, snapshot, method="PUT")


def _slack(letter: Letter, _address: Address) -> Content:
    # The three characters that mean something there; so no label mentions a whole channel.
    text = letter.said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return Content(_JSON, msgspec.json.encode({"text": text}))


def _discord(letter: Letter, _address: Address) -> Content:
    fields = {"content": letter.said, "allowed_mentions": {"parse": []}}
    if (snapshot := letter.delivery.snapshot) is None:
        return Content(_JSON, msgspec.json.encode(fields))
    return _form({"payload_json": msgspec.json.encode(fields)}, "files[0]", snapshot)


def _telegram(letter: Letter, address: Address) -> Content:
    # Who is written to stands in the address, which is not where Telegram wants it with a picture.
    fields = dict(parse_qsl(address.query))
    if (snapshot := letter.delivery.snapshot) is None:
        body = msgspec.json.encode(fields | {"text": letter.said})
        return Content(_JSON, body, suffix="/sendMessage", query="")
    form = {key: value.encode() for key, value in (fields | {"caption": letter.said}).items()}
    return _form(form, "photo", snapshot)._replace(suffix="/sendPhoto", query="")


def _home_assistant(letter: Letter, _address: Address) -> Content:
    return Content(_JSON, msgspec.json.encode({**letter.fields, "title": letter.title}))


def _text(letter: Letter) -> bytes:
    return letter.said.encode()


def _header(text: str) -> str:
    """A text as a header can have it, by RFC 2047 where it is more than plain letters."""
    if text.isascii() and text.isprintable():
        return text
    return Header(text, "utf-8", maxlinelen=10_000).encode(linesep="")


def _form(fields: Mapping[str, bytes], name: str, jpeg: bytes) -> Content:
    """Fields and a picture as a form, by RFC 7578."""
    boundary = secrets.token_hex(16)
    parts = [(f'name="{key}"', "text/plain; charset=utf-8", value) for key, value in fields.items()]
    parts.append((f'name="{name}"; filename="snapshot.jpg"', "image/jpeg", jpeg))
    body = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {of}\r\n"
        f"Content-Type: {kind}\r\n\r\n".encode()
        + value
        + b"\r\n"
        for of, kind, value in parts
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    return Content(headers, body + f"--{boundary}--\r\n".encode())


class Template(NamedTuple):
    """A service: what is sent to it, whether it takes pictures, and how a secret that does not
    stand in its address is shown to it, None where it cannot be."""

    make: Callable[[Letter, Address], Content]
    pictures: bool
    prove: Callable[[str, bytes, int], dict[str, str]] | None = None


TEMPLATES = {
    "json": Template(_json, pictures=True, prove=_signed),
    "ntfy": Template(_ntfy, pictures=True, prove=_bearer),
    "slack": Template(_slack, pictures=False),
    "discord": Template(_discord, pictures=True),
    "telegram": Template(_telegram, pictures=True),
    "home-assistant": Template(_home_assistant, pictures=False),
}


def check(settings: config.Action, secret: str, addresses: Iterable[Address]) -> None:
    """Raise ValueError where the service has no use for what the action has."""
    name = settings.template or "json"
    template = TEMPLATES[name]
    if settings.snapshot and not template.pictures:
        raise ValueError(f"snapshot = true, but {name} takes no pictures this way; leave it out")
    if secret and not template.prove and not all(a.holds_secret for a in addresses):
        raise ValueError(f"{name} wants its secret in the address; put {PLACE} there")
    if name == "telegram" and not all("chat_id" in dict(parse_qsl(a.query)) for a in addresses):
        raise ValueError("telegram needs to know whom to write to; end the address in ?chat_id=…")
