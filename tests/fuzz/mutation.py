"""Inputs that are nearly right: bytes, texts and values, each changed in a few places."""

import json
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
_LAYOUTS = ("<H", ">H", "<I", ">I", "<Q", ">Q")
_TEXTS = (
    "",
    " ",
    "\0",
    "\n",
    "\x1b[2J",
    "\u202eabc",
    "\u2028",
    "🐈",
    "é",
    "a" * 300,
    "..",
    "/",
    "/dev/null",
    "/dev/zero",
    "%s%n",
    "{0}",
    "nan",
    "1e999",
    "-1",
    "0x10",
    "9" * 5000,
    "true",
    "null",
    '"',
    "'",
    "\\",
    "[" * 1200,
    "{" * 1200,
    '{"a":' * 1200,
    "a.b.c",
    "unavailable",
    "off-duty",
    "default",
    "camera",
)
_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    -0.0,
    1e-300,
    1e308,
    float("inf"),
    float("nan"),
)
_DEPTH = 3


def mutated(chance: Random, data: bytes, places: Sequence[int] = ()) -> bytes:
    """The bytes with a few changes; ``places`` are those where most of them shall be."""
    out = bytearray(data)
    for _ in range(1 + min(int(chance.expovariate(0.7)), 20)):
        at = chance.randrange(len(out) + 1)
        if places and chance.random() < 0.9:
            at = min(chance.choice(places), len(out))
        _change(chance, out, at)
    return bytes(out)


def _change(chance: Random, out: bytearray, at: int) -> None:
    way = chance.randrange(9)
    if way < 2:
        out[at : at + 1] = bytes([chance.choice(_NUMBERS[:6])])
    elif way == 2:
        out[at : at + 1] = bytes([chance.randrange(256)])
    elif way == 3 and at < len(out):
        out[at] ^= 1 << chance.randrange(8)
    elif way == 4:
        layout = chance.choice(_LAYOUTS)
        size = struct.calcsize(layout)
        number = chance.choice(_NUMBERS) + chance.choice((0, 0, 0, -1, 1))
        out[at : at + size] = struct.pack(layout, number % (1 << 8 * size))
    elif way == 5:
        out[at:at] = chance.randbytes(chance.randint(1, 8))
    elif way == 6:
        del out[at : at + chance.randint(1, 16)]
    elif way == 7:
        out[at:at] = out[at : at + chance.randint(1, 64)]
    elif chance.random() < 0.2:
        del out[at:]


def text(chance: Random) -> str:
    """A text that somebody may not have thought of."""
    if chance.random() < 0.7:
        return chance.choice(_TEXTS)
    letters = [chr(chance.choice((32, 46, 47, 61, 97, 0x300, 0xE9, 0x2028, 0x1F408)))]
    return "".join(letters * chance.randint(1, 3)) + chance.choice(_TEXTS)


def value(chance: Random, depth: int = _DEPTH) -> Any:
    """A value of JSON, or nearly."""
    way = chance.randrange(8 if depth else 6)
    if way < 3:
        return chance.choice(_VALUES)
    if way < 6:
        return text(chance)
    several = range(chance.randrange(4))
    if way == 6:
        return [value(chance, depth - 1) for _ in several]
    return {text(chance): value(chance, depth - 1) for _ in several}


def changed(chance: Random, tree: Any) -> Any:
    """The value with one part of it changed, left out, doubled or added."""
    if isinstance(tree, dict) and tree and chance.random() < 0.9:
        out = dict(tree)
        key = chance.choice(list(out))
        way = chance.randrange(8)
        if way == 0:
            del out[key]
        elif way == 1:
            out[text(chance)] = value(chance)
        else:
            out[key] = changed(chance, out[key])
        return out
    if isinstance(tree, list | tuple) and tree and chance.random() < 0.9:
        items = list(tree)
        at = chance.randrange(len(items))
        way = chance.randrange(8)
        if way == 0:
            del items[at]
        elif way == 1:
            items[at:at] = items[at : at + 1]
        else:
            items[at] = changed(chance, items[at])
        return items
    return value(chance)


def as_json(chance: Random, tree: Any) -> bytes:
    """The value with a few parts changed, as JSON, now and then as nearly JSON."""
    for _ in range(chance.randrange(3)):
        tree = changed(chance, tree)
    data = json.dumps(tree, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return mutated(chance, data) if chance.random() < 0.4 else data
