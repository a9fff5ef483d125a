"""Trials in processes of their own: of what may crash, and of what is to be measured.

A configuration that crashes, hangs or takes all the memory then ends a child and not the
device; two runtimes never meet in one process; and a process that has just started is what
a start-up is measured on. Both sides speak JSON, one line a message, over the child's
standard input and output.
"""

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Self, TypeVar

import msgspec

from device.errors import LabelcamError, TrialCrash, TrialError
from device.inference.ranking import Times

_ROOT = Path(__file__).resolve().parents[2]

Reply = TypeVar("Reply")


class Failure(msgspec.Struct, frozen=True, tag=True):
    """The reply to a request that could not be met, with the reason on one line."""

    reason: str


class Trial:
    """The parent's end: a child that answers one request after the other.

    A context manager; leaving it ends the child. For one thread.
    """

    def __init__(self, module: str, *arguments: str, python: str = "", name: str = "") -> None:
        """Start ``module`` of this package, or the file of that name with another ``python``.

        Raises TrialError where it cannot be started.
        """
        self.name = name or module
        self.started_at = time.monotonic()
        if python:
            command = [python, module, *arguments]
            environment = dict(os.environ)
        else:
            # This very package, wherever the program was started: -P leaves that folder out.
            command = [sys.executable, "-P", "-m", module, *arguments]
            path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
            environment = {**os.environ, "PYTHONPATH": path}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                # Ctrl-C goes to the parent alone, which then ends its children.
                start_new_session=True,
            )
        except OSError as error:
            raise TrialError(f"{command[0]}: cannot be run: {error.strerror}") from None
        self._received = b""
        self._over = False

    def ask(self, request: object, reply: type[Reply], timeout_s: float) -> Reply:
        """The child's reply to ``request``, decoded as ``reply``.

        Raises TrialError when the child says that it failed or has ended, TrialCrash when it
        died or took too long, after which it is over.
        """
        assert self._process.stdin is not None
        if self._over:
            raise TrialError(f"{self.name}: is over")
        with contextlib.suppress(BrokenPipeError):  # the missing reply tells why
            self._process.stdin.write(msgspec.json.encode(request) + b"\n")
            self._process.stdin.flush()
        line = self._line(timeout_s)
        with contextlib.suppress(msgspec.DecodeError):
            raise TrialError(f"{self.name}: {msgspec.json.decode(line, type=Failure).reason}")
        return msgspec.json.decode(line, type=reply)

    def _line(self, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._received:
            left_s = deadline - time.monotonic()
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, left_s))
            if not ready:
                self.close()
                raise TrialCrash(f"{self.name}: gave no answer in {timeout_s:.1f} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._over = True
                raise self._ending(self._process.wait())
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _ending(self, code: int) -> TrialError:
        if code >= 0:
            return TrialError(f"{self.name}: ended with exit code {code}")
        name = signal.Signals(-code).name
        return TrialCrash(f"{self.name}: was ended by {name}", name)

    def close(self) -> None:
        """End the child, whatever it does; may be called twice."""
        self._over = True
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()  # type: ignore[union-attr]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(answer: Callable[[bytes], object]) -> None:
    """The child's end: answer requests until the parent closes or dies."""
    # A crash is an answer, and no core file is wanted of it.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Where memory runs out, the kernel ends this process and not the device.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    # What the runtimes print must not come between the replies.
    replies: IO[bytes] = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for request in sys.stdin.buffer:
        try:
            reply = answer(request)
        except LabelcamError as error:
            reply = Failure(str(error))
        except Exception as error:  # noqa: BLE001 - the parent is told, and goes on without it
            reply = Failure(f"{type(error).__name__}: {error}")
        replies.write(msgspec.json.encode(reply) + b"\n")
        replies.flush()


def time_calls(
    call: Callable[[], object],
    count: int,
    limit_s: float,
    *,
    prepare: Callable[[], object] = lambda: None,
    interval_s: float = 0.0,
) -> Times:
    """Up to ``count`` calls, at least one, within about ``limit_s`` seconds.

    With ``interval_s`` there is a pause after each, as a camera makes it whose frames are so far
    apart. ``prepare`` comes before each and is not counted. Nor is a first call without pauses,
    where there is time for one: it finds the caches as another process left them, as each does
    after a pause.
    """
    clock, cpu = time.perf_counter, time.process_time
    end = clock() + limit_s
    times: list[float] = []
    spent_s = 0.0
    uncounted = 0 if interval_s else 1
    for number in range(uncounted + count):
        due = clock() + interval_s
        prepare()
        cpu_before = cpu()
        start = clock()
        call()
        took_s = clock() - start
        time.sleep(max(0.0, due - clock()))
        over = clock() >= end
        if number >= uncounted or over:
            spent_s += cpu() - cpu_before
            times.append(took_s * 1e3)
        if over:
            break
    return Times(times, spent_s)
