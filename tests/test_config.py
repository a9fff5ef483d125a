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
            "[decide.label.cat]\nenter = 0.2\n",
            "decide: expected `exit` < `enter` (0.2) of label 'cat', met 0.3; "
            "what a label has not of its own is that of all",
        ),
        (
            "[decide.label.dog]\n[decide.label.cat]\nentr = 0.2\n",
            "unknown key `entr` in [decide.label.cat]; did you mean `enter`?",
        ),
        (
            "[decide.label.dog]\n[decide.label.'tiger cat']\nenter = 2\n",
            'decide.label."tiger cat".enter = 2: expected `float` <= 1.0',
        ),
        ("[decide.label]\ncat = 3\n", "decide.label.cat = 3: expected `object`, got `int`"),
        ("[decide.alias]\ndog = 'x'\ncat = 3\n", "decide.alias.cat = 3: expected `str`, got `int`"),
        (
            "[decide.alias]\ncat = ''\n",
            "decide.alias.cat = '': expected `str` of length >= 1",
        ),
        (
            "[decide]\nmode = 'any'\nmargin = 0.2\n",
            'decide: expected `margin` of 0 with `mode` "any", met 0.2: '
            "labels that come and go by themselves have no runner-up",
        ),
        ("[decide]\nmode = 'all'\n", "decide.mode = 'all': expected one of 'any', 'one'"),
        (
            "[camera]\nrotate = 45\n",
            "camera.0.rotate = 45: expected one of 0, 90, 180, 270",
        ),
        (
            "[model]\ndelegate = 'gpu'\n",
            "model.delegate = 'gpu': expected one of 'auto', 'edgetpu', 'none', 'xnnpack'",
        ),
        ("[camera]\nregion = [0.5, 0, 0.5, 1]\n", "expected `region` as [left, top,"),
        ("[camera]\nregion = [0, 0, 1e-9, 1]\n", "left < right, 1% of the picture apart"),
        ("[camera]\nfps = 1e-300\n", "camera.0.fps = 1e-300: expected `float` >= 0.01"),
        ("[gate]\nmax_fps = 1e-300\n", "gate: expected `max_fps` of 0, which is no limit, or"),
        ("[gate]\ncpu_budget = -1\n", "gate.cpu_budget = -1: expected `float` >= 0.0"),
        ("[gate]\nhours = ['7-22']\n", """gate: expected `hours` as "07:00-22:00", from 00:00"""),
        ("[gate]\nhours = ['07:00-24:01']\n", "met '07:00-24:01'"),
        ("[gate]\nhours = ['07:60-08:00']\n", "met '07:60-08:00'"),
        ("[gate]\nhours = ['07:00-07:00']\n", "and not empty, met '07:00-07:00'"),
        ("[gate]\nhours = '07:00-22:00'\n", "expected `array`, got `str`"),
        ("[gate]\ndays = ['monday']\n", "gate.days.0 = 'monday': expected one of 'fri', 'mon'"),
        ("[web]\nmax_fps = 1e-300\n", "web.max_fps = 1e-300: expected `float` >= 0.01"),
        ("[window]\nmax_fps = 1e-300\n", "window.max_fps = 1e-300: expected `float` >= 0.01"),
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


def test_labels_are_named_on_the_command_line_too() -> None:
    decide = config.load(
        None,
        [
            "decide.label.cat.enter=0.4",
            "decide.label.cat.cooldown_s=5",
            'decide.label."tiger cat".exit=0.2',
            "decide.label.red fox.exit=0.1",
            "decide.alias.cup=coffee",
        ],
    ).decide
    assert decide.label == {
        "cat": config.Label(enter=0.4, cooldown_s=5),
        "tiger cat": config.Label(exit=0.2),
        "red fox": config.Label(exit=0.1),
    }
    assert decide.alias == {"cup": "coffee"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("decide.label.cat.entr=1", "--set: unknown key `entr` in [decide.label.cat]; did you"),
        ("decide.label.cat=1", "decide.label.cat=1: expected section.key=value"),
        ("decide.alias.cup.x=1", "decide.alias.cup.x=1: expected section.key=value"),
        ("decide.label.cat.enter=2", "--set: decide.label.cat.enter = 2: expected `float` <= 1.0"),
    ],
)
def test_what_is_wrong_of_a_label_on_the_command_line_is_told(setting: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, [setting])
    assert message in str(caught.value)


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


