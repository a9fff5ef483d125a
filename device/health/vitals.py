"""How the board itself is doing: read without root, in well under a millisecond.

What a board does not have, or does not tell this user, is None; nothing here raises.
"""

import ctypes
import logging
import os
import time
from pathlib import Path

from device.events import Vitals

# What the firmware of a Raspberry Pi reports; the same bits 16 higher have been so since boot.
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled
_THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
}
_SINCE_BOOT = 16

# No processor that works is colder or hotter.
_LEAST_C, _MOST_C = -55.0, 125.0

_TIME_ERROR = 5  # of adjtimex(2): the clock is not synchronised
_STA_UNSYNC = 0x40
_TIMESYNC = Path("/run/systemd/timesync")

_log = logging.getLogger("labelcam.health")


class Board:
    """The board's vital signs, from /sys and /proc under ``root``; ``disk`` is where to look
    for space."""

    def __init__(self, disk: Path = Path("/"), root: Path = Path("/")) -> None:
        self._root = root
        self._disk = disk
        # Where things are does not change while the system runs.
        self._temperature = self._find_temperature()
        self._temperature_told = False
        self._throttled = self._first("sys/devices/platform/soc*/soc*firmware/get_throttled")
        model = self._text("proc/device-tree/model") or self._text("sys/class/dmi/id/product_name")
        self.model = model.strip("\0\n ") if model else None

    def read(self) -> Vitals:
        """The vital signs of now."""
        now, since = self._throttling()
        memory = self._memory()
        disk_mb, disk_total_mb = self._space()
        return Vitals(
            board=self.model,
            temperature_c=self._read_temperature(),
            throttling=now,
            throttling_since_boot=since,
            load=self._load(),
            memory_mb=memory.get("MemAvailable"),
            memory_total_mb=memory.get("MemTotal"),
            rss_mb=self._resident(),
            disk_mb=disk_mb,
            disk_total_mb=disk_total_mb,
            wifi_dbm=self._wifi(),
            clock_synced=clock_synced(),
        )

    def _text(self, path: str | Path) -> str | None:
        try:
            return (self._root / path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def _first(self, pattern: str) -> Path | None:
        return next(iter(sorted(self._root.glob(pattern))), None)

    def _find_temperature(self) -> Path | None:
        zones = sorted(self._root.glob("sys/class/thermal/thermal_zone*"))
        # A board has zones for its wireless chip and its battery as well.
        for word in ("cpu", "soc", "pkg", ""):
            for zone in zones:
                if word in (self._text(zone / "type") or ""):
                    return zone / "temp"
        return None

    def _read_temperature(self) -> float | None:
        if self._temperature is None:
            return None
        text = self._text(self._temperature)
        number = _number(text)
        if number is not None and _LEAST_C <= number / 1000 <= _MOST_C:
            return round(number / 1000, 1)
        if not self._temperature_told:
            self._temperature_told = True
            said = "cannot be read" if text is None else f"says {text[:20].strip()!r}"
            _log.warning(
                "temperature: %s %s; without one, heat is left to the firmware",
                self._temperature,
                said,
            )
        return None

    def _throttling(self) -> tuple[tuple[str, ...], tuple[str, ...]] | tuple[None, None]:
        text = self._text(self._throttled) if self._throttled else None
        try:
            bits = int(text or "", 16)
        except ValueError:
            return None, None
        return decode_throttling(bits), decode_throttling(bits >> _SINCE_BOOT)

    def _load(self) -> float | None:
        return _number((self._text("proc/loadavg") or "").partition(" ")[0])

    def _memory(self) -> dict[str, float]:
        found = {}
        for line in (self._text("proc/meminfo") or "").splitlines()[:5]:
            name, _, rest = line.partition(":")
            number = _number(rest.strip().partition(" ")[0])
            if number is not None:
                found[name] = round(number / 1024, 1)
        return found

    def _resident(self) -> float | None:
        fields = (self._text("proc/self/statm") or "").split()
        pages = _number(fields[1]) if len(fields) > 1 else None
        return None if pages is None else round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)

    def _space(self) -> tuple[float, float] | tuple[None, None]:
        for folder in (self._disk, *self._disk.parents):
            try:
                found = os.statvfs(folder)
            except FileNotFoundError:
                continue  # a state directory that nothing was written to yet
            except OSError:
                break
            block = found.f_frsize / 2**20
            return round(found.f_bavail * block, 1), round(found.f_blocks * block, 1)
        return None, None

    def _wifi(self) -> float | None:
        # Two lines of heading; then "wlan0: 0000   54.  -56.  -256 …", the level in dBm third.
        for line in (self._text("proc/net/wireless") or "").splitlines()[2:]:
            fields = line.split()
            level = _number(fields[3].rstrip(".")) if len(fields) > 3 else None
            if level is not None:
                return level
        return None


def decode_throttling(bits: int) -> tuple[str, ...]:
    """The firmware's lowest four bits, in words."""
    return tuple(word for bit, word in _THROTTLING.items() if bits >> bit & 1)


class _Timex(ctypes.Structure):
    """The beginning of struct timex, as far as its status; the rest is only room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock_synced() -> bool | None:
    """Whether a time server sets the wall clock; None where the kernel does not say.

    A Raspberry Pi has no clock that runs without power: until this is true, its wall time is
    that of its last shutdown or worse.
    """
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (OSError, AttributeError):
        return None
    timex = _Timex()  # modes = 0 reads and sets nothing, which needs no privilege
    state = adjtimex(ctypes.byref(timex))
    if state < 0:
        # A service that may not touch the clock may not ask the kernel either. Debian's time
        # server leaves a file once it has set the clock.
        return _TIMESYNC.joinpath("synchronized").exists() if _TIMESYNC.exists() else None
    return state != _TIME_ERROR and not timex.status & _STA_UNSYNC


def boot_id() -> str:
    """What tells this boot of the kernel from every other, or an empty text."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def wall_time(monotonic: float) -> float:
    """The wall time, seconds since 1970, of a moment on the monotonic clock, as of now."""
    return time.time() - (time.monotonic() - monotonic)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
