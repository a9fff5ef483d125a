"""What the process is asked by signals."""

import signal
from types import FrameType
from typing import Self


class Signals:
    """Flags that the handlers set and the main loop reads, while it is entered.

    ``stop`` after SIGINT, SIGTERM or SIGQUIT. ``reload`` after SIGHUP where ``reloads``:
    elsewhere it says what it says everywhere, that the terminal has gone, and stops too.
    What only stops stays ignored where whoever started the process wants it so, as nohup does.

    Plain attributes: a handler runs between any two instructions of the main thread, and an
    Event's ``set`` takes a lock that this thread may hold already, for ever then. A wait that
    a signal interrupts goes on after the handler, so whoever waits does it in short turns.
    """

    def __init__(self, *, reloads: bool) -> None:
        self.stop = False
        self.reload = False
        self._reloads = reloads
        self._ours = [signal.SIGINT, signal.SIGTERM] + [signal.SIGHUP] * reloads
        self._before: dict[int, signal._HANDLER] = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self._reloads:
            self.reload = True
        else:
            self.stop = True

    def __enter__(self) -> Self:
        """Itself, with the handlers in place."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if number in self._ours or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
