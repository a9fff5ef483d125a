"""install.sh makes, mends, upgrades and removes the service, in a root folder of its own.

systemd, users, Python and pip are stand-ins here; tests/lab/service.sh does it for real.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.install.test_install import PYTHON, ROOT, TOOLS, check_failure

MORE_TOOLS = ["chmod", "cp", "cut", "find", "head", "ln", "ls", "mktemp", "mv", "readlink"]
MORE_TOOLS += ["rmdir", "sleep"]
MORE_TOOLS += ["sort", "sync", "touch", "xargs"]

# Under Debian's names; each writes down what it was asked to do.
STANDINS = {
    "id": "echo ${FAKE_UID-0}",
    "getent": 'grep -s "^$2:" "$FAKE_ROOT/$1"',
    "useradd": 'echo "labelcam:x:9:9::$5:" >>"$FAKE_ROOT/passwd"; echo useradd >>"$FAKE_LOG"',
    "userdel": 'rm "$FAKE_ROOT/passwd"; echo userdel >>"$FAKE_LOG"',
    "usermod": 'echo "usermod $*" >>"$FAKE_LOG"',
    "runuser": 'echo "doctor ${*: -1}" >>"$FAKE_LOG"; exit ${FAKE_DOCTOR-0}',
    "df": 'printf "Filesystem M Used Available\\n/dev/x 9 1 ${FAKE_MB-4000} 9 /\\n"',
    "udevadm": "exit 1",
    "systemd-analyze": 'grep -H garbage "${@:4}" /dev/null',
    # Owners are root's to give; here a plain user runs this.
    "install": """
        kept=()
        while (($#)); do
            case $1 in -o | -g) shift ;; *) kept+=("$1") ;; esac
            shift
        done
        exec "$REAL_INSTALL" "${kept[@]}"
    """,
    "systemctl": """
        case "$*" in
            --version) echo "systemd ${FAKE_SYSTEMD-252} (x)" ;;
            "show -P ActiveState"*) cat "$FAKE_ROOT/active" 2>/dev/null || echo inactive ;;
            "show -P NRestarts"*)
                dies=$FAKE_ROOT/opt/labelcam/current/systemd/dies
                [[ ! -e $dies ]] || { [[ -s $dies ]] && FAKE_RESTARTS=1; echo x >"$dies"; }
                echo "${FAKE_RESTARTS-0}" ;;
            "show -P InvocationID"*) cat "$FAKE_ROOT/started" 2>/dev/null || true ;;
            "show -P StatusText"*) echo "${FAKE_STATUS-cat 0.9}" ;;
            show*) echo 0 ;;
            *disable*) echo "systemctl $*" >>"$FAKE_LOG"; rm -rf "$WANTS" ;;
            *enable*)
                echo "systemctl $*" >>"$FAKE_LOG"
                mkdir -p "$WANTS"
                ln -sf x "$WANTS/${*: -1}"
                ;;
            "--no-block restart"*)
                echo "start $(readlink "$FAKE_ROOT/opt/labelcam/current")" >>"$FAKE_LOG"
                echo x >>"$FAKE_ROOT/started"
                state=active
                [[ ! -e $FAKE_ROOT/opt/labelcam/current/systemd/broken ]] || state=failed
                echo "${FAKE_STATE-$state}" >"$FAKE_ROOT/active"
                ;;
            *) echo "systemctl $*" >>"$FAKE_LOG" ;;
        esac
    """,
}


class System:
    """A checkout, a root folder and a PATH."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"
        self.checkout = folder / "check out"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.env: dict[str, str] = {"FAKE_NO_VENV": "", "FAKE_PIP_SAYS": ""}
        for place in (
            "opt",
            "etc/systemd/system",
            "etc/udev/rules.d",
            "usr/local/bin",
            "var/lib",
            "var/tmp",
            "run/lock",
            "run/systemd/system",
        ):
            (self.root / place).mkdir(parents=True)
        (self.root / "group").write_text("video:x:44:\nplugdev:x:46:\n")
        for name in ("install.sh", "requirements.txt", "pyproject.toml", "LICENSE", "README.md"):
            self.checkout.mkdir(exist_ok=True)
            shutil.copy(ROOT / name, self.checkout / name)
        shutil.copytree(ROOT / "systemd", self.checkout / "systemd")
        (self.checkout / "models").mkdir()
        (self.checkout / "models/labels.txt").write_text("cat\n")
        (self.checkout / "device").mkdir()
        self.version("1.0.0")
        checks = self.checkout / "systemd/install-checks.sh"
        text = checks.read_text()
        assert text.count("\nroot= #") == 1
        checks.write_text(text.replace("\nroot= #", f"\nroot='{self.root}' #"))
        service = self.checkout / "systemd/install-service.sh"
        text = service.read_text()
        assert text.count("\nsteady_s=60 ") == 1
        service.write_text(text.replace("\nsteady_s=60 ", "\nsteady_s=1 "))
        self.bin.mkdir()
        for tool in (*TOOLS, *MORE_TOOLS):
            found = shutil.which(tool)
            assert found, f"no {tool} here"
            if not (self.bin / tool).exists():
                (self.bin / tool).symlink_to(found)
        for name, body in STANDINS.items():
            self.program(name, body)
        python = PYTHON.format(version="3.11").replace(
            "*) exit 9",
            '*compileall*) ;;\n    *base_prefix*) echo "${FAKE_PREFIX-/usr}" ;;\n    *) exit 9',
        )
        self.program("python3", python)

    def program(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (self.bin / name).chmod(0o755)

    def version(self, number: str) -> None:
        (self.checkout / "device/__init__.py").write_text(f'__version__ = "{number}"\n')

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": str(self.bin),
            "FAKE_ROOT": str(self.root),
            "FAKE_LOG": str(self.log),
            "WANTS": str(self.root / "etc/systemd/system/multi-user.target.wants"),
            "REAL_INSTALL": str(shutil.which("install")),
            **self.env,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "install.sh"), *arguments],
            env=self.environment,
            cwd=self.bin,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def well(self, *arguments: str) -> str:
        """Run it, which must succeed; returns what it said."""
        result = self.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stderr

    def done(self) -> list[str]:
        """What the stand-ins were asked to do since the last call."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.replace(f"{self.root}/", "/") for line in lines]

    def link(self, name: str) -> str:
        link = self.root / "opt/labelcam" / name
        return link.readlink().name if link.is_symlink() else ""

    def releases(self) -> set[str]:
        return {path.name for path in (self.root / "opt/labelcam/releases").iterdir()}

    def files(self) -> set[str]:
        """Every path that an installation could leave."""
        places = ("opt", "etc", "usr", "var")
        found = (path for place in places for path in (self.root / place).rglob("*"))
        return {str(path.relative_to(self.root)) for path in found}


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_a_fresh_installation(system: System) -> None:
    said = system.well()
    release = system.root / "opt/labelcam/releases/1.0.0"
    assert system.link("current") == "1.0.0"
    assert system.link("previous") == ""
    assert (release / "device/__init__.py").exists()
    assert (release / "bin/labelcam").read_text().startswith(f"#!{release}/venv/bin/python\n")
    assert os.access(release / "bin/labelcam", os.X_OK)
    config = system.root / "etc/labelcam/config.toml"
    assert config.read_bytes() == (ROOT / "systemd/config.toml").read_bytes()
    assert config.stat().st_mode & 0o777 == 0o640
    units = system.root / "etc/systemd/system"
    assert (units / "labelcam.service").exists()
    assert (units / "labelcam-adopt.service").exists()
    assert not (units / "labelcam.service.d").exists()
    assert (system.root / "etc/udev/rules.d/60-labelcam.rules").exists()
    program = system.root / "usr/local/bin/labelcam"
    assert program.resolve() == release / "bin/labelcam"
    done = system.done()
    assert "useradd" in done
    assert [line for line in done if "usermod" in line] == [
        "usermod -aG video labelcam",
        "usermod -aG plugdev labelcam",
    ]
    assert "systemctl -q enable labelcam.service" in done
    assert done[-1] == "start releases/1.0.0"
    assert "1.0.0: cat 0.9" in said
    for word in ("journalctl", "labelcam doctor", "systemctl reload labelcam", str(config)):
        assert word in said


def test_a_later_systemd_gets_its_drop_in(system: System) -> None:
    system.env["FAKE_SYSTEMD"] = "257"
    system.well()
    drop_in = system.root / "etc/systemd/system/labelcam.service.d/10-systemd-254.conf"
    assert "notify-reload" in drop_in.read_text()


@pytest.mark.slow
def test_once_more_builds_nothing_and_keeps_the_configuration(system: System) -> None:
    system.well()
    config = system.root / "etc/labelcam/config.toml"
    config.write_text("# mine\n")
    system.done()
    system.well()
    done = system.done()
    assert not [line for line in done if line.startswith(("venv", "pip", "useradd"))]
    assert config.read_text() == "# mine\n"
    assert system.releases() == {"1.0.0"}


@pytest.mark.slow
def test_a_changed_checkout_of_the_same_version_is_another_release(system: System) -> None:
    system.well()
    (system.checkout / "models/labels.txt").write_text("dog\n")
    system.well()
    assert system.link("current").startswith("1.0.0-")
    assert system.link("previous") == "1.0.0"


@pytest.mark.slow
def test_wheels_are_taken_from_a_folder(system: System, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    check_failure(system.run("--offline", str(wheels)), 2, "holds no wheels", "pip download")
    (wheels / "x.whl").touch()
    system.well("--offline", str(wheels))
    pip = next(line for line in system.done() if line.startswith("pip"))
    assert f"--no-index --find-links {wheels}" in pip
    check_failure(system.run("--offline", "/nonexistent"), 2, "takes a folder of wheels")


@pytest.mark.slow
def test_upgrade_keeps_the_last_two_releases(system: System) -> None:
    system.well()
    for number in ("1.1.0", "1.2.0"):
        system.version(number)
        system.well("--upgrade")
    assert (system.link("current"), system.link("previous")) == ("1.2.0", "1.1.0")
    assert system.releases() == {"1.1.0", "1.2.0"}


@pytest.mark.slow
def test_a_release_that_fails_its_self_test_leaves_no_trace(system: System) -> None:
    system.well()
    before = system.files()
    system.version("1.1.0")
    system.env["FAKE_DOCTOR"] = "1"
    check_failure(system.run("--upgrade"), 1, "does not pass its self-test", "nothing was changed")
    assert system.files() == before


def test_a_first_release_that_fails_its_self_test_leaves_no_trace(system: System) -> None:
    before = system.files()
    system.env["FAKE_DOCTOR"] = "1"
    check_failure(system.run(), 1, "does not pass its self-test")
    assert system.files() == before
    assert system.done()[-1] == "userdel"


def test_what_the_network_does_not_give_leaves_no_trace(system: System) -> None:
    before = system.files()
    system.env["FAKE_PIP_SAYS"] = "ERROR: ConnectionError"
    check_failure(system.run(), 1, "check network and clock")
    assert system.files() == before


@pytest.mark.slow
def test_a_release_that_does_not_get_ready_gives_way_to_the_old_one(system: System) -> None:
    system.well()
    system.version("1.1.0")
    system.well("--upgrade")
    system.version("1.2.0")
    (system.checkout / "systemd/broken").touch()
    check_failure(system.run("--upgrade"), 1, "upgrade to 1.2.0 failed; 1.1.0 works again")
    assert (system.link("current"), system.link("previous")) == ("1.1.0", "1.0.0")
    assert system.releases() == {"1.0.0", "1.1.0"}
    assert system.done()[-1] == "start releases/1.1.0"


def test_a_first_release_that_does_not_get_ready_stays(system: System) -> None:
    (system.checkout / "systemd/broken").touch()
    check_failure(system.run(), 1, "does not work", "labelcam doctor")
    assert (system.link("current"), system.link("good")) == ("1.0.0", "")


@pytest.mark.slow
def test_the_last_release_that_was_ready_outlives_bad_ones(system: System) -> None:
    system.well()
    (system.root / "active").write_text("failed\n")
    (system.checkout / "systemd/broken").touch()
    for number in ("1.1.0", "1.2.0"):
        system.version(number)
        check_failure(system.run("--upgrade"), 1, f"upgrade to {number} failed; 1.0.0 works again")
        assert (system.link("current"), system.link("good")) == ("1.0.0", "1.0.0")
        assert system.releases() == {"1.0.0"}


@pytest.mark.slow
def test_a_release_that_ends_soon_after_ready_gives_way_to_the_old_one(system: System) -> None:
    system.well()
    system.version("1.1.0")
    (system.checkout / "systemd/dies").touch()
    check_failure(system.run("--upgrade"), 1, "upgrade to 1.1.0 failed; 1.0.0 works again")
    assert (system.link("current"), system.link("good")) == ("1.0.0", "1.0.0")


@pytest.mark.slow
def test_an_installer_that_is_ended_while_it_watches_goes_back(system: System) -> None:
    system.well()
    system.version("1.1.0")
    command = [str(system.checkout / "install.sh"), "--upgrade"]
    with subprocess.Popen(
        command, env=system.environment, stderr=subprocess.PIPE, text=True
    ) as installer:
        assert installer.stderr
        for line in installer.stderr:
            if line.startswith("Watching it"):
                installer.terminate()
                break
        _, said = installer.communicate(timeout=20)
    assert installer.returncode == 1
    assert "upgrade to 1.1.0 failed; 1.0.0 works again" in said
    assert (system.link("current"), system.link("good")) == ("1.0.0", "1.0.0")


@pytest.mark.parametrize("step", ["daemon-reload", "--no-block restart labelcam.service"])
@pytest.mark.slow
def test_what_fails_after_the_switch_is_named_and_taken_back(system: System, step: str) -> None:
    system.well()
    system.version("1.1.0")
    real = (system.bin / "systemctl").read_text().split("\n", 1)[1]
    system.program(
        "systemctl",
        f'[[ $* != "{step}" || -e $FAKE_LOG.f ]] || {{ touch "$FAKE_LOG.f"; exit 1; }}\n{real}',
    )
    result = system.run("--upgrade")
    check_failure(result, 1, "upgrade to 1.1.0 failed; 1.0.0 works again")
    assert f"stopped at: systemctl {step} (status 1)" in result.stderr
    assert '"$@"' not in result.stderr
    assert system.releases() == {"1.0.0"}


@pytest.mark.parametrize("unit", ["labelcam.service", "labelcam-adopt.service"])
@pytest.mark.slow
def test_a_unit_that_systemd_does_not_take_changes_nothing(system: System, unit: str) -> None:
    system.well()
    before = system.files()
    system.version("1.1.0")
    (system.checkout / "systemd" / unit).write_text("garbage\n")
    words = "does not take the units of 1.1.0", unit, "garbage", "nothing was changed"
    check_failure(system.run("--upgrade"), 1, *words)
    assert system.files() == before
    assert system.link("current") == "1.0.0"


@pytest.mark.slow
def test_rollback_from_a_wreck(system: System) -> None:
    system.well()
    system.version("1.1.0")
    system.well("--upgrade")
    (system.root / "opt/labelcam/current").unlink()
    (system.root / "etc/systemd/system/labelcam.service").unlink()
    (system.root / "active").write_text("failed\n")
    system.well("--rollback")
    assert (system.link("current"), system.link("good")) == ("1.1.0", "1.1.0")
    assert (system.root / "etc/systemd/system/labelcam.service").exists()


@pytest.mark.slow
def test_upgrade_leaves_alone_what_is_stopped_and_disabled(system: System) -> None:
    system.well()
    (system.root / "etc/systemd/system/multi-user.target.wants/labelcam.service").unlink()
    (system.root / "active").write_text("inactive\n")
    system.done()
    system.version("1.1.0")
    assert "as it was" in system.well("--upgrade")
    done = system.done()
    assert not [line for line in done if "enable" in line or line.startswith("start")]
    assert (system.link("current"), system.link("good")) == ("1.1.0", "1.0.0")


@pytest.mark.slow
def test_upgrade_keeps_the_runtime_that_was_asked_for(system: System) -> None:
    releases = system.root / "opt/labelcam/releases"

    def has_litert(release: str) -> bool:
        return "\nai-edge-litert" in (releases / release / "venv/requirements.lock").read_text()

    system.well("--runtime", "tflite-runtime")
    (releases / "1.0.0/venv/lib/python3.11/site-packages/added").mkdir()
    system.version("1.1.0")
    system.well("--upgrade")
    assert not has_litert("1.0.0")
    assert not has_litert("1.1.0")
    assert (releases / "1.1.0/venv/lib/python3.11/site-packages/added").exists()
    # What is asked for now is another release, and its packages would get in its way.
    assert "of another Python or runtime" in system.well("--runtime", "auto")
    other = system.link("current")
    assert other.startswith("1.1.0-")
    assert has_litert(other)
    assert not (releases / other / "venv/lib/python3.11/site-packages/added").exists()
    check_failure(system.run("--runtime", "torch"), 2, "auto, tflite-runtime or ai-edge-litert")
    check_failure(system.run("--rollback", "--runtime", "auto"), 2, "does not go with --rollback")


def test_a_small_card_needs_less_room(system: System) -> None:
    system.env["FAKE_MB"] = "450"
    check_failure(system.run(), 1, "has 450 MB free and needs 500")
    system.well("--runtime", "tflite-runtime")


@pytest.mark.slow
def test_upgrade_takes_the_packages_of_the_release_before(system: System) -> None:
    system.well()
    packages = "venv/lib/python3.11/site-packages/pygame/x.py"
    first = system.root / "opt/labelcam/releases/1.0.0" / packages
    first.parent.mkdir()
    first.touch()
    system.version("1.1.0")
    system.well("--upgrade")
    assert (system.root / "opt/labelcam/releases/1.1.0" / packages).samefile(first)


@pytest.mark.slow
def test_packages_of_another_python_are_not_taken_in_silence(system: System) -> None:
    system.well()
    python = (system.bin / "python3").read_text().replace("version=3.11", "version=3.12")
    (system.bin / "python3").write_text(python)
    assert "added to 1.0.0 are of another Python" in system.well("--upgrade")


def test_a_mask_that_keeps_others_out_does_not_reach_the_service(system: System) -> None:
    before = os.umask(0o077)
    try:
        system.well()
    finally:
        os.umask(before)
    for path in ("opt/labelcam", "opt/labelcam/releases/1.0.0/venv/lib", "etc/labelcam"):
        assert (system.root / path).stat().st_mode & 0o777 == 0o755, path


def test_a_crash_loop_is_not_waited_for(system: System) -> None:
    system.env |= {"FAKE_STATE": "activating", "FAKE_RESTARTS": "3", "FAKE_STATUS": ""}
    check_failure(system.run(), 1, "does not work", "journalctl")


@pytest.mark.slow
def test_rollback_goes_there_and_back(system: System) -> None:
    check_failure(system.run("--rollback"), 1, "is not installed")
    system.well()
    check_failure(system.run("--rollback"), 1, "no earlier release")
    system.version("1.1.0")
    system.well("--upgrade")
    system.well("--rollback")
    assert (system.link("current"), system.link("previous")) == ("1.0.0", "1.1.0")
    assert system.done()[-1] == "start releases/1.0.0"
    system.well("--rollback")
    assert (system.link("current"), system.link("previous")) == ("1.1.0", "1.0.0")


@pytest.mark.slow
def test_uninstall_leaves_configuration_and_state_and_purge_nothing(system: System) -> None:
    password = system.root / "etc/credstore/labelcam.mqtt-password"
    password.parent.mkdir()
    before = system.files()
    system.env["FAKE_SYSTEMD"] = "257"
    system.well()
    (system.root / "var/lib/labelcam").mkdir()
    password.write_text("secret\n")
    assert "--purge removes them too" in system.well("--uninstall")
    left = system.files() - before
    assert left == {
        "etc/labelcam",
        "etc/labelcam/config.toml",
        "etc/credstore/labelcam.mqtt-password",
        "var/lib/labelcam",
    }
    assert "systemctl -q disable --now labelcam.service" in system.done()
    system.well("--uninstall", "--purge")
    assert system.files() == before
    assert system.done()[-1] == "userdel"
    system.well("--uninstall", "--purge")


@pytest.mark.slow
def test_dry_run_prints_every_step_and_changes_nothing(system: System) -> None:
    before = system.files()
    result = system.run("--dry-run")
    assert result.returncode == 0, result.stderr
    assert system.files() == before
    assert system.done() == []
    steps = [line.split()[2] for line in result.stdout.splitlines() if "would run:" in line]
    for step in ("useradd", "usermod", "cp", "make_venv", "install_wheels", "in_service"):
        assert step in steps
    for step in ("install", "ln", "mv", "systemctl"):
        assert step in steps
    for unit in ("labelcam.service", "labelcam-screen.service", "labelcam-adopt.service"):
        assert f"/etc/systemd/system/{unit}\n" in result.stdout
    system.well()
    before = system.files()
    system.done()
    for arguments in (("--upgrade",), ("--uninstall", "--purge")):
        assert system.run(*arguments, "--dry-run").returncode == 0
    assert system.files() == before
    assert system.done() == []


@pytest.mark.parametrize("where", ["", "device", "venv/bin"])
def test_what_was_interrupted_is_made_anew(system: System, where: str) -> None:
    release = system.root / "opt/labelcam/releases/1.0.0"
    (release / where).mkdir(parents=True)
    (system.root / "opt/labelcam/.labelcam").touch()
    (release / "rest").touch()
    system.well()
    assert not (release / "rest").exists()
    assert system.link("current") == "1.0.0"


@pytest.mark.slow
def test_what_was_interrupted_between_its_links_is_whole_again(system: System) -> None:
    system.well()
    system.version("1.1.0")
    system.well("--upgrade")
    folder = system.root / "opt/labelcam"
    (folder / "current.new").symlink_to("releases/gone")
    (folder / "current").unlink()
    system.well()
    assert system.link("current") == "1.1.0"
    assert not (folder / "current.new").is_symlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda s: s.env.update(FAKE_UID="1000"), ["installed by root", "sudo ./install.sh"]),
        (lambda s: (s.root / "run/systemd/system").rmdir(), ["no systemd runs here", "--try"]),
        (lambda s: s.env.update(FAKE_SYSTEMD="247"), ["systemd is 247", "252 is needed"]),
        (lambda s: (s.root / "opt/labelcam").write_text("x"), ["is not of this installer"]),
        (lambda s: (s.root / "opt/labelcam/x").mkdir(parents=True), ["is not of this installer"]),
        (lambda s: (s.root / "opt/labelcam").symlink_to("/tmp"), ["is not of this installer"]),
        (lambda s: (s.root / "usr/local/bin/labelcam").touch(), ["bin/labelcam is not of this"]),
        (
            lambda s: (s.root / "passwd").write_text("labelcam:x:1000:1000::/home/labelcam:"),
            ["a user labelcam with the home /home/labelcam"],
        ),
        (lambda s: s.env.update(FAKE_PREFIX="/home/maker/.pyenv"), ["is a user's own"]),
        (lambda s: s.env.update(FAKE_MB="100"), ["has 100 MB free and needs"]),
        (lambda s: (s.root / "etc/udev/rules.d").rmdir(), ["rules.d cannot be written"]),
        (lambda s: s.program("python3", PYTHON.format(version="3.9")), ["python3 is 3.9"]),
    ],
)
def test_checks_come_first_and_change_nothing(
    system: System, damage: object, words: list[str]
) -> None:
    damage(system)  # type: ignore[operator]
    before = system.files()
    check_failure(system.run(), 1, *words)
    assert system.files() == before
    assert system.done() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--nonsense",), "unknown option --nonsense"),
        (("--upgrade", "--rollback"), "do not go together"),
        (("--purge",), "--purge goes with --uninstall"),
        (("--offline",), "--offline takes a folder"),
        (("--upgrade", "/nonexistent"), "--upgrade takes one signed file"),
        (("--upgrade", "/etc/passwd", "--offline", "/tmp"), "and --offline"),
        (("--rollback", "--offline", "/tmp"), "--offline does not go with --rollback"),
    ],
)
def test_wrong_options(system: System, arguments: tuple[str, ...], words: str) -> None:
    check_failure(system.run(*arguments), 2, words)
    assert system.done() == []


def test_two_at_once_take_turns(system: System) -> None:
    with (system.root / "run/lock/labelcam-install").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            [str(system.checkout / "install.sh")],
            env=system.environment,
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert second.stderr
            assert second.stderr.readline() == "Waiting for another install.sh\n"
            assert system.done() == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            second.communicate(timeout=20)
    assert second.returncode == 0
    assert system.link("current") == "1.0.0"


def test_on_a_pi_picamera2_comes_from_debian(system: System, tmp_path: Path) -> None:
    script = system.checkout / "install.sh"
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    script.write_text(script.read_text().replace("/proc/device-tree/model", str(model)))
    system.program("apt-get", 'echo "apt-get $*" >>"$FAKE_LOG"')
    system.well()
    done = system.done()
    assert done[0] == "apt-get -qq -y install --no-install-recommends python3-picamera2"
    assert "venv --clear --system-site-packages" in done


def test_units_hold_what_systemd_checks() -> None:
    analyze = shutil.which("systemd-analyze")
    if not analyze:
        pytest.skip("systemd-analyze is not installed")
    unit = ROOT / "systemd/labelcam.service"
    result = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=15", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout[-400:] + result.stderr
