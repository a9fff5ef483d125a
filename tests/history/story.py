"""A history that tests write, by clocks of their own."""

from pathlib import Path
from typing import Any

from device import config
from device.events import OFF_DUTY, UNAVAILABLE, ActionResult, LabelChange
from device.history.writer import Writer

# A Monday, 10 o'clock in Greenwich.
WALL = 1_772_445_600.0


def change(at: float, *active: str, label: str = "", camera: str = "door") -> LabelChange:
    """What is in force from now on; ``label`` is an absence, where it is one."""
    absent = label in (UNAVAILABLE, OFF_DUTY)
    said = label or (active[0] if active else "nothing")
    score = 0.0 if absent else 0.75
    return LabelChange(camera, said, score, None, 0.0, "model", at, active=active)


def result(at: float, action: str = "lamp", **different: Any) -> ActionResult:
    usual: dict[str, Any] = {
        "action": action,
        "kind": "gpio",
        "camera": "door",
        "label": "cat",
        "on": True,
        "done": True,
        "detail": "",
        "took_ms": 1.0,
        "at": at,
    }
    return ActionResult(**(usual | different))


class Story:
    """A device whose boots, starts and clock a test tells; monotonic time starts at 0."""

    def __init__(self, path: Path, limits: config.History | None = None) -> None:
        self.path = path
        self.limits = limits or config.History()
        self.wall_offset = WALL
        self.synced = True
        self.boot = "first"
        self.writer: Writer | None = None

    def __del__(self) -> None:
        # Whoever tells a story without an end leaves no file open.
        if self.writer is not None:
            self.writer.abandon()

    def start(self, now: float = 0.0) -> None:
        clock = {"wall_offset": self.wall_offset, "synced": self.synced}
        self.writer = Writer(self.path, self.limits, self.boot, now, **clock)  # type: ignore[arg-type]

    def tell(
        self,
        *happened: LabelChange | ActionResult,
        now: float,
        scores: dict[tuple[str, str], float] | None = None,
    ) -> None:
        assert self.writer is not None
        self.writer.write(
            happened, scores or {}, now, wall_offset=self.wall_offset, synced=self.synced
        )

    def stop(self, now: float) -> None:
        assert self.writer is not None
        self.writer.close(now)
        self.writer = None

    def lose_power(self) -> None:
        assert self.writer is not None
        self.writer.abandon()
        self.writer = None
