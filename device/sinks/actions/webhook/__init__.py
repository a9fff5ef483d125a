"""A webhook: what happened as an HTTP request, kept on disk until the server has it.

``begin`` and ``end`` only write to the outbox; the thread ``labelcam-webhook`` sends. So a server
that hangs keeps nothing from being stored, and a pulled plug loses nothing.
"""

import logging
import re
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from device import config
from device.errors import ActionError, ConfigError, SinkError
from device.health import vitals
from device.sinks.actions.performer import Occurrence, Performer, Report
from device.sinks.actions.webhook.address import Address, parse
from device.sinks.actions.webhook.post import Answer, Request, post
from device.sinks.actions.webhook.sender import Sender
from device.sinks.actions.webhook.templates import Webhook, check
from device.sinks.actions.wording import Delivery
from device.sinks.outbox import Limits, Outbox
from device.sinks.wire import Ids
from device.system.paths import state_directory
from device.system.secret import credential, read_secret, trust
from device.system.text import one_line

_log = logging.getLogger("labelcam.actions")

# What is kept for a server that is away: the oldest goes first. Some hundred pictures.
MAX_WAITING, MAX_BYTES = 10_000, 20 << 20
KEEP_H = 48.0
CLOSE_S = 0.8


class _Stopped(Exception):
    """The run ends while a delivery is on its way; it stays stored."""


