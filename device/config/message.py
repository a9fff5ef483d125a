"""Texts with fields in braces, as ``{label} at {camera}``: only plain fields, known beforehand."""

import re
import string
from collections.abc import Mapping

# What each is worth, to try a text with; what comes of a label has the same types.
EXAMPLES: Mapping[str, str | float] = {
    "label": "person",
    "camera": "door",
    "node": "attic",
    "event": "began",
    "score": 0.87,
    "since": "12:03",
    "until": "12:05",
    "held": "2 min 5 s",
    "held_s": 125.0,
}
# Wide enough for a table; a width of a billion would be a text of a billion letters.
_SPEC = re.compile(r"[<>^]?\d{0,2}(\.\d)?[a-zA-Z%]?", re.ASCII)


def check(key: str, text: str) -> None:
    """Raise ValueError where the text has a field that is none, or a way to write it that is none.

    What is in braces is a name alone: no attribute, no index, no conversion, nothing nested.
    """
    try:
        for _, field, spec, conversion in string.Formatter().parse(text):
            _check_field(field, spec or "", conversion or "")
        text.format_map(EXAMPLES)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(
            f"Expected `{key}` with fields as {{label}} or {{score:.0%}}, "
            f"and {{{{ for a brace: {error}"
        ) from None


def _check_field(field: str | None, spec: str, conversion: str) -> None:
    if field is not None and field not in EXAMPLES:
        raise ValueError(f"{{{field[:40]}}} is none of {', '.join(EXAMPLES)}")
    if conversion or not _SPEC.fullmatch(spec):
        raise ValueError(f"{(conversion or spec)[:40]!r} is no way to write it")
