"""Streams against servers on this machine: real RTSP, HLS, TLS, and some that lie or stall."""

import contextlib
import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from device import config
from device.cameras import Camera, open_camera, stream
from device.cameras.supervisor import CameraSupervisor
from device.errors import CameraError, ConfigError
from device.frames import LatestFrame
from tests.cameras.conftest import MjpegServer, encoded, scene, write_video
from tests.conftest import FOOTAGE

DEBIAN_PYTHON = Path("/usr/bin/python3")
WAIT_S = 20.0


def opened(url: str, **settings: Any) -> Camera:
    return open_camera(config.Camera(source=url, **settings))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class RtspServer:
    """GStreamer's server in a process of its own, which can be killed and started again."""

    def __init__(self, picture: Path | None = None) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._arguments = [str(picture)] if picture else []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self._process = subprocess.Popen(
            [DEBIAN_PYTHON, script, str(self.port), *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "READY\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@pytest.fixture
def rtsp() -> Iterator[RtspServer]:
    have = [
        str(DEBIAN_PYTHON),
        "-c",
        "import gi; gi.require_version('GstRtspServer', '1.0'); "
        "from gi.repository import Gst, GstRtspServer as R; Gst.init(None); "
        "assert all(map(Gst.ElementFactory.find, ('rtpjpegpay', 'jpegenc', 'videoscale')))",
    ]
    if (
        not DEBIAN_PYTHON.exists()
        or subprocess.run(have, check=False, stderr=subprocess.DEVNULL).returncode
    ):
        pytest.skip(
            "no RTSP server: apt-get install python3-gi gir1.2-gst-rtsp-server-1.0 "
            "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
        )
    server = RtspServer(FOOTAGE / "coffee.jpg")
    server.start()
    yield server
    server.kill()


def reach(supervisor: CameraSupervisor, state: str) -> float:
    """Look after the camera until it is in the state; the seconds that took."""
    begun = time.monotonic()
    pause = threading.Event()
    while (supervisor.check(), supervisor.state)[1] != state:
        assert time.monotonic() < begun + WAIT_S, f"{supervisor.state}, {supervisor.problem}"
        pause.wait(0.02)
    return time.monotonic() - begun


@pytest.mark.slow
def test_rtsp_gives_the_picture(rtsp: RtspServer) -> None:
    with opened(rtsp.url) as camera:
        assert camera.live
        frame = camera.read()
    assert frame is not None
    assert (frame.width, frame.height) == (320, 240)
    coffee = cv2.resize(cv2.imread(str(FOOTAGE / "coffee.jpg")), (320, 240))
    assert np.abs(frame.pixels.astype(int) - coffee).mean() < 12


@pytest.mark.slow
def test_rtsp_survives_the_restart_of_its_server(rtsp: RtspServer) -> None:
    slot = LatestFrame()
    supervisor = CameraSupervisor(config.Camera(source=rtsp.url, stall_s=2), slot)
    supervisor.start()
    reach(supervisor, "live")
    rtsp.kill()
    assert reach(supervisor, "lost") < 3
    assert not slot.pending
    rtsp.start()
    assert reach(supervisor, "live") < 5
    assert slot.take(5) is not None
    assert supervisor.close(5)


@pytest.mark.slow
def test_labelcam_runs_on_rtsp(rtsp: RtspServer, capsys: pytest.CaptureFixture[str]) -> None:
    from device.cli import main

    # It shows a photograph, of which few frames are classified otherwise.
    settings = ("--set", "jsonl.enabled=true", "--set", "gate.motion='off'")
    assert main(["run", "--source", rtsp.url, "--frames", "20", *settings]) == 0
    assert '"label":"cup"' in capsys.readouterr().out


@contextlib.contextmanager
def answering(reply: bytes) -> Iterator[int]:
    """A server that gives each line-terminated request this reply; empty: it says nothing."""
    leaving = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not leaving.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listening.accept()
                with connection:
                    connection.settimeout(0.1)
                    while not leaving.is_set():
                        try:
                            if not connection.recv(4096):
                                break
                            if reply:
                                connection.sendall(reply)
                        except TimeoutError:
                            continue

    thread = threading.Thread(target=serve)
    thread.start()
    port: int = listening.getsockname()[1]
    yield port
    leaving.set()
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
    thread.join()
    listening.close()


@pytest.mark.parametrize("kind", ["garbage", "nothing", "redirects"])
@pytest.mark.slow
def test_rtsp_that_is_none(
    kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(stream, "_OPEN_TIMEOUT_S", 0.7)
    location = b"rtsp://127.0.0.1:%d/cam"
    replies = {
        "garbage": np.random.default_rng(0).bytes(5000),
        "nothing": b"",
        "redirects": b"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: %s\r\n\r\n",
    }
    port = free_port()
    reply = replies[kind].replace(b"%s", location % port)
    with answering(reply) as port, pytest.raises(CameraError, match="answers, but gave no video"):
        opened(f"rtsp://127.0.0.1:{port}/cam")
    assert capfd.readouterr().err == ""


class Files(http.server.ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self, folder: Path, chain: Path | None = None) -> None:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(folder))

            def log_message(self, format: str, *_: object) -> None: ...  # noqa: A002

        super().__init__(("127.0.0.1", 0), Handler)
        if chain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    def handle_error(self, request: Any, client_address: Any) -> None: ...


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[int]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_hls(tmp_path: Path) -> None:
    for number in range(3):
        write_video(tmp_path / f"{number}.ts", frames=30)
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
    lines += [line for number in range(3) for line in ("#EXTINF:1.0,", f"{number}.ts")]
    (tmp_path / "live.m3u8").write_text("\n".join(lines) + "\n")
    url = "http://127.0.0.1:{}/live.m3u8"
    with serving(Files(tmp_path)) as port, opened(url.format(port), stall_s=1) as camera:
        assert camera.live
        frames = [camera.read() for _ in range(20)]
    assert all(frame is not None and frame.fault() == "" for frame in frames)


def test_a_stream_whose_size_changes(server: MjpegServer, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [(64, 48)] * 6 + [(96, 64)] * 200

    def changing(suffix: str, _: object = None) -> bytes:
        width, height = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        return encoded(suffix, scene(0, width, height))

    monkeypatch.setattr("tests.cameras.conftest.encoded", changing)
    with opened(server.url("/live")) as camera:
        frames = [camera.read() for _ in range(60)]
    assert all(frame is not None and frame.fault() == "" for frame in frames)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that signed itself."""
    path = tmp_path_factory.mktemp("tls") / "chain.pem"
    key, certificate = path.with_suffix(".key"), path.with_suffix(".crt")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=camera",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-keyout",
            key,
            "-out",
            certificate,
        ],
        check=True,
        capture_output=True,
    )
    path.write_bytes(key.read_bytes() + certificate.read_bytes())
    return path


class TestTls:
    @pytest.fixture
    def url(self, chain: Path, tmp_path: Path) -> Iterator[str]:
        write_video(tmp_path / "clip.mp4")
        with serving(Files(tmp_path, chain)) as port:
            yield f"https://127.0.0.1:{port}/clip.mp4"

    def test_is_taken_as_it_is_only_when_told_so(
        self, url: str, chain: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(chain))
        with opened(url, tls_verify=False) as camera:
            assert camera.read() is not None
        with pytest.raises(ConfigError) as caught:
            opened(url)
        assert str(caught.value) == (
            "camera.tls_verify: true, but the FFmpeg in OpenCV cannot verify who sends "
            f"{url}, only who sends JPEGs over https can be; set it to false to take whoever "
            "answers"
        )

    def test_no_password_is_shown_with_it(self) -> None:
        with pytest.raises(ConfigError, match=r"who sends rtsps://…@127\.0\.0\.1/cam, only"):
            opened("rtsps://me:hunter2@127.0.0.1/cam")
