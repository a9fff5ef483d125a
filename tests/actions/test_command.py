"""Commands as real child processes: those that do well, and those that hang, fork and flood."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device import config
from device.errors import ActionError, ConfigError
from device.sinks.actions.command import CommandPerformer, check_action
from device.system.text import one_line
from tests.actions.moments import occurrence

LIMIT_S = 20.0
# Each is a Python program whose first argument is a file of its own to leave word in.
PYTHON = [sys.executable, "-I", "-S", "-c"]


def performer(*words: str, **keys: Any) -> CommandPerformer:
    return CommandPerformer(config.Action(name="bell", kind="command", on=words, **keys))


def python(program: str, *arguments: object, **keys: Any) -> CommandPerformer:
    """A performer that runs this program with these arguments."""
    return performer(*PYTHON, program, *map(str, arguments), **keys)


def detail(of: CommandPerformer) -> str:
    """Why it does not do well."""
    with pytest.raises(ActionError) as caught:
        of.begin(occurrence())
    return caught.value.problem


def wait_for(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


def is_gone(pid: int) -> bool:
    """Whether the process has ended; one that nobody has buried yet has."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"


def noted(file: Path, count: int = 1) -> list[int]:
    """The numbers that processes have left in a file, a line each, so many at least."""

    def lines() -> list[str]:
        return file.read_text().splitlines() if file.exists() else []

    wait_for(lambda: len(lines()) >= count)
    return [int(line) for line in lines()]


NOTE = """
import os, signal, sys, time
def note():
    with open(sys.argv[1], "a") as file:
        file.write(f"{os.getpid()}\\n")
"""


def test_it_gets_what_happened_as_one_line_of_json(tmp_path: Path) -> None:
    file = tmp_path / "event"
    done = python("import sys; open(sys.argv[1], 'w').write(sys.stdin.read())", file)
    assert done.begin(occurrence()) == f"{Path(sys.executable).name} ended well"
    text = file.read_text()
    assert text.count("\n") == 1
    assert json.loads(text) == occurrence().fields


