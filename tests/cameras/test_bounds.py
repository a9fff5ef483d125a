"""Network cameras that send more than they may: little of it is kept, and it is said in a line."""

import contextlib
import hashlib
import itertools
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import trustme

from device import config
from device.cameras import Camera, jpegs, open_camera, stream
from device.errors import CameraError, CameraStalled
from device.frames import Frame
from tests.cameras.conftest import encoded
from tests.peer import RESIDENT_MAX_MB, Behaviour, Running, peer
from tests.tls_server import TlsServer, answer, tls_server

HEADER = b"A: " + bytes(60_000) + b"\r\n"
MEGABYTE = bytes(1 << 20)
OK = b"HTTP/1.1 200 OK\r\n"
MULTIPART = OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
PART = b"--frame\r\nContent-Type: image/jpeg\r\n"
JPEG = encoded(".jpg")
# As large as a picture may be.
BLANK = encoded(".jpg", np.zeros((8192, 8192, 3), np.uint8))


def part(jpeg: bytes, announced: int = 0) -> bytes:
    length = f"Content-Length: {announced or len(jpeg)}\r\n\r\n".encode()
    return PART + length + jpeg + b"\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def sized(width: int, height: int, marker: bytes = b"\xff\xc0") -> bytes:
    """The JPEG, whose header claims this size."""
    at = JPEG.index(b"\xff\xc0")
    size = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return JPEG[:at] + marker + JPEG[at + 2 : at + 5] + size + JPEG[at + 9 :]


def sends(*pieces: bytes, then: bytes = b"", times: int = 0) -> Behaviour:
    """Answers a request with these bytes, and with others over and over."""

    def behave(sock: socket.socket) -> None:
        sock.recv(4096)
        for piece in itertools.chain(pieces, itertools.repeat(then, times)):
            sock.sendall(piece)

    return behave


