"""Makes the demo clip and the test stills from three photographs that ship with scikit-image.

Each photograph is filmed by a 4:3 window that drifts, zooms and sways over it like a camera held
in a quiet hand. The stills are the first window of each photograph.

The stills and the clip are committed: the encoders, and so the last bytes, differ between builds
of OpenCV.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from models.pictures import PictureError, read_pictures
from models.wheels import WheelError, fetched_wheels

REQUIREMENT: Final = "scikit-image==0.26.0"
FOLDER: Final = Path(__file__).resolve().parent
WIDTH: Final = 640
HEIGHT: Final = 480
FRAMES_PER_SECOND: Final = 12
# MPEG-4 part 2: every OpenCV wheel and every FFmpeg decodes it.
CODEC: Final = "mp4v"
JPEG_QUALITY: Final = 92

# A hand's sway: amplitude as a share of the window's height, and its slow rhythm.
SWAY: Final = 0.006
SWAY_HZ: Final = 0.7


@dataclass(frozen=True)
class Window:
    """A 4:3 view of a photograph: its centre and height as shares of the photograph's height.

    `x` is measured from the photograph's vertical centre line, `y` from its top.
    """

    x: float
    y: float
    height: float

    def towards(self, end: Window, share: float) -> Window:
        """Returns the window that is `share` of the way, 0 to 1, to `end`."""
        return Window(
            self.x + (end.x - self.x) * share,
            self.y + (end.y - self.y) * share,
            self.height + (end.height - self.height) * share,
        )


@dataclass(frozen=True)
class Shot:
    """One photograph, and the window's way over it."""

    name: str
    member: str
    start: Window
    end: Window
    duration_s: float = 3.5


SHOTS: Final = (
    Shot("coffee", "skimage/data/coffee.png", Window(-0.02, 0.52, 0.94), Window(-0.06, 0.46, 0.78)),
    Shot("cat", "skimage/data/chelsea.png", Window(-0.14, 0.47, 0.90), Window(-0.11, 0.42, 0.78)),
    Shot("rocket", "skimage/data/rocket.jpg", Window(0.08, 0.50, 0.90), Window(0.11, 0.50, 0.78)),
)


def view(photograph: NDArray[np.uint8], window: Window) -> NDArray[np.uint8]:
    """Returns what the window shows, BGR (480, 640, 3), for a BGR photograph."""
    height, width = photograph.shape[:2]
    scale = HEIGHT / (window.height * height)
    centre_x, centre_y = width / 2 + window.x * height, window.y * height
    # An affine map moves by fractions of a pixel; slicing would make the drift jump.
    matrix = np.array(
        [
            [scale, 0, WIDTH / 2 - scale * centre_x],
            [0, scale, HEIGHT / 2 - scale * centre_y],
        ]
    )
    frame = cv2.warpAffine(
        photograph, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(frame, np.uint8)


def film(photograph: NDArray[np.uint8], shot: Shot) -> Iterator[NDArray[np.uint8]]:
    """Yields the frames of a shot, BGR (480, 640, 3)."""
    count = round(shot.duration_s * FRAMES_PER_SECOND)
    for number in range(count):
        share = number / (count - 1)
        window = shot.start.towards(shot.end, (1 - math.cos(math.pi * share)) / 2)
        phase = 2 * math.pi * SWAY_HZ * number / FRAMES_PER_SECOND
        sway = Window(
            window.x + SWAY * window.height * math.sin(phase),
            window.y + SWAY * window.height * math.sin(1.3 * phase) / 2,
            window.height,
        )
        yield view(photograph, sway)


def build(photographs: dict[str, NDArray[np.uint8]], folder: Path) -> list[Path]:
    """Writes the stills and the clip to `folder`; returns their paths."""
    clip = folder / "demo.mp4"
    codec = cv2.VideoWriter.fourcc(*CODEC)
    writer = cv2.VideoWriter(str(clip), codec, FRAMES_PER_SECOND, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise OSError(f"{clip}: this OpenCV cannot write {CODEC} video there")
    written = []
    try:
        for shot in SHOTS:
            photograph = photographs[shot.member]
            still = folder / f"{shot.name}.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
            if not cv2.imwrite(str(still), view(photograph, shot.start), quality):
                raise OSError(f"{still}: cannot be written")
            written.append(still)
            for frame in film(photograph, shot):
                writer.write(frame)
    finally:
        writer.release()
    return [*written, clip]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m models.footage.build",
        description="Make the demo clip and the test stills from scikit-image's photographs.",
    )
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT}, if at hand")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    options = parser.parse_args(arguments)
    members = {shot.member for shot in SHOTS}
    try:
        if options.wheel:
            photographs = _photographs(options.wheel, members)
        else:
            with fetched_wheels([REQUIREMENT]) as (wheel,):
                photographs = _photographs(wheel, members)
        for path in build(photographs, options.out):
            print(f"{path}: {path.stat().st_size} bytes")
    except (PictureError, WheelError, OSError) as error:
        print(f"footage: {error}", file=sys.stderr)
        return 1
    return 0


def _photographs(wheel: Path, members: set[str]) -> dict[str, NDArray[np.uint8]]:
    found = {
        name: np.ascontiguousarray(picture[:, :, ::-1])
        for name, picture in read_pictures([wheel])
        if name in members
    }
    if missing := sorted(members - found.keys()):
        raise PictureError(f"{wheel}: no {missing[0]} in it; give the wheel of {REQUIREMENT}")
    return found


if __name__ == "__main__":
    sys.exit(main())
