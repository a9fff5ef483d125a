"""The program edits a configuration as a careful person would."""

from pathlib import Path

import pytest

from device.errors import ConfigError
from device.system.config_file import set_keys


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[model]\ndelegate = "none"\nthreads = 2\n'),
        (
            "gate.max_fps = 5 # enough\n",
            'gate.max_fps = 5 # enough\n\n[model]\ndelegate = "none"\nthreads = 2\n',
        ),
        (
            "[model] # ours\nthreads = 4 # all\n\n[gate]\nmax_fps = 5.0\n",
            '[model] # ours\nthreads = 2 # all\ndelegate = "none"\n\n[gate]\nmax_fps = 5.0\n',
        ),
    ],
)
def test_keys_are_set_and_all_else_stays(tmp_path: Path, before: str, after: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(before)
    file.chmod(0o640)
    set_keys(file, "model", {"delegate": "none", "threads": 2})
    assert file.read_text() == after
    assert file.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("text", "words"),
    [("[model\n", "not TOML"), ("[model]\nthread = 1\n", "did you mean `threads`?")],
)
def test_what_would_not_be_valid_is_not_written(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        set_keys(file, "model", {"threads": 2})
    assert words in str(caught.value)
    assert file.read_text() == text


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link.toml").symlink_to("config.toml")
    (tmp_path / "config.toml").write_text("")
    set_keys(tmp_path / "link.toml", "model", {"threads": 2})
    assert (tmp_path / "link.toml").is_symlink()
    assert "threads = 2" in (tmp_path / "config.toml").read_text()
