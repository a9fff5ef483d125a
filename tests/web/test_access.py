"""Who gets in, who does not, and what a refusal looks like."""

import logging
import ssl
import stat
from pathlib import Path

import pytest
import trustme

from device import config
from device.cli import main
from device.errors import ConfigError, SinkError
from device.sinks.web import access
from device.sinks.web import token as web_token
from device.sinks.web.sink import WebSink
from device.system.audit import LOGGER
from tests.web.conftest import FakeDevice, Open, View

NETWORK = "0.0.0.0"


@pytest.fixture
def token(tmp_path: Path) -> tuple[str, str]:
    """A token, and the file that knows it."""
    path = tmp_path / "token"
    return web_token.make(path), str(path)


@pytest.fixture
def guarded(open_view: Open, token: tuple[str, str]) -> View:
    """A web view that is open to the network and asks for the token."""
    made = open_view(host=NETWORK, token_file=token[1])
    made.start()
    return made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:8080", "[::1]:1", "10.0.0.7"]
)
def test_hosts_that_are_this_device(view: View, host: str) -> None:
    assert view.ask("/api/state", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "localhost:80:80",
        "evil.example@localhost",
        "localhost/x",
        "",
        " ",
        "löcalhost",
        "127.0.0.1, evil.example",
    ],
)
def test_forged_hosts(view: View, host: str) -> None:
    answer = view.ask("/api/state", headers={"Host": host.encode().decode("latin-1")})
    assert answer.status in {400, 421}


def test_a_host_that_was_configured(open_view: Open) -> None:
    view = open_view(hosts=("cam.example",))
    assert view.ask("/api/state", headers={"Host": "cam.example:443"}).status == 200


@pytest.mark.parametrize("path", ["/", "/api/state", "/api/snapshot.jpg", "/nothing", "/healthz"])
def test_every_answer_has_the_headers(view: View, path: str) -> None:
    headers = view.ask(path).headers
    assert headers["content-security-policy"].startswith("default-src 'none';")
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] in {"no-store", "no-cache"}
    assert "server" not in headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Labelcam": ""},
    ],
)
def test_writes_of_other_sites_are_refused(view: View, headers: dict[str, str]) -> None:
    assert view.order({"key": "restart"}, **headers).status == 403
    assert view.device.commands == []


def test_writes_of_the_page_itself(view: View) -> None:
    here = f"http://localhost:{view.port}"
    answer = view.order({"key": "restart"}, Host=f"localhost:{view.port}", Origin=here)
    assert answer.status == 200


def test_a_form_cannot_write(view: View) -> None:
    kind = "application/x-www-form-urlencoded"
    assert view.order({"key": "restart"}, **{"Content-Type": kind}).status == 415


def test_other_sites_cannot_show_its_pictures_but_may_link_to_it(view: View) -> None:
    image = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert view.ask("/api/video.mjpg", headers=image).status == 403
    link = {
        "Sec-Fetch-Site": "cross-site",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Dest": "document",
    }
    assert view.ask("/", headers=link).status == 200


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/api/state", "POST", 405),
        ("/api/state", "DELETE", 405),
        ("/api/state", "OPTIONS", 405),
        ("/api/video.mjpg", "PUT", 405),
        ("/api/command", "GET", 405),
        ("/api/state", "BREW", 405),
        ("/../../../etc/passwd", "GET", 404),
        ("/..%2f..%2fetc%2fpasswd", "GET", 404),
        ("/page/../index.html", "GET", 404),
        ("/index.html", "GET", 404),
        ("/login.html", "GET", 404),
        ("/%ff%fe", "GET", 404),
        ("/%00", "GET", 404),
        ("/api/snapshot.jpg?camera=%ff", "GET", 404),
    ],
)
def test_requests_that_are_none(view: View, path: str, method: str, status: int) -> None:
    headers = {"Content-Type": "application/json", "X-Labelcam": "1"}
    answer = view.ask(path, method, headers=headers)
    assert answer.status == status
    assert isinstance(answer.error, str)


