"""A command at the beginning and at the end of a label, with what happened as JSON on its stdin.

No shell is between: the words go to the program as they are. ``keeper.py`` is, in a process of its
own, so that nothing of a command is left when its time is over.
"""

import contextlib
import errno
import os
import selectors
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

from device import config
from device.errors import ActionError, ConfigError
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.system.text import json_line, one_line, quoted

TIMEOUT_S = 10.0
# Between the polite signal and the one that none can refuse.
_GRACE_S = 1.0
# How long a command may take that puts things right at the end of the run, and its grace.
_LAST_S, _LAST_GRACE_S = 1.5, 0.2
# What the keeper takes at most to end everything, and to start on a slow board.
_KEEPER_S = 10.0
_DETAIL_MAX = 200
# All of labelcam's environment that a command gets, besides the names that begin with LC_: no
# credentials, and nothing by which it could speak for the service.
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "XDG_RUNTIME_DIR")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEEPER = (
    f"import sys; sys.path.append({str(Path(__file__).parent)!r}); import keeper; keeper.main()"
)


class Outcome(NamedTuple):
    """What the keeper reports of a command; see there."""

    errno: int
    status: int | None
    over_time: bool
    cancelled: bool
    left: int
    alive: int
    last: str

    @classmethod
    def of(cls, line: bytes) -> Self:
        """The report."""
        error, status, over_time, cancelled, left, alive, last = line.rstrip(b"\n").split(b"\0")
        return cls(
            int(error),
            int(status) if status else None,
            over_time == b"1",
            cancelled == b"1",
            int(left),
            int(alive),
            last.decode("utf-8", "replace"),
        )


class CommandPerformer(Performer):
    """Runs the words of ``on`` and of ``off``."""

    def __init__(self, settings: config.Action) -> None:
        self.at_once = settings.at_once or 1
        self._settings = settings
        self._timeout_s = settings.timeout_s or TIMEOUT_S
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._last = False

    def open(self) -> None:
        """Raise ActionError where a program is not there."""
        for on in (True, False):
            if words := self._settings.targets(on=on):
                self._find(words[0])

    def begin(self, occurrence: Occurrence) -> str | None:
        """Run ``on``."""
        return self._run(occurrence)

    def end(self, occurrence: Occurrence) -> str | None:
        """Run ``off``."""
        return self._run(occurrence)

    def cancel(self) -> None:
        """End what runs; what comes after must be quick."""
        with self._lock:
            self._last = True
            for process in self._running:
                _let_go(process)

    def _run(self, occurrence: Occurrence) -> str:
        words = self._settings.targets(on=occurrence.on)
        if not words:
            return "nothing to do"
        self._find(words[0])
        timeout_s = min(self._timeout_s, _LAST_S) if self._last else self._timeout_s
        grace_s = _LAST_GRACE_S if self._last else _GRACE_S
        event = json_line(occurrence.fields) + "\n"
        fields = (str(timeout_s), str(grace_s), event, *words)
        request = b"\0".join(os.fsencode(field) for field in fields)
        with self._keeper(occurrence) as keeper:
            outcome = _ask(keeper, b"%d\n%b" % (len(request), request), timeout_s + _KEEPER_S)
        if outcome is None:
            why = "ended, as labelcam itself" if self._last else "lost: its keeper was killed"
            raise ActionError(self._settings.name, f"{Path(words[0]).name} was {why}")
        problem = _problem(outcome, timeout_s)
        if problem:
            said = f": {one_line(outcome.last)}" if outcome.last else ""
            detail = f"{Path(words[0]).name} {problem}{said}"
            raise ActionError(self._settings.name, detail[:_DETAIL_MAX])
        return f"{Path(words[0]).name} ended well" + (
            f": {one_line(outcome.last)}" if outcome.last else ""
        )

    def _find(self, word: str) -> None:
        """Raise ActionError where there is no such program for us to run."""
        if shutil.which(word, path=os.environ.get("PATH", _PATH)) is not None:
            return
        path = Path(word)
        if not path.is_absolute():
            problem = "is not on the PATH; install it, or give its whole path"
        elif path.is_dir():
            problem = "is a directory; give the program in it"
        elif path.exists():
            problem = f"is not to be run by us; chmod +x {path}"
        else:
            problem = "is not there, or not for us to see; check the path"
        raise ActionError(self._settings.name, f"{one_line(word)} {problem}")

    @contextlib.contextmanager
    def _keeper(self, occurrence: Occurrence) -> Iterator[subprocess.Popen[bytes]]:
        """A keeper that is ready for a request; left, it has gone."""
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _KEEPER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=_environment(occurrence),
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            problem = f"no process can be started: {(error.strerror or '').lower()}"
            raise ActionError(self._settings.name, problem) from None
        with process:
            with self._lock:
                self._running.add(process)
            try:
                yield process
            finally:
                with self._lock:
                    self._running.discard(process)
                    _let_go(process)
                # It ends by itself, within seconds; only what the kernel holds up does not.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_KEEPER_S)
                process.kill()


