"""A real broker with a configuration of its own, on free loopback ports."""

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAM = shutil.which("mosquitto") or next(
    (path for path in ("/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto") if Path(path).exists()),
    "",
)
MISSING = "mosquitto is not installed; sudo apt-get install mosquitto"


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Mosquitto:
    """A broker that can be killed, paused and started again on the same port."""

    def __init__(self, folder: Path, *lines: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "mosquitto.conf"
        text = "\n".join(lines) or "allow_anonymous true"
        head = f"listener {self.port} 127.0.0.1\npersistence false\nmax_queued_messages 0\n"
        # Root would become another user, who may not read what the tests write.
        head += f"user {getpass.getuser()}\n"
        self._file.write_text(f"{head}{text}\n")

    def start(self) -> Self:
        """Start it, and wait until it listens."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-c", str(self._file)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return self
            time.sleep(0.01)
        raise RuntimeError(f"mosquitto did not start: {(self._folder / 'log').read_text()[-500:]}")

    def kill(self) -> None:
        """End it as a power cut would."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def pause(self) -> None:
        """Stop it where it stands; its connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, whatever state it is in; may be called twice."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Door:
    """A node's way to the broker, open only while a subscriber listens there.

    What a broker acknowledges with nobody subscribed is lost to a test through no fault of
    the node's.
    """

    def __init__(self, broker_port: int, is_open: threading.Event) -> None:
        self._broker_port = broker_port
        self._is_open = is_open
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._outside: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                inside, _ = self._socket.accept()
            except OSError:
                return
            try:
                if not self._is_open.is_set():
                    raise ConnectionRefusedError
                outside = socket.create_connection(("127.0.0.1", self._broker_port), 1)
            except OSError:
                inside.close()
                continue
            outside.settimeout(None)
            self._outside.append(outside)
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            self._threads.append(threading.Thread(target=_join, args=(inside, outside)))
            self._threads[-1].start()

    def cut(self) -> None:
        """Cut those off who are inside, as a power cut would."""
        for sock in self._outside:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._outside.clear()

    def close(self) -> None:
        """Let nobody in any more, and wait until those who are in have gone."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._socket.close()
        for thread in self._threads:
            thread.join(10)


def _join(inside: socket.socket, outside: socket.socket) -> None:
    """Carry bytes both ways until one end closes."""
    with inside, outside:
        for sock in (inside, outside):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=_pass_on, args=(outside, inside))
        back.start()
        _pass_on(inside, outside)
        back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


class Authority:
    """A certificate authority of the tests' own, made with openssl."""

    def __init__(self, folder: Path, name: str = "Tests") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.certificate = folder / f"{name}.pem"
        self._key = folder / f"{name}.key"
        _openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", self._key, "-out", self.certificate, "-days", "30", "-subj", f"/CN={name}",
        )  # fmt: skip

    def issue(self, name: str, host: str = "localhost", days: int = 30) -> tuple[Path, Path]:
        """A certificate for this host and its key."""
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        request, extra = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        kind = "IP" if host[0].isdigit() else "DNS"
        extra.write_text(f"subjectAltName={kind}:{host}\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", key, "-out", request, "-subj", f"/CN={host}",
        )  # fmt: skip
        _openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self._key,
            "-CAcreateserial", "-out", certificate, "-days", str(days), "-extfile", extra,
        )  # fmt: skip
        key.chmod(0o600)
        return certificate, key


def _openssl(*arguments: object) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
