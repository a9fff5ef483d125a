"""``labelcam mqtt`` as a user runs it, and a node that is told to restart."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device.cli import main
from tests.mqtt.conftest import Listener
from tests.mqtt.mosquitto import Mosquitto

ROOT = Path(__file__).resolve().parents[2]


def test_check_says_each_step(broker: Mosquitto, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mqtt", "check", "--set", f"mqtt.port={broker.port}"]) == 0
    out, err = capsys.readouterr()
    steps = [line.split()[1] for line in out.splitlines()]
    assert steps == ["secrets:", "name:", "port:", "login:", "messages:"]
    assert err == ""
    assert main(["mqtt", "check", "--set", "mqtt.port=1"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL  port: localhost:1: nothing")


@pytest.mark.slow
def test_forget_says_what_it_did(
    broker: Mosquitto, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    assert main(["mqtt", "forget", "--set", f"mqtt.port={broker.port}"]) == 0
    assert "is forgotten" in capsys.readouterr().out
    assert main(["mqtt", "forget", "--set", "mqtt.port=1"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("labelcam: mqtt: localhost:1: nothing listens there")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("mqtt.port=99999", "mqtt.port = 99999: expected `int` <= 65535"),
        ("mqtt.prefix=a/#", "mqtt.prefix = 'a/#': expected `str` matching regex"),
        ("mqtt.interval_s=1", "mqtt.interval_s = 1: expected `float` >= 5.0"),
        ("mqtt.cert_file=x", "expected `cert_file` and `key_file` together"),
        ("mqtt.ca_file=x", "expected `tls = true` where `ca_file` is given"),
        ("mqtt.password=x", "unknown key `password` in [mqtt]; did you mean `password_file`?"),
        ("mqtt.transport=udp", "expected one of 'tcp', 'websockets'"),
    ],
)
def test_a_wrong_configuration_is_one_line_and_exit_2(
    setting: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["mqtt", "check", "--set", setting]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.slow
def test_mqtt_is_loaded_only_where_it_is_used() -> None:
    script = (
        "import sys; from device.cli import main; import device.node; "
        "print(sorted({'paho', 'sqlite3', 'ssl'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout == "[]\n"


@pytest.mark.slow
def test_a_node_told_to_restart_comes_back_as_the_same_process(
    broker: Mosquitto, listener: Listener, tmp_path: Path, colours: Callable[..., Path]
) -> None:
    settings = {
        "camera.source": "synthetic",
        "model.name": colours(),
        "model.delegate": "none",
        "model.threads": 1,
        "mqtt.enabled": "true",
        "mqtt.host": "127.0.0.1",
        "mqtt.port": broker.port,
        "mqtt.node": "garden",
    }
    pairs = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    node = subprocess.Popen(
        [sys.executable, "-m", "device", "run", *pairs],
        stdout=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "LABELCAM_STATE": str(tmp_path / "state")},
    )
    try:
        listener.wait_for("camera/enter")
        listener.send("labelcam/garden/camera/set/enter", b"0.75")
        listener.wait(lambda: listener.of("camera/enter")[-1].json["value"] == 0.75)
        listener.send("labelcam/garden/set/restart", b"PRESS")
        listener.wait(
            lambda: (
                [m.payload for m in listener.of("/availability")]
                == [b"online", b"offline", b"online"]
            )
        )
        assert node.poll() is None
        # A change by command outlives the restart.
        listener.wait(lambda: listener.of("camera/enter")[-1].json["value"] == 0.75)
    finally:
        node.terminate()
        assert node.wait(20) == 0
