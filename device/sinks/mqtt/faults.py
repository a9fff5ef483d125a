"""What a broker's refusals and the errors on the way to it mean for whoever runs the device."""

import socket
import ssl

from paho.mqtt.client import WebsocketConnectionError
from paho.mqtt.reasoncodes import ReasonCode

from device.config import Mqtt
from device.sinks.mqtt.broker import address_of
from device.system.secret import reason_of

# How long the dialling may take.
CONNECT_TIMEOUT_S = 10.0
WRONG_VERSION = 0x84
KEEP_ALIVE_TIMEOUT = 0x8D

# By MQTT 5's number: a line that says what to do, and whether trying again soon is of no use.
REFUSALS = {
    WRONG_VERSION: ("the broker does not speak this version of MQTT", False),
    0x85: ("the broker refuses the client id; let it take any of 20 letters and digits", True),
    0x86: ("wrong user or password; check mqtt.username and password_file", True),
    0x87: ("not authorised; let the broker's access list have this user", True),
    0x88: ("the broker is not available", False),
    0x89: ("the broker is busy", True),
    0x8A: ("banned by the broker; look into its log", True),
    0x8B: ("the broker shuts down", False),
    KEEP_ALIVE_TIMEOUT: ("the broker has not heard from us for too long", False),
    0x8E: (
        "another client took over our client id; a copied card has its machine's id too: "
        "run systemd-machine-id-setup on one of the two, or give them different mqtt.node",
        True,
    ),
    0x97: ("the broker's quota is used up", True),
    0x9A: ("the broker keeps no retained messages, which labelcam needs; allow them", True),
    0x9F: ("the broker limits how often we may connect", True),
}


def refusal(code: ReasonCode) -> tuple[str, bool]:
    """What a refusal means, and whether trying again soon is of no use."""
    return REFUSALS.get(code.value, (f"the broker says: {code.getName()}", True))


def explain(error: Exception, settings: Mqtt) -> str:
    """An error on the way to a broker, as a line that says what to do."""
    where = address_of(settings)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{where}: {_CERTIFICATE.get(error.verify_code, error.verify_message)}"
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        return f"{where}: refuses us in TLS ({reason_of(error)}); check cert_file and key_file"
    for kind, text in _FAULTS:
        if isinstance(error, kind):
            return text.format(
                where=where,
                host=repr(settings.host),
                path=settings.path,
                timeout=CONNECT_TIMEOUT_S,
                reason=reason_of(error),
            )
    return f"{where}: answers something that is not MQTT; is it a broker?"


# The first kind that an error is of decides: subclasses before what they are derived from.
_FAULTS: tuple[tuple[type[Exception], str], ...] = (
    (socket.gaierror, "host {host} is not known; check mqtt.host and the network"),
    (ssl.SSLError, "{where}: no TLS there ({reason}); is it the broker's TLS port?"),
    (ConnectionRefusedError, "{where}: nothing listens there; does the broker run, on this port?"),
    (
        ConnectionResetError,
        "{where}: closed the connection at once; is it a broker, and does it want mqtt.tls so?",
    ),
    (TimeoutError, "{where}: no answer in {timeout:g} s; check host, port and firewall"),
    (
        WebsocketConnectionError,
        "{where}: no websocket for MQTT at {path}; check mqtt.path and mqtt.port",
    ),
    (OSError, "{where}: {reason}; check the network"),
    (BufferError, "{where}: does not read what we answer; see the broker's log"),
    (UnicodeError, "host {host} is no host name; check mqtt.host"),
)

# OpenSSL's numbers, of x509_vfy.h.
_CERTIFICATE = {
    9: "the broker's certificate is not valid yet; is this device's clock right?",
    10: "the broker's certificate has expired; renew it, or set this device's clock",
    18: "the broker's certificate is signed by itself; give it as mqtt.ca_file",
    19: "the broker's authority is not trusted; give its certificate as mqtt.ca_file",
    20: "the broker's certificate is of another authority; give that one as mqtt.ca_file",
    21: "the broker's certificate is of another authority; give that one as mqtt.ca_file",
    62: "the broker's certificate is for another host; use the name that it has as mqtt.host",
    64: "the broker's certificate is for another address; use the name that it has as mqtt.host",
}
