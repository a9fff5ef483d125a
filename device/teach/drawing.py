"""How a head did in its exam, as a picture."""

import cv2
import numpy as np
from numpy.typing import NDArray

from device.teach.exam import Exam, Strangers

Drawing = NDArray[np.uint8]
_WHITE = (255, 255, 255)
_PLOT = (480, 300)
_INKS = ((160, 110, 30), (60, 60, 190), (70, 140, 30))


def exam_png(exam: Exam) -> bytes:
    """The confusion, and beside it the curves over pictures a label and of strangers, as a PNG."""
    curves = [_over_pictures(exam)] if len(exam.curve) > 1 else []
    if exam.strangers is not None and exam.strangers.curve:
        curves.append(_of_strangers(exam.strangers))
    parts = [_confusion(exam), *([np.vstack(curves)] if curves else [])]
    height = max(part.shape[0] for part in parts)
    padded = [
        cv2.copyMakeBorder(part, 0, height - part.shape[0], 0, 0, cv2.BORDER_CONSTANT, value=_WHITE)
        for part in parts
    ]
    return cv2.imencode(".png", np.hstack(padded))[1].tobytes()


def _over_pictures(exam: Exam) -> Drawing:
    ways = {
        "nearest mean": [point.nearest_mean for point in exam.curve],
        "imprinting": [point.imprinting for point in exam.curve],
        "labelcam": [point.accuracy for point in exam.curve],
    }
    # Each step is one number of pictures more: evenly apart, as their doubling nearly is.
    steps = np.linspace(0, 1, len(exam.curve)).tolist()
    marks = list(zip(steps, (str(point.pictures) for point in exam.curve), strict=True))
    lines = {way: list(zip(steps, shares, strict=True)) for way, shares in ways.items()}
    return _plot("right, by pictures a label", lines, marks)


def _of_strangers(strangers: Strangers) -> Drawing:
    marks = [(share, f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return _plot("strangers found, by right ones lost", {"": list(strangers.curve)}, marks)


def _plot(
    title: str, lines: dict[str, list[tuple[float, float]]], marks: list[tuple[float, str]]
) -> Drawing:
    """Lines of shares, from 0 to 1, over what ``marks`` name from left to right, 0 to 1."""
    picture: Drawing = np.full((_PLOT[1], _PLOT[0], 3), 255, np.uint8)
    left, top, right, bottom = 60, 44, _PLOT[0] - 110, _PLOT[1] - 40

    def at(x: float, y: float) -> tuple[int, int]:
        return round(left + x * (right - left)), round(bottom - y * (bottom - top))

    _write(picture, title, (8, 24), 0.5)
    for share in (0, 0.25, 0.5, 0.75, 1):
        cv2.line(picture, at(0, share), at(1, share), (220, 220, 220), 1)
        _write(picture, f"{share:.0%}", (8, at(0, share)[1] + 5), 0.4)
    for x, name in marks:
        _write(picture, name, (at(x, 0)[0] - _width(name, 0.4) // 2, bottom + 20), 0.4)
    for row, ((name, points), ink) in enumerate(zip(lines.items(), _INKS, strict=False)):
        corners = np.array([at(*point) for point in points], np.int32)
        cv2.polylines(picture, [corners], False, ink, 2, cv2.LINE_AA)
        _write(picture, name, (right + 8, top + 5 + 20 * row), 0.4, ink)
    return picture


def _confusion(exam: Exam) -> Drawing:
    """A row for what it is, a column for what it was taken for."""
    counts = np.array([[exam.confusion[a][b] for b in exam.labels] for a in exam.labels])
    cell = max(12, min(56, 1600 // len(counts)))
    scale = min(0.55, cell / 40)
    margin = 40 + max(_width(label, scale) for label in exam.labels)
    side = margin + cell * len(counts) + 20
    picture: Drawing = np.full((side, side, 3), 255, np.uint8)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    for row, column in np.ndindex(counts.shape):
        share = shares[row, column]
        # Green where it is right and red where it is wrong, as dark as it is often.
        full = np.array((70, 140, 30) if row == column else (50, 50, 200))
        colour = tuple(map(int, 255 - share * (255 - full)))
        corner = (margin + column * cell, margin + row * cell)
        opposite = (corner[0] + cell, corner[1] + cell)
        cv2.rectangle(picture, corner, opposite, colour, -1)
        cv2.rectangle(picture, corner, opposite, (220, 220, 220), 1)
        if counts[row, column] and cell >= 24:
            ink = (255, 255, 255) if share > 0.5 else (0, 0, 0)
            text = str(counts[row, column])
            at = (corner[0] + (cell - _width(text, scale)) // 2, corner[1] + cell * 5 // 8)
            _write(picture, text, at, scale, ink)
    # The names of the columns read upwards: written level, then the picture is turned.
    for row, label in enumerate(exam.labels):
        level = margin + row * cell + cell * 5 // 8
        _write(picture, label, (margin - 10 - _width(label, scale), level), scale)
    turned = np.ascontiguousarray(cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE), np.uint8)
    for column, label in enumerate(exam.labels):
        _write(turned, label, (side - margin + 10, margin + column * cell + cell * 5 // 8), scale)
    picture = np.asarray(cv2.rotate(turned, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
    _write(picture, f"{exam.accuracy:.1%} right", (8, 24), 0.5)
    _write(picture, "rows: what it is", (8, side - 8), 0.4)
    return picture


def _width(text: str, scale: float) -> int:
    return int(cv2.getTextSize(_ascii(text), cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0])


def _write(
    picture: Drawing,
    text: str,
    at: tuple[int, int],
    scale: float,
    ink: tuple[int, int, int] = (0, 0, 0),
) -> None:
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(picture, _ascii(text), at, font, scale, ink, 1, cv2.LINE_AA)


def _ascii(text: str) -> str:
    """OpenCV's own letters are ASCII alone."""
    return text.encode("ascii", "replace").decode()
