"""``labelcam action``: the list, and doing one once."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from gpiozero import Device

from device.cli import main

CONFIG = """
[[action]]
name = "lamp"
kind = "gpio"
on = 17
labels = ["person", "cat"]
cameras = ["camera"]
hours = ["07:00-22:00"]

[[action]]
name = "bell"
kind = "command"
on = ["/bin/sh", "-c", "cat", "hunter2"]
off = ["/bin/sh", "-c", "echo no bell >&2; exit 3"]
min_held_s = 3
limit = "10/hour"

[[action]]
name = "bye"
kind = "command"
off = ["/nowhere/bye"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


def test_the_list_says_when_each_is_done(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["action", "list", "--config", str(file)]) == 0
    assert capsys.readouterr().out == (
        "lamp  gpio    begin of person, cat of camera, 07:00-22:00\n"
        "bell  command begin and end of all labels, held 3 s, at most 10 an hour\n"
        "bye   command end of all labels\n"
    )
    assert main(["action", "list", "--json", "--config", str(file)]) == 0
    out = capsys.readouterr().out
    assert [json.loads(line)["name"] for line in out.splitlines()] == ["lamp", "bell", "bye"]
    assert "hunter2" not in out


def test_a_configuration_without_actions_says_where_to_begin(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["action", "list"]) == 0
    assert capsys.readouterr().out == "no actions; docs/actions.md has some to begin with\n"


def test_a_command_is_run_and_what_it_said_is_shown(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action", "test", "bell", "--label", "dog", "--config", str(file)]) == 0
    said = capsys.readouterr().out
    assert said.startswith('action bell: sh ended well: {"action":"bell"')
    assert '"label":"dog","on":true' in said


def test_one_that_fails_says_why_and_exits_with_1(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action", "test", "bell", "--off", "--config", str(file)]) == 1
    assert capsys.readouterr().err == (
        "labelcam: action bell: sh ended with exit code 3: no bell\n"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lam"], "no action is named 'lam'; did you mean 'lamp'?"),
        (["xyzzy"], "no action is named 'xyzzy'; there is lamp, bell, bye"),
        (["bye"], "action bye: has no `on`; with --off its `off` is done"),
        (["lamp", "--off"], "action lamp: has no `off`; without --off its `on` is done"),
    ],
)
def test_what_is_not_there_is_a_fault_of_usage(
    file: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["action", "test", *words, "--config", str(file)]) == 2
    assert capsys.readouterr().err == f"labelcam: {message}\n"


def test_a_pin_is_held_for_as_long_as_asked_and_let_go(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "pin_factory", None)
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    slept: list[float] = []
    monkeypatch.setattr("device.cli.action.time.sleep", slept.append)
    assert main(["action", "test", "lamp", "--for", "5s", "--config", str(file)]) == 0
    assert capsys.readouterr().out == "action lamp: pin 17 on\n"
    assert slept == [5.0]
    assert Device.pin_factory is not None
    assert [s.state for s in Device.pin_factory.pin(17).states][-3:] == [0, 1, 0]


class _Posted(BaseHTTPRequestHandler):
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    _Posted.bodies = []
    made = HTTPServer(("127.0.0.1", 0), _Posted)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def test_a_webhook_is_sent_with_a_picture(
    server: HTTPServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    address = f"http://127.0.0.1:{server.server_port}/hunter2"
    file.write_text(
        f'[[action]]\nname = "hook"\nkind = "webhook"\non = "{address}"\nsnapshot = true\n'
    )
    assert main(["action", "test", "hook", "--config", str(file)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("action hook: answered 204")
    assert "hunter2" not in shown.out + shown.err
    assert len(_Posted.bodies[0]) > 10_000
