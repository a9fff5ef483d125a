"""The child that feeds one surface: ``python -m tests.fuzz.worker`` is started by ``runner``.

What it is doing stands in memory that the parent shares, so that the parent knows which input
ended it.
"""

import argparse
import contextlib
import faulthandler
import hashlib
import logging
import mmap
import os
import resource
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from random import Random
from unittest.mock import patch

from tests.fuzz.surface import Surface
from tests.fuzz.surfaces import SURFACES

INPUT_MAX_BYTES = 1 << 20
# The file in the folder of a child that is memory of both.
SHARED = "shared"
# How many inputs were begun, how many raised, and the size of the present one.
HEADER = struct.Struct("<QQQ")
SHARED_BYTES = HEADER.size + INPUT_MAX_BYTES
# The exit code where an input cannot be made.
FAULTY = 70
# What an input may take at once beyond what is seen to stay, as where a picture is decoded.
_ADDRESS_BYTES = 2 << 30


class MemoryExceededError(Exception):
    """More memory than the surface may take."""


@contextlib.contextmanager
def opened(name: str, folder: Path) -> Iterator[Surface]:
    """A surface that has the folder, and its state directory in it, to itself."""
    inputs = folder / "inputs"
    inputs.mkdir()
    state = {"LABELCAM_STATE": str(folder / "state")}
    with patch.dict(os.environ, state), contextlib.chdir(inputs):
        os.environ.pop("STATE_DIRECTORY", None)
        with contextlib.closing(SURFACES[name](inputs)) as surface:
            yield surface


def input_of(surface: Surface, seed: int, number: int) -> bytes:
    """The input of this number, the same each time."""
    return surface.make(Random(f"{seed}/{surface.name}/{number}"))[:INPUT_MAX_BYTES]


def keep(folder: Path, kind: str, data: bytes, said: str) -> None:
    """Save an input, and beside it what came of it."""
    path = folder / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(said)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("surface")
    parser.add_argument("folder", type=Path)
    parser.add_argument("found", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    faulthandler.enable()
    logging.disable()
    thread_faults: list[BaseException | None] = []
    threading.excepthook = lambda ended: thread_faults.append(ended.exc_value)
    shared_file = options.folder / SHARED
    with shared_file.open("r+b") as file, opened(options.surface, options.folder) as surface:
        shared = mmap.mmap(file.fileno(), SHARED_BYTES)
        allowed_kb = peak_kb() + (surface.memory_mb << 10)
        _limit_memory()
        deadline = time.monotonic() + options.seconds
        kinds: set[object] = set()
        raised = 0
        for number in range(options.first, options.first + options.count):
            if time.monotonic() > deadline:
                break
            try:
                data = input_of(surface, options.seed, number)
            except Exception:  # noqa: BLE001 - a fault of the fuzzer's own
                traceback.print_exc()
                sys.exit(FAULTY)
            shared[HEADER.size : HEADER.size + len(data)] = data
            shared[: HEADER.size] = HEADER.pack(number - options.first + 1, raised, len(data))
            try:
                surface.feed(data)
                if thread_faults:
                    fault, thread_faults[:] = thread_faults[0], []
                    raise fault or RuntimeError("a thread ended")
                if peak_kb() > allowed_kb:
                    allowed_kb = peak_kb()
                    raise MemoryExceededError(f"{allowed_kb >> 10} MB resident")
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - that it is none is what is shown
                raised += 1
                kind = _kind(error)
                if kind not in kinds:
                    kinds.add(kind)
                    keep(options.found, "traceback", data, traceback.format_exc())
        done, _, size = HEADER.unpack_from(shared)
        shared[: HEADER.size] = HEADER.pack(done, raised, size)


def _kind(error: BaseException) -> object:
    """What two errors of the same cause have in common."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [(frame.filename, frame.lineno) for frame in frames if "/device/" in frame.filename]
    return type(error), tuple(ours[-1:])


def peak_kb() -> int:
    """The most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + _ADDRESS_BYTES, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
