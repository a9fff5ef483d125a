"""What libraries write to stderr by themselves, caught for a moment.

C and C++ code writes to file descriptor 2 past ``sys.stderr``. The descriptor is the
process's and not a thread's: two that turned it aside at once would each put back what the
other had put there, and the log would be gone for good. So all of them do it here, by turns.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator

_lock = threading.Lock()
# As ``logs`` writes them.
_OURS = re.compile(rb"<\d>|labelcam: ")


@contextlib.contextmanager
def caught() -> Iterator[list[bytes]]:
    """The lines that came meanwhile, in the list afterwards, instead of on stderr.

    Lines of our own log, which other threads write meanwhile, come out a moment later.
    """
    lines: list[bytes] = []
    with _lock, open(os.memfd_create("stderr"), "w+b") as aside:  # noqa: PTH123
        try:
            stderr = os.dup(2)
        except OSError:  # a process without stderr has none to keep clean
            yield lines
            return
        os.dup2(aside.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            aside.seek(0)
            for line in aside:
                if _OURS.match(line):
                    os.write(2, line)
                else:
                    lines.append(line)
