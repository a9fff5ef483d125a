"""All actions together, from the configuration to what they do, in a real run."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from device import config, sinks
from device.errors import ConfigError
from device.events import UNAVAILABLE, ActionResult
from device.pipeline.plan import check_words
from device.sinks import retry
from device.sinks.actions import check_settings
from device.sinks.actions.sink import CLOSE_S, ActionsSink
from device.sinks.outlet import Run
from device.sinks.photos import Photos
from tests.actions.http_server import Reply, http_server
from tests.sinks.examples import FRAME, change, observation
from tests.web.conftest import FakeDevice

LIMIT_S = 20.0


def command(*words: str, **keys: object) -> config.Action:
    usual = {"name": "note", "kind": "command", "on": words}
    return config.Action(**(usual | keys))  # type: ignore[arg-type]


def note(file: Path, what: str) -> tuple[str, ...]:
    """A command that leaves the event, or a word, in a file."""
    return ("/bin/sh", "-c", f'cat >> "$0"; echo {what} >> "$0"', str(file))


def opened(*actions: config.Action) -> tuple[ActionsSink, list[ActionResult]]:
    settings = config.Config(action=actions)
    photos = Photos(settings.snapshots, settings.camera, FakeDevice())
    results: list[ActionResult] = []
    return ActionsSink(settings, photos, results.append), results


def wait_for(results: list[ActionResult], count: int) -> None:
    until = time.monotonic() + LIMIT_S
    while len(results) < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_camera_that_is_lost_ends_what_was_in_force(tmp_path: Path) -> None:
    file = tmp_path / "events"
    sink, results = opened(command(*note(file, "on"), off=note(file, "off")))
    sink.change(change(label="cat", at=time.monotonic()), FRAME)
    sink.observe(observation(label="cat"))
    sink.change(change(label=UNAVAILABLE, previous="cat", at=time.monotonic()))
    wait_for(results, 2)
    sink.close()
    assert [line for line in file.read_text().splitlines() if line[0] != "{"] == ["on", "off"]
    assert [(r.label, r.on, r.done) for r in results] == [("cat", True, True), ("cat", False, True)]


@pytest.mark.slow
def test_the_end_of_the_run_ends_commands_and_does_what_off_says(tmp_path: Path) -> None:
    file = tmp_path / "events"
    quick = command(*note(file, "on"), name="quick", off=note(file, "off"))
    hanging = command("sleep", "60", name="hanging", timeout_s=60.0)
    sink, results = opened(quick, hanging)
    sink.change(change(label="cat", at=time.monotonic()))
    wait_for(results, 1)
    began = time.monotonic()
    sink.close()
    assert time.monotonic() - began < CLOSE_S
    assert file.read_text().splitlines()[-1] == "off"
    assert {(r.action, r.on, r.done) for r in results} == {
        ("quick", True, True),
        ("quick", False, True),
        ("hanging", True, False),
        ("hanging", False, True),
    }


def test_what_fails_is_in_its_health_until_it_works_again() -> None:
    sink, results = opened(command("/nowhere/bell"), command("/bin/true", name="good"))
    sink.change(change(label="cat", at=time.monotonic()))
    wait_for(results, 2)
    assert sink.problem == "note: /nowhere/bell is not there, or not for us to see; check the path"
    sink.close()


def test_a_change_of_label_is_posted_with_its_picture_and_told_once_it_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setattr(retry, "FIRST_S", 0.02)
    with http_server(Reply(503)) as server:
        url = server.url()
        action = config.Action(name="hook", kind="webhook", on=url, off=url, snapshot=True)
        sink, results = opened(action)
        sink.change(change(label="cat", at=time.monotonic()), FRAME)
        server.wait_for(1)
        until = time.monotonic() + LIMIT_S
        while not sink.problem:
            assert time.monotonic() < until
            time.sleep(0.01)
        where = f"127.0.0.1:{server.port}"
        assert sink.problem == f"hook: {where}: 503 Service Unavailable (1 waiting)"
        assert results == []
        server.turns = [Reply(200)]
        sink.change(change(label="unknown", previous="cat", at=time.monotonic()), FRAME)
        wait_for(results, 2)
        assert [(r.action, r.kind, r.label, r.on, r.done, r.detail) for r in results] == [
            ("hook", "webhook", "cat", True, True, ""),
            ("hook", "webhook", "cat", False, True, ""),
        ]
        sink.close()
        bodies = [json.loads(request.body) for request in server.received]
    assert [(body["label"], body["on"]) for body in bodies[-2:]] == [("cat", True), ("cat", False)]
    assert bodies[-2]["snapshot"]


def test_actions_turn_the_outlet_on() -> None:
    settings = config.Config(
        terminal=config.Terminal(enabled=False), action=(command("/bin/true"),)
    )
    outlets = sinks.open_sinks(Run(settings, settings.camera, FakeDevice(), (), 0.0))
    assert [outlet.look().name for outlet in outlets] == ["actions"]
    for outlet in outlets:
        outlet.close()


def test_a_camera_or_a_label_that_is_not_there_is_told() -> None:
    region = config.Region("left", (0.0, 0.0, 0.5, 1.0))
    cameras = (config.Camera(name="door", regions=(region,)), config.Camera(name="yard"))
    with pytest.raises(ConfigError) as caught:
        check_settings(config.Config(camera=cameras, action=(command("/x", cameras=("yrd",)),)))
    assert str(caught.value) == (
        "action.note.cameras: no camera is named 'yrd'; did you mean 'yard'?"
    )
    check_settings(config.Config(camera=cameras, action=(command("/x", cameras=("door/left",)),)))
    with pytest.raises(ConfigError) as caught:
        check_words(config.Config(action=(command("/x", labels=("catt",)),)), ["cat", "dog"])
    assert str(caught.value) == (
        "action.note.labels: 'catt' is no label of the model; did you mean 'cat'?"
    )


@pytest.mark.slow
def test_a_run_does_what_its_configuration_says(tmp_path: Path) -> None:
    file, path = tmp_path / "events", tmp_path / "config.toml"
    words = json.dumps(note(file, "on"))
    path.write_text(
        f'[decide]\nsmoothing_s = 0\nmin_hold_s = 0\n[[action]]\nname = "note"\n'
        f'kind = "command"\non = {words}\nlimit = "1/day"\n'
    )
    command_line = [
        "run",
        "--config",
        path,
        "--source",
        "footage",
        "--set",
        "terminal.enabled=false",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "device", *map(str, command_line)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    event, said = file.read_text().splitlines()
    assert said == "on"
    found = json.loads(event)
    assert (found["action"], found["camera"], found["on"]) == ("note", "camera", True)
    assert found["label"] in found["active"]
