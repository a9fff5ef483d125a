"""How far a long piece of work is, on stderr, once it has taken two seconds."""

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

_PATIENCE_S = 2.0


class Bar:
    """A bar on a terminal, gone at the end; nothing where stderr is none, or the work is short."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._begun_at = time.monotonic()
        self._progress: Progress | None = None

    def update(self, done: int) -> None:
        """So much of ``total`` is done."""
        if self._progress is None:
            if time.monotonic() < self._begun_at + _PATIENCE_S:
                return
            columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.add_task(self._what, total=self._total)
            if self._progress.console.is_terminal:
                self._progress.start()
        self._progress.update(self._progress.task_ids[0], completed=done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None and self._progress.live.is_started:
            self._progress.stop()
