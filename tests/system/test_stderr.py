"""File descriptor 2 turned aside, by several threads and under a log that goes on."""

import os
import threading
from pathlib import Path

import pytest

from device.system.stderr import caught


def test_lines_of_libraries_are_caught_and_ours_come_out(capfd: pytest.CaptureFixture[str]) -> None:
    with caught() as lines:
        os.write(2, b"INFO: Created a delegate\n")
        os.write(2, b"labelcam: camera door: lost\n<4>camera door: lost\n")
    assert lines == [b"INFO: Created a delegate\n"]
    assert capfd.readouterr().err == "labelcam: camera door: lost\n<4>camera door: lost\n"


def test_two_threads_leave_stderr_where_it_was() -> None:
    before = Path("/proc/self/fd/2").readlink()
    inside, second_inside, leave = threading.Event(), threading.Event(), threading.Event()
    seen: list[bytes] = []

    def first() -> None:
        with caught():
            inside.set()
            assert leave.wait(20)

    def second() -> None:
        with caught() as lines:
            second_inside.set()
            threads[0].join()
            os.write(2, b"x\n")
        seen.extend(lines)

    threads = [threading.Thread(target=target) for target in (first, second)]
    threads[0].start()
    assert inside.wait(20)
    threads[1].start()
    # It must not come in while the first is; if it did, the first would leave before it.
    assert not second_inside.wait(0.2)
    leave.set()
    for thread in threads:
        thread.join()
    assert Path("/proc/self/fd/2").readlink() == before
    assert seen == [b"x\n"]


def test_an_error_passes_and_puts_stderr_back(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ZeroDivisionError), caught():
        raise ZeroDivisionError
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"
