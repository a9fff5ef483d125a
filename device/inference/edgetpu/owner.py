"""The one thread that owns the Edge TPU of the process.

It opens it, tries it, runs it and lets it go, so that none of that ever stops the thread that
has frames to classify.
"""

import atexit
import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from typing import Any, Final

from device.inference.edgetpu.marker import Marker
from device.system.paths import runtime_directory

_log = logging.getLogger("labelcam.edgetpu")

# How long the end of the process waits for the thread.
_END_S: Final = 5.0


class Owner:
    """The thread that owns the Edge TPU; calls are run one after another, in their order."""

    def __init__(self, marker: Marker | None) -> None:
        self.marker = marker
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="labelcam-edgetpu", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Have it called; the future holds what it returned or raised."""
        future: Future[Any] = Future()
        self._calls.put((call, future))
        return future

    def _run(self) -> None:
        while (item := self._calls.get()) is not None:
            call, future = item
            if self.marker:
                self.marker.begin()
            result, failure = None, None
            try:
                result = call()
            except Exception as error:  # noqa: BLE001 - raised where the result is asked for
                failure = error
            if self.marker:
                self.marker.end()
            if failure:
                future.set_exception(failure)
            else:
                future.set_result(result)
            # Nothing is kept alive while waiting for the next.
            del item, call, future, result, failure

    def end(self, timeout_s: float) -> bool:
        """End the thread when it has done what was asked; False where it is still at it."""
        self._calls.put(None)
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return False
        if self.marker:
            self.marker.close()
        return True


@cache
def owner() -> Owner:
    """The process's one owner of its Edge TPU, made when it is first asked for."""
    folder, marker = runtime_directory(), None
    if folder:
        try:
            marker = Marker(folder / "edgetpu")
        except OSError as error:
            # Another labelcam holds it, or the place is not ours.
            _log.debug("no marker in %s: %s", folder, error)
    thread = Owner(marker)
    atexit.register(_end_at_exit, thread)
    return thread


def _end_at_exit(owner: Owner) -> None:
    """Let the process end, whatever the thread does.

    One that is stuck in libedgetpu cannot be ended, and the library's own clean-up would wait
    for it: then nothing more is cleaned up, and the marker stays to say why.
    """
    if not owner.end(_END_S):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(1)
