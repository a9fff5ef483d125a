"""What the camera tests look at: pictures, videos and a camera on the network, made here."""

import base64
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device.frames import Pixels
from device.recordings.pictures import quiet_opencv

# As the program does, before FFmpeg is used for the first time: here by the video writer.
quiet_opencv()

USER, PASSWORD = "viewer", "s3cret"


class NoWait(threading.Event):
    """A stop event whose waits are over at once, so that a test runs through a recording."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return self.is_set()


def scene(shift: int = 0, width: int = 64, height: int = 48) -> Pixels:
    """A smooth coloured picture, which codecs keep well; ``shift`` moves it."""
    noise = np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    picture = np.asarray(cv2.resize(noise, (width, height)), np.uint8)
    return np.roll(picture, shift, axis=1)


def encoded(suffix: str, pixels: Pixels | None = None) -> bytes:
    done, data = cv2.imencode(suffix, scene() if pixels is None else pixels)
    assert done
    return bytes(data)


def write_video(path: Path, frames: int = 30, codec: str = "mp4v", fps: float = 30.0) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        writer.write(scene(number))
    writer.release()
    return path


@pytest.fixture
def no_wait() -> NoWait:
    return NoWait()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "pictures"
    place.mkdir()
    for number in range(3):
        (place / f"{number}.jpg").write_bytes(encoded(".jpg", scene(20 * number)))
    return place


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "clip.mp4")


class MjpegServer(http.server.ThreadingHTTPServer):
    """A network camera: /live never ends, /three ends after three frames, /stall goes silent
    after three, /hang too, but does not say what it sends, /private wants USER and PASSWORD,
    /garbage is no video, /loop redirects."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.leaving = threading.Event()
        self._change = threading.Condition()
        self._connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._change:
            self._connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._change:
            self._connections -= 1
            self._change.notify_all()

    def wait_until_idle(self) -> bool:
        with self._change:
            return self._change.wait_for(lambda: self._connections == 0, 10)

    def url(self, path: str, user: str = "") -> str:
        return f"http://{user}127.0.0.1:{self.server_port}{path}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: MjpegServer

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.path == "/loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/private" and self.headers["Authorization"] != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.end_headers()
        elif self.path == "/garbage":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(np.random.default_rng(1).bytes(100_000))
        elif self.path in ("/live", "/three", "/stall", "/hang", "/private"):
            self._stream()
        else:
            self.send_error(404)

    def _stream(self) -> None:
        self.send_response(200)
        if self.path != "/hang":
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        number = 0
        try:
            while not self.server.leaving.is_set() and (self.path != "/three" or number < 3):
                if self.path in ("/stall", "/hang") and number == 3:
                    self.server.leaving.wait(30)
                    return
                jpeg = encoded(".jpg", scene(number))
                self.wfile.write(
                    b"--frame\r\nContent-Type: image/jpeg\r\n"
                    + f"Content-Length: {len(jpeg)}\r\n\r\n".encode()
                    + jpeg
                    + b"\r\n"
                )
                number += 1
        except ConnectionError:
            pass  # the camera under test hung up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        pass


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.leaving.set()
        server.shutdown()
        thread.join()
