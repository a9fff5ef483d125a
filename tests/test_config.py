"""TOML to frozen structs, and what is said of a file that does not hold."""

from pathlib import Path

import msgspec
import pytest

from device import config
from device.errors import ConfigError


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text)
    return path


def test_nothing_given_gives_the_defaults() -> None:
    assert config.load() == config.Config()


def test_one_camera_may_be_a_plain_table(tmp_path: Path) -> None:
    path = _file(tmp_path, '[camera]\nname = "door"\nfps = 5\n')
    assert config.load(path).camera == (config.Camera(name="door", fps=5.0),)


def test_several_cameras_and_settings_for_one_or_all(tmp_path: Path) -> None:
    path = _file(tmp_path, '[[camera]]\nname = "door"\n[[camera]]\nname = "yard"\n')
    loaded = config.load(path, ["camera.fps=10", "camera.yard.source=/dev/video2"])
    assert [(c.name, c.fps, c.source) for c in loaded.camera] == [
        ("door", 10.0, "auto"),
        ("yard", 10.0, "/dev/video2"),
    ]


def test_a_setting_is_toml_or_a_bare_word() -> None:
    loaded = config.load(None, ["decide.allow=['cat', 'dog']", "camera.source=footage"])
    assert loaded.decide.allow == ("cat", "dog")
    assert loaded.camera[0].source == "footage"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[decide]\nentr = 1\n", "unknown key `entr` in [decide]; did you mean `enter`?"),
        ("[decid]\n", "unknown key `decid` in the top level; did you mean `decide`?"),
        ("[camera]\nxyzzy = 1\n", "unknown key `xyzzy` in [camera.0]"),
        ("[decide]\nenter = 1.5\n", "decide.enter = 1.5: expected `float` <= 1.0"),
        ("[decide]\nenter = 'much'\n", "decide.enter = 'much': expected `float`, got `str`"),
        ("[decide]\nmin_frames = true\n", "decide.min_frames = True: expected `int`, got `bool`"),
        ("[decide]\nexit = 0.7\n", "decide: expected `exit` < `enter` (0.5), met 0.7"),
        (
            "[camera]\nrotate = 45\n",
            "camera.0.rotate = 45: expected one of 0, 90, 180, 270",
        ),
        (
            "[model]\ndelegate = 'gpu'\n",
            "model.delegate = 'gpu': expected one of 'auto', 'edgetpu', 'none', 'xnnpack'",
        ),
        ("[camera]\nregion = [0.5, 0, 0.5, 1]\n", "expected `region` as [left, top,"),
        ("camera = 3\n", "camera = 3: expected `array`, got `int`"),
        ("[[camera]]\n[[camera]]\n", "expected a different `name` for each camera"),
        ("[decide\n", "not TOML: Expected ']'"),
    ],
)
def test_a_bad_file_is_named_with_key_value_and_limit(
    tmp_path: Path, text: str, message: str
) -> None:
    path = _file(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_a_directory_and_bytes(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    for path, message in (
        (tmp_path / "none.toml", "no such file"),
        (tmp_path, "is a directory; give the file in it"),
        (binary, "not UTF-8 text at byte 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.load(path)


@pytest.mark.parametrize("setting", ["decide", "decide=1", "=1", "decide.=1", "a.b.c.d=1"])
def test_a_setting_of_another_form_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"expected section\.key=value"):
        config.load(None, [setting])


def test_a_setting_for_a_camera_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no camera is named 'yard'"):
        config.load(None, ["camera.yard.fps=3"])


def test_sections_are_frozen() -> None:
    with pytest.raises(AttributeError):
        config.Config().decide.enter = 0.1  # type: ignore[misc]


def test_the_shipped_file_lists_every_key_with_its_default() -> None:
    shipped = Path(__file__).parent.parent / "systemd" / "config.toml"
    text = shipped.read_text()
    assert config.load(shipped) == config.Config()
    for section, values in msgspec.to_builtins(config.Config()).items():
        for key in values[0] if section == "camera" else values:
            assert f"\n{key} = " in text, f"{section}.{key} is not in the shipped file"
