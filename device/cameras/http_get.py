"""A request to a camera over http(s): bounded in time, in bytes and in where it may lead."""

import base64
import http.client
import socket
import ssl
import threading
import time
from typing import cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import (
    AbstractDigestAuthHandler,
    HTTPPasswordMgr,
    Request,
    parse_http_list,
    parse_keqv_list,
)

from device import __version__
from device.system.timed_socket import TimedSocket

_REDIRECTS_MAX = 3
_HEADERS = {"User-Agent": f"labelcam/{__version__}", "Accept": "*/*"}


class Answer:
    """What a camera answered: its status, its headers, and more as it comes."""

    def __init__(self, response: http.client.HTTPResponse, wire: TimedSocket) -> None:
        self.status = response.status
        self.headers = response.headers
        self._response = response
        self._wire = wire

    def wait_until(self, deadline: float) -> None:
        """Have every read until the next call raise TimeoutError past this monotonic time."""
        self._wire.deadline = deadline

    def line(self, most: int) -> bytes:
        """A line with its end, or as many bytes of it; empty at the end of the answer."""
        return self._response.readline(most)

    def read(self, most: int) -> bytes:
        """What is there, after a wait for some; empty at the end of the answer."""
        return self._response.read1(most)

    def close(self) -> None:
        """Hang up."""
        self._response.close()
        self._wire.close()


def ask(url: str, trust: ssl.SSLContext | None, deadline: float, stop: threading.Event) -> Answer:
    """The answer to a GET, whatever its status; the user and the password are those of the URL.

    ``trust`` is what a server is verified by, None to take whoever answers, by plain http too.
    Once ``stop`` is set every wait ends as at its deadline. Raises OSError, HTTPException or
    ValueError.
    """
    parts = urlsplit(url)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    home = _place(url)
    authorization = ""
    redirects = 0
    while True:
        answer = _get(url, authorization, trust, deadline, stop)
        location = answer.headers.get("Location")
        refused = answer.status == http.HTTPStatus.UNAUTHORIZED
        if answer.status in (301, 302, 303, 307, 308) and location and redirects < _REDIRECTS_MAX:
            url = urljoin(url, location)
            redirects, authorization = redirects + 1, ""
        elif refused and user and not authorization and _place(url) == home:
            authorization = _authorization(answer, url, user, password)
            if not authorization:
                return answer
        else:
            return answer
        answer.close()


def _place(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _get(
    url: str,
    authorization: str,
    trust: ssl.SSLContext | None,
    deadline: float,
    stop: threading.Event,
) -> Answer:
    parts = urlsplit(url)
    place, wait_s = (parts.hostname or "", parts.port), max(0.01, deadline - time.monotonic())
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        context = trust or ssl._create_unverified_context()  # noqa: S323 - as the settings say
        connection = http.client.HTTPSConnection(*place, timeout=wait_s, context=context)
    elif parts.scheme == "http" and trust is None:
        connection = http.client.HTTPConnection(*place, timeout=wait_s)
    else:
        raise ValueError(f"{parts.scheme}:// cannot be verified")
    headers = _HEADERS | ({"Authorization": authorization} if authorization else {})
    path = f"{parts.path or '/'}{'?' * bool(parts.query)}{parts.query}"
    try:
        connection.request("GET", path, headers=headers)
        wire = TimedSocket(connection.sock, deadline, stop)
        # As the connection itself would make it, if it knew of deadlines.
        response = http.client.HTTPResponse(cast("socket.socket", wire), method="GET")
        response.begin()
    except BaseException:
        connection.close()
        raise
    return Answer(response, wire)


def _authorization(answer: Answer, url: str, user: str, password: str) -> str:
    """What the camera is shown, by the better of the ways that it offers; empty where by none."""
    offers = [offer.partition(" ") for offer in answer.headers.get_all("WWW-Authenticate", [])]
    ways = {way.lower(): rest for way, _, rest in offers}
    if "digest" in ways:
        # A name without a value is more than the parser can take.
        parts = [part for part in parse_http_list(ways["digest"]) if not part.endswith("=")]
        challenge = parse_keqv_list([*filter(None, parts)])
        passwords = HTTPPasswordMgr()
        passwords.add_password(challenge.get("realm", ""), url, user, password)
        plain = Request(url)  # noqa: S310 - it is not opened
        digest = AbstractDigestAuthHandler(passwords).get_authorization(plain, challenge)
        if digest:
            return f"Digest {digest}"
    if "basic" in ways:
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
    return ""