class WebhookPerformer(Performer):
    """Sends to the address of ``on`` when a label begins, to that of ``off`` when it ends.

    What came of it is told to ``report`` once it is known. ``problem`` is why the server has not
    taken what waits, empty where nothing does.
    """

    ends_at_close = False

    def __init__(
        self,
        settings: config.Action,
        report: Report,
        *,
        state: Path | None = None,
        ask: Callable[[Request, threading.Event], Answer] = post,
        clock: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.wants_picture = bool(settings.snapshot)
        self._settings = settings
        self._report = report
        self._folder = state
        self._ask = ask
        self._clock = clock
        self._wall_clock = wall_clock
        self._ids = Ids()
        self._stop = threading.Event()
        self._put = threading.Event()
        self._secret = ""
        self._webhook: Webhook
        self._addresses: dict[bool, Address] = {}
        self._sender: Sender | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Read the secret and the outbox, and send what an earlier run left in it."""
        self._prepare()
        if self._sender is None:
            folder = (self._folder or state_directory()) / "actions"
            keep_s = (self._settings.keep_h or KEEP_H) * 3600
            path = folder / outbox_name(self._settings.name)
            limits = Limits(MAX_WAITING, MAX_BYTES, keep_s)
            outbox = Outbox(path, limits, kind=Delivery, clock=self._clock)
            self._sender = Sender(
                self._settings.name, outbox, keep_s, self._send, self._came, clock=self._clock
            )
            # A daemon: a name server that does not answer must not keep the process.
            self._thread = threading.Thread(target=self._run, name="labelcam-webhook", daemon=True)
            self._thread.start()

    def begin(self, occurrence: Occurrence) -> None:
        """Store it; sent as soon as all before it are."""
        self._store(occurrence)

    def end(self, occurrence: Occurrence) -> None:
        """As ``begin``."""
        self._store(occurrence)

    def rehearse(self, occurrence: Occurrence) -> str:
        """Send it now and once, beside all that waits; returns what the server answered.

        Needs no ``open``, which would take the outbox. Raises ActionError where it is not taken.
        """
        self._prepare()
        if occurrence.on not in self._addresses:
            return "nothing to be sent"
        delivery = self._delivery(occurrence)
        answer = self._send(delivery, 0.0, replayed=False)
        if not answer.taken:
            raise ActionError(self._settings.name, answer.said)
        return f"answered {answer.said}"

    def cancel(self) -> None:
        """Give up what is being sent; it stays stored."""
        self._stop.set()
        self._put.set()

    def close(self) -> None:
        """End the thread, and leave on disk what the server has not taken."""
        self.cancel()
        thread, self._thread = self._thread, None
        if thread:
            thread.join(CLOSE_S)
        if self._sender:
            self._sender.close()

    def _prepare(self) -> None:
        try:
            self._webhook, self._secret, self._addresses = _open(self._settings)
        except (ValueError, SinkError) as error:
            raise ActionError(self._settings.name, str(error)) from None

    def _store(self, occurrence: Occurrence) -> None:
        if occurrence.on in self._addresses and self._sender:
            self._sender.put(self._delivery(occurrence))
            self._put.set()

    def _delivery(self, occurrence: Occurrence) -> Delivery:
        return Delivery.of(
            occurrence,
            self._ids.next(occurrence.wall_at),
            clock_synced=bool(vitals.clock_synced()),
        )

    # The thread labelcam-webhook.

    def _run(self) -> None:
        sender = self._sender
        assert sender is not None
        while not self._stop.is_set():
            self._put.clear()
            try:
                wait_s = sender.step()
            except _Stopped:
                return
            except Exception as error:  # noqa: BLE001 - the thread must not end
                _log.error(
                    "action %s: internal fault, please report it: %s: %s",
                    self._settings.name,
                    type(error).__name__,
                    one_line(str(error)),
                )
                wait_s = 10.0
            self.problem = sender.problem
            if wait_s != 0.0 and not self._stop.is_set():
                self._put.wait(wait_s)

    def _send(self, delivery: Delivery, age_s: float | None, replayed: bool) -> Answer:
        if (address := self._addresses.get(delivery.on)) is None:
            # The address was there when it was stored.
            return Answer(410, "its address was taken away")
        now = self._wall_clock()
        letter = self._webhook.letter(delivery, now, age_s, replayed=replayed)
        answer = self._ask(self._webhook.request(letter, address, now), self._stop)
        if self._stop.is_set() and not answer.taken:
            raise _Stopped
        said = f"{address.where}: {answer.said}" if not answer.taken else answer.said
        return Answer(answer.status, self._hidden(said), answer.retry_after_s)

    def _hidden(self, text: str) -> str:
        """What a server said, without the secret, which it may have said back."""
        return text.replace(self._secret, "…") if self._secret else text

    def _came(self, delivery: Delivery, age_s: float | None, outcome: str | ActionError) -> None:
        at = time.monotonic() - (age_s or 0.0)
        self._report(delivery.occurrence(at), outcome)


def _open(settings: config.Action) -> tuple[Webhook, str, dict[bool, Address]]:
    """What makes requests, the secret, and the addresses of beginnings and ends.

    Raises ValueError and SinkError.
    """
    path = settings.secret_file or credential(f"action-{settings.name}")
    secret = read_secret(path, "secret_file") if path else ""
    trusted = trust(settings.ca_file or "", "ca_file")
    addresses = {}
    for on in (True, False):
        targets = settings.targets(on=on)
        if len(targets) > 1:
            raise ValueError(f"several addresses as {'on' if on else 'off'}; give one")
        if targets:
            addresses[on] = parse(targets[0], secret)
    return Webhook(settings, secret, trusted), secret, addresses


def check_action(settings: config.Action) -> None:
    """Raise ConfigError for an address or a secret that is none."""
    template = settings.template or "json"
    try:
        _, secret, addresses = _open(settings)
        check(settings, secret, addresses.values())
    except (ValueError, SinkError) as error:
        raise ConfigError(f"action {settings.name}", str(error)) from None
    for address in addresses.values():
        shown = address.authorization or address.holds_secret or (secret and template == "ntfy")
        if shown and not address.tls and address.host not in ("localhost", "127.0.0.1", "::1"):
            _log.warning(
                "action %s: its secret goes to %s unencrypted; use https where it can be had",
                settings.name,
                address.where,
            )
            return


def open_action(settings: config.Action, report: Report) -> Performer:
    """The webhook."""
    return WebhookPerformer(settings, report)


def outbox_name(action: str) -> str:
    """The file of an action's deliveries: its letters and digits, and what tells it from others."""
    letters = re.sub(r"[^a-z0-9]+", "-", action.lower()).strip("-")[:40]
    return f"{letters or 'webhook'}-{zlib.crc32(action.encode()):08x}.db"
