"""The house has rooms: imports go down only, there are no circles, and no file is too long."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From top to bottom; those of a line are beside each other and import only what is below.
LAYERS = (
    ("__main__",),
    ("cli", "labelcam"),
    ("node",),
    ("bench", "doctor", "tune", "preflight"),
    ("sinks",),
    ("control",),
    ("pipeline",),
    ("teach",),
    ("inference",),
    ("cameras",),
    ("library",),
    ("history",),
    ("health",),
    ("recordings",),
    ("system",),
    ("config",),
    ("events",),
    ("frames",),
    ("errors",),
    ("__init__",),
)
MAX_LINES = 400


def modules() -> dict[str, Path]:
    """Every module of ``device`` by its dotted name; a package by that of its folder."""
    found = {}
    for path in sorted((ROOT / "device").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """The modules of ``device`` that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in MODULES}
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


GRAPH = {name: imports(path) for name, path in MODULES.items()}


def room(module: str) -> str:
    """The file or folder of ``device`` that a module is in."""
    return module.split(".")[1] if "." in module else "__init__"


def level(of: str) -> int:
    """How far below the top a room is."""
    return next(number for number, rooms in enumerate(LAYERS) if of in rooms)


def test_every_room_has_its_place() -> None:
    assert {room(module) for module in MODULES} - {r for rooms in LAYERS for r in rooms} == set()


def test_imports_go_down_only() -> None:
    upward = {
        (module, imported)
        for module, found in GRAPH.items()
        for imported in found
        if room(module) != room(imported) and level(room(module)) >= level(room(imported))
    }
    assert upward == set()


def test_there_is_no_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_no_file_is_too_long() -> None:
    long = {
        str(path.relative_to(ROOT))
        for path in MODULES.values()
        if len(path.read_text(encoding="utf-8").splitlines()) > MAX_LINES
    }
    assert long == set()
