"""Where the state lies."""

from pathlib import Path

import pytest

from device.system.paths import state_directory


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE_DIRECTORY", "LABELCAM_STATE", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "/home/someone/.local/state/labelcam"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/labelcam"),
        ({"XDG_STATE_HOME": "relative"}, "/home/someone/.local/state/labelcam"),
        ({"LABELCAM_STATE": "/mine", "XDG_STATE_HOME": "/xdg"}, "/mine"),
        ({"STATE_DIRECTORY": "/var/lib/labelcam", "LABELCAM_STATE": "/mine"}, "/var/lib/labelcam"),
        ({"STATE_DIRECTORY": "/var/lib/labelcam:/var/lib/more"}, "/var/lib/labelcam"),
        ({"STATE_DIRECTORY": "", "LABELCAM_STATE": ""}, "/home/someone/.local/state/labelcam"),
    ],
)
def test_where_the_state_lies(
    environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_directory() == Path(expected)
