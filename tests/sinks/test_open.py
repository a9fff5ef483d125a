"""The one factory of all outlets."""

import subprocess
import sys
import types

import pytest

from device import config, sinks
from device.errors import SinkError
from device.events import Sink
from device.sinks.jsonl import JsonlSink
from device.sinks.outlet import Run
from tests.web.conftest import FakeDevice

OFF = config.Terminal(enabled=False)


def run(**settings: object) -> Run:
    loaded = config.Config(**({"terminal": OFF} | settings))  # type: ignore[arg-type]
    return Run(loaded, loaded.camera, FakeDevice(), (), 0.0)


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """An outlet of a further kind in place of the JSON lines: one module, one line in the table."""
    opened: list[Run] = []

    def open_sink(run: Run) -> Sink:
        opened.append(run)
        return JsonlSink()

    module = types.ModuleType("dummy_outlet")
    module.__dict__["open_sink"] = open_sink
    monkeypatch.setitem(sys.modules, "dummy_outlet", module)
    monkeypatch.setitem(sinks.KINDS, "jsonl", sinks.Kind("dummy_outlet"))
    return opened


def test_a_kind_is_a_module_and_a_line_in_the_table(dummy: list[Run]) -> None:
    asked = run(jsonl=config.Jsonl(enabled=True))
    assert [outlet.look().name for outlet in sinks.open_sinks(asked)] == ["jsonl"]
    assert dummy == [asked]


def test_each_has_a_section_of_the_configuration() -> None:
    assert all(hasattr(config.Config(), name) for name in sinks.KINDS)


def test_lines_take_the_place_of_the_terminal_and_more_comes_last() -> None:
    class Other(JsonlSink):
        name = "other"

    both = run(jsonl=config.Jsonl(enabled=True), terminal=config.Terminal(enabled=True))
    assert [o.look().name for o in sinks.open_sinks(both, [Other])] == ["jsonl", "other"]


WITHOUT = """
import sys
class Without:
    @staticmethod
    def find_spec(name, *_):
        if name.partition(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Without)
from device.cli import main
sys.exit(main(["run", "--source", "synthetic", "--set", sys.argv[2] + ".enabled=true"]))
"""


@pytest.mark.parametrize(
    ("section", "package", "message"),
    [
        ("mqtt", "paho", "mqtt: paho-mqtt is not installed; pip install paho-mqtt"),
        ("window", "pygame", "the window needs pygame-ce; run: pip install pygame-ce"),
        (
            "web",
            "uvicorn",
            "the web view needs uvicorn; run: pip install starlette uvicorn prometheus-client",
        ),
    ],
)
@pytest.mark.slow
def test_a_library_that_is_missing_is_named(section: str, package: str, message: str) -> None:
    command = [sys.executable, "-c", WITHOUT, package, section]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, f"labelcam: {message}")


def test_what_was_opened_is_closed_when_a_later_one_cannot_be() -> None:
    closed = []

    class Closed(JsonlSink):
        def close(self) -> None:
            closed.append(self.name)

    def fails() -> Sink:
        raise SinkError("no room")

    with pytest.raises(SinkError, match="no room"):
        sinks.open_sinks(run(), [Closed, fails])
    assert closed == ["jsonl"]
