"""Text of strangers, made safe to print and to read: names, labels, topics, JSON, what cameras
and brokers say."""

import unicodedata
from typing import TypeVar

import msgspec

Value = TypeVar("Value")

# Joiners of letters and of emoji, which print nothing by themselves.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    r"""The text with ``\u001b`` for what would move a cursor or turn the writing direction.

    The escapes are those of JSON, so that JSON says the same before and after.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_safe(char) else _escape(char) for char in text)


def one_line(text: str) -> str:
    """The text on one line and printable."""
    return printable(" ".join(text.split()))


def quoted(met: str | bytes) -> str:
    """What was met in quotes, on one line, cut to forty characters and printable."""
    text = met if isinstance(met, str) else met[:200].decode("utf-8", "replace")
    return f"'{printable(text[:40])}{'…' * (len(text) > 40 or len(met) > 200)}'"


def json_line(value: object) -> str:
    """The value as JSON, on one line and printable."""
    return printable(msgspec.json.encode(value).decode())


def from_json(data: bytes, kind: type[Value]) -> Value:
    """The value of this type in the JSON of a stranger.

    Raises msgspec.DecodeError, also for bytes that are not UTF-8 and for nesting without end,
    which msgspec does not count among its own errors.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from None


def _is_safe(char: str) -> bool:
    return char.isprintable() or char in _JOINERS or unicodedata.category(char) == "Zs"


def _escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
