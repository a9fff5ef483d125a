"""The time that ``device/`` reads, while libraries and the network go on with the real one.

Only the modules of ``device/`` read the injected clock. Had paho, asyncio or sqlite3 read it as
well, a broker a millisecond away would seem to take a minute to answer, and every time-out of
theirs would be a matter of how fast the replay is.
"""

import importlib
import pkgutil
import sys
import time
from types import ModuleType

BEGIN_S = 1000.0


class Clock:
    """Seconds since the boot, and the time on the wall; both only move when they are told to."""

    def __init__(self) -> None:
        self.now = BEGIN_S
        self._wall_offset_s = 0.0

    def advance(self, by_s: float) -> None:
        """Let time pass."""
        self.now += by_s

    def set_wall(self, at: float) -> None:
        """Set the time on the wall, seconds since 1970, as a time server does."""
        self._wall_offset_s = at - self.now

    def wall(self) -> float:
        """The time on the wall, seconds since 1970."""
        return self.now + self._wall_offset_s

    def install(self) -> None:
        """Import all of ``device/`` such that it reads this clock.

        Twice, so that what it imports has the real one: default arguments such as
        ``clock=time.monotonic`` are bound while a module is imported.
        """
        _import_device()
        for name in [name for name in sys.modules if name.partition(".")[0] == "device"]:
            del sys.modules[name]
        sys.modules["time"] = self._as_module()
        try:
            _import_device()
        finally:
            sys.modules["time"] = time

    def _as_module(self) -> ModuleType:
        """The module ``time``, but for the clocks that a device lives by."""
        module = ModuleType("time")
        vars(module).update(vars(time))
        vars(module).update(
            monotonic=lambda: self.now,
            clock_gettime=lambda _: self.now,
            time=self.wall,
            time_ns=lambda: int(self.wall() * 10**9),
        )
        return module


def _import_device() -> None:
    device = importlib.import_module("device")
    for module in pkgutil.walk_packages(device.__path__, "device."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
