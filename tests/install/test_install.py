"""install.sh, with everything it calls that takes time replaced by stand-ins on the PATH."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [
    ROOT / "install.sh",
    ROOT / ".ci/run",
    *sorted((ROOT / "systemd").glob("*.sh")),
    *sorted((ROOT / "tests/lab").glob("*.sh")),
]

PARTS = ("checks", "archive", "release", "service")

# All that install.sh takes from the system; a Debian has them without asking.
TOOLS = [
    "awk",
    "bash",
    "cat",
    "dirname",
    "env",
    "flock",
    "getconf",
    "grep",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "tail",
    "touch",
    "uname",
]

PYTHON = """\
#!/usr/bin/env bash
version={version}
case "$*" in
    -ISc*) [[ $version ]] && echo $version ;;
    *ensurepip*) [[ ! $FAKE_NO_VENV || -e $FAKE_LOG.apt ]] ;;
    "-m venv"*)
        echo "venv ${{*:3:$#-3}}" >>"$FAKE_LOG"
        venv=${{*: -1}}
        rm -rf "$venv"
        mkdir -p "$venv/bin" "$venv/lib/python$version/site-packages"
        cat "$0" >"$venv/bin/python"
        printf '#!/usr/bin/env bash\\necho "labelcam $*; $PWD"\\n' >"$venv/bin/labelcam"
        chmod +x "$venv/bin/"*
        ;;
    "-m pip install"*)
        echo "pip $*" >>"$FAKE_LOG"
        [[ ! $FAKE_PIP_SAYS ]] || {{ echo "$FAKE_PIP_SAYS" >&2 && exit 1; }}
        ;;
    "-m pytest"*) echo "pytest ${{*:3}}; $PWD; $TMPDIR" ;;
    *) exit 9 ;;
esac
"""


class Machine:
    """A checkout and a PATH on which nothing is real but a few small tools."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "check out"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.env: dict[str, str] = {"FAKE_NO_VENV": "", "FAKE_PIP_SAYS": ""}
        (self.checkout / "tests").mkdir(parents=True)
        (self.checkout / "systemd").mkdir()
        service = [f"systemd/install-{part}.sh" for part in PARTS]
        for name in (
            "install.sh",
            "pyproject.toml",
            "requirements.txt",
            "tests/requirements.txt",
            *service,
        ):
            shutil.copy(ROOT / name, self.checkout / name)
        self.bin.mkdir()
        for tool in (*TOOLS, "chmod"):
            found = shutil.which(tool)
            assert found, f"no {tool} here"
            (self.bin / tool).symlink_to(found)
        self.program("id", '[[ $1 == -un ]] && echo maker || echo "${FAKE_UID-1000}"')
        self.program(
            "df", 'printf "Filesystem M Used Available\\n/dev/x 9 1 ${FAKE_MB-4000} 9 /\\n"'
        )
        for name in ("shellcheck", "mosquitto", "openssl", "chromium", "Xvfb", "gcc"):
            self.program(name, "")
        self.python("python3", "3.11")

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    def program(self, name: str, body: str) -> None:
        (self.bin / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (self.bin / name).chmod(0o755)

    def python(self, name: str, version: str) -> None:
        (self.bin / name).write_text(PYTHON.format(version=version))
        (self.bin / name).chmod(0o755)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.checkout / "install.sh"), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "FAKE_LOG": str(self.log), "HOME": "/nowhere", **self.env}

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=cwd or self.bin,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def done(self) -> list[str]:
        """What the stand-ins were asked to do since the last call, shortened."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return [line.replace(f"{self.checkout}/", "") for line in lines]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


PACKAGES = "pip -m pip install --no-input --only-binary :all: -r .venv/requirements.txt"
PROJECT = "pip -m pip install --no-input -q --no-deps -e "


def check_failure(result: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One line on stderr, with a remedy, and the right status."""
    last = result.stderr.splitlines()[-1]
    assert result.returncode == status, result.stderr
    assert result.stdout == ""
    assert last.startswith("install.sh: ")
    for word in words:
        assert word in last


