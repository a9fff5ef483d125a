"""Commands by hand, where a service is installed: in a root of their own."""

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from device.cli import main, service

ROOT = Path(__file__).parent.parent.parent


class Replaced(Exception):
    """The process would be another program by now."""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with an installed service, whose user is another than who runs this."""
    launcher = tmp_path / "opt/labelcam/current/bin/labelcam"
    for folder in (launcher.parent, tmp_path / "etc/labelcam", tmp_path / "var/lib/labelcam"):
        folder.mkdir(parents=True)
    (tmp_path / "dev/shm").mkdir(parents=True)
    (tmp_path / "etc/labelcam/config.toml").write_text('camera.source = "synthetic"\n')
    launcher.write_text('#!/bin/sh\nid -un\necho "$STATE_DIRECTORY" "$HOME" "$@"\ncat picture\n')
    launcher.chmod(0o755)
    monkeypatch.setattr(service, "ROOT", tmp_path)
    monkeypatch.setattr(service, "USER", "nobody")
    # Set back afterwards, whatever the command makes of it.
    monkeypatch.setenv("STATE_DIRECTORY", "")
    monkeypatch.delenv("LABELCAM_STATE")
    return tmp_path


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> list[tuple[list[str], dict[str, str]]]:
    """Be this user; what would take the process's place is in the list."""
    replaced: list[tuple[list[str], dict[str, str]]] = []

    def execvpe(_file: str, arguments: list[str], environment: dict[str, str]) -> None:
        replaced.append((arguments, environment))
        raise Replaced

    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "execvpe", execvpe)
    monkeypatch.setattr(os, "umask", lambda _: 0)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return replaced


COMMANDS = (
    "web token",
    "models list",
    "models fetch x",
    "mqtt check",
    "mqtt forget",
    "doctor",
    "teach add 'gate open' a.jpg",
    "teach list",
)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_rights_it_says_what_to_type(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_user(monkeypatch, 12345)
    words = [word.strip("'") for word in command.replace("gate open", "gate_open").split()]
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("labelcam: this is for the installed service, which is user nobody")
    assert f"run: sudo labelcam {' '.join(words)}, or add --own" in said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_root_becomes_the_services_user(
    installed: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (installed / "etc/credstore").mkdir()
    (installed / "etc/credstore/labelcam.mqtt-password").write_text("secret\n")
    replaced = as_user(monkeypatch, 0)
    # As any other exception that nobody foresaw, it ends in exit code 1.
    assert main(command.split()) == 1
    ((arguments, environment),) = replaced
    nobody = pwd.getpwnam("nobody")
    assert arguments[:4] == [
        "setpriv",
        f"--reuid={nobody.pw_uid}",
        f"--regid={nobody.pw_gid}",
        "--init-groups",
    ]
    caps = "-all,+dac_override" if command.startswith("teach") else "-all"
    assert f"--ambient-caps={caps}" in arguments
    launcher = str(installed / "opt/labelcam/current/bin/labelcam")
    assert arguments[arguments.index(launcher) + 1 :] == command.split()
    assert environment["STATE_DIRECTORY"] == str(installed / "var/lib/labelcam")
    password = Path(environment["CREDENTIALS_DIRECTORY"]) / "mqtt-password"
    assert password.read_text() == "secret\n"
    assert password.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr().err.splitlines()[0]
    state = installed / "var/lib/labelcam"
    assert said == (
        f"labelcam: for the service: {installed}/etc/labelcam/config.toml, {state}, as user nobody;"
        " --own is for yourself alone"
    )


def test_the_services_user_works_on_its_state(
    installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    as_user(monkeypatch, pwd.getpwnam("nobody").pw_uid)
    assert main(["web", "token"]) == 0
    assert (installed / "var/lib/labelcam/web-token").exists()
    assert "this is shown once" in capsys.readouterr().err


def test_what_is_ones_own_stays_so(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced = as_user(monkeypatch, 0)
    state = tmp_path / "own"
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    assert main(["web", "token", "--own"]) == 0
    assert (state / "labelcam/web-token").exists()
    mine = tmp_path / "mine.toml"
    mine.write_text('camera.source = "synthetic"\n')
    assert main(["web", "token", "--config", str(mine)]) == 0
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "named"))
    assert main(["web", "token"]) == 0
    assert (tmp_path / "named/web-token").exists()
    monkeypatch.delenv("LABELCAM_STATE")
    (installed / "opt/labelcam/current/bin/labelcam").unlink()
    assert main(["web", "token"]) == 0
    assert not replaced
    assert not (installed / "var/lib/labelcam/web-token").exists()


def test_root_really_becomes_that_user_and_reads_what_is_roots(
    installed: Path,
) -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to become another user")
    private = installed / "private"
    private.mkdir(mode=0o700)
    (private / "picture").write_text("a gate\n")
    (private / "picture").chmod(0o600)
    # Whoever it becomes must find the program, as it does below /opt.
    for folder in (installed, *installed.parents):
        if folder.owner() == "root" and folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    program = (
        "import sys; from pathlib import Path; from device.cli import main, service\n"
        f"service.ROOT, service.USER = Path({str(installed)!r}), 'nobody'\n"
        "sys.exit(main())"
    )
    for command, reads in ((("teach", "list"), True), (("web", "token"), False)):
        ended = subprocess.run(
            [sys.executable, "-c", program, *command],
            cwd=private,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        state = installed / "var/lib/labelcam"
        said = ended.stdout.splitlines()
        assert said[:2] == ["nobody", f"{state} {state} {' '.join(command)}"]
        assert ("a gate" in said) == reads
