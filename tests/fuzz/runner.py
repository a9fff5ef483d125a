"""Runs surfaces in children, which may crash and hang, and counts what becomes of the inputs."""

import mmap
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz.surfaces import SURFACES
from tests.fuzz.worker import FAULTY, HEADER, SHARED, SHARED_BYTES, keep

ROOT = Path(__file__).parents[2]
# A child is replaced after so many, so that none of what it has met before matters for long.
_PORTION = 20_000
# Until the first input: what is loaded then takes some seconds on a small device.
_START_S = 60.0
_LOOK_S = 0.05
# Files that are written so often spare the disk.
_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


@dataclass
class Result:
    """What became of the inputs of one surface."""

    inputs: int = 0
    seconds: float = 0.0
    crashes: int = 0
    hangs: int = 0
    tracebacks: int = 0

    @property
    def bad(self) -> int:
        """How many inputs did what none may do."""
        return self.crashes + self.hangs + self.tracebacks

    def add(self, more: "Result") -> None:
        """Count another's too."""
        for field, number in asdict(more).items():
            setattr(self, field, getattr(self, field) + number)


def run(
    name: str,
    found: Path,
    *,
    seed: int,
    inputs: int,
    seconds: float,
    worker: Sequence[str] = ("-m", "tests.fuzz.worker"),
    seen: Callable[[Result], None] = lambda _: None,
) -> Result:
    """Feed so many inputs to a surface, or for so long; those that did harm are kept in ``found``.

    ``seen`` gets what is known so far, several times a second.
    """
    result = Result()
    started = time.monotonic()
    while result.inputs < inputs and time.monotonic() - started < seconds:
        left_s = seconds - (time.monotonic() - started)
        count = min(inputs - result.inputs, _PORTION)
        so_far = Result(**asdict(result))

        def look(part: Result, so_far: Result = so_far) -> None:
            whole = Result(**asdict(so_far))
            whole.add(part)
            whole.seconds = time.monotonic() - started
            seen(whole)

        result.add(_portion(worker, name, found, seed, result.inputs, count, left_s, look))
    result.seconds = round(time.monotonic() - started, 1)
    return result


def _portion(
    worker: Sequence[str],
    name: str,
    found: Path,
    seed: int,
    first: int,
    count: int,
    seconds: float,
    look: Callable[[Result], None],
) -> Result:
    """What one child comes to, by itself or by an input that ends it."""
    with (
        tempfile.TemporaryDirectory(prefix="labelcam-fuzz-", dir=_MEMORY) as folder,
        tempfile.TemporaryFile() as said,
        (Path(folder) / SHARED).open("w+b") as file,
    ):
        file.truncate(SHARED_BYTES)
        shared = mmap.mmap(file.fileno(), SHARED_BYTES)
        numbers = [seed, first, count, seconds]
        child = subprocess.Popen(
            [sys.executable, *worker, name, folder, found, *map(str, numbers)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        try:
            hangs = _watch(child, shared, SURFACES[name].limit_s, look)
        finally:
            child.kill()
            child.wait()
        result, data = _read(shared)
        said.seek(0)
        words = said.read().decode(errors="replace")[-20_000:]
    if hangs or child.returncode:
        if not result.inputs or child.returncode == FAULTY:
            raise RuntimeError(f"the surface {name} does not work:\n{words}")
        result.hangs, result.crashes = int(hangs), int(not hangs)
        how = f"exit code {child.returncode}"
        if child.returncode < 0:
            how = signal.Signals(-child.returncode).name
        keep(found, "hang" if hangs else "crash", data, f"{how}\n{words}")
    return result


def _watch(
    child: "subprocess.Popen[bytes]",
    shared: mmap.mmap,
    limit_s: float,
    look: Callable[[Result], None],
) -> bool:
    """Wait for the child's end; whether it got stuck instead."""
    number, since = -1, time.monotonic()
    while child.poll() is None:
        part, _ = _read(shared)
        if part.inputs != number:
            number, since = part.inputs, time.monotonic()
        if time.monotonic() - since > (limit_s if number else _START_S):
            return True
        look(part)
        try:
            child.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            continue
    return False


def _read(shared: mmap.mmap) -> tuple[Result, bytes]:
    inputs, tracebacks, size = HEADER.unpack_from(shared)
    return Result(inputs, tracebacks=tracebacks), shared[HEADER.size : HEADER.size + size]
