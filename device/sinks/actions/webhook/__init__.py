"""A webhook: what happened as an HTTP request, kept on disk until the server has it."""

import logging

from device import config
from device.errors import ActionError, ConfigError, SinkError
from device.sinks.actions.performer import Performer, Report
from device.sinks.actions.sender import Answer
from device.sinks.actions.stored import Stopped, StoredPerformer
from device.sinks.actions.webhook.address import Address, parse
from device.sinks.actions.webhook.post import post
from device.sinks.actions.webhook.templates import Webhook, check
from device.sinks.actions.wording import Delivery
from device.system.secret import credential, read_secret, trust

_log = logging.getLogger("labelcam.actions")


class WebhookPerformer(StoredPerformer):
    """Sends to the address of ``on`` when a label begins, to that of ``off`` when it ends."""

    def prepare(self) -> None:
        """Read the secret, and what verifies the server."""
        try:
            self._webhook, self._secret, self._addresses = _open(self.settings)
        except (ValueError, SinkError) as error:
            raise ActionError(self.settings.name, str(error)) from None

    def send(self, delivery: Delivery, age_s: float | None, *, replayed: bool) -> Answer:
        """One request."""
        if (address := self._addresses.get(delivery.on)) is None:
            # The address was there when it was stored.
            return Answer(410, "its address was taken away")
        now = self.wall_clock()
        letter = self._webhook.letter(delivery, now, age_s, replayed=replayed)
        answer = post(self._webhook.request(letter, address, now), self.stop)
        if self.stop.is_set() and not answer.taken:
            raise Stopped
        said = f"answered {answer.said}" if answer.taken else f"{address.where}: {answer.said}"
        return Answer(answer.status, self._hidden(said), answer.retry_after_s)

    def _hidden(self, text: str) -> str:
        """What a server said, without the secret, which it may have said back."""
        return text.replace(self._secret, "…") if self._secret else text


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
