"""An Edge TPU that may fail, beside the CPU that takes over.

One long-lived thread owns the Edge TPU of the process: it opens it, tries it, runs it and lets
it go, so that none of that ever stops the thread that has frames to classify. The change from
one to the other happens between two frames; a frame on which the Edge TPU failed is classified
by the CPU at once, and none is lost.
"""

import atexit
import contextlib
import fcntl
import logging
import mmap
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from device import config
from device.errors import DelegateError, InferenceError, InferenceHung, LabelcamError, ModelError
from device.events import Accelerator, Description, Tensor
from device.inference.edgetpu.delegate import choose_device
from device.inference.interpreter import Engine, Interpreter
from device.inference.preprocess import Preprocessor
from device.library.catalog import MODELS, Model
from device.library.tflite_file import TfliteFile
from device.recordings.pictures import read_picture
from device.system.paths import runtime_directory

_log = logging.getLogger("labelcam.edgetpu")

# An invoke() takes milliseconds. Systemd's watchdog must wait longer than this, so that the
# log says what hung.
HANG_S: Final = 10.0
# To send firmware and model, twice with the proof of the library, takes seconds.
_OPEN_S: Final = 90.0
_RETRY_MIN_S: Final = 1.0
_RETRY_MAX_S: Final = 300.0
# After a run that ended inside the Edge TPU: hardware that hangs costs a restart each time.
_RETRY_HUNG_S: Final = 60.0
_RETRY_HUNG_MAX_S: Final = 86_400.0
# The runtime keeps the text of every error for as long as it has the model loaded.
_MAX_ERRORS: Final = 1000
# An Edge TPU that worked for so long is trusted again: its failures no longer add up.
_STEADY_S: Final = 300.0
# A self-test must not turn on rounding, so the first picture counts on which the CPU is this
# sure, as the share by which its best score leads, or else the one on which it is surest.
_SURE: Final = 0.2
_LEFT_WORKING: Final = "the last run ended while the Edge TPU was at work (it hung, or crashed)"
# How long the end of the process waits for the thread.
_END_S: Final = 5.0
_PICTURES: Final = ("coffee.jpg", "cat.jpg", "rocket.jpg")


class Marker:
    """Some bytes in the runtime directory that say whether the Edge TPU is at work.

    They are memory-mapped: to mark costs no system call, and what was written stays when the
    process is killed in the middle, by a watchdog or by an abort() of libedgetpu.
    ``left_working`` says so of the run before, ``times`` how often in a row.
    """

    _SIZE = 16
    _IDLE, _WORKING = b"idle    ", b"working "

    def __init__(self, path: Path) -> None:
        """Open or make the file; raises OSError, also where another process holds it."""
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Unbuffered; while it is open it holds the lock.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", 0)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._file.truncate(self._SIZE)
            self._bytes = mmap.mmap(self._file.fileno(), self._SIZE)
        except BaseException:
            self._file.close()
            raise
        self.left_working = self._bytes[:8] == self._WORKING
        digits = self._bytes[8:].strip(b"\0\n ")
        self.times = int(digits) if digits.isdigit() else 0
        if self.left_working:
            self.times = min(self.times + 1, 999)
        self._bytes[:] = b"%s%-7d\n" % (self._IDLE, self.times)

    def begin(self) -> None:
        """The Edge TPU is called."""
        self._bytes[:8] = self._WORKING

    def end(self) -> None:
        """It came back."""
        self._bytes[:8] = self._IDLE

    def forgive(self) -> None:
        """It has worked for long: what was before no longer counts."""
        if self.times:
            self.times = 0
            self._bytes[8:] = b"0      \n"

    def close(self) -> None:
        """Let go of the file, and leave it as it is."""
        self._bytes.close()
        self._file.close()


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
    made = Owner(marker)
    atexit.register(_end_at_exit, made)
    return made


def _end_at_exit(made: Owner) -> None:
    """Let the process end, whatever the thread does.

    One that is stuck in libedgetpu cannot be ended, and the library's own clean-up would wait
    for it: then nothing more is cleaned up, and the marker stays to say why.
    """
    if not made.end(_END_S):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(1)


class EdgetpuEngine:
    """A compiled model on the thread that owns the Edge TPU; an Engine once it is open."""

    def __init__(self, file: TfliteFile, settings: config.Model) -> None:
        self._file = file
        self._settings = settings
        self._owner = owner()
        self._interpreter: Interpreter | None = None

    def open(self, check: Callable[[Interpreter], None] | None = None) -> Future[None]:
        """Begin to open it; the future has what Interpreter, or ``check`` on it, raised."""

        def load() -> None:
            interpreter = Interpreter(self._file, self._settings)
            try:
                if check:
                    check(interpreter)
            except BaseException:
                interpreter.close()
                raise
            self._interpreter = interpreter

        return self._owner.submit(load)

    @property
    def description(self) -> Description:
        """What it runs on."""
        return self._opened.description

    @property
    def accelerator(self) -> None:
        """Nothing stands beside it."""

    @property
    def _opened(self) -> Interpreter:
        assert self._interpreter is not None, "open() has not finished"
        return self._interpreter

    def input(self) -> NDArray[Any]:
        """As of an Interpreter. The owner does nothing meanwhile: nobody has asked it to."""
        return self._opened.input()

    def output(self, number: int = 0) -> NDArray[Any]:
        """As of an Interpreter."""
        return self._opened.output(number)

    def invoke(self) -> None:
        """Run the model. Raises InferenceError, InferenceHung after HANG_S."""
        try:
            self._owner.submit(self._opened.invoke).result(HANG_S)
        except TimeoutError:
            raise InferenceHung(
                f"model {self._file.path.name}: the Edge TPU has not come back from invoke() for "
                f"{HANG_S:g} s, and only the end of the process frees it; plug it into another "
                "port if that happens again"
            ) from None

    def close(self) -> None:
        """Have the owner free it, once it has done what it was asked before, without waiting."""

        def free() -> None:
            interpreter, self._interpreter = self._interpreter, None
            if interpreter:
                interpreter.close()

        self._owner.submit(free)


