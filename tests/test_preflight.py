"""A configuration is proved in another process before a device that works is given up for it."""

import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device import config, preflight
from device.cli import main
from device.control.commands import Command
from device.errors import UsageError
from device.inference import runtimes
from device.inference.runtimes import RUNTIMES
from device.node import Node
from tests.control.test_commands import Script

MODEL = "efficientnet-lite0-224-int8"


def absent(folder: Path, monkeypatch: pytest.MonkeyPatch, *packages: str) -> None:
    """Have the processes that are started find none of these packages."""
    for package in packages:
        (folder / package).mkdir(parents=True)
        text = f"raise ModuleNotFoundError('No module named {package}', name='{package}')\n"
        (folder / package / "__init__.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.slow
def test_a_running_device_refuses_what_would_end_it(
    tmp_path: Path, colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The runtime that this run does without, where both are installed.
    other = next(name for name in reversed(RUNTIMES) if name != next(iter(runtimes.installed())))
    packages = "pygame", "libcamera", "paho", RUNTIMES[other].partition(".")[0]
    absent(tmp_path / "absent", monkeypatch, *packages)
    model = colours()
    (tmp_path / "broken.tflite").write_bytes(b"no model")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "secret").chmod(0o600)
    (tmp_path / "folder").mkdir()
    bad: dict[str | None, str] = {
        'web = {enabled = true, host = "0.0.0.0"}': "asks for a token",
        'web = {enabled = true, token_file = "/none"}': "there is no token for the web view",
        'web = {enabled = true, cert_file = "/none.pem", key_file = "/none.key"}': "cannot be read",
        'web = {enabled = true, host = "no.such.host.invalid"}': "is no address of this device",
        "window.enabled = true": "the window needs pygame-ce",
        "mqtt.enabled = true": "paho-mqtt is not installed",
        'model.delegate = "edgetpu"': "is not compiled for the Edge TPU",
        f'model.runtime = "{other}"': f"{other} is not installed",
        'camera.source = "pi"': "camera pi: needs libcamera",
        'camera.source = "usb:webcam"': "is no USB id",
        'camera.source = "replay:"': "is no replay",
        'camera.source = "rtsps://camera.invalid/"': "cannot verify who sends",
        'camera.source = "gopher://camera.invalid/"': "is not a camera",
        'camera = {source = "synthetic", controls = {hdr = true}}': "only a Raspberry Pi's camera",
        'decide = {groups = "everyday", allow = ["catt"]}': "'catt' is no label of the model",
        'decide.groups = "/none.toml"': "cannot be read as groups",
        'camera.model = "mobilenet-of-mine"': "is neither a .tflite file nor one of",
        f'camera.model = "{tmp_path}/broken.tflite"': "broken.tflite",
        f'camera = {{model = "{model}", labels = "/none.txt"}}': "/none.txt",
        'camera.fps = "fast"': "expected `float`, got `str`",
        "camera.speed = 9": "unknown key `speed`",
        "not TOML": "not TOML",
        None: "is a directory; give the file in it",
    }
    file = tmp_path / "config.toml"
    todo = list(bad)

    def read() -> config.Config:
        change = todo.pop(0)
        if change is None:
            return config.load(tmp_path / "folder")
        settled = "" if change.startswith("camera") else 'camera.source = "synthetic"\n'
        # Given before the sections that follow.
        file.write_text(f"{change}\n{settled}")
        return config.load(file)

    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=100.0),),
        model=config.Model(name=str(model), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False),
    )
    scripts: list[Script] = []

    def open_script() -> Script:
        scripts.append(Script(lambda: node, [Command(None, "reload")] * len(bad)))
        return scripts[0]

    node = Node(settings, reload=read, sinks=[open_script])
    assert node.run() == 0
    answers = scripts[0].answers
    assert len(answers) == len(bad)
    for (change, reason), answer in zip(bad.items(), answers, strict=True):
        assert reason in answer.error, change
    # Frames go on while each is proved; the last four are no configuration at all.
    assert {number for _, number in scripts[0].seen} >= set(range(len(bad) - 4))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ('password_file = "/none"', "mqtt: password_file /none: No such file or directory"),
        ('tls = true\nca_file = "/none"', "mqtt: ca_file /none: No such file or directory"),
        ('watch = ["coffe"]', "mqtt.watch: 'coffe' is no label of the model; did you mean"),
    ],
)
def test_what_the_way_to_the_broker_needs_is_looked_at(
    tmp_path: Path, change: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("paho", reason="paho-mqtt is not installed")
    file = tmp_path / "config.toml"
    file.write_text(f'camera.source = "synthetic"\n[mqtt]\nenabled = true\n{change}\n')
    assert main(["config", "check", "--deep", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"labelcam: {reason}")


@pytest.mark.slow
def test_check_finds_the_model_and_its_labels_as_a_run_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    for text, reason in (
        (
            'decide = {groups = "everyday", allow = ["catt"]}',
            "'catt' is no label of the model; did",
        ),
        ('model.name = "/none.tflite"', f"{file}: model /none.tflite"),
        ("[decide.label.catt]\nenter = 0.9", "decide.label: 'catt' is no label of the model; did"),
        ("[decide.alias]\ncatt = 'x'", "decide.alias: 'catt' is no label of the model; did you"),
        ("[decide.alias]\ncat = 'dog'", "decide.alias: 'dog' would be two labels; one word for"),
        ("[decide.alias]\nespresso = 'x'", "decide.alias: 'espresso' counts as 'cup' here; name"),
        ("[decide.label.cat]\nenter = 0.1", "of label 'cat', met 0.3"),
        ('decide = {mode = "any", margin = 0.1}', "expected `margin` of 0 with `mode`"),
        (
            'decide.alias.cat = "Minka"\nmqtt = {enabled = true, watch = ["cat"]}',
            "mqtt.watch: 'cat' is called 'Minka' here",
        ),
        ('mqtt = {enabled = true, watch = ["coffe"]}\ndecide.groups = "everyday"', "mqtt.watch:"),
    ):
        file.write_text(text)
        assert main(["config", "check", str(file)]) == 2
        assert reason in capsys.readouterr().err
    file.write_text("[decide]\nalias.cat = 'Minka'\nlabel.cat.enter = 0.6\nlabel.dog.exit = 0.1\n")
    assert main(["config", "check", str(file)]) == 0
    file.write_text('decide = {groups = "everyday", allow = ["cat"]}\n')
    assert main(["config", "check", "--deep", str(file), "--source", "synthetic"]) == 0
    assert main(["config", "check", str(file), "--set", 'decide.deny=["cat"]']) == 2


def test_a_word_to_watch_that_nobody_says_is_said_and_keeps_nothing_from_running(
    colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("paho", reason="paho-mqtt is not installed")
    settings = config.Config(
        camera=(config.Camera(source="synthetic?frames=2", fps=100.0),),
        model=config.Model(name=str(colours()), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False),
        mqtt=config.Mqtt(enabled=True, port=9, watch=("gren", "unknown")),
    )
    assert Node(settings).run() == 0
    assert "mqtt.watch: 'gren' is no label of the model; did you mean 'green'?" in caplog.text


@pytest.mark.slow
def test_what_crashes_or_hangs_is_refused(
    tmp_path: Path, colours: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bad" / "pygame"
    folder.mkdir(parents=True)
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    settings = config.Config(
        camera=(config.Camera(source="synthetic"),),
        model=config.Model(name=str(colours()), delegate="none", threads=1),
        window=config.Window(enabled=True),
    )
    for text, reason in (
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV"),
        ("import time; time.sleep(60)", "gave no answer in"),
        ("import os; os._exit(3)", "ended with exit code 3"),
        ("1 / 0", "ZeroDivisionError"),
    ):
        (folder / "__init__.py").write_text(text)
        began = time.monotonic()
        with pytest.raises(UsageError, match=reason) as refused:
            preflight.check(settings, 3.0)
        assert "\n" not in str(refused.value)
        assert time.monotonic() - began < 20


def test_every_configuration_reaches_the_other_process_whole(tmp_path: Path) -> None:
    text = """
        [[camera]]
        name = "ü"
        source = "rtsp://user:pa'ss@host/x"
        [[camera.region]]
        name = "r"
        box = [0, 0, 0.5, 1]
        [camera.controls]
        colour_gains = [1.5, 2]
        [mqtt]
        watch = ["a", "b"]
    """
    file = tmp_path / "config.toml"
    file.write_text(textwrap.dedent(text))
    settings = config.load(file)
    assert msgspec.json.decode(msgspec.json.encode(settings), type=config.Config) == settings


def test_the_edge_tpu_is_left_to_the_process_that_has_it(
    standin: Any, twins: Callable[..., Path]
) -> None:
    from device.inference.pool import open_beside
    from device.library import catalog

    model = catalog.find(str(twins()))
    only = config.Model(delegate="edgetpu", edgetpu_library=str(standin.library))
    assert open_beside(model, only) is None
    assert standin.ask("threads") == 0
    with open_beside(model, config.Model(threads=1)) as engine:  # type: ignore[union-attr]
        assert engine.description.delegate == "xnnpack"
