"""The sink that serves the page, only imported where it is turned on.

The server and all that it does live on a thread of their own; the node's thread leaves its
newest results on a ``WebState`` and goes on.
"""

import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from device import config
from device.control.commands import Device
from device.errors import ConfigError, SinkError
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.sinks.ring import Ring
from device.sinks.standing import NOTHING
from device.sinks.web import token as web_token
from device.sinks.web.app import WebApp
from device.sinks.web.metrics import Metrics
from device.sinks.web.server import Listener, Server
from device.sinks.web.state import WebState

_log = logging.getLogger("labelcam.sinks.web")


class WebSink(Sink):
    """Serves the page from construction to ``close``.

    ``cameras`` are those that are reported, each region as one of its own. Raises ConfigError
    where the view would be open to a network without a token, or token or certificate cannot
    be used; SinkError where the address cannot be listened on.
    """

    name = "web"

    def __init__(
        self,
        settings: config.Web,
        cameras: Sequence[config.Camera],
        device: Device,
        teach: config.Teach,
        ring: Ring,
        nothing: str = NOTHING,
    ) -> None:
        self._server: Server | None = None
        addresses, token, tls = secure(settings)
        self._state = WebState(
            settings, cameras, token=token is not None, ring=ring, nothing=nothing
        )
        self._metrics = Metrics()
        app = WebApp(settings, self._state, self._metrics, device, token, teach, ring)
        listener = _listen(addresses[0], settings)
        self._metrics.web = app
        self.port: int = listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{_shown(settings.host)}:{self.port}"
        self._server = Server(app.gate, listener, tls, app.ended)
        logging.getLogger().addHandler(self._state.log)
        open_to = "a token is asked for" if token else "for this device alone"
        _log.info("web view: %s, %s", self.url, open_to)

    def observe(self, observation: Observation) -> None:
        """Keep the frame and what was seen in it."""
        self._state.observe(observation)
        self._metrics.observe(observation)

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Put the change on the timeline."""
        self._state.change(change)
        self._metrics.change(change)

    def report(self, health: DeviceHealth) -> None:
        """Keep the state of the device."""
        self._state.report(health)
        self._metrics.report(health)

    def close(self) -> None:
        """End every connection and let go of the port."""
        server, self._server = self._server, None
        if server is not None:
            logging.getLogger().removeHandler(self._state.log)
            server.close()


class Secured(NamedTuple):
    """Where to listen, and what protects it; None is none."""

    addresses: list[tuple[socket.AddressFamily, str]]
    token: web_token.Token | None
    tls: ssl.SSLContext | None


def secure(settings: config.Web) -> Secured:
    """What the settings come to. Raises what WebSink raises, but for what listening would."""
    addresses = _addresses(settings)
    token = None
    if settings.token_file or not all(_is_loopback(address) for _, address in addresses):
        token = _read_token(settings)
    return Secured(addresses, token, _tls(settings))


def _addresses(settings: config.Web) -> list[tuple[socket.AddressFamily, str]]:
    """What the host's name stands for, one address or several."""
    try:
        found = socket.getaddrinfo(
            settings.host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError):
        raise SinkError(
            f"web.host = {settings.host!r} is no address of this device; "
            "give 127.0.0.1, or 0.0.0.0 for all of them"
        ) from None
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _read_token(settings: config.Web) -> web_token.Token:
    try:
        return web_token.read(web_token.token_path(settings.token_file))
    except ConfigError as error:
        raise ConfigError(
            f"web.host = {settings.host!r}", f"asks for a token, and {error}"
        ) from None


def _tls(settings: config.Web) -> ssl.SSLContext | None:
    if not settings.cert_file:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for key, path in (("cert_file", settings.cert_file), ("key_file", settings.key_file)):
        try:
            mode = Path(path).stat().st_mode
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise ConfigError(
                f"web.{key} = {path!r}", f"cannot be read: {error.strerror}"
            ) from None
        if key == "key_file" and mode & 0o007:
            raise ConfigError(
                f"web.{key} = {path!r}",
                f"is open to all (mode {mode & 0o777:03o}); run: chmod o= {path}",
            )
    try:
        # Without an answer here OpenSSL would ask for a password on the terminal.
        context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"web.cert_file = {settings.cert_file!r}",
            f"does not hold a certificate for web.key_file ({reason})",
        ) from None
    return context


def _listen(address: tuple[socket.AddressFamily, str], settings: config.Web) -> Listener:
    family, host = address
    listener = Listener(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, settings.port))
        listener.listen()
    except OSError as error:
        listener.close()
        where = f"{_shown(settings.host)}:{settings.port}"
        problem = {
            errno.EADDRINUSE: "is taken by another program; set web.port to another number",
            errno.EADDRNOTAVAIL: "is no address of this device; set web.host to one that is",
            errno.EACCES: "may not be listened on by this user; set web.port to 1024 or over",
        }.get(error.errno or 0, f"cannot be listened on: {error.strerror}")
        raise SinkError(f"{where} {problem}") from None
    return listener


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