BAD: dict[str, Behaviour] = {
    "announces 2 GB": sends(MULTIPART + part(JPEG, 2_000_000_000), then=MEGABYTE, times=2000),
    "announces nothing": sends(MULTIPART + PART + b"\r\n" + JPEG, then=MEGABYTE, times=2000),
    "a still of 2 GB": sends(
        OK + b"Content-Type: image/jpeg\r\nContent-Length: 2000000000\r\n\r\n" + JPEG,
        then=MEGABYTE, times=2000,
    ),
    "a still without an end": sends(
        OK + b"Content-Type: image/jpeg\r\n\r\n" + JPEG, then=MEGABYTE, times=2000
    ),
    "a line without an end": sends(MULTIPART, then=MEGABYTE, times=2000),
    "headers without an end": sends(OK, then=HEADER, times=20_000),
    "headers of a part": sends(MULTIPART + PART, then=HEADER, times=20_000),
    "65500 a side": sends(MULTIPART + part(sized(65500, 65500)), then=part(JPEG), times=1000),
    "65500 a side, later": sends(MULTIPART + part(JPEG) + part(sized(65500, 65500))),
    "8192 a side": sends(MULTIPART, then=part(BLANK), times=20),
    "8192 a side, progressive": sends(
        MULTIPART, then=part(sized(8192, 8192, b"\xff\xc2")), times=1000
    ),
    "a JPEG for FFmpeg": sends(OK + b"\r\n" + JPEG, then=MEGABYTE, times=2000),
    "65500 a side for FFmpeg": sends(
        OK + b"\r\n", then=sized(65500, 65500), times=20_000
    ),
    "multipart for FFmpeg": sends(
        OK + b"Content-Type: video/x\r\n\r\n" + part(JPEG) + part(JPEG, 2_000_000_000),
        then=MEGABYTE, times=2000,
    ),
    "a playlist without an end": sends(
        OK + b"\r\n#EXTM3U\n#EXT-X-TARGETDURATION:1\n",
        then=b"#EXTINF:1,\na.ts\n" * 60_000, times=2000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("behave", BAD.values(), ids=BAD.keys())
@pytest.mark.slow
def test_no_camera_makes_us_large(behave: Behaviour, tmp_path: Path) -> None:
    with (
        peer(behave) as camera,
        Running(tmp_path, f"camera.source=http://127.0.0.1:{camera.port}/cam") as node,
    ):
        # What is no JPEG is asked for again, by FFmpeg.
        node.wait(lambda: camera.met >= 2)
    assert 0 < node.peak_mb <= RESIDENT_MAX_MB
    # It ended by itself, or by SIGTERM while it ran or just ended: never by a crash.
    assert node.code in (0, 1, -signal.SIGTERM), node.log


@contextlib.contextmanager
def opened(behave: Behaviour, **settings: Any) -> Iterator[Camera]:
    with (
        peer(behave) as server,
        open_camera(config.Camera(source=server.url("/cam"), **settings)) as camera,
    ):
        yield camera


def asked(sock: socket.socket) -> bytes:
    """The whole request."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        if not (more := sock.recv(4096)):
            raise ConnectionResetError
        heard += more
    return heard


def frames_of(camera: Camera, count: int) -> list[Frame]:
    frames = [camera.read() for _ in range(count)]
    return [frame for frame in frames if frame is not None]


@pytest.mark.parametrize(
    "stream",
    [
        MULTIPART + part(JPEG) * 3,
        MULTIPART + (PART + b"\r\n" + JPEG + b"\r\n") * 3 + b"--frame--\r\n",
        MULTIPART.replace(b"=frame", b'="--frame"') + part(JPEG) * 3,
        MULTIPART.replace(b"boundary=frame", b"x=y") + part(JPEG) * 3,
        MULTIPART + (part(JPEG[:200]) + part(JPEG, len(JPEG) - 100) + part(JPEG)) * 3,
        MULTIPART + b"\r\npreamble\r\n" + part(JPEG).replace(b"Length", b"length ") * 3,
        MULTIPART.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        + chunked(part(JPEG)[:99]) + chunked(part(JPEG)[99:]) + chunked(part(JPEG) * 2),
    ],
)  # fmt: skip
def test_cameras_write_it_in_many_ways(stream: bytes) -> None:
    with opened(sends(stream)) as camera:
        assert camera.live
        frames = frames_of(camera, 3)
        with pytest.raises(CameraError, match="the stream ended after 3 frames"):
            camera.read()
    expected = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
    assert [frame.number for frame in frames] == [0, 1, 2]
    for frame in frames:
        np.testing.assert_array_equal(frame.pixels, expected)


def test_stills_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpegs, "_STILL_S", 0.01)
    still = OK + b"Content-Type: image/jpeg\r\n\r\n" + JPEG
    with opened(sends(still), fps=240) as camera:
        assert len(frames_of(camera, 3)) == 3


def test_a_large_picture_is_reduced_while_it_is_decoded() -> None:
    with opened(sends(MULTIPART + part(BLANK))) as camera:
        (frame,) = frames_of(camera, 1)
    assert (frame.width, frame.height) == (1024, 1024)
    assert frame.fault() == ""


def test_bytes_that_trickle_are_a_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_READ_GRACE_S", 0.0)

    def behave(sock: socket.socket) -> None:
        asked(sock)
        sock.sendall(MULTIPART + part(JPEG) + PART)
        while True:
            sock.sendall(b"a")
            time.sleep(0.02)

    with opened(behave, stall_s=0.5) as camera:
        assert len(frames_of(camera, 1)) == 1
        begun = time.monotonic()
        with pytest.raises(CameraStalled, match=r"gave no frame for 0\.5 s after 1"):
            camera.read()
    assert time.monotonic() - begun < 2


def test_a_wait_ends_when_it_is_told_to() -> None:
    def behave(sock: socket.socket) -> None:
        sock.sendall(MULTIPART + part(JPEG))
        while sock.recv(4096):
            pass

    stop = threading.Event()
    with (
        peer(behave) as server,
        open_camera(config.Camera(source=server.url("/cam")), stop) as camera,
    ):
        assert len(frames_of(camera, 1)) == 1
        threading.Timer(0.1, stop.set).start()
        begun = time.monotonic()
        assert camera.read() is None
    assert time.monotonic() - begun < 2


def redirect(location: str) -> Behaviour:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return sends(head.encode())


def test_three_redirects_are_followed_and_no_password_goes_along() -> None:
    requests: list[bytes] = []

    def behave(sock: socket.socket) -> None:
        requests.append(asked(sock))
        if b"/4 " in requests[-1] and b"Authorization" not in requests[-1]:
            sock.sendall(UNAUTHORIZED + b'WWW-Authenticate: Basic realm="x"\r\n\r\n')
        elif found := re.match(rb"GET /([0-3]) ", requests[-1]):
            sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: /%d\r\n\r\n" % (int(found[1]) + 1))
        else:
            sock.sendall(MULTIPART + part(JPEG))

    with peer(behave) as target, peer(redirect(target.url("/3"))) as first:
        source = first.url("/cam").replace("//", "//me:hunter2@")
        with pytest.raises(CameraError, match="answers, but gave no video"):
            open_camera(config.Camera(source=source))
        assert not [request for request in requests if b"Authorization" in request]
        with open_camera(config.Camera(source=target.url("/2").replace("//", "//me:pw@"))):
            assert b"Authorization: Basic bWU6cHc=" in requests[-1]
        with pytest.raises(CameraError, match="answers, but gave no video"):
            open_camera(config.Camera(source=target.url("/0")))


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/a", "file:///etc/passwd", "http://[::1/"])
def test_no_redirect_leads_elsewhere(location: str) -> None:
    with (
        pytest.raises(CameraError, match="answers, but gave no video"),
        opened(redirect(location)),
    ):
        pass


UNAUTHORIZED = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n"


def test_a_camera_may_want_a_digest() -> None:
    def behave(sock: socket.socket) -> None:
        request = asked(sock).decode()
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', request.partition("Digest ")[2]))

        def md5(*parts: str) -> str:
            return hashlib.md5(":".join(parts).encode()).hexdigest()

        if given:
            who, what = md5("me", "the realm", "p@ss"), md5("GET", "/cam?x=1")
            wanted = md5(who, "n0nce", given["nc"], given["cnonce"], "auth", what)
            if given["response"] == wanted:
                sock.sendall(MULTIPART + part(JPEG))
                return
        sock.sendall(
            UNAUTHORIZED + b'WWW-Authenticate: Basic realm="the realm"\r\nWWW-Authenticate: '
            b'Digest realm="the realm", nonce="n0nce", qop="auth", algorithm=MD5\r\n\r\n'
        )

    with peer(behave) as server:
        url = server.url("/cam?x=1")
        with open_camera(config.Camera(source=url.replace("//", "//me:p%40ss@"))) as camera:
            assert len(frames_of(camera, 1)) == 1
        for user in ("me:wrong@", ""):
            with pytest.raises(CameraError, match="check the path, the user and the password"):
                open_camera(config.Camera(source=url.replace("//", f"//{user}")))


class TestVerified:
    @pytest.fixture
    def server(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TlsServer]:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        with tls_server(authority) as server:
            server.behaviours.append(lambda _, sock: sock.sendall(MULTIPART + part(JPEG) * 9))
            yield server

    def test_a_camera_that_proves_who_it_is(self, server: TlsServer) -> None:
        with open_camera(config.Camera(source=server.url("/cam"))) as camera:
            assert len(frames_of(camera, 3)) == 3

    def test_one_that_does_not(self, server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        words = r"its certificate is not trusted \(.*issuer.*\); let this system trust"
        with pytest.raises(CameraError, match=words):
            open_camera(config.Camera(source=server.url("/cam")))
        unverified = config.Camera(source=server.url("/cam"), tls_verify=False)
        with open_camera(unverified) as camera:
            assert len(frames_of(camera, 3)) == 3

    def test_no_redirect_leads_out_of_it(self, server: TlsServer) -> None:
        with peer(sends(MULTIPART + part(JPEG))) as plain:
            server.behaviours[:] = [answer(b"", status="302 Found", Location=plain.url("/cam"))]
            with pytest.raises(CameraError, match="answers, but gave no video"):
                open_camera(config.Camera(source=server.url("/cam")))
            assert plain.met == 0