@pytest.mark.parametrize(
    "head",
    [
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01 this is TLS\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request(view: View, head: bytes) -> None:
    connection = view.send(head)
    assert connection.recv(65536)[:13] in {b"HTTP/1.1 400 ", b"HTTP/1.1 431 "}
    assert view.ask("/healthz").status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize(
    ("length", "status"), [("Content-Length: 1000000000", 413), ("Transfer-Encoding: chunked", 411)]
)
def test_a_large_body_is_not_read(view: View, method: str, length: str, status: int) -> None:
    connection = view.send(
        f"{method} /api/command HTTP/1.1\r\nHost: localhost\r\n{length}\r\n\r\n".encode()
    )
    answer = b""
    while part := connection.recv(65536):
        answer += part
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"connection: close" in answer


def test_a_network_address_asks_for_a_token(open_view: Open) -> None:
    with pytest.raises(ConfigError) as caught:
        open_view(host=NETWORK)
    assert str(caught.value).startswith("web.host = '0.0.0.0': asks for a token, and ")
    assert "run: labelcam web token" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_token_lets_in_and_nothing_else_does(guarded: View, token: tuple[str, str]) -> None:
    assert guarded.ask("/api/state").status == 401
    assert guarded.ask("/api/state", headers=bearer("x" * 43)).status == 401
    assert guarded.ask("/api/state", headers=bearer(token[0] + "x")).status == 401
    assert guarded.ask("/api/state", headers={"Authorization": "Basic eDp4"}).status == 401
    assert guarded.ask("/api/state", headers={"Cookie": "labelcam=x"}).status == 401
    assert guarded.ask("/api/state", headers=bearer(token[0])).json["token"] is True
    for path in ("/api/video.mjpg", "/api/snapshot.jpg", "/metrics", "/openapi.json", "/nothing"):
        assert guarded.ask(path).status == 401
    # They say no more than that the device is there.
    for path in ("/healthz", "/readyz", "/login", "/style.css"):
        assert guarded.ask(path).status == 200
    assert token[0] not in guarded.ask("/metrics", headers=bearer(token[0])).body.decode()


def test_the_page_leads_to_the_log_in_and_back(guarded: View, token: tuple[str, str]) -> None:
    answer = guarded.ask("/")
    assert (answer.status, answer.headers["location"]) == (303, "/login")
    here = {"Host": f"localhost:{guarded.port}", "Origin": f"http://localhost:{guarded.port}"}
    answer = guarded.ask("/login", "POST", f"token={token[0]}".encode(), here)
    assert (answer.status, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert guarded.ask("/", headers={"Cookie": f"other=1; {cookie.split(';')[0]}; x"}).status == 200
    out = guarded.ask("/logout", "POST", headers=here | {"Cookie": cookie.split(";")[0]})
    assert 'labelcam=""' in out.headers["set-cookie"]


def test_a_wrong_token_at_the_log_in(guarded: View) -> None:
    here = {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}
    answer = guarded.ask("/login", "POST", b"token=%ff%3Cb%3E", here)
    assert answer.status == 401
    assert b"this is not it" in answer.body
    assert b"%ff" not in answer.body
    assert guarded.ask("/login", "POST", b"token=x").status == 403


def test_who_brings_which_token_is_noted(
    guarded: View, token: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(9):
        guarded.ask("/api/state", headers=bearer("wrong 100%\x1b[2J"))
    here = {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}
    assert guarded.ask("/login", "POST", f"token={token[0]}".encode(), here).status == 303
    place = "web view, from 127.0.0.1"
    assert [r.getMessage() for r in caplog.records if r.name == LOGGER] == [
        *[f"security: wrong-token: for the {place}"] * 5,
        f"security: signed-in: to the {place}",
    ]
    assert token[0] not in caplog.text


def test_many_wrong_tokens_are_refused_for_a_while_and_the_right_one_never(
    guarded: View, token: tuple[str, str]
) -> None:
    statuses = [guarded.ask("/api/state", headers=bearer("wrong")).status for _ in range(7)]
    assert statuses == [401] * 5 + [429] * 2
    answer = guarded.ask("/api/state", headers=bearer("wrong"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "60")
    assert guarded.ask("/api/state", headers=bearer(token[0])).status == 200
    here = {"Host": "localhost", "Sec-Fetch-Site": "same-origin"}
    assert guarded.ask("/login", "POST", b"token=wrong", here).status == 429
    assert guarded.ask("/login", "POST", f"token={token[0]}".encode(), here).status == 303
    # Whoever comes with an old cookie can give the token of now.
    old = guarded.ask("/", headers={"Cookie": "labelcam=wrong"})
    assert (old.status, old.headers["location"]) == (303, "/login")


def test_tries_come_back_with_time_and_are_counted_for_each_place() -> None:
    now = 0.0
    tries = access.Tries(clock=lambda: now)
    for _ in range(5):
        assert tries.allowed("192.0.2.1")
        tries.failed("192.0.2.1")
    assert not tries.allowed("192.0.2.1")
    assert tries.allowed("192.0.2.2")
    now = 12.0
    assert tries.allowed("192.0.2.1")
    for _ in range(5):
        tries.failed("2001:db8::1")
    assert not tries.allowed("2001:db8::2")
    assert tries.allowed("2001:db8:0:1::1")
    for number in range(tries.KEPT):
        tries.failed(f"198.51.{number >> 8}.{number & 255}")
    # What it remembers is bounded: the earliest are forgotten.
    assert tries.allowed("2001:db8::2")


def test_a_token_file_that_is_given_counts_on_loopback_too(
    open_view: Open, token: tuple[str, str]
) -> None:
    assert open_view(token_file=token[1]).ask("/api/state").status == 401


def test_the_command_makes_a_token_that_only_its_owner_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    path = tmp_path / "state" / "web-token"
    assert main(["web", "token"]) == 0
    first = capsys.readouterr().out.strip()
    assert main(["web", "token"]) == 0
    out = capsys.readouterr()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert out.out.strip() not in path.read_text()
    assert str(path) in out.err
    known = web_token.read(path)
    assert known.matches(out.out.strip())
    assert not known.matches(first)
    assert not known.matches("")


@pytest.mark.parametrize(
    ("text", "mode", "problem"),
    [
        ("sha256:" + "0" * 64, 0o644, "is open to others (mode 644); run: chmod 600"),
        ("sha256:" + "0" * 64, 0o620, "is open to others (mode 620)"),
        ("", 0o600, "holds no token's hash; run: labelcam web token"),
        ("sha256:00", 0o600, "holds no token's hash"),
        ("0" * 64, 0o600, "holds no token's hash"),
        ("sha256:" + "x" * 64, 0o600, "holds no token's hash"),
    ],
)
def test_token_files_that_are_refused(tmp_path: Path, text: str, mode: int, problem: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        web_token.read(path)
    assert problem in str(caught.value)


def test_a_token_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no token for the web view; run: labelcam web"):
        web_token.read(tmp_path / "none")
    with pytest.raises(ConfigError, match="cannot be written"):
        web_token.make(tmp_path / "file" / "x") if (tmp_path / "file").write_text("") == 0 else None


def test_a_port_that_is_taken_and_an_address_of_others(view: View) -> None:
    for settings, problem in (
        (config.Web(port=view.port), f"127.0.0.1:{view.port} is taken by another program"),
        (config.Web(host="no.such.host.invalid"), "is no address of this device"),
    ):
        with pytest.raises(SinkError, match=problem):
            WebSink(settings, [config.Camera()], FakeDevice(), config.Teach(), view.ring)


def test_tls(open_view: Open, tmp_path: Path) -> None:
    authority = trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made.cert_chain_pems[0].write_to_path(cert)
    made.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    view = open_view(cert_file=str(cert), key_file=str(key))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    assert view.ask("/healthz", tls=trust).status == 200
    assert view.sink.url.startswith("https://")
    # Somebody who speaks no TLS gets nothing and harms nobody.
    plain = view.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"HTTP" not in plain.recv(1000)
    assert view.ask("/healthz", tls=trust).status == 200


def test_tls_files_that_are_refused(open_view: Open, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for prepare, problem in (
        (lambda: None, "web.cert_file = .*: cannot be read"),
        (lambda: (cert.write_text("x"), key.write_text("x")), "is open to all"),
        (lambda: key.chmod(0o600), "does not hold a certificate for web.key_file"),
    ):
        prepare()
        with pytest.raises(ConfigError, match=problem):
            open_view(cert_file=str(cert), key_file=str(key))
