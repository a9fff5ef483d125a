"""A compiled model on the Edge TPU, run by the thread that owns it."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from numpy.typing import NDArray

from device import config
from device.errors import DelegateError, InferenceError, InferenceHung
from device.events import Description
from device.inference.edgetpu.owner import owner
from device.inference.interpreter import Interpreter
from device.library.tflite_file import TfliteFile

_log = logging.getLogger("labelcam.edgetpu")

# An invoke() takes milliseconds. Systemd's watchdog must wait longer than this, so that the
# log says what hung.
HANG_S: Final = 10.0
# To send firmware and model, twice with the proof of the library, takes seconds.
OPEN_S: Final = 90.0
INTERRUPTED: Final = "the last run ended while the Edge TPU was at work (it hung, or crashed)"


class EdgetpuEngine:
    """A compiled model on the thread that owns the Edge TPU; an Engine once it is open."""

    def __init__(self, file: TfliteFile, settings: config.Model) -> None:
        self._file = file
        self._settings = settings
        self._owner = owner()
        self._interpreter: Interpreter | None = None
        self._description: Description | None = None

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
            self._interpreter, self._description = interpreter, interpreter.description

        return self._owner.submit(load)

    @property
    def description(self) -> Description:
        """What it runs on, once it was open."""
        assert self._description, "open() has not finished"
        return self._description

    @property
    def accelerator(self) -> None:
        """Nothing stands beside it."""

    @property
    def _opened(self) -> Interpreter:
        if self._interpreter is None:
            raise InferenceError(f"model {self._file.path.name}: was used while it was not open")
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
        last, self._interpreter = self._interpreter, None

        def free() -> None:
            # What was still being opened is there by now.
            opened, self._interpreter = self._interpreter, None
            for interpreter in filter(None, (last, opened)):
                interpreter.close()

        self._owner.submit(free)


def open_on_edgetpu(file: TfliteFile, settings: config.Model) -> EdgetpuEngine:
    """A compiled model on the Edge TPU and nowhere else.

    Raises what Interpreter raises, DelegateError where the device does not answer.
    """
    engine = EdgetpuEngine(file, settings)
    marker = owner().marker
    if marker and marker.interrupted:
        _log.warning(
            "the Edge TPU: %s; starting on it again, as nothing else is allowed", INTERRUPTED
        )
    opening = engine.open()
    try:
        opening.result(OPEN_S)
    except TimeoutError:
        engine.close()
        raise DelegateError(
            f"delegate edgetpu: the Edge TPU does not answer for {OPEN_S:g} s; plug it in again"
        ) from None
    return engine
