"""Draws docs/decide.png: ``python -m tests.pipeline.plot``.

Made scores of two labels, ten frames a second, and what the decider makes of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from device.config import Decide
from device.pipeline.decider import Decider

Drawing = NDArray[np.uint8]
Point = tuple[int, int]

_PICTURE = Path(__file__).parents[2] / "docs" / "decide.png"
_SECONDS, _FPS = 16.0, 10
_NAMES = ("cat", "dog")
# Ground, cat, dog; BGR, told apart by people who see no red.
_INKS = ((178, 114, 0), (0, 94, 213))
_GREY, _BLACK = (190, 190, 190), (40, 40, 40)
_WIDTH, _HEIGHT = 960, 500
_LEFT, _RIGHT, _TOP, _BOTTOM = 120, 945, 40, 330
_SETTINGS = {"min_frames": 3, "min_hold_s": 1.0, "smoothing_s": 0.5}


def scores() -> NDArray[np.float32]:
    """Frames by labels: a cat comes and goes, a dog comes while it is there, one frame lies."""
    chance = np.random.default_rng(16)
    times = np.arange(0, _SECONDS, 1 / _FPS)
    cat = np.where((times >= 2) & (times < 9.5), 0.72, 0.08)
    dog = np.where((times >= 6) & (times < 13), 0.62, 0.06)
    cat[(times >= 11.0) & (times < 11.1)] = 0.95
    both = np.stack((cat, dog), 1) + chance.normal(0, 0.07, (len(times), 2))
    return np.asarray(np.clip(both, 0, 1), np.float32)


def at(seconds: float, share: float) -> Point:
    """The place of a score in the picture."""
    across = _LEFT + seconds / _SECONDS * (_RIGHT - _LEFT)
    return round(across), round(_BOTTOM - share * (_BOTTOM - _TOP))


def spans(
    mode: Literal["one", "any"], seen: Sequence[NDArray[np.float32]]
) -> list[tuple[str, float, float]]:
    """Each label that was active, from when until when."""
    decider = Decider(Decide(mode=mode, **_SETTINGS), _NAMES)  # type: ignore[arg-type]
    open_since: dict[str, float] = {}
    found = []
    for number, row in enumerate(seen):
        now = number / _FPS
        decider.update(row, now)
        ended = [name for name in open_since if name not in decider.active]
        found += [(name, open_since.pop(name), now) for name in ended]
        for name in decider.active:
            open_since.setdefault(name, now)
    return found + [(name, since, _SECONDS) for name, since in open_since.items()]


def draw() -> Drawing:
    """The picture, (height, width, 3) in BGR."""
    picture: Drawing = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    seen, decide = scores(), Decide()
    for share in (0.0, 1.0):
        cv2.line(picture, at(0, share), at(_SECONDS, share), _GREY, 1)
        write(picture, f"{share:g}", (_LEFT - 26, at(0, share)[1] + 5))
    for name, share in (("enter", decide.enter), ("exit", decide.exit)):
        for second in np.arange(0, _SECONDS, 0.25):
            cv2.line(picture, at(second, share), at(second + 0.12, share), _BLACK, 1)
        write(picture, f"{name} {share:g}", (12, at(0, share)[1] + 5))
    for second in range(0, int(_SECONDS), 2):
        write(picture, f"{second} s", (at(second, 0)[0] - 12, _BOTTOM + 22))
    decider = Decider(Decide(mode="any", **_SETTINGS), _NAMES)  # type: ignore[arg-type]
    smoothed = []
    for number, row in enumerate(seen):
        decider.update(row, number / _FPS)
        smoothed.append(decider.smoothed.copy())
    for column, (name, ink) in enumerate(zip(_NAMES, _INKS, strict=True)):
        for number, row in enumerate(seen):
            cv2.circle(picture, at(number / _FPS, float(row[column])), 2, ink, -1, cv2.LINE_AA)
        line = [at(number / _FPS, float(row[column])) for number, row in enumerate(smoothed)]
        cv2.polylines(picture, [np.array(line, np.int32)], False, ink, 2, cv2.LINE_AA)
        write(picture, name, (_LEFT + 60 * column, 24), ink)
    write(picture, "dots: a frame's scores; lines: smoothed", (_LEFT + 140, 24))
    top = _BOTTOM + 44
    for mode, lanes in (("one", 1), ("any", 2)):
        write(picture, f'"{mode}"', (12, top + 11 * lanes + 5))
        for name, since, until in spans(mode, seen):  # type: ignore[arg-type]
            lane = _NAMES.index(name) if lanes > 1 else 0
            left, right = at(since, 0)[0], at(until, 0)[0]
            box = (left, top + 24 * lane), (right, top + 24 * lane + 18)
            cv2.rectangle(picture, *box, _INKS[_NAMES.index(name)], -1)
            write(picture, name, (left + 6, top + 24 * lane + 14), (255, 255, 255))
        top += 24 * lanes + 14
    return picture


def write(picture: Drawing, text: str, place: Point, ink: tuple[int, int, int] = _BLACK) -> None:
    """Text on the picture."""
    cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)


if __name__ == "__main__":
    cv2.imwrite(str(_PICTURE), draw())
