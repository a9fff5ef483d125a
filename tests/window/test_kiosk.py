"""The unit that starts the picture on the console."""

import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parent.parent.parent / "systemd" / "labelcam-screen.service"
ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze here: apt install systemd")
def test_systemd_finds_nothing_wrong_with_it() -> None:
    assert ANALYZE
    # It says what it does not know on stderr and ends with 0 all the same. The program is
    # not installed on the machine that tests it.
    found = subprocess.run(
        [ANALYZE, "verify", "--man=no", str(UNIT)], capture_output=True, text=True, check=False
    )
    lines = [line for line in found.stderr.splitlines() if UNIT.name in line]
    assert [line for line in lines if "is not executable" not in line] == []


def test_it_may_do_what_the_service_may_and_no_more_than_a_screen_needs() -> None:
    service = UNIT.with_name("labelcam.service").read_text().splitlines()
    screen = UNIT.read_text().splitlines()
    allowed = {line for line in screen if line.startswith("DeviceAllow=")}
    own = {f"DeviceAllow=char-{kind} rw" for kind in ("drm", "fb", "tty")}
    before = {line for line in service if line.startswith("DeviceAllow=")}
    assert allowed == before | own | {"DeviceAllow=char-input r"}
    switches = ("Protect", "Restrict", "Private", "NoNew", "Capability", "SystemCall", "Lock")
    hardening = {line for line in service if line.startswith(switches)}
    assert hardening <= set(screen)
