"""One HTTP request to a server that may do what it likes: bounded in time, bytes and place.

The standard library's client, since none that is kept bounds a whole request: what they call a
time-out begins anew with each byte. Redirects are not followed, whatever they lead to: a server
outside must not be able to send us to one inside.
"""

import contextlib
import http.client
import json
import math
import socket
import ssl
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any, cast

import msgspec

from device import __version__
from device.sinks.actions.sender import Answer
from device.system.text import one_line
from device.system.timed_socket import TimedSocket

# How long the connection to one address of the server may take; the whole request and its answer;
# and what a refusal says beside its status.
CONNECT_S, TOTAL_S, REASON_S = 10.0, 30.0, 3.0
_ANSWER_BYTES = 4096
_SHOWN_CHARS = 160
# What an error calls its reason: Telegram, Discord, ntfy and others.
_REASONS = ("description", "message", "error", "detail", "title")


class Request(msgspec.Struct, frozen=True):
    """What is sent; ``target`` is path and query, ``tls`` verifies the server, None for http."""

    method: str
    host: str
    port: int
    target: str
    headers: dict[str, str]
    body: bytes
    tls: ssl.SSLContext | None

    def __repr__(self) -> str:
        """The server alone: all the rest may hold a secret."""
        return f"Request({self.method} {self.host}:{self.port})"


def post(request: Request, stop: threading.Event, total_s: float = TOTAL_S) -> Answer:
    """Send it and return the server's answer, or why there is none; raises nothing.

    Once ``stop`` is set it ends as at its deadline, but for a connection that is being made.
    """
    deadline = time.monotonic() + total_s
    connection = http.client.HTTPConnection(request.host, request.port)
    connected = False
    try:
        sock = _dial(request, deadline)
        connected = True
        wire = TimedSocket(sock, deadline, stop)
        try:
            connection.sock = cast("socket.socket", wire)
            headers = {"User-Agent": f"labelcam/{__version__}", "Host": _host(request)}
            connection.request(
                request.method, request.target, request.body, headers | request.headers
            )
            response = http.client.HTTPResponse(cast("socket.socket", wire), method=request.method)
            with contextlib.closing(response):
                response.begin()
                return _read(response, wire)
        finally:
            wire.close()
    except TimeoutError:
        within = f"within {total_s:g} s" if connected else "to the attempt to connect"
        return Answer(0, f"no answer {within}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Answer(0, _explained(error))


def _dial(request: Request, deadline: float) -> Any:
    """A connection to the first of the server's addresses that takes one, encrypted if asked."""
    error: OSError = TimeoutError()
    found = socket.getaddrinfo(request.host, request.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, address in found:
        if (left_s := deadline - time.monotonic()) <= 0:
            break
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(min(left_s, CONNECT_S))
            sock.connect(address)
            if request.tls:
                return request.tls.wrap_socket(sock, server_hostname=request.host)
            return sock
        except OSError as met:
            sock.close()
            if isinstance(met, ssl.SSLError):
                raise
            error = met
        except BaseException:
            sock.close()
            raise
    raise error


def _host(request: Request) -> str:
    host = f"[{request.host}]" if ":" in request.host else request.host
    host = host.encode("idna").decode() if not host.isascii() else host
    return host if request.port == (443 if request.tls else 80) else f"{host}:{request.port}"


def _read(response: http.client.HTTPResponse, wire: TimedSocket) -> Answer:
    status = response.status
    if 200 <= status < 300:
        # What else it says does not matter, and may come for ever.
        return Answer(status, f"{status} {_reason_phrase(response)}")
    said = f"{status} {_reason_phrase(response)}"
    if 300 <= status < 400:
        return Answer(status, f"{said}: redirects, which is not followed; give the final address")
    wire.deadline = min(wire.deadline, time.monotonic() + REASON_S)
    body = b""
    try:
        while len(body) < _ANSWER_BYTES and (more := response.read1(_ANSWER_BYTES - len(body))):
            body += more
    except (OSError, http.client.HTTPException, ValueError):
        pass  # the status is what counts
    data = _json(body)
    if reason := _reason(body, data):
        said = f"{said}: {reason}"
    return Answer(status, said, _retry_after(response, data))


def _reason_phrase(response: http.client.HTTPResponse) -> str:
    known = http.client.responses.get(response.status, "")
    return known or one_line(response.reason)[:_SHOWN_CHARS] or "without a word"


def _json(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _reason(body: bytes, data: dict[str, Any]) -> str:
    """What the server says for itself; empty where that is a page for people."""
    text = next((data[key] for key in _REASONS if isinstance(data.get(key), str)), "")
    if not text and not data:
        text = body.decode("utf-8", "replace").strip()
        if text.startswith("<"):
            return ""
    return one_line(text[: 2 * _SHOWN_CHARS])[:_SHOWN_CHARS]


def _retry_after(response: http.client.HTTPResponse, data: dict[str, Any]) -> float | None:
    """Seconds until the server wants to be asked again, as header or, as Discord and Telegram do,
    in its answer."""
    given: Any = response.headers.get("Retry-After")
    if given is None:
        parameters = data.get("parameters")
        given = data.get("retry_after")
        if given is None and isinstance(parameters, dict):
            given = parameters.get("retry_after")
    try:
        wait_s = float(given)
    except (TypeError, ValueError):
        wait_s = _until(given, response.headers.get("Date"))
    return wait_s if math.isfinite(wait_s) and wait_s >= 0 else None


def _until(moment: Any, now: str | None) -> float:
    """Seconds between two dates of the server's own clock: ours may be years away from it."""
    try:
        span = parsedate_to_datetime(str(moment)) - parsedate_to_datetime(str(now))
        return span.total_seconds()
    except (TypeError, ValueError):
        return math.nan


def _explained(error: Exception) -> str:
    """An error on the way to a server, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or "is not to be trusted"
        return f"its certificate is refused ({why}); where it is your own, give ca_file"
    said = next((said for kind, said in _FAULTS if isinstance(error, kind)), "")
    if not said:
        said = getattr(error, "strerror", None) or "answers something that is not HTTP"
    return said


# The first kind that an error is of decides: subclasses before what they are derived from.
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLError, "no TLS there; is it http, or another port?"),
    (socket.gaierror, "no such host; check the address and the network"),
    (ConnectionRefusedError, "nothing listens there"),
    (ConnectionError, "hung up without an answer"),
)