def test_words_are_words_and_no_shell_reads_them(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    done = performer("echo", f"$(touch {trap}); `touch {trap}` * > {trap}", "a  b")
    assert done.begin(occurrence()) == (
        f"echo ended well: {one_line(f'$(touch {trap}); `touch {trap}` * > {trap} a b')}"
    )
    assert not trap.exists()


def test_on_and_off_have_words_of_their_own() -> None:
    both = performer("echo", "begins", off=("echo", "ends"))
    assert both.begin(occurrence()) == "echo ended well: begins"
    assert both.end(occurrence(on=False)) == "echo ended well: ends"
    assert performer("echo").end(occurrence(on=False)) == "nothing to do"


def test_its_environment_is_small_and_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("LC_TIME", "de_AT.UTF-8")
    done = python("import json, os; print(json.dumps(sorted(os.environ)))")
    said = done.begin(occurrence(label="a\0b")) or ""
    names = set(json.loads(said.partition(": ")[2]))
    assert {"LABELCAM_ACTION", "LABELCAM_CAMERA", "LABELCAM_LABEL", "LABELCAM_EVENT"} <= names
    assert {"PATH", "LC_TIME"} <= names
    assert not {"CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"} & names


def test_an_exit_code_is_told_with_the_last_line_it_wrote() -> None:
    program = "import os, sys; os.write(1, b'first\\n'); os.write(2, b'no lamp\\n'); sys.exit(3)"
    name = Path(sys.executable).name
    assert detail(python(program)) == f"{name} ended with exit code 3: no lamp"
    assert detail(python("import os; os.kill(os.getpid(), 11)")) == f"{name} was ended by signal 11"


def test_what_it_writes_moves_no_cursor_and_is_short() -> None:
    text = detail(python("print('\\x1b[2J' + 'x' * 5000); raise SystemExit(1)"))
    assert "\x1b" not in text
    assert len(text) <= 200


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "is not there, or not for us to see; check the path"),
        (lambda path: path.mkdir(), "is a directory; give the program in it"),
        (lambda path: path.write_text("#!/bin/sh\n"), "is not to be run by us; chmod +x"),
    ],
)
def test_one_that_cannot_start_says_why(
    tmp_path: Path, make: Callable[[Path], object], problem: str
) -> None:
    path = tmp_path / "bell.sh"
    make(path)
    assert problem in detail(performer(str(path)))
    with pytest.raises(ActionError, match=str(path)):
        performer(str(path)).open()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("echo no first line\n", "bell.sh is no program; its first line should be as #!/bin/sh"),
        ("#!/nowhere/sh\n", "bell.sh cannot be started: there is no interpreter as in its first"),
    ],
)
def test_a_script_without_its_interpreter_says_so(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bell.sh"
    path.write_text(text)
    path.chmod(0o755)
    assert detail(performer(str(path))).startswith(problem)


def test_a_name_is_looked_for_on_the_path() -> None:
    problem = detail(performer("no-such-program"))
    assert problem == ("no-such-program is not on the PATH; install it, or give its whole path")


@pytest.mark.slow
def test_one_that_hangs_and_ignores_every_polite_signal_is_killed(tmp_path: Path) -> None:
    stubborn = NOTE + (
        "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "note()\n"
        "while True: time.sleep(60)\n"
    )
    began = time.monotonic()
    problem = detail(python(stubborn, tmp_path / "pids", timeout_s=0.3))
    assert problem.endswith("did not end within 0.3 s and was killed")
    assert time.monotonic() - began < LIMIT_S
    assert all(is_gone(pid) for pid in noted(tmp_path / "pids"))


FORKS = (
    NOTE
    + """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for _ in range(20):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            note()
            while True: time.sleep(60)
        os._exit(0)
"""
)


@pytest.mark.slow
def test_what_it_forks_into_sessions_of_their_own_is_ended_too(tmp_path: Path) -> None:
    problem = detail(python(FORKS + "time.sleep(60)", tmp_path / "pids", timeout_s=1.0))
    assert "did not end within 1 s and was killed" in problem
    assert all(is_gone(pid) for pid in noted(tmp_path / "pids", 20))


@pytest.mark.slow
def test_what_it_leaves_running_has_its_time_and_no_more(tmp_path: Path) -> None:
    problem = detail(python(FORKS, tmp_path / "pids", timeout_s=1.0))
    assert problem.endswith("left 20 processes running, which were ended after 1 s")
    assert all(is_gone(pid) for pid in noted(tmp_path / "pids", 20))


@pytest.mark.slow
def test_one_that_always_forks_and_ends_is_caught(tmp_path: Path) -> None:
    hops = NOTE + (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "until = time.monotonic() + 60\n"
        "while time.monotonic() < until:\n"
        "    if os.fork(): os._exit(0)\n"
        "    os.setsid()\n"
        "note()\n"
    )
    problem = detail(python(hops, tmp_path / "pids", timeout_s=0.3))
    assert "could not be ended" not in problem
    assert "after 0.3 s" in problem or "within 0.3 s" in problem
    assert not processes_of(str(tmp_path / "pids"))


def processes_of(mark: str) -> list[int]:
    """The processes that have these words in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in words and not is_gone(int(path.parent.name)):
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_one_that_floods_waits_for_us_and_costs_no_memory(tmp_path: Path) -> None:
    flood = NOTE + (
        "note()\n"
        "written = 0\n"
        "while True:\n"
        "    written += os.write(1, b'x' * 65535 + b'\\n')\n"
        "    with open(sys.argv[2], 'w') as file: file.write(str(written))\n"
    )
    written = tmp_path / "written"
    problem = detail(python(flood, tmp_path / "pids", written, timeout_s=1.5))
    assert "did not end within 1.5 s and was killed: xxx" in problem
    assert len(problem) <= 200
    # Two seconds' worth and what a pipe holds.
    assert 1 << 20 <= int(written.read_text()) <= 3 << 20
    assert all(is_gone(pid) for pid in noted(tmp_path / "pids"))


@pytest.mark.slow
def test_the_end_of_the_run_ends_what_runs(tmp_path: Path) -> None:
    off = (*PYTHON, "import time; print('off', flush=True); time.sleep(60)")
    words = NOTE + "note()\ntime.sleep(60)\n"
    hanging = python(words, tmp_path / "pids", timeout_s=60, off=off)
    problems: list[str] = []
    thread = threading.Thread(target=lambda: problems.append(detail(hanging)))
    thread.start()
    pids = noted(tmp_path / "pids")
    hanging.cancel()
    thread.join(LIMIT_S)
    assert [problem.partition(" ")[2] for problem in problems] == ["was ended, as labelcam itself"]
    assert all(is_gone(pid) for pid in pids)
    # What comes after may still put things right, if it is quick.
    with pytest.raises(ActionError, match=r"did not end within 1.5 s and was killed: off"):
        hanging.end(occurrence(on=False))


@pytest.mark.slow
def test_labelcam_that_is_killed_leaves_no_command_behind(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import sys\n"
        "from tests.actions.test_command import NOTE, occurrence, python\n"
        "python(NOTE + 'note()\\ntime.sleep(60)', sys.argv[1], timeout_s=60).begin(occurrence())\n"
    )
    child = os.posix_spawn(
        sys.executable, [sys.executable, "-c", program, str(pids)], dict(os.environ)
    )
    command = noted(pids)[0]
    os.kill(child, 9)
    os.waitpid(child, 0)
    wait_for(lambda: is_gone(command))


def test_as_many_as_asked_for_run_at_once() -> None:
    assert performer("true").at_once == 1
    assert performer("true", at_once=4).at_once == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "aplay bell.wav",
            'action.bell.on: expected a list of words, as ["aplay", "bell.wav"]; no',
        ),
        (("bin/bell",), "action.bell.on: expected a whole path, met 'bin/bell'"),
        (("", "x"), "action.bell.on: expected a program and its arguments, without NUL"),
        (("echo", "a\0b"), "action.bell.on: expected a program and its arguments, without NUL"),
    ],
)
def test_words_that_no_program_can_have_are_refused(words: Any, message: str) -> None:
    settings = config.Action(name="bell", kind="command", on=words)
    with pytest.raises(ConfigError) as caught:
        check_action(settings)
    assert message in str(caught.value)


def test_arguments_are_in_no_repr() -> None:
    assert "hunter2" not in repr(config.Action(name="a", kind="command", on=("x", "hunter2")))
