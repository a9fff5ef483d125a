"""A socket that is read and written until a deadline, however slowly its bytes go."""

import io
import threading
import time
from typing import Any

# How long a wait may last before it looks whether it should end.
_SLICE_S = 0.1


class TimedSocket(io.RawIOBase):
    """What http.client takes for a socket. Past ``deadline``, monotonic seconds, and once ``stop``
    is set, reading and writing raise TimeoutError.

    The time-out of a socket alone would begin anew with each byte that a slow peer sends.
    """

    def __init__(self, sock: Any, deadline: float, stop: threading.Event) -> None:
        self.deadline = deadline
        self._socket = sock
        self._stop = stop

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The answer, as a file to be read."""
        return io.BufferedReader(self, 64 << 10)

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Wait for some bytes, and put them into the buffer; 0 at their end."""
        while True:
            self._wait_a_little()
            try:
                read: int = self._socket.recv_into(buffer)
                return read
            except TimeoutError:
                continue

    def sendall(self, data: bytes) -> None:
        """Write all of it."""
        view = memoryview(data)
        while view:
            self._wait_a_little()
            try:
                view = view[self._socket.send(view) :]
            except TimeoutError:
                continue

    def _wait_a_little(self) -> None:
        left_s = self.deadline - time.monotonic()
        if left_s <= 0 or self._stop.is_set():
            raise TimeoutError
        self._socket.settimeout(min(left_s, _SLICE_S))

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._socket.close()
