"""Downloads from a server that truncates, stalls, lies, redirects and dies."""

import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from device.errors import FetchError
from device.library.fetch import Fetcher
from tests.tls_server import (
    TlsServer,
    answer,
    crawl,
    endless,
    hang_up,
    ranged,
    stall,
    tls_server,
)

# Larger than the buffers between the two sides, so that what breaks off breaks off midway.
BODY = os.urandom(700_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass(frozen=True)
class Wanted:
    url: str
    bytes: int = len(BODY)
    sha256: str = SHA256


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[TlsServer]:
    with tls_server(authority) as running:
        yield running


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def fetcher(trust: ssl.SSLContext, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    # A proxy of the machine that runs the tests would not find a server of this process.
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return Fetcher(trust=trust, wait=waits.append, stall_s=0.4)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "model.tflite"


def _part(target: Path) -> Path:
    return target.with_name("model.tflite.part")


def _asked_range(request: list[str]) -> str:
    return next((line for line in request if line.startswith("Range:")), "")


def test_a_download_is_whole_and_leaves_nothing_else(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    server.behaviours = [ranged(BODY)]
    seen: list[tuple[int, int]] = []
    fetcher.fetch(Wanted(server.url()), target, lambda done, of: seen.append((done, of)))
    assert target.read_bytes() == BODY
    assert [p.name for p in target.parent.iterdir()] == ["model.tflite"]
    assert target.stat().st_mode & 0o777 == 0o644
    assert seen[0] == (0, len(BODY))
    assert seen[-1] == (len(BODY), len(BODY))
    assert seen == sorted(seen)


def test_truncation_is_resumed_where_it_broke_off(
    server: TlsServer, fetcher: Fetcher, target: Path, waits: list[float]
) -> None:
    server.behaviours = [answer(BODY[:300_000], length=len(BODY)), ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == BODY
    assert _asked_range(server.requests[1]) == "Range: bytes=300000-"
    assert len(waits) == 1
    assert 0.5 <= waits[0] <= 1.5


@pytest.mark.slow
def test_a_stalled_server_is_left_and_asked_again(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    server.behaviours = [stall(server, BODY, 100_000), ranged(BODY)]
    # The server answers one request at a time: it must have noticed that we left.
    fetcher._wait = lambda _s: server.released.set()
    fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == BODY
    assert _asked_range(server.requests[1]) == "Range: bytes=100000-"


@pytest.mark.slow
def test_a_server_that_crawls_is_left_and_asked_again(
    server: TlsServer, fetcher: Fetcher, target: Path, waits: list[float]
) -> None:
    server.behaviours = [crawl(server, BODY), ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert len(waits) == 1
    assert target.read_bytes() == BODY


def test_what_an_earlier_run_left_is_gone_on_with(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    target.parent.mkdir()
    _part(target).write_bytes(BODY[:1234])
    server.behaviours = [ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == BODY
    assert _asked_range(server.requests[0]) == "Range: bytes=1234-"


def test_a_server_that_cannot_resume_sends_all_again(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    server.behaviours = [answer(BODY[:5000], length=len(BODY)), answer(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("left", [b"stale" * 100, BODY + b"more", b"x" * len(BODY)])
def test_a_wrong_remainder_is_thrown_away_and_not_blamed_on_the_server(
    server: TlsServer, fetcher: Fetcher, target: Path, left: bytes
) -> None:
    target.parent.mkdir()
    _part(target).write_bytes(left)
    server.behaviours = [ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == BODY


def test_a_complete_remainder_needs_no_server(fetcher: Fetcher, target: Path) -> None:
    target.parent.mkdir()
    _part(target).write_bytes(BODY)
    fetcher.fetch(Wanted("https://localhost:1/model.tflite"), target)
    assert target.read_bytes() == BODY


def test_another_file_is_refused_and_the_old_one_stays(
    server: TlsServer, fetcher: Fetcher, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target.parent.mkdir()
    target.write_bytes(b"the old one")
    server.behaviours = [ranged(bytes(len(BODY)))]
    with pytest.raises(FetchError, match=f"served another file: SHA-256 .*expected {SHA256[:16]}"):
        fetcher.fetch(Wanted(server.url()), target)
    assert target.read_bytes() == b"the old one"
    assert _part(target).read_bytes() == b""
    assert len(server.requests) == 1
    assert "security: refused: a download that is not the file asked for" in caplog.text


@pytest.mark.parametrize("claimed", [len(BODY) - 1, len(BODY) + 1, 10_000_000_000])
def test_a_wrong_length_is_refused_before_the_first_byte(
    server: TlsServer, fetcher: Fetcher, target: Path, claimed: int
) -> None:
    server.behaviours = [answer(BODY, length=claimed)]
    with pytest.raises(FetchError, match=f"announces {claimed} bytes, expected 700,000"):
        fetcher.fetch(Wanted(server.url()), target)
    assert not target.exists()


def test_a_length_that_is_not_kept_ends_at_the_cap(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    server.behaviours = [endless(BODY[:50_000])]
    with pytest.raises(FetchError, match="sends more than the 700,000 bytes"):
        fetcher.fetch(Wanted(server.url()), target)
    assert not target.exists()
    assert _part(target).stat().st_size == 0


def test_a_wrong_range_is_refused(server: TlsServer, fetcher: Fetcher, target: Path) -> None:
    target.parent.mkdir()
    _part(target).write_bytes(BODY[:100])
    span = f"bytes 0-{len(BODY) - 1}/{len(BODY)}"
    server.behaviours = [answer(BODY, status="206 Partial Content", Content_Range=span)]
    with pytest.raises(FetchError, match="answers with the range 'bytes 0-"):
        fetcher.fetch(Wanted(server.url()), target)


def test_a_redirect_to_https_is_followed(server: TlsServer, fetcher: Fetcher, target: Path) -> None:
    moved = answer(b"", status="302 Found", Location=server.url("/elsewhere"))
    server.behaviours = [moved, ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert server.requests[1][0] == "GET /elsewhere HTTP/1.1"
    assert target.read_bytes() == BODY


@pytest.mark.parametrize(
    "where", ["http://localhost/model", "file:///etc/passwd", "ftp://localhost/model"]
)
def test_a_redirect_away_from_https_is_refused(
    server: TlsServer, fetcher: Fetcher, target: Path, where: str
) -> None:
    server.behaviours = [answer(b"", status="302 Found", Location=where)]
    with pytest.raises(FetchError, match=r"redirects to .*, which is not https|answers 302"):
        fetcher.fetch(Wanted(server.url()), target)
    assert not target.exists()


def test_redirects_in_a_circle_end(server: TlsServer, fetcher: Fetcher, target: Path) -> None:
    server.behaviours = [answer(b"", status="302 Found", Location=server.url())]
    with pytest.raises(FetchError, match="answers 302"):
        fetcher.fetch(Wanted(server.url()), target)
    assert len(server.requests) <= 6


def test_a_dead_server_is_given_up_after_growing_waits(
    server: TlsServer, fetcher: Fetcher, target: Path, waits: list[float]
) -> None:
    server.behaviours = [hang_up]
    with pytest.raises(FetchError, match="gave up after 6 tries; run it again to go on"):
        fetcher.fetch(Wanted(server.url()), target)
    assert len(waits) == 5
    for step, waited in enumerate(waits):
        assert 0.5 * 2**step <= waited <= 1.5 * 2**step


def test_nobody_listens(fetcher: Fetcher, target: Path) -> None:
    with pytest.raises(FetchError, match="Connection refused; gave up"):
        fetcher.fetch(Wanted("https://localhost:1/model.tflite"), target)


def test_no_network_is_said_at_once(
    fetcher: Fetcher, target: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(FetchError, match="there is no network to it: Temporary failure"):
        fetcher.fetch(Wanted("https://models.example/model.tflite"), target)
    assert waits == []


def test_getting_further_counts_as_success_between_failures(
    server: TlsServer, fetcher: Fetcher, target: Path
) -> None:
    body = os.urandom(4_000_000)

    def some(request: list[str], connection: ssl.SSLSocket) -> None:
        asked = _asked_range(request).removeprefix("Range: bytes=").rstrip("-")
        start = int(asked or 0)
        piece = body[start : start + 300_000]
        status = "206 Partial Content" if asked else "200 OK"
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        answer(piece, status=status, length=len(body) - start, Content_Range=span)(
            request, connection
        )

    server.behaviours = [some]
    wanted = Wanted(server.url(), len(body), hashlib.sha256(body).hexdigest())
    fetcher.fetch(wanted, target)
    assert len(server.requests) == 14
    assert target.read_bytes() == body


def test_a_busy_server_says_how_long_to_wait(
    server: TlsServer, fetcher: Fetcher, target: Path, waits: list[float]
) -> None:
    busy = answer(b"", status="503 Service Unavailable", Retry_After="17")
    server.behaviours = [busy, ranged(BODY)]
    fetcher.fetch(Wanted(server.url()), target)
    assert waits == [17]


def test_a_missing_file_is_not_asked_for_twice(
    server: TlsServer, fetcher: Fetcher, target: Path, waits: list[float]
) -> None:
    server.behaviours = [answer(b"", status="404 Not Found")]
    with pytest.raises(FetchError, match="answers 404 Not Found"):
        fetcher.fetch(Wanted(server.url()), target)
    assert not waits


def test_an_untrusted_certificate(target: Path, waits: list[float], server: TlsServer) -> None:
    server.behaviours = [ranged(BODY)]
    with pytest.raises(FetchError, match=r"certificate is not trusted \(.*\); check the clock"):
        Fetcher(wait=waits.append).fetch(Wanted(server.url()), target)
    assert not waits
    assert not server.requests


def test_a_certificate_of_another_host(
    authority: trustme.CA, fetcher: Fetcher, target: Path
) -> None:
    with (
        tls_server(authority, "elsewhere.example") as other,
        pytest.raises(FetchError, match="certificate is not trusted"),
    ):
        fetcher.fetch(Wanted(other.url()), target)


@pytest.mark.parametrize("url", ["http://localhost/m", "file:///etc/passwd", "localhost/m", ""])
def test_an_address_that_is_not_https(fetcher: Fetcher, target: Path, url: str) -> None:
    with pytest.raises(FetchError, match="is not an https:// address"):
        fetcher.fetch(Wanted(url), target)


def test_two_at_once(server: TlsServer, fetcher: Fetcher, target: Path) -> None:
    messages = []

    def meanwhile(request: list[str], connection: ssl.SSLSocket) -> None:
        with pytest.raises(FetchError) as caught:
            fetcher.fetch(Wanted(server.url()), target)
        messages.append(str(caught.value))
        ranged(BODY)(request, connection)

    server.behaviours = [meanwhile]
    fetcher.fetch(Wanted(server.url()), target)
    assert "is being fetched by another labelcam" in messages[0]


def test_a_link_in_place_of_the_partial_file_is_not_followed(
    fetcher: Fetcher, target: Path, tmp_path: Path
) -> None:
    target.parent.mkdir()
    (tmp_path / "precious").write_text("mine")
    _part(target).symlink_to(tmp_path / "precious")
    with pytest.raises(FetchError, match="cannot be written"):
        fetcher.fetch(Wanted("https://localhost:1/m"), target)
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_full_disk_is_seen_before(
    fetcher: Fetcher, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage(10))
    with pytest.raises(FetchError, match="needs 700,000 bytes and the disk has 10 left"):
        fetcher.fetch(Wanted("https://localhost:1/m"), target)


@dataclass
class _Usage:
    free: int


def test_through_a_proxy_of_the_environment(
    server: TlsServer,
    trust: ssl.SSLContext,
    target: Path,
    monkeypatch: pytest.MonkeyPatch,
    waits: list[float],
) -> None:
    server.behaviours = [ranged(BODY)]
    asked: list[str] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def pipe(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    def proxy() -> None:
        client, _ = listener.accept()
        asked.append(client.recv(4096).decode().split("\r\n")[0])
        port = int(server.url("").rpartition(":")[2])
        with client, socket.create_connection(("127.0.0.1", port)) as upstream:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            up = threading.Thread(target=pipe, args=(client, upstream), daemon=True)
            up.start()
            pipe(upstream, client)
            up.join(5)

    thread = threading.Thread(target=proxy, daemon=True)
    thread.start()
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "")
    Fetcher(trust=trust, wait=waits.append).fetch(Wanted(server.url()), target)
    thread.join(5)
    listener.close()
    assert asked[0].split()[:2] == ["CONNECT", server.url("").removeprefix("https://")]
    assert target.read_bytes() == BODY
