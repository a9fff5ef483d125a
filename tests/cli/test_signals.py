"""What a user's keys and terminal send while the program runs, or does not run yet."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.sinks.pty import Pty

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_gives_the_terminal_back(number: signal.Signals) -> None:
    pty = Pty()
    # Whoever runs the tests may have had it ignored, as nohup does, and a child is so born.
    before = signal.signal(number, signal.SIG_DFL)
    process = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", "synthetic"],
        stdout=pty.file,
        stderr=pty.file,
        cwd=ROOT,
    )
    signal.signal(number, before)
    pty.wait_for(lambda it: it.modes.get("1049") is True)
    process.send_signal(number)
    pty.wait_for(lambda it: it.modes == {"1049": False, "25": True})
    pty.wait_for(lambda it: b"frames seen" in it.raw)
    assert process.wait(10) == 0
    pty.file.close()
    pty.hang_up()


# Says when the program begins to load itself. SIGINT is as a shell has it in the foreground,
# since whoever runs the tests in the background may ignore it.
EARLY = """
import signal
import sys

signal.signal(signal.SIGINT, signal.default_int_handler)

class Watch:
    def find_spec(self, name, path, target=None):
        if name == "device.cli":
            print("up", flush=True)

sys.meta_path.insert(0, Watch())
sys.argv = ["labelcam", "run", "--source", "synthetic"]
from device.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
def test_an_early_interrupt_shows_no_traceback() -> None:
    for delay_ms in range(0, 200, 15):
        with subprocess.Popen(
            [sys.executable, "-c", EARLY],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            time.sleep(delay_ms / 1000)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert "Traceback" not in err, delay_ms
        assert process.returncode in (-signal.SIGINT, 130, 0)
