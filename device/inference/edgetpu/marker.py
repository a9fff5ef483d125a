"""Whether the Edge TPU was at work when the process ended, by a file that survives it."""

import fcntl
import mmap
import os
from pathlib import Path


class Marker:
    """Some bytes in the runtime directory that say whether the Edge TPU is at work.

    They are memory-mapped: to mark costs no system call, and what was written stays when the
    process is killed in the middle, by a watchdog or by an abort() of libedgetpu.
    ``interrupted`` says so of the run before, ``times`` how often in a row.
    """

    _SIZE = 16
    _IDLE, _WORKING = b"idle    ", b"working "

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises OSError, also where another process holds it."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Unbuffered; while it is open it holds the lock.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.truncate(self._SIZE)
            self._bytes = mmap.mmap(self._file.fileno(), self._SIZE)
        except BaseException:
            self._file.close()
            raise
        self.interrupted = self._bytes[:8] == self._WORKING
        digits = self._bytes[8:].strip(b"\0\n ")
        self.times = int(digits) if digits.isdigit() else 0
        if self.interrupted:
            self.times = min(self.times + 1, 999)
        self._bytes[:] = b"%s%-7d\n" % (self._IDLE, self.times)

    def begin(self) -> None:
        """The Edge TPU is called."""
        self._bytes[:8] = self._WORKING

    def end(self) -> None:
        """It came back."""
        self._bytes[:8] = self._IDLE

    def forgive(self) -> None:
        """It has worked for long: what was before no longer counts."""
        if self.times:
            self.times = 0
            self._bytes[8:] = b"0      \n"

    def close(self) -> None:
        """Let go of the file, and leave it as it is."""
        self._bytes.close()
        self._file.close()
