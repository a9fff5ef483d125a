"""Who may ask what of the web view: every request passes here first.

The page listens on the device alone unless it is told otherwise, and still any page in the
user's browser can send requests there. So each request must name the device as its host
(a name that somebody else pointed at it does not count), must not come from another site,
and where the view is open to the network it must bring the token.
"""

import ipaddress
import socket
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from device import config
from device.sinks.web.state import Refusal
from device.sinks.web.token import Token
from device.system import audit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEAD_BYTES = 16_384
MAX_BODY_BYTES = 4096
# What a script must add to a request that changes something; no form and no picture can.
WRITE_HEADER = "x-labelcam"
COOKIE = "labelcam"
COOKIE_AGE_S = 180 * 86_400

_WRITES = {"POST", "DELETE"}

_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; "
        b"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]
_CLOSE = (b"connection", b"close")


class Gatekeeper:
    """An ASGI application in front of another: refuses, limits, and adds the headers.

    ``token`` is None where none is asked for; ``public`` are the paths that need none, since
    they give nothing away. What was refused is counted in ``refused`` by its status.
    """

    def __init__(
        self, settings: config.Web, token: Token | None, public: frozenset[str], app: App
    ) -> None:
        self.refused: dict[int, int] = {}
        self.token = token
        self._public = public
        self._app = app
        own = socket.gethostname().lower()
        self._hosts = {"localhost", own, f"{own}.local", *(h.lower() for h in settings.hosts)}
        self._tries = Tries()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                headers += _HEADERS
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"no-store"))
                if unread:
                    # What there is of a body is not read, and would be taken for a request.
                    headers.append(_CLOSE)
            await send(message)

        headers = _by_name(scope["headers"])
        limit = MAX_BODY_BYTES if scope["method"] in _WRITES else 0
        length = _body_length(headers)
        unread = length is None or length > limit
        try:
            # The protocol's own limit does not count a head that comes all at once.
            if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
                raise Refused(431, f"the head is over {MAX_HEAD_BYTES} bytes")
            self._check_host(headers)
            if length is None:
                raise Refused(411, "the length of the body is not told; send Content-Length")
            if length > limit:
                raise Refused(413, f"the body has {length} bytes; at most {limit} are taken")
            self._check_site(scope, headers)
            self._check_token(scope, headers)
            if scope["method"] in _WRITES and scope["path"].startswith("/api/"):
                _check_write(headers, has_body=scope["method"] == "POST")
        except Refused as refusal:
            self.refused[refusal.status] = self.refused.get(refusal.status, 0) + 1
            if refusal.status in (401, 429) and scope["path"] == "/":
                refusal = Refused(303, "a token is asked for", {b"location": b"/login"})
            await refusal.answer(send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def admit(self, client: str, given: str) -> None:
        """Let whoever brings the right token pass; raises Refused for a wrong one.

        The right one passes after any number of wrong ones: nobody guesses it, and whoever
        shares an address with its owner must not be able to lock them out.
        """
        assert self.token is not None
        if self.token.matches(given):
            return
        if not self._tries.allowed(client):
            raise Refused(429, "too many wrong tokens; wait a minute", {b"retry-after": b"60"})
        self._tries.failed(client)
        audit.note("wrong-token", f"for the web view, from {client}")
        raise Refused(401, "a token is asked for, and this is not it")

    def _check_host(self, headers: dict[str, list[str]]) -> None:
        hosts = headers.get("host", [])
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            raise Refused(400, "the request names no host, or no proper one")
        if name not in self._hosts and not _is_address(name):
            # A name that somebody pointed at this device to read it from a page of theirs.
            raise Refused(421, "this device is not known by that host name; see web.hosts")

    def _check_site(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        """Refuse what a page of another site asks for, save that a link there may lead here."""
        site = _one(headers, "sec-fetch-site")
        link = (
            scope["method"] in {"GET", "HEAD"}
            and _one(headers, "sec-fetch-mode") == "navigate"
            and _one(headers, "sec-fetch-dest") == "document"
        )
        if site not in {"", "same-origin", "none"} and not link:
            raise Refused(403, "requests from other sites are refused")
        origins = headers.get("origin", [])
        if origins and (len(origins) > 1 or not _same_place(origins[0], headers["host"][0])):
            raise Refused(403, "requests from other sites are refused")
        if scope["path"] == "/login" and scope["method"] in _WRITES and not (origins or site):
            raise Refused(403, "log in from the page, or send the token as a bearer")

    def _check_token(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        if self.token is None or scope["path"] in self._public:
            return
        kind, _, given = _one(headers, "authorization").partition(" ")
        if kind.lower() == "bearer":
            self.admit(client_of(scope), given.strip())
        elif cookie := _cookie(headers, COOKIE):
            self.admit(client_of(scope), cookie)
        else:
            raise Refused(401, "a token is asked for; send it as a bearer or log in on the page")


class Refused(Exception):
    """A request that is not answered; the text is for whoever sent it."""

    def __init__(
        self, status: int, reason: str, headers: Mapping[bytes, bytes] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self._headers = dict(headers or {})

    async def answer(self, send: Send) -> None:
        """Say so."""
        body = msgspec.json.encode(Refusal(str(self)))
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if self.status == 401:
            headers.append((b"www-authenticate", b'Bearer realm="labelcam"'))
        headers += self._headers.items()
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Tries:
    """Counts wrong tokens by where they came from, and says when it is enough.

    BURST of them pass at once, then one each REFILL_S. It remembers KEPT places, the latest.
    """

    BURST = 5
    REFILL_S = 12.0
    KEPT = 1024

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The time at which each place has all its tries again.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def allowed(self, client: str) -> bool:
        """Whether one more wrong token from there is only wrong, and not too many."""
        owed_s = self._full_at.get(_network(client), 0.0) - self._clock()
        return owed_s <= (self.BURST - 1) * self.REFILL_S

    def failed(self, client: str) -> None:
        """Count a wrong token."""
        place = _network(client)
        full_at = max(self._full_at.pop(place, 0.0), self._clock()) + self.REFILL_S
        self._full_at[place] = full_at
        if len(self._full_at) > self.KEPT:
            self._full_at.popitem(last=False)


def client_of(scope: Scope) -> str:
    """The address that the request came from, as far as it is known."""
    return scope["client"][0] if scope.get("client") else "somewhere"


def _network(client: str) -> str:
    """What one person can send from: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 4:
        return client
    return str(ipaddress.ip_network((address, 64), strict=False))


def _check_write(headers: dict[str, list[str]], *, has_body: bool) -> None:
    kind = _one(headers, "content-type").partition(";")[0].strip().lower()
    if has_body and kind != "application/json":
        raise Refused(415, "a command is JSON; send Content-Type: application/json")
    if not _one(headers, WRITE_HEADER):
        raise Refused(403, "a command needs the header X-Labelcam: 1")


def _body_length(headers: dict[str, list[str]]) -> int | None:
    """How many bytes of body are announced, None where that is not told."""
    lengths = headers.get("content-length", ["0"])
    if "transfer-encoding" in headers or len(lengths) > 1 or not lengths[0].isdecimal():
        return None
    # More digits than any size has would take long to read as a number.
    return int(lengths[0][:18])


def _by_name(headers: list[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    named: dict[str, list[str]] = {}
    for name, value in headers:
        named.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return named


def _one(headers: dict[str, list[str]], name: str) -> str:
    values = headers.get(name, [""])
    return values[0] if len(values) == 1 else ""


def _host_name(host: str) -> str | None:
    """The name or address in a Host header, None where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises ValueError for what is no port
    except ValueError:
        return None
    name = parts.hostname
    if not name or parts.username is not None or parts.path or parts.query or parts.fragment:
        return None
    return name.rstrip(".") if name.isascii() and name.isprintable() and " " not in name else None


def _is_address(name: str) -> bool:
    """Whether it is an IP address, which nobody can point elsewhere."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same_place(origin: str, host: str) -> bool:
    """Whether an Origin header names the host that was asked; a proxy may have done the TLS."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False


def _cookie(headers: dict[str, list[str]], name: str) -> str:
    """The cookie's value, empty where there is none; others may be as odd as they like."""
    for pair in ";".join(headers.get("cookie", [])).split(";"):
        key, _, value = pair.strip().partition("=")
        if key == name:
            return value
    return ""
