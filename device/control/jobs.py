"""What takes longer than a frame, done on a thread of its own."""

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from device.errors import LabelcamError

Key = TypeVar("Key")
Result = TypeVar("Result")


class Jobs(Generic[Key, Result]):
    """Work in the order in which it came, on one thread that is made with the first of it.

    What it comes to is fetched with ``take`` by whoever started it: the key, the result or
    None, and the reason where a LabelcamError refused it. ``finished`` is called on the
    thread of the work each time.
    """

    def __init__(self, name: str, finished: Callable[[], None]) -> None:
        self._name = name
        self._finished = finished
        self._todo: queue.SimpleQueue[tuple[Key, Callable[[], Result]]] = queue.SimpleQueue()
        self._done: deque[tuple[Key, Result | None, str]] = deque()
        self._count = 0
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        """How many are neither finished nor fetched."""
        return self._count

    @property
    def has_finished(self) -> bool:
        """Whether ``take`` has one."""
        return bool(self._done)

    def start(self, key: Key, work: Callable[[], Result]) -> None:
        """Have the work done."""
        self._count += 1
        self._todo.put((key, work))
        if self._thread is None:
            # A daemon: a driver that hangs while a model is loaded must not keep the process.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def take(self) -> tuple[Key, Result | None, str] | None:
        """One that has finished, or None."""
        if not self._done:
            return None
        self._count -= 1
        return self._done.popleft()

    def _run(self) -> None:
        while True:
            key, work = self._todo.get()
            try:
                self._done.append((key, work(), ""))
            except LabelcamError as refused:
                self._done.append((key, None, str(refused)))
            self._finished()
