"""A real HTTP server on this device that answers as a test wants: with faults, late or never."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

DEADLINE_S = 20.0


class Received(NamedTuple):
    """A request as it came; header names are in small letters."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never written to


# The reply that never comes.
HANG = Reply(0)

# What one request gets: a reply, or whatever a function does with the connection.
Turn = Reply | Callable[[BaseHTTPRequestHandler], None]


class HttpServer:
    """Answers the next of ``turns`` to each request, and the last of them for ever.

    ``received`` are the requests that came whole. Once ``released`` is set, what hangs ends.
    """

    def __init__(self, *turns: Turn, tls: ssl.SSLContext | None = None) -> None:
        self.turns = list(turns)
        self.received: list[Received] = []
        self.released = threading.Event()
        self._heard = threading.Condition()
        server = self

        class Handler(BaseHTTPRequestHandler):
            timeout = DEADLINE_S

            def serve(self) -> None:
                length = int(self.headers.get("Content-Length", "0"))
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                turn = server._hear(Received(self.command, self.path, headers, body))
                if turn is HANG:
                    server.released.wait(DEADLINE_S)
                elif isinstance(turn, Reply):
                    send(self, turn)
                else:
                    with contextlib.suppress(OSError):
                        turn(self)
                self.close_connection = True

            do_POST = do_PUT = do_GET = serve  # noqa: N815 - the names of the library

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *_: Any) -> None:
                """Whoever hangs up in a handshake is meant to."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.port: int = self._server.server_address[1]
        self._scheme = "https" if tls else "http"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, path: str = "/hook") -> str:
        """An address on it."""
        host = "localhost" if self._scheme == "https" else "127.0.0.1"
        return f"{self._scheme}://{host}:{self.port}{path}"

    def _hear(self, request: Received) -> Turn:
        with self._heard:
            self.received.append(request)
            self._heard.notify_all()
            return self.turns[min(len(self.received), len(self.turns)) - 1]

    def wait_for(self, many: int) -> list[Received]:
        """The requests, once there are so many."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.received) >= many, DEADLINE_S)
            return list(self.received)

    def close(self) -> None:
        """End it, whatever it was doing."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(DEADLINE_S)


def send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    """Answer with this."""
    with contextlib.suppress(OSError):
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply.body)


@contextlib.contextmanager
def http_server(*turns: Turn, tls: ssl.SSLContext | None = None) -> Iterator[HttpServer]:
    """A server until the end of the block; without turns it takes everything."""
    server = HttpServer(*(turns or (Reply(200),)), tls=tls)
    try:
        yield server
    finally:
        server.close()