def test_help_names_every_option(machine: Machine) -> None:
    result = machine.run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    scripts = (ROOT / name for name in ("install.sh", "systemd/install-checks.sh"))
    cases = re.findall(r"^\s+(--.*)\)", "".join(s.read_text() for s in scripts), re.MULTILINE)
    options = {option for case in cases for option in re.findall(r"--[\w-]+", case)}
    assert {"--try", "--test", "--help", "--upgrade", "--offline", "--dry-run"} <= options
    assert options | {"--runtime", "PYTHON", "LABELCAM_VENV"} <= set(
        re.findall(r"--[\w-]+|[A-Z_]{5,}", result.stdout)
    )
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert machine.run("-h").stdout == result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--nonsense",), "--nonsense"),
        (("footage",), "footage"),
        (("--try", "--nonsense"), "--nonsense"),
        (("--try", ""), "--try"),
        (("--try", "one", "two"), "two"),
        (("--try", "--runtime"), "--runtime"),
        (("--test", "--runtime", "torch"), "torch"),
    ],
)
def test_wrong_options_are_one_line_and_exit_2(
    machine: Machine, arguments: tuple[str, ...], words: str
) -> None:
    result = machine.run(*arguments)
    check_failure(result, 2, words)
    assert result.stderr.count("\n") == 1
    assert machine.done() == []


@pytest.mark.parametrize("name", ["/elsewhere", "venv", ".venv/../..", "../.venv"])
def test_environment_stays_in_the_checkout(machine: Machine, name: str) -> None:
    machine.env["LABELCAM_VENV"] = name
    check_failure(machine.run("--try"), 2, name)


def test_first_start_sets_up_and_second_only_runs(machine: Machine) -> None:
    result = machine.run("--try")
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"labelcam run --source footage; {machine.bin}\n"
    assert machine.done() == ["venv --clear", PACKAGES, f"{PROJECT}{machine.checkout}"]
    result = machine.run("--try")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"labelcam run --source footage; {machine.bin}\n"
    assert machine.done() == []


def test_source_is_as_the_caller_wrote_it(machine: Machine, tmp_path: Path) -> None:
    result = machine.run("--try", "my pictures", "--", "--frames", "3", cwd=tmp_path)
    assert result.stdout == f"labelcam run --source my pictures --frames 3; {tmp_path}\n"
    result = machine.run("--try", "--", "--json", cwd=tmp_path)
    assert result.stdout == f"labelcam run --source footage --json; {tmp_path}\n"


