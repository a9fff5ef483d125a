"""A bad peer on loopback, and how much memory labelcam takes when it meets one."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

DEADLINE_S = 20.0
# Whatever a peer sends.
RESIDENT_MAX_MB = 150

Behaviour = Callable[[socket.socket], None]


class Peer:
    """Does with each connection what ``behave`` says; ``met`` counts those it is done with."""

    def __init__(self, behave: Behaviour) -> None:
        self.met = 0
        self._behave = behave
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def url(self, path: str) -> str:
        """An address on it, over plain http."""
        return f"http://127.0.0.1:{self.port}{path}"

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            sock.settimeout(DEADLINE_S)
            self._open.append(sock)
            self._threads.append(threading.Thread(target=self._meet, args=(sock,)))
            self._threads[-1].start()

    def _meet(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            self._behave(sock)
        self.met += 1

    def close(self) -> None:
        """Hang up, whatever is being sent."""
        for sock in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)
        self._listening.close()


@contextlib.contextmanager
def peer(behave: Behaviour) -> Iterator[Peer]:
    """A bad peer until the end of the block."""
    made = Peer(behave)
    try:
        yield made
    finally:
        made.close()


class Running:
    """``labelcam run`` in a process of its own, until the end of the block.

    SIGTERM ends it where it has not ended by itself. ``code`` is then its exit code, and
    ``peak_mb`` the most that was seen to be resident.
    """

    code: int | None = None
    peak_mb = 0

    def __init__(self, state: Path, *settings: str) -> None:
        self._log = state / "log"
        # What is chosen is not measured first.
        chosen = ("model.delegate=xnnpack", "model.threads=1")
        options = [f"--set={setting}" for setting in (*chosen, *settings)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "device", "run", *options],
                env={**os.environ, "LABELCAM_STATE": str(state)},
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    @property
    def log(self) -> str:
        """What it has said so far."""
        return self._log.read_text()

    def wait(self, condition: Callable[[], object]) -> None:
        """Watch it until the condition holds, or it has ended."""
        deadline = time.monotonic() + DEADLINE_S
        while self._process.poll() is None and not condition():
            assert time.monotonic() < deadline, self.log
            self._look()
            time.sleep(0.01)

    def _look(self) -> None:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        # One that has just ended has no memory any more.
        if found := re.search(r"VmHWM:\s+(\d+)", status):
            self.peak_mb = int(found[1]) >> 10

    def __enter__(self) -> Self:
        """The process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and kill it where that is of no use."""
        if self._process.poll() is None:
            self._look()
            self._process.terminate()
        try:
            self.code = self._process.wait(DEADLINE_S)
        finally:
            self._process.kill()
            self._process.wait()
