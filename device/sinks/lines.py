"""Lines on a standard stream, and their wording, for the sinks that write there."""

from typing import TextIO

from device.errors import OutputClosed
from device.events import Description, DeviceHealth
from device.system.logs import discard
from device.system.text import printable


def write_line(file: TextIO, line: bytes) -> None:
    """Write one line and flush it.

    Raises OutputClosed when nobody reads the stream any more.
    """
    try:
        file.buffer.write(line + b"\n")
        file.buffer.flush()
    except BrokenPipeError:
        discard(file)
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


def beside(health: DeviceHealth) -> list[str]:
    """The models that are asked beside the first ones, each once and in a few words."""
    others = [other for camera in health.cameras for other in camera.beside]
    lines = [
        f"{printable(other.interpreter.model)} beside it, "
        + ("failing" if other.problem else backend(other.interpreter)[1])
        for other in others
    ]
    return list(dict.fromkeys(lines))


def governed(health: DeviceHealth) -> str:
    """At what rate the device may work, and why not at its full one."""
    rate = f"{health.rate_share:.0%} of the full rate" if health.rate_share else "a frame a second"
    return f"{health.governed_by}: {rate}"
