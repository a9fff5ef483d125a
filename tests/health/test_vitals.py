"""The board's vital signs, from a tree like that of a Raspberry Pi and from an empty one."""

import ctypes
import time
from pathlib import Path

import msgspec
import pytest

from device.health import vitals
from device.health.vitals import Board, decode_throttling

PI = {
    "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
    "proc/loadavg": "0.42 0.40 0.38 2/180 4242\n",
    "proc/meminfo": "MemTotal:        8258560 kB\nMemFree: 1 kB\nMemAvailable:    7340032 kB\n",
    "proc/self/statm": "30000 12800 3000 1 0 9000 0\n",
    "proc/net/wireless": (
        "Inter-| sta-|   Quality        |   Discarded packets\n"
        " face | tus | link level noise |  nwid  crypt\n"
        " wlan0: 0000   54.  -56.  -256        0      0\n"
    ),
    "sys/class/thermal/thermal_zone0/type": "wifi\n",
    "sys/class/thermal/thermal_zone0/temp": "30000\n",
    "sys/class/thermal/thermal_zone1/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "61234\n",
    "sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled": "50005\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in PI.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_raspberry_pi(tree: Path) -> None:
    found = Board(tree, root=tree).read()
    assert found.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert found.temperature_c == 61.2
    assert found.throttling == ("under-voltage", "throttled")
    assert found.throttling_since_boot == ("under-voltage", "throttled")
    assert (found.load, found.wifi_dbm) == (0.42, -56.0)
    assert (found.memory_mb, found.memory_total_mb) == (7168.0, 8065.0)
    assert found.rss_mb == 50.0
    assert found.disk_mb is not None
    assert found.disk_total_mb is not None
    assert 0 < found.disk_mb <= found.disk_total_mb


def test_a_board_that_tells_nothing(tmp_path: Path) -> None:
    found = msgspec.structs.asdict(Board(Path("/proc/x/y"), root=tmp_path).read())
    found.pop("clock_synced")
    # The disk is that of the nearest folder that exists.
    assert {key for key, value in found.items() if value is not None} <= {
        "disk_mb",
        "disk_total_mb",
    }


@pytest.mark.parametrize("text", ["", "nonsense", "\0\0", "0x", "-"])
def test_nonsense_is_no_vital_sign(tree: Path, text: str) -> None:
    for name in PI:
        if name != "proc/device-tree/model" and not name.endswith("type"):
            (tree / name).write_text(text)
    found = Board(tree, root=tree).read()
    assert (found.temperature_c, found.throttling, found.wifi_dbm) == (None, None, None)
    assert (found.load, found.memory_mb, found.rss_mb) == (None, None, None)


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0, ()),
        (0b1, ("under-voltage",)),
        (0b1110, ("frequency capped", "throttled", "soft temperature limit")),
        (0xF0000, ()),
    ],
)
def test_throttling_in_words(bits: int, words: tuple[str, ...]) -> None:
    assert decode_throttling(bits) == words


def test_this_machine() -> None:
    found = Board().read()
    assert found.rss_mb is not None
    assert found.rss_mb > 1
    assert found.clock_synced in (True, False, None)


def test_clock_that_the_kernel_may_not_be_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        """The C library under the service's system call filter."""

        @staticmethod
        def adjtimex(_timex: object) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda _: Refusing)
    monkeypatch.setattr(vitals, "_TIMESYNC", tmp_path / "timesync")
    assert vitals.clock_synced() is None
    (tmp_path / "timesync").mkdir()
    assert vitals.clock_synced() is False
    (tmp_path / "timesync/synchronized").touch()
    assert vitals.clock_synced() is True


def test_wall_time_of_a_moment_on_the_monotonic_clock() -> None:
    assert vitals.wall_time(time.monotonic() - 10) == pytest.approx(time.time() - 10, abs=0.5)


@pytest.mark.parametrize("text", ["hot\n", "", "nan\n", "-274000\n", "999000\n", None])
def test_a_temperature_that_is_none_is_told_once(
    tree: Path, text: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    board, zone = Board(tree, root=tree), tree / "sys/class/thermal/thermal_zone1/temp"
    assert board.read().temperature_c == 61.2
    zone.unlink() if text is None else zone.write_text(text)
    assert [board.read().temperature_c for _ in range(3)] == [None] * 3
    assert len(caplog.messages) == 1
    assert "heat is left to the firmware" in caplog.messages[0]
    zone.write_text("61234\n")
    assert board.read().temperature_c == 61.2
