"""The HTTP server of the web view: uvicorn's protocol on a loop and a thread of its own.

What uvicorn leaves open is closed here: how many connections there are, how long one may take
for its request, and how long for taking its answer. Whatever somebody does to the port, it
costs a bounded amount of memory and of descriptors, of which the cameras need some too.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from device.sinks.web.access import MAX_HEAD_BYTES, App

_log = logging.getLogger("labelcam.sinks.web")

# Fifty people with the page open are a hundred: pictures and events.
MAX_CONNECTIONS = 160
# So many are accepted at once; two such rounds may be open before the first is looked at.
_ACCEPTED_AT_ONCE = 32
_SPARE_SOCKETS = 3 * _ACCEPTED_AT_ONCE
# What waits in the kernel is no descriptor of ours yet.
_BACKLOG = 1024
REQUEST_WITHIN_S = 10.0
TAKEN_WITHIN_S = 10.0
# Small, so that a watcher on a slow line sees the present and not what has piled up for it.
_SEND_BUFFER_BYTES = 131_072
_NICENESS = 10
_SWITCH_S = 0.0005
_ENDING_S = 0.5


class Server:
    """Serves ``app`` on ``listener`` from construction to ``close``.

    ``ended`` is set on the loop when it is to stop, so that streams can end.
    """

    def __init__(
        self,
        app: App,
        listener: "Listener",
        tls: ssl.SSLContext | None,
        ended: asyncio.Event,
    ) -> None:
        self._app = app
        self._listener = listener
        self._tls = tls
        self._ended = ended
        self._loop = asyncio.new_event_loop()
        # What clients do wrong is theirs to know; a log of it would fill the card.
        self._loop.set_exception_handler(
            lambda _, context: _log.debug("web view: %s", context.get("message"))
        )
        self.connections: dict[_Connection, None] = {}
        self._thread = threading.Thread(target=self._run, name="labelcam-web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End every connection and the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        # Inference comes first. On Linux a priority is each thread's own; and where this one
        # holds Python's lock, inference has it back after half a millisecond, not five.
        with contextlib.suppress(PermissionError):  # as under the filter of the service
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        sys.setswitchinterval(_SWITCH_S)
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        config = Config(
            self._app,
            loop="none",
            http=H11Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            log_level=logging.CRITICAL,
            proxy_headers=False,
            timeout_keep_alive=15,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        )
        config.load()
        # No Date header: the clock of a device may be years off.
        state = ServerState()
        server = await self._loop.create_server(
            lambda: _Connection(config, state, self.connections),
            sock=self._listener,
            ssl=self._tls,
            ssl_handshake_timeout=REQUEST_WITHIN_S if self._tls else None,
            backlog=_ACCEPTED_AT_ONCE,
        )
        await self._ended.wait()
        # Nobody new from here on; asyncio loses those it has yet to attach to a closed server.
        self._loop.remove_reader(self._listener)
        # Whoever is being answered gets the rest; streams end by themselves.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                while any(connection.busy for connection in self.connections):
                    await asyncio.sleep(0.01)
        # The last to be accepted take a moment to be among them. Those that do not finish a
        # TLS handshake never are: the end of the loop ends those.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ENDING_S):
                while self._listener.accepted():
                    for connection in list(self.connections):
                        connection.transport.abort()
                    await asyncio.sleep(0.001)
        server.close()


class _Connection(H11Protocol):
    """One connection. The oldest that asks for nothing makes room for a new one."""

    def __init__(
        self, config: Config, state: ServerState, connections: "dict[_Connection, None]"
    ) -> None:
        super().__init__(config, state, {})
        self._all = connections
        self._request = _Deadline(REQUEST_WITHIN_S, self._abort)
        self._taking = _Deadline(TAKEN_WITHIN_S, self._abort)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self._all) >= MAX_CONNECTIONS:
            idle = next((c for c in self._all if not c.busy), self)
            idle.transport.abort()
            if idle is self:
                return
            self._all.pop(idle, None)
        self._all[self] = None
        # What the other side does not take counts at once. With a limit of 0 asyncio would
        # pause a TLS connection that has nothing to write, and never go on.
        transport.set_write_buffer_limits(high=1)
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._request.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._all.pop(self, None)
        self._request.stop()
        self._taking.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # However few bytes come at a time, the whole of a request has this long.
        self._request.start()
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._request.stop()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._taking.start()

    def resume_writing(self) -> None:
        self._taking.stop()
        super().resume_writing()

    def _abort(self) -> None:
        self.transport.abort()


class _Deadline:
    """Calls back when it was started and not stopped for so long."""

    def __init__(self, within_s: float, missed: Callable[[], None]) -> None:
        self._within_s = within_s
        self._missed = missed
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._within_s, self._missed)

    def stop(self) -> None:
        """End without a call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Listener(socket.socket):
    """A listening socket that closes what is too much at once, before it costs anything."""

    def __init__(self, family: int) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._accepted: list[socket.socket] = []

    def listen(self, _backlog: int = 0) -> None:
        """Listen; asyncio means the number that it accepts at once, not the kernel's queue."""
        super().listen(_BACKLOG)

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection; BlockingIOError when there is none."""
        connection, address = super().accept()
        most = MAX_CONNECTIONS + _SPARE_SOCKETS
        if len(self._accepted) >= most and self.accepted() >= most:
            connection.close()
            # Those that make room for it need a turn of the loop to go.
            raise BlockingIOError
        self._accepted.append(connection)
        return connection, address

    def accepted(self) -> int:
        """How many of the accepted connections are open."""
        self._accepted = [known for known in self._accepted if known.fileno() >= 0]
        return len(self._accepted)
