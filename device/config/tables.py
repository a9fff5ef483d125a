"""The configuration's text as tables, before they are checked; and what was wrong with them."""

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from device.errors import ConfigError

_MAX_BYTES = 1 << 20
# The name of a camera that is given none.
_CAMERA = "camera"
# Tables with keys of the user's own, and how many parts lead from the section to a value in them.
_NAMED = {("decide", "alias"): 2, ("decide", "label"): 3}


def read(path: Path) -> str:
    """The text of a configuration file. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ConfigError(str(path), f"has over {_MAX_BYTES} bytes; is it the right file?")
        return data.decode()
    except FileNotFoundError:
        raise ConfigError(str(path), "no such file") from None
    except IsADirectoryError:
        raise ConfigError(str(path), "is a directory; give the file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(path), f"not UTF-8 text at byte {error.start}") from None
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from None


def decode(text: str, where: str) -> dict[str, Any]:
    """The text's tables, all cameras in a list; ``where`` names it. Raises ConfigError."""
    try:
        raw = tomllib.loads(text)
    # What is nested without end, and a number of thousands of digits, are no TOMLDecodeError.
    except (ValueError, RecursionError) as error:
        raise ConfigError(where, f"not TOML: {error}") from None
    # One camera may be written as a plain table: [camera] is [[camera]] once.
    if isinstance(raw.get("camera"), dict):
        raw["camera"] = [raw["camera"]]
    return raw


def cameras(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables of all cameras, one where the text has none; others are refused later."""
    found = raw.setdefault("camera", [{}])
    return [t for t in found if isinstance(t, dict)] if isinstance(found, list) else []


def name_regions(raw: dict[str, Any]) -> None:
    """Tell ``[[camera.region]]``, which are tables, from the box ``region = [...]``."""
    for camera in cameras(raw) if "camera" in raw else ():
        region = camera.get("region")
        if region and isinstance(region, list) and all(isinstance(r, dict) for r in region):
            camera["regions"] = camera.pop("region")


def apply(raw: dict[str, Any], setting: str) -> None:
    """Put one ``section.key=value`` into the raw tables."""
    key, sign, text = setting.partition("=")
    path = _path(key.strip())
    if not sign or len(path) < 2 or not all(path):
        raise ConfigError(f"--set {setting}", "expected section.key=value")
    value = _value(text.strip())
    section, *rest = path
    if section == "camera":
        tables = cameras(raw)
        if len(rest) > 1 and rest[0] != "controls":
            tables = [t for t in tables if t.get("name", _CAMERA) == rest[0]]
            if not tables:
                raise ConfigError(f"--set {setting}", f"no camera is named {rest[0]!r}")
            rest = rest[1:]
        if len(rest) == 2 and rest[0] == "controls":
            tables = [table.setdefault("controls", {}) for table in tables]
            rest = rest[1:]
    else:
        tables = [raw.setdefault(section, {})]
        if len(rest) == _NAMED.get((section, rest[0])):
            # [decide.label.cat] and its like are tables that the user named.
            for name in rest[:-1]:
                tables = [t.setdefault(name, {}) for t in tables if isinstance(t, dict)]
            rest = rest[-1:]
    if not tables or len(rest) != 1 or not all(isinstance(t, dict) for t in tables):
        raise ConfigError(f"--set {setting}", "expected section.key=value")
    for table in tables:
        table[rest[0]] = value


def _path(key: str) -> list[str]:
    """The parts of a key; one with a dot or a space in it may stand in quotes, as in TOML."""
    try:
        found: Any = tomllib.loads(f"{key} = 0")
    except (ValueError, RecursionError):
        return key.split(".")
    path = []
    while isinstance(found, dict) and len(found) == 1:
        ((name, found),) = found.items()
        path.append(name)
    return path if found == 0 else key.split(".")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except (ValueError, RecursionError):
        return text


def explain(message: str, raw: Mapping[str, Any], root: type) -> str:
    """msgspec's message, turned to ``key = value: limit``."""
    problem, _, pointer = message.partition(" - at `$")
    value: Any = raw
    section: Any = root
    steps: list[str] = []
    for name, index, named in re.findall(
        r"\.([^.\[\]]+)|\[(\d+)\]|\[(\.\.\.)\]", pointer.rstrip("`")
    ):
        section = _inner(section, name)
        # Of the tables that the user named, msgspec does not say which.
        step = _culprit(value, section) if named else name or index
        value = value[int(step)] if index else value[step]
        steps.append(step if re.fullmatch(r"[\w-]+", step) else f'"{step}"')
        section = _plain(section)
    key = ".".join(steps).replace(".regions.", ".region.")
    if unknown := re.search(r"unknown field `(.+)`", problem):
        known = [field.name for field in msgspec.structs.fields(section)]
        near = difflib.get_close_matches(unknown[1], known, n=1)
        remedy = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
        return f"unknown key `{unknown[1]}` in {f'[{key}]' if key else 'the top level'}; {remedy}"
    if problem.startswith("Invalid enum value"):
        # A word, or else a list.
        words = [kind for kind in get_args(section) if get_origin(kind) is Literal] or [section]
        choices = ", ".join(repr(choice) for kind in words for choice in sorted(get_args(kind)))
        problem = f"expected one of {choices}{' or a list' if words != [section] else ''}"
    shown = "" if isinstance(value, dict) or not key else f" = {value!r}"
    problem = problem[0].lower() + problem[1:]
    return f"{key}{shown}: {problem}" if key else problem


def _inner(section: Any, key: str) -> Any:
    """The type of a section's key, or of an element of an array or a table of names."""
    if key:
        return get_type_hints(section, include_extras=True)[key]
    return get_args(section)[1 if get_origin(section) is dict else 0]


def _plain(kind: Any) -> Any:
    """A type without its limits."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _culprit(named: Mapping[str, Any], kind: Any) -> str:
    """The first entry that is not of its kind."""
    for name, value in named.items():
        try:
            msgspec.convert(value, kind, strict=True)
        except msgspec.ValidationError:
            return name
    raise AssertionError("the message was of one of them")
