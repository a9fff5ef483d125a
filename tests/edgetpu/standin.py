"""Builds the stand-in for libedgetpu, and tells it how to misbehave."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from device.inference.edgetpu import proof

# As it is before a test takes its place.
PROVE = proof.prove
SOURCE = Path(__file__).with_name("standin.c")


def build(folder: Path) -> Path:
    """The stand-in's library, compiled into ``folder``; skips the test without a compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler: no stand-in for libedgetpu (sudo apt install gcc)")
    library = folder / "standin.so"
    flags = ["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", library, SOURCE], check=True)
    return library


class Standin:
    """One copy of the library, with counters of its own, and the file that controls it."""

    def __init__(self, built: Path, folder: Path) -> None:
        self.library = folder / "libedgetpu.so.1"
        self.control = folder / "edgetpu-control"
        shutil.copy(built, self.library)
        self.tell()

    def tell(self, *words: str) -> None:
        """Behave like this from now on; the words are in ``standin.c``, none: work well."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(" ".join(words))
        fresh.replace(self.control)  # whole at any moment: it is read while we write

    def ask(self, counter: str) -> int:
        """A counter of the library: ``invokes``, ``delegates`` alive, ``threads`` seen."""
        return int(getattr(ctypes.CDLL(str(self.library)), f"standin_{counter}")())

    def device(self) -> str:
        """The device option of the last delegate."""
        function = ctypes.CDLL(str(self.library)).standin_device
        function.restype = ctypes.c_char_p
        value: bytes = function()
        return value.decode()