def test_through_a_symlink_and_from_the_checkout_itself(machine: Machine, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(machine.checkout)
    machine.run("--try")
    machine.done()
    result = subprocess.run(
        ["bash", "link/install.sh", "--try"],
        cwd=tmp_path,
        env=machine.environment,
        capture_output=True,
        check=True,
    )
    assert result.stderr == b""
    assert machine.done() == []


def test_suite_adds_to_the_same_environment(machine: Machine) -> None:
    machine.run("--try")
    machine.done()
    result = machine.run("--test", "-k", "a or b")
    assert result.stdout == (f"pytest -k a or b; {machine.checkout}; {machine.venv}/tmp\n")
    assert machine.done() == [
        f"{PACKAGES} -r tests/requirements.txt",
        f"{PROJECT}{machine.checkout}",
    ]
    machine.run("--test")
    machine.run("--try")
    assert machine.done() == []


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(machine: Machine, name: str) -> None:
    machine.run("--try")
    machine.done()
    with (machine.checkout / name).open("a") as file:
        file.write("# changed\n")
    machine.run("--try")
    assert machine.done() == [PACKAGES, f"{PROJECT}{machine.checkout}"]
    machine.run("--try")
    assert machine.done() == []


def test_test_requirements_do_not_concern_a_start(machine: Machine) -> None:
    machine.run("--test")
    machine.done()
    (machine.checkout / "tests/requirements.txt").write_text("pytest\n")
    machine.run("--try")
    assert machine.done() == []
    machine.run("--test")
    assert len(machine.done()) == 2


def test_other_runtime_has_its_own_environment(machine: Machine) -> None:
    machine.run("--test")
    machine.done()
    result = machine.run("--test", "--runtime", "ai-edge-litert", "-x")
    assert result.stdout.startswith("pytest -x;")
    assert machine.done()[0] == "venv --clear"
    wanted = (machine.checkout / ".venv-litert/requirements.txt").read_text()
    assert re.search(r"^ai-edge-litert\S+$", wanted, re.MULTILINE)
    assert re.search(r"^numpy>=2\S*$", wanted, re.MULTILINE)
    assert "tflite-runtime==" not in wanted
    assert "python_version" not in wanted
    assert "opencv-python-headless" in wanted
    machine.run("--test")
    assert machine.done() == []
    assert "python_version" in (machine.venv / "requirements.txt").read_text()


def test_a_small_card_has_the_old_runtime_alone(machine: Machine) -> None:
    machine.python("python3.12", "3.12")
    machine.run("--try")
    both = (machine.venv / "requirements.txt").read_text()
    assert re.search(r"^ai-edge-litert\S+$", both, re.MULTILINE)
    machine.done()
    assert machine.run("--try", "--runtime", "tflite-runtime").returncode == 0
    assert machine.done()[0] == "venv --clear"
    wanted = (machine.checkout / ".venv-tflite/requirements.txt").read_text()
    left_out = set(both.splitlines()) - set(wanted.splitlines())
    assert {re.split("[<>=]", line)[0] for line in left_out} == {"ai-edge-litert", "ml_dtypes"}
    machine.env["PYTHON"] = "python3.12"
    result = machine.run("--try", "--runtime", "tflite-runtime")
    check_failure(result, 1, "no Python 3.11, the last that tflite-runtime has", "is 3.12")


def test_environment_can_be_named(machine: Machine) -> None:
    machine.env["LABELCAM_VENV"] = ".venv-mine"
    assert machine.run("--try").returncode == 0
    assert (machine.checkout / ".venv-mine/bin/labelcam").exists()
    assert not machine.venv.exists()


def test_moved_checkout_is_made_again(machine: Machine, tmp_path: Path) -> None:
    machine.run("--try")
    machine.done()
    machine.checkout = machine.checkout.rename(tmp_path / "moved")
    machine.run("--try")
    assert machine.done()[0] == "venv --clear"


@pytest.mark.parametrize("version", ["3.13", ""])
def test_environment_of_a_python_that_is_gone_is_made_again(machine: Machine, version: str) -> None:
    machine.run("--try")
    machine.done()
    (machine.venv / "bin/python").write_text(PYTHON.format(version=version))
    result = machine.run("--try")
    assert result.returncode == 0
    assert machine.done()[0] == "venv --clear"


def test_other_python_is_made_again_only_when_asked_for(machine: Machine) -> None:
    machine.run("--try")
    machine.done()
    machine.python("python3.12", "3.12")
    machine.python("python3", "3.12")
    machine.run("--try")
    assert machine.done() == []
    machine.env["PYTHON"] = "python3.12"
    assert "with Python 3.12" in machine.run("--try").stderr
    assert machine.done()[0] == "venv --clear"
    machine.run("--try")
    assert machine.done() == []


def test_newer_or_broken_default_python_is_passed_over(machine: Machine) -> None:
    machine.python("python3", "3.14")
    machine.python("python3.11", "")
    machine.python("python3.12", "3.12")
    result = machine.run("--try")
    assert result.returncode == 0
    assert "with Python 3.12" in result.stderr


def test_old_python_is_named(machine: Machine) -> None:
    machine.python("python3", "3.9")
    check_failure(machine.run("--try"), 1, "3.11 to 3.13", "python3 is 3.9", "PYTHON=")
    machine.python("python3", "3.11")
    machine.python("python3.10", "3.10")
    machine.env["PYTHON"] = "python3.10"
    check_failure(machine.run("--try"), 1, "PYTHON=python3.10", "python3.10 is 3.10")
    assert machine.done() == []


@pytest.mark.parametrize("option", ["--try", "--test"])
def test_a_32_bit_system_is_told_first(machine: Machine, option: str) -> None:
    (machine.bin / "getconf").unlink()
    machine.program("getconf", "echo 32")
    machine.python("python3", "3.9")
    check_failure(machine.run(option), 1, "is 32-bit", "64-bit Raspberry Pi OS")
    assert machine.done() == []


def test_no_python_at_all(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    check_failure(machine.run("--try"), 1, "no Python 3.11 to 3.13", "install python3-venv")


def test_no_venv_module_names_the_package_to_a_plain_user(machine: Machine) -> None:
    machine.env["FAKE_NO_VENV"] = "1"
    machine.program("apt-get", 'echo "apt-get $*" >>"$FAKE_LOG"')
    check_failure(machine.run("--try"), 1, "sudo apt-get install python3.11-venv")
    assert machine.done() == []


def test_no_venv_module_is_named_and_installed_for_root(machine: Machine) -> None:
    machine.env |= {"FAKE_NO_VENV": "1", "FAKE_UID": "0"}
    machine.program(
        "apt-get", 'echo "apt-get $*" >>"$FAKE_LOG"; [[ $1 == -qq ]] && touch "$FAKE_LOG.apt"'
    )
    result = machine.run("--try")
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("Installing from Debian: python3.11-venv\n")
    assert machine.done()[:2] == [
        "apt-get -qq -y install --no-install-recommends python3.11-venv",
        "venv --clear",
    ]


def test_missing_test_programs_are_only_missed(machine: Machine) -> None:
    for name in ("shellcheck", "Xvfb"):
        (machine.bin / name).unlink()
    result = machine.run("--test")
    assert result.returncode == 0
    needed = "what they need: sudo apt-get install shellcheck xvfb"
    assert f"will be skipped; {needed}" in result.stderr
    machine.env["FAKE_UID"] = "0"
    machine.program(
        "apt-get", 'echo "apt-get $*" >>"$FAKE_LOG"; [[ "$*" != *shellcheck && $1 == -qq ]]'
    )
    machine.done()
    result = machine.run("--test")
    assert result.returncode == 0
    assert "Installing from Debian: shellcheck\n" in result.stderr
    assert "what they need: sudo apt-get install shellcheck\n" in result.stderr
    install = "apt-get -qq -y install --no-install-recommends"
    # Whether the RTSP server's packages are missing too is this machine's own business.
    asked = [line for line in machine.done() if "gst" not in line]
    assert asked[-2:] == [f"{install} shellcheck", f"{install} xvfb"]


# What pip says, shortened, under Debian 12 and 13.
NO_NETWORK = """\
WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError('<…>: Failed to \
establish a new connection: [Errno -3] Temporary failure in name resolution')': /simple/rich/
ERROR: Could not find a version that satisfies the requirement rich>=13 (from versions: none)
ERROR: No matching distribution found for rich>=13
"""
NO_SPACE = (
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n"
)
NO_WHEEL = """\
ERROR: Could not find a version that satisfies the requirement tflite-runtime==2.14.0
ERROR: No matching distribution found for tflite-runtime==2.14.0
"""


@pytest.mark.parametrize(
    ("says", "words"),
    [
        (
            NO_NETWORK,
            ["index does not answer", "No matching distribution", "check network and clock"],
        ),
        (NO_SPACE, ["no space left in", "make room"]),
        (NO_WHEEL, ["pip failed: No matching distribution found for tflite-runtime", "pip.log"]),
        ("killed", ["pip failed: killed;"]),
        (
            "ERROR: Exception:\nTraceback (most recent call last):\nEOFError: half a file\n\n"
            "[notice] A new release of pip is available",
            ["pip failed: EOFError: half a file;"],
        ),
    ],
)
def test_pip_failure_is_one_line_and_the_next_start_mends_it(
    machine: Machine, says: str, words: list[str]
) -> None:
    machine.env["FAKE_PIP_SAYS"] = says
    result = machine.run("--try")
    check_failure(result, 1, *words)
    assert len(result.stderr.splitlines()) == 2
    assert machine.done() == ["venv --clear", PACKAGES]
    machine.env["FAKE_PIP_SAYS"] = ""
    assert machine.run("--try").returncode == 0
    again = PACKAGES + " --force-reinstall"
    assert machine.done() == [again, f"{PROJECT}{machine.checkout}"]
    machine.run("--try")
    assert machine.done() == []


def test_failed_test_set_up_leaves_the_start_alone(machine: Machine) -> None:
    machine.run("--try")
    machine.env["FAKE_PIP_SAYS"] = NO_NETWORK
    check_failure(machine.run("--test"), 1, "check network and clock")
    machine.done()
    assert machine.run("--try").returncode == 0
    assert machine.done() == []


def test_raspberry_pi_sees_the_packages_of_its_system(machine: Machine, tmp_path: Path) -> None:
    script = machine.checkout / "install.sh"
    model = tmp_path / "model"
    model.write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    text = script.read_text()
    assert text.count("/proc/device-tree/model") == 1
    script.write_text(text.replace("/proc/device-tree/model", str(model)))
    machine.run("--try")
    assert machine.done()[0] == "venv --clear --system-site-packages"


def test_what_was_broken_off_is_not_ready_when_its_cause_is_taken_back(machine: Machine) -> None:
    machine.run("--test")
    requirements = machine.checkout / "requirements.txt"
    before = requirements.read_text()
    requirements.write_text(f"{before}\npillow\n")
    machine.env["FAKE_PIP_SAYS"] = "killed"
    machine.run("--try")
    machine.env["FAKE_PIP_SAYS"] = ""
    requirements.write_text(before)
    machine.done()
    machine.run("--try")
    assert machine.done()[0] == f"{PACKAGES} --force-reinstall"
    machine.run("--test")
    assert machine.done()[0] == f"{PACKAGES} -r tests/requirements.txt"


def test_little_space_is_told_before_anything_is_made(machine: Machine) -> None:
    machine.env["FAKE_MB"] = "123"
    check_failure(machine.run("--try"), 1, "123 MB free", "make room")
    assert machine.done() == []
    assert not machine.venv.exists()
    machine.env["FAKE_MB"] = "4000"
    machine.run("--try")
    machine.env["FAKE_MB"] = "123"
    assert machine.run("--test").returncode == 0


def test_pip_keeps_nothing_unless_told_where(machine: Machine) -> None:
    fake = (machine.bin / "python3").read_text()
    said = 'echo "pip [$PIP_CACHE_DIR] [$PIP_NO_CACHE_DIR] $TMPDIR" >>"$FAKE_LOG"'
    (machine.bin / "python3").write_text(fake.replace('echo "pip $*" >>"$FAKE_LOG"', said))
    machine.run("--try")
    assert machine.done()[1] == "pip [] [1] .venv/tmp"
    assert not (machine.venv / "tmp").exists()
    shutil.rmtree(machine.venv)
    machine.env["PIP_CACHE_DIR"] = "/there"
    machine.run("--try")
    assert machine.done()[1] == "pip [/there] [] .venv/tmp"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; runs as a plain user")
def test_environment_of_another_user(machine: Machine) -> None:
    machine.venv.mkdir(mode=0o555)
    check_failure(machine.run("--try"), 1, "maker may not write", "remove it")
    machine.venv.chmod(0o755)
    machine.run("--test")
    machine.venv.chmod(0o555)
    assert machine.run("--try").returncode == 0
    check_failure(machine.run("--test"), 1, "maker may not write", "remove it")
    machine.venv.chmod(0o755)


def test_two_at_once_take_turns(machine: Machine) -> None:
    lock = os.open(machine.checkout, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(
            machine.command("--try"),
            env=machine.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as second:
            assert second.stderr
            assert second.stderr.readline().startswith("Waiting for another install.sh")
            assert machine.done() == []
            fcntl.flock(lock, fcntl.LOCK_UN)
            out, _ = second.communicate(timeout=20)
        assert out.startswith("labelcam run --source footage")
    finally:
        os.close(lock)


def test_lock_does_not_outlive_the_set_up(machine: Machine) -> None:
    machine.run("--try")
    (machine.venv / "bin/labelcam").write_text(
        f"#!/usr/bin/env bash\nflock -n '{machine.checkout}' bash -c 'echo free'\n"
    )
    assert machine.run("--try").stdout == "free\n"


def test_status_of_the_program_is_passed_on(machine: Machine) -> None:
    machine.run("--try")
    (machine.venv / "bin/labelcam").write_text("#!/usr/bin/env bash\nexit 2\n")
    assert machine.run("--try").returncode == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
@pytest.mark.slow
def test_scripts_pass_shellcheck(script: Path) -> None:
    shellcheck = shutil.which("shellcheck")
    if not shellcheck:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    result = subprocess.run(
        [shellcheck, "-x", "-P", "SCRIPTDIR", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    # What is only sourced has no interpreter of its own, and cannot be started.
    text = script.read_text()
    assert os.access(script, os.X_OK) == text.startswith("#!")
    assert text.count("\n") < 400 or "lab" in script.parts
