"""An Edge TPU that may fail, beside the CPU that takes over.

The change from one to the other happens between two frames; a frame on which the Edge TPU
failed is classified by the CPU at once, and none is lost.
"""

import contextlib
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import InferenceError, InferenceHung, LabelcamError
from device.events import Accelerator, Description
from device.inference.edgetpu.device import choose_device
from device.inference.edgetpu.engine import INTERRUPTED, OPEN_S, EdgetpuEngine
from device.inference.edgetpu.owner import owner
from device.inference.edgetpu.self_test import SelfTest
from device.inference.interpreter import Engine, Interpreter
from device.library.catalog import Model

_log = logging.getLogger("labelcam.edgetpu")

_RETRY_MIN_S: Final = 1.0
_RETRY_MAX_S: Final = 300.0
# After a run that ended inside the Edge TPU: hardware that hangs costs a restart each time.
_RETRY_HUNG_S: Final = 60.0
_RETRY_HUNG_MAX_S: Final = 86_400.0
# The runtime keeps the text of every error for as long as it has the model loaded.
_MAX_ERRORS: Final = 1000
# An Edge TPU that worked for so long is trusted again: its failures no longer add up.
_STEADY_S: Final = 300.0


class Failover:
    """A model on the CPU, and on the Edge TPU whenever that works; an Engine.

    It begins on the CPU. For the node's thread only; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        model: Model,
        settings: config.Model,
        cpu: Interpreter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to open the Edge TPU for ``model.twin``; ``cpu`` runs ``model.file``.

        The twin was checked with ``check_twin``. ``cpu`` is closed with this.
        """
        assert model.twin is not None
        self._cpu = cpu
        self._labels = model.labels
        self._device = settings.edgetpu_device
        self._max_failures = settings.max_failures
        self._clock = clock
        self._test: SelfTest | None = None
        # What stands in the way of the Edge TPU must be an error here, also under "auto".
        self._edgetpu = EdgetpuEngine(
            model.twin, msgspec.structs.replace(settings, delegate="edgetpu")
        )
        self._active: Engine = cpu
        self._last: Engine = cpu
        self._opening: Future[None] | None = None
        self._opening_since = clock()
        self._retry_s = _RETRY_MIN_S
        self._retry_at = clock()
        self._taken_at = clock()
        self._failures = 0  # in a row
        self._errors = 0
        self._errors_before = 0  # it was taken
        self._changes = 0
        self._reason = "opening the Edge TPU"
        marker = owner().marker
        if marker and marker.interrupted:
            self._retry_s = min(_RETRY_HUNG_S * 2.0 ** min(marker.times - 1, 11), _RETRY_HUNG_MAX_S)
            self._retry_at = clock() + self._retry_s
            self._say_unused(INTERRUPTED, f" in {self._retry_s:g} s", logging.WARNING)
        self._advance()

    @property
    def description(self) -> Description:
        """What the next frame runs on, and why."""
        active = self._active.description
        return msgspec.structs.replace(active, reason=f"{active.reason}; {self._reason}")

    @property
    def accelerator(self) -> Accelerator:
        """How the Edge TPU is."""
        return Accelerator(self._active is self._edgetpu, self._changes, self._errors, self._reason)

    def wait_until_opened(self) -> None:
        """Wait until it is known whether the Edge TPU works, where it is being opened."""
        if self._opening:
            with contextlib.suppress(TimeoutError, LabelcamError):
                self._opening.result(OPEN_S)
            self._advance()

    def input(self) -> NDArray[Any]:
        """The input tensor of what runs the next frame; between two frames, here, it changes."""
        self._advance()
        return self._active.input()

    def invoke(self) -> None:
        """Run the model, on the CPU where the Edge TPU fails. Raises InferenceHung."""
        self._last = self._active
        try:
            self._active.invoke()
            self._failures = 0
        except InferenceHung:
            raise
        except InferenceError as error:
            if self._active is self._cpu:
                raise
            np.copyto(self._cpu.input(), self._edgetpu.input())
            self._count_failure(str(error))
            self._last = self._cpu
            self._cpu.invoke()

    def output(self, number: int = 0) -> NDArray[Any]:
        """A copy of output ``number`` of the last frame."""
        return self._last.output(number)

    def close(self) -> None:
        """Free both, the Edge TPU as soon as its thread comes to it."""
        self._active = self._last = self._cpu
        self._opening, self._retry_at = None, math.inf
        self._edgetpu.close()
        self._cpu.close()

    def _count_failure(self, error: str) -> None:
        self._errors += 1
        self._failures += 1
        if self._failures >= self._max_failures:
            how = f"{self._failures} times in a row"
        elif self._errors - self._errors_before >= _MAX_ERRORS:
            how = f"{_MAX_ERRORS} times"
        else:
            return
        self._failures = 0
        self._changes += 1
        self._active = self._cpu
        self._edgetpu.close()
        now = self._clock()
        if now - self._taken_at >= _STEADY_S:
            self._retry_s = _RETRY_MIN_S
        self._retry_at = now + self._retry_s
        self._reason = f"the Edge TPU failed {how}: {error}"
        _log.warning(
            "%s; the CPU takes over, the Edge TPU is tried again in %g s",
            self._reason,
            self._retry_s,
        )
        self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    def _advance(self) -> None:
        """Between two frames: begin to open the Edge TPU, or take it when it is ready."""
        if self._active is self._edgetpu:
            marker = owner().marker
            if marker and marker.times and self._clock() - self._taken_at >= _STEADY_S:
                marker.forgive()
        elif self._opening is None:
            if self._clock() >= self._retry_at:
                self._begin()
        elif self._opening.done():
            opening, self._opening = self._opening, None
            self._finish(opening)
        elif self._clock() - self._opening_since > OPEN_S:
            self._say_unused(f"opening it has not come to an end for {OPEN_S:g} s", " then")

    def _begin(self) -> None:
        """Begin to open the Edge TPU, where the kernel sees one that we may use."""
        try:
            choose_device(self._device)
            # On the CPU and so on this thread, the first time that there is a device.
            self._test = self._test or SelfTest(self._cpu, self._labels)
        except LabelcamError as error:
            self._put_off(error)
            return
        self._opening = self._edgetpu.open(self._test.check)
        self._opening_since = self._clock()

    def _put_off(self, error: LabelcamError) -> None:
        self._retry_at = self._clock() + self._retry_s
        why = str(error).removeprefix("delegate edgetpu: ")
        self._say_unused(why, f" in {self._retry_s:g} s")
        self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    def _finish(self, opening: Future[None]) -> None:
        try:
            opening.result()
        except LabelcamError as error:
            self._put_off(error)
            return
        self._active = self._edgetpu
        self._changes += 1
        self._taken_at = self._clock()
        self._errors_before = self._errors
        self._reason = "the self-test agreed with the CPU"
        now = self._edgetpu.description
        _log.info("the Edge TPU takes over (%s): %s, %s", now.device, now.reason, self._reason)

    def _say_unused(self, why: str, when: str, level: int = logging.INFO) -> None:
        """Report why the CPU works alone, once as long as the reason is the same."""
        reason = f"the Edge TPU is not used: {why}"
        if reason != self._reason:
            self._reason = reason
            _log.log(level, "%s; the CPU classifies, the Edge TPU is tried again%s", reason, when)
