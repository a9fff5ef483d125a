"""Measures how often a quantized model says what its float original says, on any pictures."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.pictures import PictureError, centre_crop, corner_crops, read_pictures
from models.runtime import Model, RuntimeMissingError

# Above this the float network is sure, and a differing quantized one is wrong, not undecided.
SURE: Final = 0.5


@dataclass
class Agreement:
    """Counts over crops of pictures; top-1 is the class with the highest probability."""

    crops: int = 0
    same: int = 0
    within_five: int = 0
    sure: int = 0
    same_when_sure: int = 0
    difference: float = 0.0

    def add(self, reference: NDArray[np.float32], quantized: NDArray[np.float32]) -> None:
        """Counts one crop, given both models' probabilities for it."""
        top = int(reference.argmax())
        same = int(quantized.argmax()) == top
        self.crops += 1
        self.same += same
        self.within_five += top in np.argpartition(quantized, -5)[-5:]
        self.difference += abs(float(reference[top] - quantized[top]))
        if reference[top] > SURE:
            self.sure += 1
            self.same_when_sure += same

    def __str__(self) -> str:
        """Returns the figures on one line."""
        return (
            f"{self.crops} crops: same top-1 {_percent(self.same, self.crops)}, "
            f"reference's top-1 within top-5 {_percent(self.within_five, self.crops)}, "
            f"same top-1 where the reference is over {SURE:g} "
            f"{_percent(self.same_when_sure, self.sure)}, "
            f"mean difference of its probability {self.difference / self.crops:.3f}"
        )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} % ({part}/{whole})" if whole else "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.agreement",
        description="Compare a quantized model with its float original, picture by picture.",
    )
    parser.add_argument("reference", type=Path, help="float32 .tflite, from models.lite0 --float")
    parser.add_argument("quantized", type=Path, help="INT8 .tflite of the same input size")
    parser.add_argument("pictures", type=Path, nargs="+", help="pictures, folders or zip files")
    parser.add_argument("--under", default="", help="only pictures whose name starts with this")
    parser.add_argument("--corners", action="store_true", help="the four corner crops as well")
    options = parser.parse_args(arguments)
    agreement = Agreement()
    try:
        reference = Model(options.reference.read_bytes())
        quantized = Model(options.quantized.read_bytes())
        for name, picture in read_pictures(options.pictures):
            if not name.startswith(options.under):
                continue
            crops = [centre_crop(picture, reference.size)]
            if options.corners:
                crops += corner_crops(picture, reference.size)
            for crop in crops:
                agreement.add(reference.run(crop)[0][0], quantized.run(crop)[0][0])
    except (PictureError, RuntimeMissingError, ValueError, OSError) as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 1
    if not agreement.crops:
        print(f"agreement: no picture's name starts with {options.under!r}", file=sys.stderr)
        return 1
    print(agreement)
    return 0


if __name__ == "__main__":
    sys.exit(main())
