"""A configuration on the boot partition: taken whole, or left with the reason beside it."""

import grp
import os
from pathlib import Path

import pytest

from device import config
from device.cli import main
from device.errors import ConfigError
from device.system import adopt as adoption
from device.system.adopt import adopt

GOOD = """\
# my device, made on another computer
[camera]
source = "synthetic"   # for now
[mqtt]
enabled = true
username = "sensor"
password = "s3cret # not a comment"
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with a boot partition, whose group labelcam is one that we may give."""
    own = grp.getgrgid(os.getegid()).gr_name
    monkeypatch.setattr(adoption, "_GROUP", own)
    monkeypatch.setattr(os, "fchown", lambda *_: None)
    (tmp_path / "boot/firmware").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    return tmp_path


def lay(root: Path, text: str | bytes, place: str = "boot/firmware") -> Path:
    file = root / place / "labelcam.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


@pytest.mark.parametrize("place", ["boot/firmware", "boot"])
def test_it_is_moved_and_its_password_split_out(root: Path, place: str) -> None:
    file = lay(root, GOOD, place)
    assert adopt(root) == 0
    assert not file.exists()
    target = root / "etc/labelcam/config.toml"
    assert target.read_text() == GOOD.replace('password = "s3cret # not a comment"\n', "")
    assert target.stat().st_mode & 0o777 == 0o640
    assert config.load(target).mqtt.username == "sensor"
    secret = root / "etc/credstore/labelcam.mqtt-password"
    assert secret.read_text() == "s3cret # not a comment\n"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.parent.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in target.parent.iterdir()} == {"config.toml"}


def test_without_a_password_the_one_in_force_stays(root: Path) -> None:
    secret = root / "etc/credstore/labelcam.mqtt-password"
    secret.parent.mkdir()
    secret.write_text("old\n")
    lay(root, 'camera.source = "synthetic"\n')
    adopt(root)
    assert secret.read_text() == "old\n"


def test_text_of_other_systems(root: Path) -> None:
    lay(root, b"\xef\xbb\xbf[camera]\r\nsource = 'synthetic'\r\n")
    adopt(root)
    text = (root / "etc/labelcam/config.toml").read_bytes()
    assert text == b"[camera]\nsource = 'synthetic'\n"


def test_nothing_there_is_well(root: Path) -> None:
    assert adopt(root) == 0
    assert not (root / "etc/labelcam").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (GOOD + "pasword = 1\n", "unknown key `pasword` in [mqtt]; did you mean"),
        ("[camera]\nfps = 0\n", "camera.0.fps = 0"),
        ("[camera\n", "not TOML"),
        (b"\xff\xfe[\x00", "not UTF-8"),
        ("[mqtt]\npassword = 7\n", "mqtt.password: expected text"),
        ('[mqtt]\npassword = "a\\nb"\n', "mqtt.password: expected text"),
        ('[mqtt]\npassword = "x"\n', "mqtt.password without mqtt.username"),
        ("#" * (2 << 20), "has over 1048576 bytes"),
    ],
)
def test_what_is_refused_stays_with_the_reason(root: Path, text: str | bytes, words: str) -> None:
    target = root / "etc/labelcam/config.toml"
    target.parent.mkdir()
    target.write_text("# in force\n")
    file = lay(root, text)
    with pytest.raises(ConfigError) as caught:
        adopt(root)
    said = file.with_name("labelcam-error.txt")
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{file}: ")
    assert said.read_text() == f"{caught.value}\n"
    assert "s3cret" not in said.read_text()
    assert file.exists()
    assert target.read_text() == "# in force\n"
    assert {path.name for path in target.parent.iterdir()} == {"config.toml"}
    assert not (root / "etc/credstore/labelcam.mqtt-password").exists()
    lay(root, GOOD)
    adopt(root)
    assert not said.exists()


def test_a_system_without_the_service_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "_GROUP", "no-such-group")
    lay(root, GOOD)
    with pytest.raises(ConfigError, match="there is no group no-such-group; sudo"):
        adopt(root)


def test_a_place_that_cannot_be_written_is_named(root: Path) -> None:
    (root / "etc/labelcam").write_text("in the way")
    lay(root, GOOD)
    with pytest.raises(ConfigError, match=r"could not be moved: .*etc/labelcam"):
        adopt(root)


def test_config_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text("gate.max_fps = 5\n")
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: is valid\n"
    file.write_text("gate.max_fps = -5\n")
    assert main(["config", "check", str(file)]) == 2
    assert "gate.max_fps = -5" in capsys.readouterr().err
