"""One request: what comes of it, and that no server holds us up, sends us on or makes us large."""

import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import trustme

from device.sinks.actions.sender import Answer
from device.sinks.actions.webhook.address import Address, parse
from device.sinks.actions.webhook.post import Request, post
from device.system.secret import trust
from tests.actions.http_server import Reply, http_server
from tests.peer import Peer

SECRET = "T0/B0/x y?z"


def request_to(url: str, tls: ssl.SSLContext | None = None, body: bytes = b"{}") -> Request:
    address = parse(url, "")
    return Request("POST", address.host, address.port, address.path, {"X-A": "b"}, body, tls)


def ask(url: str, total_s: float = 20.0) -> Answer:
    return post(request_to(url), threading.Event(), total_s)


@contextlib.contextmanager
def peer(behave: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server below HTTP; its address."""
    bad = Peer(behave)
    try:
        yield bad.url("/hook")
    finally:
        bad.close()


def test_a_request_comes_as_it_was_meant_and_its_answer_back() -> None:
    with http_server(Reply(201, b"made")) as server:
        answer = ask(server.url("/a%20b"))
        (received,) = server.received
    assert (answer.status, answer.said, answer.taken, answer.final) == (
        201, "201 Created", True, False,
    )  # fmt: skip
    assert (received.method, received.path, received.body) == ("POST", "/a%20b", b"{}")
    assert received.headers["x-a"] == "b"
    assert received.headers["host"] == f"127.0.0.1:{server.port}"
    assert received.headers["user-agent"].startswith("labelcam/")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (
            Reply(401, b'{"ok":false,"description":"Unauthorized"}'),
            "401 Unauthorized: Unauthorized",
        ),
        (Reply(404, b"no_service"), "404 Not Found: no_service"),
        (Reply(404, b"<html>lost</html>"), "404 Not Found"),
        (Reply(403, b'{"code":40301,"error":"forbidden"}'), "403 Forbidden: forbidden"),
        (Reply(400, b"\x1b[31mred\nline"), "400 Bad Request: \\u001b[31mred line"),
        (Reply(400, b"[" * 100_000), "400 Bad Request: " + "[" * 160),
        (Reply(418, b'{"message": 7}'), "418 I'm a Teapot"),
        (Reply(500), "500 Internal Server Error"),
    ],
)
def test_a_refusal_is_said_in_the_servers_words_on_one_line(reply: Reply, said: str) -> None:
    with http_server(reply) as server:
        assert ask(server.url()).said == said


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_what_will_never_be_taken_is_told_from_what_may_be_later(status: int) -> None:
    with http_server(Reply(status), *(Reply(s) for s in (408, 425, 429, 500, 503, 302))) as server:
        assert ask(server.url()).final
        assert [ask(server.url()).final for _ in range(6)] == [False] * 6


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"Retry-After": "7"}, b"", 7.0),
        (
            # By the server's own clock: the device's may be of another year.
            {
                "Date": "Fri, 31 Dec 1999 23:59:00 GMT",
                "Retry-After": "Sat, 01 Jan 2000 00:01:30 GMT",
            },
            b"",
            150.0,
        ),
        ({}, b'{"message":"slower","retry_after":1.5}', 1.5),
        ({}, b'{"ok":false,"parameters":{"retry_after":3}}', 3.0),
        ({"Retry-After": "soon"}, b"", None),
        ({"Retry-After": "-4"}, b"", None),
        ({"Retry-After": "nan"}, b"", None),
        ({"Retry-After": "9" * 400}, b"", None),
        ({}, b'{"retry_after":{}}', None),
        ({}, b'{"parameters":[3]}', None),
    ],
)  # fmt: skip
def test_how_long_a_server_wants_to_be_left_alone(
    headers: dict[str, str], body: bytes, wait_s: float | None
) -> None:
    with http_server(lambda handler: raw(handler, headers, body)) as server:
        assert ask(server.url()).retry_after_s == wait_s


def raw(handler: object, headers: dict[str, str], body: bytes) -> None:
    """Answer 429 without the library's own Date."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    text = "\r\n".join(["HTTP/1.1 429 Too Many Requests", *lines, "", ""])
    handler.wfile.write(text.encode() + body)  # type: ignore[attr-defined]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_least_of_all_to_an_internal_address(status: int) -> None:
    with http_server(Reply(200)) as inside:
        with http_server(Reply(status, headers={"Location": inside.url("/admin")})) as outside:
            answer = ask(outside.url())
            assert len(outside.received) == 1
        assert inside.received == []
    assert not answer.taken
    assert "redirects, which is not followed" in answer.said
    assert str(inside.port) not in answer.said


def silent(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def drip_a_head(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X-A: b\r\n")
        time.sleep(0.02)


def take_nothing(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(20)
    threading.Event().wait(0.8)


@pytest.mark.slow
@pytest.mark.parametrize("behave", [silent, drip_a_head, take_nothing])
def test_a_server_that_takes_for_ever_is_left_in_time(
    behave: Callable[[socket.socket], None],
) -> None:
    with peer(behave) as url:
        began = time.monotonic()
        # Larger than what the kernel takes for a server that does not read.
        answer = post(request_to(url, body=b"x" * (16 << 20)), threading.Event(), 0.4)
        took_s = time.monotonic() - began
    assert not answer.taken
    # A hundred headers are the library's limit, and may come first.
    assert answer.said in ("no answer within 0.4 s", "answers something that is not HTTP")
    assert took_s < 10


def drip_a_body(status: bytes) -> Callable[[socket.socket], None]:
    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(b"HTTP/1.1 " + status + b"\r\nContent-Length: 100000\r\n\r\n")
        while True:
            sock.sendall(b"a")
            time.sleep(0.02)

    return behave


@pytest.mark.slow
def test_a_body_that_drips_does_not_matter() -> None:
    """Twenty milliseconds a letter would be half an hour."""
    with peer(drip_a_body(b"200 OK")) as url:
        assert ask(url).taken
    with peer(drip_a_body(b"500 Oh")) as url:
        answer = ask(url, 1.0)
    assert answer.said.startswith("500 Internal Server Error: aaa")


def flood(sock: socket.socket) -> None:
    sock.recv(4096)
    sock.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")
    while True:
        sock.sendall(b"a" * 65_536)


def test_a_body_without_end_is_not_read_to_its_end() -> None:
    with peer(flood) as url:
        assert ask(url).said == "400 Bad Request: " + "a" * 160


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00" * 70_000])
def test_what_is_no_http_is_said(data: bytes) -> None:
    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        sock.sendall(data)

    with peer(behave) as url:
        answer = ask(url)
    assert not answer.taken
    assert not answer.final
    assert answer.said in (
        "answers something that is not HTTP", "hung up without an answer",
        "Connection reset by peer",
    )  # fmt: skip


@pytest.mark.slow
def test_whatever_is_answered_is_an_answer() -> None:
    """Valid answers with bytes changed, cut and repeated, by a seeded generator."""
    rng = random.Random(3)
    answers = [
        b'HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 20\r\n\r\n{"retry_after": 1.5}',
        b"HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 503 Oh\r\nDate: Fri, 31 Dec 1999 23:59:00 GMT\r\n"
        b"Retry-After: Sat, 01 Jan 2000 00:01:30 GMT\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ]

    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        data = bytearray(rng.choice(answers))
        for _ in range(rng.randrange(6)):
            at = rng.randrange(len(data))
            data[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(4))
        sock.sendall(bytes(data[: rng.randrange(len(data) + 1)]))

    with peer(behave) as url:
        for _ in range(300):
            answer = ask(url, 5.0)
            assert answer.said
            assert answer.said.isprintable()
            assert answer.retry_after_s is None or answer.retry_after_s >= 0


def test_nobody_there_and_no_such_host_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(f"http://127.0.0.1:{port}/").said == "nothing listens there"
    assert ask("http://no-such-host.invalid/").said.startswith("no such host")


def test_a_stop_ends_a_request_at_once() -> None:
    stop = threading.Event()

    def behave(sock: socket.socket) -> None:
        stop.set()
        silent(sock)

    with peer(behave) as url:
        began = time.monotonic()
        answer = post(request_to(url), stop)
        assert time.monotonic() - began < 10
    assert (answer.status, answer.taken) == (0, False)


def server_context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def test_a_server_is_verified_by_name_and_authority(tmp_path: object) -> None:
    authority, other = trustme.CA(), trustme.CA()
    with authority.cert_pem.tempfile() as ours, other.cert_pem.tempfile() as strange:
        with http_server(tls=server_context(authority, "localhost")) as server:
            assert post(request_to(server.url(), trust(ours, "")), threading.Event()).taken
            refused = post(request_to(server.url(), trust(strange, "")), threading.Event())
            assert refused.said.startswith("its certificate is refused (")
            assert len(server.received) == 1
        with http_server(tls=server_context(authority, "elsewhere")) as server:
            refused = post(request_to(server.url(), trust(ours, "")), threading.Event())
            assert "Hostname mismatch" in refused.said
            assert server.received == []


@pytest.mark.slow
def test_a_large_body_comes_whole_over_tls_though_its_reader_pauses() -> None:
    """Each pause is longer than a slice of a write, which then goes on where it stood."""
    authority = trustme.CA()
    context = server_context(authority, "localhost")
    body = random.Random(1).randbytes(8 << 20)
    got = bytearray()

    def behave(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as sock:
            while not got.endswith(body[-16:]):
                if len(got) // (2 << 20) != (len(got) + 65_536) // (2 << 20):
                    threading.Event().wait(0.15)
                got.extend(sock.recv(65_536))
            sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with authority.cert_pem.tempfile() as ours, peer(behave) as plain:
        url = plain.replace("http://127.0.0.1", "https://localhost")
        answer = post(request_to(url, trust(ours, ""), body), threading.Event())
    assert answer.taken
    assert got.partition(b"\r\n\r\n")[2] == body


def test_https_where_http_is_spoken_is_said() -> None:
    with http_server() as server:
        url = server.url().replace("http:", "https:")
        answer = post(request_to(url, ssl.create_default_context()), threading.Event())
    assert answer.said == "no TLS there; is it http, or another port?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://a.example", ("a.example", 443, True, "/", "")),
        ("http://[::1]:8123/x?y=z", ("::1", 8123, False, "/x", "y=z")),
        ("https://a.example/{secret}", ("a.example", 443, True, "/T0/B0/x%20y%3Fz", "")),
        ("https://a.example/h?t={secret}", ("a.example", 443, True, "/h", "t=T0/B0/x%20y%3Fz")),
        ("http://bücher.example/ä", ("bücher.example", 80, False, "/%C3%A4", "")),
        ("https://a.example/%41#part", ("a.example", 443, True, "/%41", "")),
    ],
)
def test_addresses(text: str, expected: tuple[object, ...]) -> None:
    found = parse(text, SECRET)
    assert (found.host, found.port, found.tls, found.path, found.query) == expected
    assert found.holds_secret == ("{secret}" in text)


def test_a_user_in_an_address_becomes_a_header() -> None:
    found = parse("https://me:p%40ss@a.example/", "")
    assert found.authorization == "Basic bWU6cEBzcw=="
    assert found.where == "a.example"


def test_a_whole_address_may_be_the_secret() -> None:
    found = parse("{secret}", "https://hooks.example/T0/B0/abc?d=e")
    assert (found.host, found.path, found.query) == ("hooks.example", "/T0/B0/abc", "d=e")
    assert found.holds_secret


@pytest.mark.parametrize(
    "text",
    [
        "", "a.example/hook", "ftp://a.example/", "https://", "https:///x", "https://a.example:x/",
        "https://a.example:99999/", "https://a.example/\r\nX-Evil: 1", "https://a b.example/",
        "https://[::1/", f"https://{'a' * 64}.example/", "file:///etc/passwd", "{secret}",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="is none; give one as https://host/path") as caught:
        parse(text, "hush hush")
    assert "example" not in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_place_without_a_secret_is_said() -> None:
    with pytest.raises(ValueError, match="give secret_file"):
        parse("https://a.example/{secret}", "")


def test_neither_a_request_nor_an_address_shows_what_it_holds() -> None:
    found = parse("https://me:hush@a.example/{secret}", "quiet")
    request = Request("POST", found.host, 443, found.path, {"Authorization": "hush"}, b"", None)
    assert repr(request) == "Request(POST a.example:443)"
    assert repr(found) == "Address(a.example)"
    assert isinstance(found, Address)
