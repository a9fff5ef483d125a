"""Lines on a standard stream, and their wording, for the sinks that write there."""

import contextlib
import os
from typing import TextIO

from device.errors import OutputClosed
from device.events import Description


def write_line(file: TextIO, line: bytes) -> None:
    """Write one line and flush it.

    Raises OutputClosed when nobody reads the stream any more.
    """
    try:
        file.buffer.write(line + b"\n")
        file.buffer.flush()
    except BrokenPipeError:
        # The line is still in the stream's buffer, and Python would complain about it once
        # more when it exits: let it go nowhere.
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, file.fileno())
            os.close(nowhere)
        raise OutputClosed from None


def write_text(file: TextIO, text: str) -> None:
    """Write a line of text, with ``?`` for what the stream's encoding lacks."""
    write_line(file, text.encode(file.encoding, "replace"))


def backend(interpreter: Description) -> tuple[str, str, str]:
    """Runtime, delegate and threads of an interpreter, each in a few words."""
    delegate = "no delegate"
    if interpreter.operators_delegated:
        share = f"{interpreter.operators_delegated}/{interpreter.operators_total}"
        delegate = f"{interpreter.delegate} {share} operators"
    threads = "1 thread" if interpreter.threads == 1 else f"{interpreter.threads} threads"
    return f"{interpreter.runtime} {interpreter.version}", delegate, threads
