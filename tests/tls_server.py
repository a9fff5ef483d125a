"""A server for tests of downloads: TLS with its own authority, and any behaviour per request."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import trustme

# What is done with one request: its head as lines, and the connection to answer on.
Behaviour = Callable[[list[str], ssl.SSLSocket], None]


class TlsServer:
    """Answers each request by the next behaviour, and every later one by the last."""

    def __init__(self, authority: trustme.CA, name: str = "localhost") -> None:
        self.authority = authority
        self.requests: list[list[str]] = []
        self.behaviours: list[Behaviour] = []
        # Held back until a test sets it, for a server that stalls.
        self.released = threading.Event()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def url(self, path: str = "/model.tflite") -> str:
        """An address on this server."""
        return f"https://localhost:{self._listener.getsockname()[1]}{path}"

    def close(self) -> None:
        """End it, whatever it was doing."""
        self.released.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                raw.settimeout(5)
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    head = b""
                    while b"\r\n\r\n" not in head and (more := connection.recv(4096)):
                        head += more
                    self.requests.append(head.decode().split("\r\n"))
                    turn = min(len(self.requests), len(self.behaviours)) - 1
                    self.behaviours[turn](self.requests[-1], connection)


@contextlib.contextmanager
def tls_server(authority: trustme.CA, name: str = "localhost") -> Iterator[TlsServer]:
    """A server until the end of the block."""
    server = TlsServer(authority, name)
    try:
        yield server
    finally:
        server.close()


def answer(
    body: bytes, *, status: str = "200 OK", length: int | None = None, **headers: str
) -> Behaviour:
    """Sends ``body`` and closes; ``length`` is what the header claims, by default the truth."""

    def behave(_request: list[str], connection: ssl.SSLSocket) -> None:
        claimed = len(body) if length is None else length
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {claimed}"]
        lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)

    return behave


def endless(body: bytes) -> Behaviour:
    """Sends without ever saying how much, until the other side has enough."""

    def behave(_request: list[str], connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(body)

    return behave


def ranged(body: bytes) -> Behaviour:
    """Sends what was asked for: the whole, or the rest from a byte on."""

    def behave(request: list[str], connection: ssl.SSLSocket) -> None:
        asked = next((line for line in request if line.startswith("Range: bytes=")), None)
        if asked is None:
            return answer(body)(request, connection)
        start = int(asked.removeprefix("Range: bytes=").rstrip("-"))
        span = f"bytes {start}-{len(body) - 1}/{len(body)}"
        partial = answer(body[start:], status="206 Partial Content", Content_Range=span)
        return partial(request, connection)

    return behave


def stall(server: TlsServer, body: bytes, after: int) -> Behaviour:
    """Promises the whole, sends its beginning and then nothing."""

    def behave(_request: list[str], connection: ssl.SSLSocket) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:after])
        server.released.wait(5)

    return behave


def crawl(server: TlsServer, body: bytes) -> Behaviour:
    """Sends twenty bytes a second, so that no single read times out."""

    def behave(_request: list[str], connection: ssl.SSLSocket) -> None:
        connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for position in range(200):
            connection.sendall(body[position : position + 1])
            server.released.wait(0.05)

    return behave


def hang_up(_request: list[str], _connection: ssl.SSLSocket) -> None:
    """Closes without a word."""
