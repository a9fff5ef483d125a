"""What is fuzzed: something that takes bytes of strangers, and how such bytes are made."""

import socket
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import ClassVar


class Surface(ABC):
    """One way in. ``name`` is also the folder of its past crashers.

    ``share`` is how many thousands of a million inputs it gets: more where they take less time.
    An input that takes longer than ``limit_s`` hangs; all of them together may make the process
    ``memory_mb`` larger.
    """

    name: ClassVar[str]
    share: ClassVar[int]
    limit_s: ClassVar[float] = 10.0
    memory_mb: ClassVar[int] = 64

    def __init__(self, folder: Path) -> None:
        """Have an empty folder to write inputs into."""
        self.folder = folder

    @abstractmethod
    def make(self, chance: Random) -> bytes:
        """The next input."""

    @abstractmethod
    def feed(self, data: bytes) -> None:
        """Give it to the device; raises what must never come out of it."""

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Let go of what was opened."""


class Answering:
    """Answers each connection on loopback with the next of ``answers``, and hangs up."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with sock:
                try:
                    sock.settimeout(5.0)
                    sock.recv(65536)
                    sock.sendall(self.answers.pop(0) if self.answers else b"")
                    sock.shutdown(socket.SHUT_WR)
                    # To close what was not read would take the answer away.
                    while sock.recv(65536):
                        pass
                except OSError:
                    continue

    def close(self) -> None:
        """Listen no more."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