@pytest.mark.parametrize(
    "key",
    [
        "camera.source",
        "camera.controls.tuning_file",
        "model.name",
        "model.labels",
        "model.edgetpu_library",
        "decide.groups",
        "web.token_file",
        "web.cert_file",
        "mqtt.ca_file",
        "mqtt.key_file",
        "mqtt.password_file",
    ],
)
def test_a_path_has_no_nul(key: str) -> None:
    with pytest.raises(ConfigError, match="matching regex") as caught:
        config.load(None, [f'{key}="a\\u0000b"'])
    assert key.rpartition(".")[2] in str(caught.value)


def test_a_file_that_never_ends_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: has over 1048576 bytes"):
        config.load(Path("/dev/zero"))


def test_the_shipped_file_lists_every_key_with_its_default() -> None:
    shipped = Path(__file__).parent.parent / "systemd" / "config.toml"
    text = shipped.read_text()
    assert config.load(shipped) == config.Config()
    sections = msgspec.to_builtins(config.Config())
    assert not sections.pop("action")
    assert "\n# [[action]]\n" in text
    for section, values in sections.items():
        keys = dict(values[0] if section == "camera" else values)
        if section == "camera":
            assert not keys.pop("regions")
            assert "\n# [[camera.region]]\n" in text
            assert "\n[camera.controls]\n" in text
            keys |= keys.pop("controls")
        for key in keys:
            assert f"\n{key} = " in text, f"{section}.{key} is not in the shipped file"


def test_regions_and_controls_of_a_camera(tmp_path: Path) -> None:
    text = """
        [[camera]]
        name = "door"
        [[camera.region]]
        name = "left"
        box = [0, 0, 0.5, 1]
        [[camera.region]]
        name = "right"
        box = [0.5, 0, 1, 1]
        [camera.controls]
        gain = 2.0
        """
    camera = config.load(_file(tmp_path, text), ["camera.controls.exposure_us=100"]).camera[0]
    assert [(r.name, r.box[0]) for r in camera.regions] == [("left", 0), ("right", 0.5)]
    assert (camera.controls.gain, camera.controls.exposure_us) == (2.0, 100)
    assert config.load(None, ["camera.camera.controls.hdr=true"]).camera[0].controls.hdr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[[camera.region]]\nname = 'a'\nbox = [1, 0, 0, 1]\n",
            "camera.0.region.0: expected `box`",
        ),
        ("[[camera.region]]\nname = 'a/b'\nbox = [0, 0, 1, 1]\n", "camera.0.region.0.name = 'a/b'"),
        ("[camera]\nlabels = 'x'\n", "expected `model` where `labels` is given"),
        ("[camera]\nstall_s = 0\n", "camera.0.stall_s = 0: expected `float` >= 0.5"),
        ("[camera]\nfps = 0\n", "camera.0.fps = 0: expected `float` >= 0.01"),
        ("[camera]\nwidth = 0\n", "camera.0.width = 0: expected `int` >= 16"),
        ("[camera]\nwidth = 10000\n", "camera.0.width = 10000: expected `int` <= 8192"),
        ("[camera.controls]\nlens_position = 1.0\n", 'expected `focus = "manual"` with'),
        ("[camera.controls]\ncolour_gains = [1.0]\n", "expected two numbers as `colour_gains`"),
    ],
)
def test_a_bad_camera_is_told(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(_file(tmp_path, text))
    assert message in str(caught.value)


def test_a_password_in_an_address_is_in_no_repr() -> None:
    loaded = config.load(None, ["camera.source=rtsp://me:hunter2@cam/1"])
    assert "hunter2" not in repr(loaded)
    assert "synthetic" in repr(config.Camera(source="synthetic"))
