"""Where a webhook goes, with the secret put into its place."""

import base64
from urllib.parse import quote, unquote, urlsplit

import msgspec

PLACE = "{secret}"
# Left as they are in path and query; % begins what was escaped already.
_PLAIN = "/%:@!$&'()*+,;=~-._?"


class Address(msgspec.Struct, frozen=True):
    """A server and what is asked of it; ``holds_secret`` where the secret is in path or query."""

    host: str
    port: int
    tls: bool
    path: str
    query: str
    authorization: str
    holds_secret: bool

    @property
    def where(self) -> str:
        """The server, as it is said in messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __repr__(self) -> str:
        """The server alone: all the rest may hold a secret."""
        return f"Address({self.where})"


def parse(text: str, secret: str) -> Address:
    """The address in a text, ``{secret}`` replaced; a secret may be the whole of it.

    Raises ValueError, which never says the address: it may be a secret.
    """
    holds_secret = PLACE in text
    if holds_secret and not secret:
        raise ValueError(f"{PLACE} stands in its address; give secret_file")
    whole = text.strip() == PLACE
    given = secret.strip() if whole else text.replace(PLACE, quote(secret, safe="/:@-._~"))
    try:
        parts = urlsplit(given)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")
    except (ValueError, UnicodeError):
        raise _wrong(in_file=whole) from None
    if parts.scheme not in ("http", "https") or not host or any(c <= " " for c in given):
        raise _wrong(in_file=whole)
    tls = parts.scheme == "https"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    proof = base64.b64encode(f"{user}:{password}".encode()).decode() if user or password else ""
    return Address(
        host,
        port or (443 if tls else 80),
        tls,
        quote(parts.path or "/", safe=_PLAIN),
        quote(parts.query, safe=_PLAIN),
        f"Basic {proof}" if proof else "",
        holds_secret,
    )


def _wrong(*, in_file: bool) -> ValueError:
    where = "the address in its secret_file" if in_file else "its address"
    return ValueError(f"{where} is none; give one as https://host/path")
