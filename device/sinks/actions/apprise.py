"""Messages through Apprise, which knows over a hundred services; where that package is installed.

Each address gets each message once, unless labelcam is restarted in between. Apprise's own code
asks the services: its time is bounded here, and what it logs goes nowhere else, since it may name
what must stay secret.
"""

import logging
import re
import threading
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

from device import config
from device.errors import ActionError, ConfigError, DependencyError, SinkError
from device.sinks.actions.performer import Performer, Report
from device.sinks.actions.sender import Answer
from device.sinks.actions.stored import Stopped, StoredPerformer
from device.sinks.actions.wording import Delivery, message, title
from device.system.secret import credential, read_secrets
from device.system.text import one_line

PLACE = "{secret}"
# For one service; its own time-outs begin anew with each byte.
TOTAL_S = 60.0
_SLICE_S = 0.1
_SHOWN_CHARS = 160
# What stands between the parts of an address; a part that is shorter than this is no secret.
_BETWEEN = re.compile(r"[/:@?&=+,%#]+")
_SECRET_CHARS = 5


class ApprisePerformer(StoredPerformer):
    """Sends to the addresses of ``on`` when a label begins, to those of ``off`` when it ends."""

    # Apprise does not tell a refusal for good from a fault that will pass.
    keep_h = 1.0
    total_s = TOTAL_S

    def __init__(self, settings: config.Action, report: Report, **options: Any) -> None:
        super().__init__(settings, report, **options)
        self._services: dict[bool, list[_Service]] = {}
        # Which services have the message that is being sent, so that they get it once.
        self._message = ""
        self._have: set[str] = set()
        self._calls: dict[str, _Call] = {}

    def prepare(self) -> None:
        """Read the addresses."""
        try:
            self._services = _open(self.settings)
        except (ValueError, SinkError) as error:
            raise ActionError(self.settings.name, str(error)) from None

    def send(self, delivery: Delivery, _age_s: float | None, *, replayed: bool) -> Answer:  # noqa: ARG002
        """One message to each service that has not got it."""
        if self._message != delivery.id:
            self._message, self._have = delivery.id, set()
        said = message(self.settings, delivery, self.wall_clock())
        services = self._services[delivery.on]
        failed = []
        for service in services:
            if service.url not in self._have:
                if problem := self._ask(service, delivery, said):
                    failed.append(f"{service.name}: {problem}")
                else:
                    self._have.add(service.url)
        if failed:
            return Answer(0, "; ".join(failed))
        return Answer(200, f"taken by {', '.join(service.name for service in services)}")

    def _ask(self, service: "_Service", delivery: Delivery, said: str) -> str:
        """Have one service send it; returns why it was not, empty where it was."""
        call = self._calls.get(service.url)
        if call and call.thread.is_alive():
            return "has not answered the last time yet"
        # One that was given up may have come to a good end since.
        if not (call and call.message == delivery.id and not call.problem):
            call = self._calls[service.url] = _Call(service, delivery, said)
        waited_s = 0.0
        while call.thread.is_alive():
            if self.stop.is_set():
                raise Stopped
            if waited_s >= self.total_s:
                return f"no answer within {self.total_s:g} s"
            call.thread.join(_SLICE_S)
            waited_s += _SLICE_S
        return call.problem


class _Call:
    """A message on its way to a service, on a thread that may never come back."""

    def __init__(self, service: "_Service", delivery: Delivery, said: str) -> None:
        self.message = delivery.id
        self.problem = "did not come back"
        self._ask = partial(service.send, title(delivery), said, delivery.snapshot)
        self.thread = threading.Thread(target=self._run, name="labelcam-apprise", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.problem = self._ask()


class _Package(NamedTuple):
    """Apprise itself, and its class for what is attached and in no file."""

    apprise: Any
    attachment: Any


class _Service:
    """One address; ``name`` is its service's. Raises ValueError for what is none."""

    def __init__(self, package: _Package, url: str) -> None:
        apprise, self._attachment = package
        self.url = url
        _, _, rest = url.partition("://")
        self._secrets = [part for part in _BETWEEN.split(rest) if len(part) >= _SECRET_CHARS]
        # A redirect is not followed, as with webhooks; nothing is written to the disk.
        asset = apprise.AppriseAsset(
            app_id="labelcam", async_mode=False, http_redirects=False, storage_mode="memory"
        )
        self._target = apprise.Apprise(asset=asset)
        try:
            added = self._target.add(url) and len(self._target) == 1
        except Exception as error:  # noqa: BLE001 - the code of a hundred services
            raise ValueError(f"an address fails in Apprise with {type(error).__name__}") from None
        if not added:
            raise ValueError("an address is of no service that Apprise knows, or lacks a part")
        self.name = str(self._target[0].service_name)

    def __repr__(self) -> str:
        return f"_Service({self.name})"

    def send(self, head: str, said: str, snapshot: bytes | None) -> str:
        """Send it; returns why it was not sent, empty where it was."""
        attach = None
        if snapshot is not None:
            attach = self._attachment(content=snapshot, name="snapshot.jpg", mimetype="image/jpeg")
        try:
            result = self._target.notify(
                said, title=head, body_format="text", attach=attach, interpret_escapes=False
            )
        except Exception as error:  # noqa: BLE001 - the code of a hundred services
            return self._hidden(f"{type(error).__name__}: {error}")
        with result:
            said = next((entry.message for entry in result.logs()), "not sent")
            return "" if result else self._hidden(said)

    def _hidden(self, text: str) -> str:
        """The text without any part of the address."""
        for part in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(part, "…")
        return one_line(text)[:_SHOWN_CHARS].rstrip(" .")


def _open(settings: config.Action) -> dict[bool, list[_Service]]:
    """The services of beginnings and ends. Raises DependencyError, ValueError and SinkError."""
    package = _load(settings.name)
    path = settings.secret_file or credential(f"action-{settings.name}")
    secrets = read_secrets(path, "secret_file") if path else []
    services: dict[bool, list[_Service]] = {}
    for on in (True, False):
        urls: list[str] = []
        for text in settings.targets(on=on):
            if PLACE in text and not secrets:
                raise ValueError(f"{PLACE} stands in its address; give secret_file")
            urls += secrets if text == PLACE else [text.replace(PLACE, [*secrets, ""][0])]
        services[on] = [_Service(package, url) for url in urls]
    return services


def _load(action: str) -> _Package:
    """The package, silenced. Raises DependencyError."""
    # Their messages of lower levels have whole addresses.
    for name in ("apprise", "urllib3", "requests_oauthlib"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
        logger.handlers = [logging.NullHandler()]
    try:
        package: _Package | None = _Package(
            import_module("apprise"), import_module("apprise.attachment.memory").AttachMemory
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "apprise":
            raise
        package = None
    if not package or not hasattr(package.apprise.AppriseAsset, "http_redirects"):
        raise DependencyError(
            f"action {action}: Apprise 2.3 or later is not installed; pip install 'apprise>=2.3'"
        )
    return package


def check_action(settings: config.Action) -> None:
    """Raise DependencyError without Apprise, ConfigError for an address that it does not know."""
    try:
        _open(settings)
    except (ValueError, SinkError) as error:
        raise ConfigError(f"action {settings.name}", str(error)) from None


def open_action(settings: config.Action, report: Report) -> Performer:
    """The services that the addresses name."""
    return ApprisePerformer(settings, report)