def open_on_edgetpu(file: TfliteFile, settings: config.Model) -> EdgetpuEngine:
    """A compiled model on the Edge TPU and nowhere else.

    Raises what Interpreter raises, DelegateError where the device does not answer.
    """
    engine = EdgetpuEngine(file, settings)
    marker = owner().marker
    if marker and marker.left_working:
        _log.warning(
            "the Edge TPU: %s; starting on it again, as nothing else is allowed", _LEFT_WORKING
        )
    opening = engine.open()
    try:
        opening.result(_OPEN_S)
    except TimeoutError:
        engine.close()
        raise DelegateError(
            f"delegate edgetpu: the Edge TPU does not answer for {_OPEN_S:g} s; plug it in again"
        ) from None
    return engine


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
        if marker and marker.left_working:
            self._retry_s = min(_RETRY_HUNG_S * 2.0 ** min(marker.times - 1, 11), _RETRY_HUNG_MAX_S)
            self._retry_at = clock() + self._retry_s
            self._say_unused(_LEFT_WORKING, f" in {self._retry_s:g} s", logging.WARNING)
        self._advance()

    @property
    def description(self) -> Description:
        """What the next frame runs on, and why."""
        found = self._active.description
        return msgspec.structs.replace(found, reason=f"{found.reason}; {self._reason}")

    @property
    def accelerator(self) -> Accelerator:
        """How the Edge TPU is."""
        return Accelerator(self._active is self._edgetpu, self._changes, self._errors, self._reason)

    def wait_until_opened(self) -> None:
        """Wait until it is known whether the Edge TPU works, where it is being opened."""
        if self._opening:
            with contextlib.suppress(TimeoutError, LabelcamError):
                self._opening.result(_OPEN_S)
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
        self._edgetpu.close()
        self._cpu.close()

    def _count_failure(self, said: str) -> None:
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
        self._reason = f"the Edge TPU failed {how}: {said}"
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
        elif self._clock() - self._opening_since > _OPEN_S:
            self._say_unused(f"opening it has not come to an end for {_OPEN_S:g} s", " then")

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
        found = self._edgetpu.description
        self._reason = "the self-test agreed with the CPU"
        _log.info("the Edge TPU takes over (%s): %s, %s", found.device, found.reason, self._reason)

    def _say_unused(self, why: str, when: str, level: int = logging.INFO) -> None:
        """Report why the CPU works alone, once as long as the reason is the same."""
        reason = f"the Edge TPU is not used: {why}"
        if reason != self._reason:
            self._reason = reason
            _log.log(level, "%s; the CPU classifies, the Edge TPU is tried again%s", reason, when)


class SelfTest:
    """A picture, and what the CPU sees in it: the Edge TPU must see the same."""

    def __init__(self, cpu: Interpreter, labels: tuple[str, ...]) -> None:
        """Run the CPU on the pictures that ship, until it is sure of one."""
        self._labels = labels
        surest = -1.0
        preprocess = Preprocessor(cpu.description.inputs[0], config.Camera())
        for name in _PICTURES:
            preprocess(read_picture(MODELS / "footage" / name), cpu.input())
            # Kept before it is run: what the input holds afterwards is the runtime's affair.
            picture = cpu.input().copy()
            cpu.invoke()
            # In float32: the difference of two int8 does not fit into one.
            scores = cpu.output().reshape(-1).astype(np.float32)
            best = np.sort(scores)
            lead = float((best[-1] - best[-2:][0]) / (best[-1] - best[0] or 1))
            if lead > surest:
                surest, self._picture, self._scores = lead, picture, scores
            if surest >= _SURE:
                break

    def check(self, interpreter: Interpreter) -> None:
        """Raise DelegateError unless its best label is one that the CPU holds for the best."""
        np.copyto(interpreter.input(), self._picture)
        interpreter.invoke()
        row = int(interpreter.output().reshape(-1).argmax())
        if self._scores[row] < self._scores.max():
            expected = self._labels[int(self._scores.argmax())]
            raise DelegateError(
                f"delegate edgetpu: in the self-test it says {self._labels[row]!r} where the CPU "
                f"says {expected!r}; the twin belongs to another model, or the device is faulty"
            )


def check_twin(file: TfliteFile, twin: TfliteFile) -> None:
    """Raise ModelError unless ``twin`` takes and gives what ``file`` does."""
    for end in ("inputs", "outputs"):
        ours = [_form(file.tensors[i]) for i in getattr(file, end)]
        theirs = [_form(twin.tensors[i]) for i in getattr(twin, end)]
        if ours != theirs:
            raise ModelError(
                twin.path.name,
                f"is no twin of {file.path.name}: its {end} are {', '.join(theirs)}, expected "
                f"{', '.join(ours)}; compile {file.path.name} itself with edgetpu_compiler",
            )


def _form(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape))
    return f"{tensor.dtype} {shape} (scale {tensor.scale:g}, zero point {tensor.zero_point})"
