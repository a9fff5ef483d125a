"""A terminal, as its user sees it."""

import os
import re
import select
import termios
import time
from collections.abc import Callable

PATIENCE_S = 10.0


class Pty:
    """A terminal as its user sees it: understands what the sink sends, and nothing else."""

    def __init__(self, columns: int = 80, rows: int = 24, encoding: str = "utf-8") -> None:
        self._master, slave = os.openpty()
        self.file = os.fdopen(slave, "w", encoding=encoding)
        self.raw = b""
        self.modes: dict[str, bool] = {}
        self._rows: dict[int, str] = {}
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self._master, (rows, columns))

    @property
    def screen(self) -> list[str]:
        return [
            self._rows.get(row, "").rstrip() for row in range(1, max(self._rows, default=0) + 1)
        ]

    def wait_for(self, wanted: Callable[["Pty"], bool]) -> None:
        """Read until what is on the screen is as wanted."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(self):
            left = deadline - time.monotonic()
            assert left > 0, "\n".join(self.screen)
            if select.select([self._master], [], [], left)[0]:
                self.raw += os.read(self._master, 65536)
                self._interpret()

    def wait_for_text(self, text: str) -> None:
        self.wait_for(lambda pty: any(text in line for line in pty.screen))

    def hang_up(self) -> None:
        if self._master >= 0:
            os.close(self._master)
            self._master = -1

    def _interpret(self) -> None:
        """Replay all there was. A line counts once its end is cleared, so never half of one."""
        self._rows, self.modes = {}, {}
        row, line = 1, ""
        text = self.raw.decode(self.file.encoding, "ignore")
        for private, numbers, command, plain in re.findall(
            r"\x1b\[(\??)([\d;]*)([A-Za-z])|([^\x1b]+)", text
        ):
            if plain:
                line += plain
            elif private:
                self.modes[numbers] = command == "h"
            elif command == "H":
                row, column = (int(number) for number in numbers.split(";"))
                line = ""
                assert column == 1
            elif command == "K":
                self._rows[row] = line
            elif command == "J":
                kept = 0 if numbers == "2" else row
                self._rows = {n: line for n, line in self._rows.items() if n < kept}
            else:
                assert command == "m"

    @property
    def restored(self) -> bool:
        return self.modes == {"1049": False, "25": True} and self.raw.endswith(b"\x1b[?1049l")
