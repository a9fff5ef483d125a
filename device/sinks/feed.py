"""Label changes as JSON, one object a line, for programs on this device: a Unix socket.

The loop's own thread writes, without waiting: a hop to another thread could cost the five
milliseconds for which Python's lock may be kept. A thread of the sink's own lets programs in and
sees them go. One that does not read loses its connection once its socket is full, and finds what
is in force when it connects again.
"""

import contextlib
import errno
import logging
import os
import select
import socket
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from device import config
from device.errors import ConfigError, SinkError
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.sinks.outlet import Run
from device.sinks.wire import change_fields
from device.system.paths import runtime_directory
from device.system.text import json_line

_log = logging.getLogger("labelcam.feed")

SOCKET_FILE = "labels.sock"
# Each costs the loop some microseconds a change.
MAX_CLIENTS = 32
# Of sun_path in unix(7), without the NUL.
_PATH_MAX = 107
_MODE = 0o660


class FeedSink(Sink):
    """A socket on which each program gets the state of every camera, and then each change.

    Raises SinkError where the socket cannot be made.
    """

    name = "feed"

    def __init__(
        self,
        path: Path,
        cameras: Sequence[str],
        heartbeat_s: float = 0.0,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._heartbeat_s = heartbeat_s
        self._wall_clock = wall_clock
        self._beat_due = 0.0
        self._lock = threading.Lock()
        self._clients: dict[int, socket.socket] = {}
        now = wall_clock()
        self._states = {camera: _line(_nothing_yet(camera), now) for camera in cameras}
        self._refused = False
        self._listener = _listen(path)
        self._inode = path.stat().st_ino
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._attend, name="labelcam-feed", daemon=True)
        self._thread.start()

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Send the change, and keep it as the camera's state."""
        line = _line(change, self._wall_clock())
        with self._lock:
            self._states[change.camera] = line
            self._send(line)

    def observe(self, _observation: Observation) -> None:
        """Send a heartbeat where one is due."""
        self._beat()

    def report(self, _health: DeviceHealth) -> None:
        """Send a heartbeat where one is due: it comes while no frame is classified, too."""
        self._beat()

    def close(self) -> None:
        """Let all programs go, and remove the socket."""
        if self._thread.is_alive():
            os.write(self._stopped, b".")
            self._thread.join(1.0)
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
        self._listener.close()
        with contextlib.suppress(OSError):
            # Another may have put its own in our place.
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    def _beat(self) -> None:
        now = time.monotonic()
        if self._heartbeat_s and now >= self._beat_due:
            self._beat_due = now + self._heartbeat_s
            with self._lock:
                self._send(b"".join(self._states.values()))

    def _send(self, lines: bytes) -> None:
        """Send whole lines to whom can take them now; who cannot is let go."""
        for number, client in list(self._clients.items()):
            try:
                whole = client.send(lines, socket.MSG_DONTWAIT) == len(lines)
            except BlockingIOError:
                whole = False
            except OSError:
                del self._clients[number]
                client.close()
                continue
            if not whole:
                _log.info("feed: a program that does not read was let go")
                del self._clients[number]
                client.close()

    # What the sink's own thread does.

    def _attend(self) -> None:
        with select.epoll() as poll:
            poll.register(self._listener, select.EPOLLIN)
            poll.register(self._stop, select.EPOLLIN)
            while True:
                for number, _ in poll.poll():
                    if number == self._stop:
                        os.close(self._stop)
                        os.close(self._stopped)
                        return
                    if number == self._listener.fileno():
                        self._let_in(poll)
                    else:
                        self._let_go(number)

    def _let_in(self, poll: select.epoll) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        with self._lock:
            if len(self._clients) >= MAX_CLIENTS:
                client.close()
                if not self._refused:
                    _log.warning("feed: more than %d programs; none is let in", MAX_CLIENTS)
                self._refused = True
                return
            self._refused = False
            self._clients[client.fileno()] = client
            # Nothing of what it may write is read; only its end is waited for.
            poll.register(client, 0)
            with contextlib.suppress(OSError):
                client.send(b"".join(self._states.values()), socket.MSG_DONTWAIT)

    def _let_go(self, number: int) -> None:
        with self._lock:
            # The number may be another's by now: the loop lets go as well.
            if (client := self._clients.get(number)) and _has_hung_up(client):
                del self._clients[number]
                client.close()


def open_sink(run: Run) -> FeedSink:
    """The socket. Raises ConfigError and SinkError."""
    settings = run.settings.feed
    names = [camera.name for camera in run.cameras]
    return FeedSink(socket_path(settings), names, settings.heartbeat_s)


def check_settings(settings: config.Config) -> None:
    """Raise ConfigError where there is no path for the socket, or too long a one."""
    socket_path(settings.feed)


def socket_path(settings: config.Feed) -> Path:
    """Where the socket is. Raises ConfigError."""
    folder = runtime_directory()
    if not settings.path and folder is None:
        raise ConfigError("feed.path", "there is no runtime directory here; give the socket a path")
    path = Path(settings.path) if settings.path else Path(str(folder), SOCKET_FILE)
    if (size := len(os.fsencode(path))) > _PATH_MAX:
        raise ConfigError(
            "feed.path", f"has {size} bytes, and a socket's path {_PATH_MAX} at most: {path}"
        )
    return path


def _has_hung_up(client: socket.socket) -> bool:
    poll = select.poll()
    poll.register(client, 0)
    return bool(poll.poll(0))


def _nothing_yet(camera: str) -> LabelChange:
    """The state of a camera of which nothing was said yet."""
    return LabelChange(camera, "", 0.0, None, 0.0, "", 0.0, on=False)


def _line(change: LabelChange, at: float) -> bytes:
    return json_line(change_fields(change, at)).encode() + b"\n"


def _listen(path: Path) -> socket.socket:
    """A socket at the path, for its owner and its group; one that nobody serves is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        # Never wider than that, not even for the moment before the next line.
        os.fchmod(listener.fileno(), _MODE)
        listener.bind(str(path))
        path.chmod(_MODE)
        listener.listen(MAX_CLIENTS)
    except OSError as error:
        listener.close()
        raise SinkError(f"feed: {path}: {(error.strerror or str(error)).lower()}") from None
    except BaseException:
        listener.close()
        raise
    return listener


def _clear(path: Path) -> None:
    """Remove a socket that a labelcam left which did not come to its end."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise SinkError(f"feed: {path}: is there and is no socket; move it, or give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(1.0)
        try:
            other.connect(str(path))
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOENT):
                raise
        else:
            raise SinkError(f"feed: {path}: another program serves it; give another path")
    path.unlink(missing_ok=True)
