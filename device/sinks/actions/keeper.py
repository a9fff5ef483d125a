"""The process between labelcam and a command: it starts it, and ends all that comes of it.

It is the subreaper of its children: whatever the command starts, in whatever session, becomes the
keeper's own child once its parent has gone, and so can be found and ended. It is a program by
itself and imports next to nothing: with json, contextlib and typing it would take twice as long to
start, 30 ms.

A request comes on stdin: its size in bytes on a line, and then, with a NUL between, the seconds of
its time limit and of its grace, the event, and the words of the command. It is answered by one
line on stdout; see ``Keeper.report``. The end of stdin, which labelcam's own end is too, ends the
command.
"""

import ctypes
import os
import select
import signal
import time

_SET_NO_NEW_PRIVS, _SET_CHILD_SUBREAPER = 38, 36
_SPAWN_DEFAULTS = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
)
# What a command writes is read so fast and no faster: one that floods waits for us.
_BYTES_PER_S = 1 << 20
_TAIL_BYTES = 1000
# How long to go on against what forks faster than it is ended.
_KILL_S = 3.0


class Keeper:
    """One command, from its start until nothing of it is left."""

    def __init__(self, timeout_s: float, grace_s: float, event: bytes, argv: list[bytes]) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._grace_s = grace_s
        self._tail = b""
        self._read_in_span = 0
        self._span_ends = 0.0
        self._status: int | None = None
        self._error = 0
        self._children = True
        self._over_time = self._cancelled = False
        self._left = self._alive = 0
        self._wake, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._output, output = os.pipe2(os.O_CLOEXEC)
        self._pid = self._start(argv, event, output)
        os.close(output)

    def _start(self, argv: list[bytes], event: bytes, output: int) -> int:
        # A file in memory: nobody has to write while the command does not read.
        given = os.memfd_create("event", os.MFD_CLOEXEC)
        with os.fdopen(given, "r+b") as file:
            file.write(event)
            file.flush()
            file.seek(0)
            try:
                return os.posix_spawnp(
                    argv[0],
                    argv,
                    os.environ,
                    file_actions=[
                        (os.POSIX_SPAWN_DUP2, given, 0),
                        (os.POSIX_SPAWN_DUP2, output, 1),
                        (os.POSIX_SPAWN_DUP2, output, 2),
                    ],
                    setsid=True,
                    setsigdef=_SPAWN_DEFAULTS,
                    setsigmask=(),
                )
            except OSError as error:
                self._error = error.errno or -1
                self._children = False
                return 0

    def run(self) -> None:
        """Wait until nothing of the command is left; past its time, end it."""
        while self._children and not (self._over_time or self._cancelled):
            self._attend(self._deadline - time.monotonic())
            self._over_time = time.monotonic() >= self._deadline
        if self._children:
            if self._status is not None:
                self._left = len(self._descendants())
            self._end()
        self._drain()

    def report(self) -> bytes:
        """What came of it, with a NUL between, numbers in decimal.

        Why it did not start, as an errno, else 0; its status as of ``waitstatus_to_exitcode``,
        empty where it was still running when its time was over; 1 where its time was over, else 0;
        1 where stdin ended; how many processes it left running; how many could not be ended; the
        last line that it wrote.
        """
        lines = [line for line in self._tail.replace(b"\0", b"").splitlines() if line.strip()]
        numbers = (
            self._error,
            "" if self._status is None else self._status,
            int(self._over_time),
            int(self._cancelled),
            self._left,
            self._alive,
        )
        return b"\0".join([*(str(n).encode() for n in numbers), lines[-1] if lines else b""])

    def _attend(self, timeout_s: float) -> None:
        """Take what there is of output, of children that ended, and of the end of stdin."""
        now = time.monotonic()
        if now >= self._span_ends:
            self._span_ends, self._read_in_span = now + 1.0, 0
        sources = [0, self._wake] if not self._cancelled else [self._wake]
        if self._output >= 0 and self._read_in_span < _BYTES_PER_S:
            sources.append(self._output)
        elif self._output >= 0:
            timeout_s = min(timeout_s, self._span_ends - now)
        ready, _, _ = select.select(sources, (), (), max(0.0, timeout_s))
        if self._output in ready:
            self._read()
        if self._wake in ready:
            os.read(self._wake, 4096)
        self._reap()
        if 0 in ready and not os.read(0, 4096):
            self._cancelled = True

    def _read(self) -> None:
        data = os.read(self._output, 65536)
        self._read_in_span += len(data)
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if not data:
            os.close(self._output)
            self._output = -1

    def _drain(self) -> None:
        """Take what lies in the pipe still, which is no more than it holds."""
        while self._output >= 0 and select.select([self._output], (), (), 0)[0]:
            self._read()
            if self._read_in_span > 2 * _BYTES_PER_S:
                return

    def _reap(self) -> None:
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == self._pid:
                    self._status = os.waitstatus_to_exitcode(ended[1])
        except ChildProcessError:
            self._children = False

    def _end(self) -> None:
        """End all that came of the command: politely, then for good."""
        self._signal(self._descendants(), signal.SIGTERM)
        polite_until = time.monotonic() + self._grace_s
        while self._children and (left_s := polite_until - time.monotonic()) > 0:
            self._attend(left_s)
        give_up_at = time.monotonic() + _KILL_S
        while self._children and time.monotonic() < give_up_at:
            # What is stopped forks no more: stop until there is none that is new, then end them.
            stopped: set[int] = set()
            while new := self._descendants() - stopped:
                self._signal(new, signal.SIGSTOP)
                stopped |= new
                if time.monotonic() >= give_up_at:
                    break
            self._signal(stopped, signal.SIGKILL)
            self._attend(0.01)
        self._alive = len(self._descendants()) if self._children else 0

    @staticmethod
    def _signal(pids: set[int], number: int) -> None:
        for pid in pids:
            try:  # noqa: SIM105 - contextlib takes 10 ms to load
                os.kill(pid, number)
            except OSError:
                pass

    @staticmethod
    def _descendants() -> set[int]:
        """All processes that came of the command and have not ended."""
        children: dict[int, list[int]] = {}
        for name in os.listdir("/proc"):  # noqa: PTH208 - pathlib takes as long as all else here
            if not name.isdecimal():
                continue
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    # The name of a program, in brackets, may have blanks and brackets in it.
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
            except OSError:
                continue
            if state not in (b"Z", b"X"):
                children.setdefault(int(parent), []).append(int(name))
        found: set[int] = set()
        unseen = [os.getpid()]
        while unseen:
            new = children.get(unseen.pop(), [])
            found.update(new)
            unseen += new
        return found


def main() -> None:
    """Do what the request on stdin asks for."""
    # systemd signals every process of a service that it stops; this one must outlive the command.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc = ctypes.CDLL(None)
    # Nothing of it may become another user's, whom we could not end.
    libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Where memory runs out, the command ends and not the device.
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write("800")
    except OSError:
        pass
    request = b""
    while (head := request.partition(b"\n"))[1] == b"" or len(head[2]) < int(head[0]):
        data = os.read(0, 65536)
        if not data:
            return
        request += data
    timeout_s, grace_s, event, *argv = head[2].split(b"\0")
    keeper = Keeper(float(timeout_s), float(grace_s), event, argv)
    keeper.run()
    os.write(1, keeper.report() + b"\n")