def open_action(settings: config.Action, _report: Report) -> Performer:
    """The command."""
    return CommandPerformer(settings)


def check_action(settings: config.Action) -> None:
    """Raise ConfigError for words that no program can have."""
    for key, on in (("on", True), ("off", False)):
        words = settings.targets(on=on)
        where = f"action.{settings.name}.{key}"
        if isinstance(getattr(settings, key), str) and len(words[:1] and words[0].split()) > 1:
            example = ", ".join(f'"{word}"' for word in words[0].split())
            raise ConfigError(where, f"expected a list of words, as [{example}]; no shell reads it")
        if words and (not words[0] or any("\0" in word for word in words)):
            raise ConfigError(where, "expected a program and its arguments, without NUL")
        if words and "/" in words[0] and not Path(words[0]).is_absolute():
            raise ConfigError(where, f"expected a whole path, met {quoted(words[0])}")


def _environment(occurrence: Occurrence) -> dict[str, str]:
    given = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith("LC_")
    }
    own = {
        "LABELCAM_ACTION": occurrence.action,
        "LABELCAM_CAMERA": occurrence.camera,
        "LABELCAM_LABEL": occurrence.label,
        "LABELCAM_EVENT": "on" if occurrence.on else "off",
    }
    return {"PATH": _PATH} | given | {name: text.replace("\0", "") for name, text in own.items()}


def _let_go(process: subprocess.Popen[bytes]) -> None:
    """Have the keeper end what it keeps: the end of its stdin tells it to."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()


def _ask(process: subprocess.Popen[bytes], request: bytes, timeout_s: float) -> Outcome | None:
    """What the keeper says of the request; None where it was killed or gives no answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError, ValueError):  # it was cancelled, or the answer tells why
        process.stdin.write(request)
        process.stdin.flush()
    received = b""
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while not received.endswith(b"\n"):
            if not ready.select(max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(process.stdout.fileno(), 65536)
            if not data:
                return None
            received += data
    return Outcome.of(received)


def _problem(outcome: Outcome, timeout_s: float) -> str:
    """Why a command did not do well; empty where it did."""
    problem = ""
    if outcome.errno == errno.ENOEXEC:
        problem = "is no program; its first line should be as #!/bin/sh"
    elif outcome.errno == errno.ENOENT:
        problem = "cannot be started: there is no interpreter as in its first line"
    elif outcome.errno:
        problem = f"cannot be started: {os.strerror(outcome.errno).lower()}"
    elif outcome.alive:
        problem = f"and what it started could not be ended: {outcome.alive} processes are left"
    elif outcome.cancelled:
        problem = "was ended, as labelcam itself"
    elif outcome.over_time and outcome.left:
        problem = f"left {outcome.left} processes running, which were ended after {timeout_s:g} s"
    elif outcome.over_time:
        problem = f"did not end within {timeout_s:g} s and was killed"
    elif outcome.status is not None and outcome.status < 0:
        problem = f"was ended by signal {-outcome.status}"
    elif outcome.status:
        problem = f"ended with exit code {outcome.status}"
    return problem
