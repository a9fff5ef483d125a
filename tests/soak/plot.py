"""What was measured over the time of a soak, as a picture."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from tests.soak.figures import Sample
from tests.soak.script import DAY_S

Drawing = NDArray[np.uint8]
_SIZE = (720, 170)
_LEFT, _TOP, _RIGHT, _BOTTOM = 60, 34, 700, 140
_PLOTS = {
    "rss_mb": "resident memory, MB",
    "descriptors": "open descriptors",
    "threads": "threads",
    "disk_kb": "state directory on disk, KB",
    "stored": "events that wait in the outbox",
}
_INK, _GRID = (160, 110, 30), (220, 220, 220)


def draw(samples: Sequence[Sample]) -> bytes:
    """A plot of each figure over the days, one below the other, as a PNG."""
    plots = [_plot(samples, field, title) for field, title in _PLOTS.items()]
    return cv2.imencode(".png", np.vstack(plots))[1].tobytes()


def _plot(samples: Sequence[Sample], field: str, title: str) -> Drawing:
    picture: Drawing = np.full((_SIZE[1], _SIZE[0], 3), 255, np.uint8)
    at = np.array([sample.at_s for sample in samples])
    values = np.array([getattr(sample, field) for sample in samples])
    # From nought, so that what is flat looks flat.
    top = float(values.max()) * 1.1 or 1.0
    x = _LEFT + at / at[-1] * (_RIGHT - _LEFT)
    y = _BOTTOM - values / top * (_BOTTOM - _TOP)
    _write(picture, title, (8, 20), 0.5)
    for share in (0.0, 0.5, 1.0):
        level = round(_BOTTOM - share * (_BOTTOM - _TOP))
        cv2.line(picture, (_LEFT, level), (_RIGHT, level), _GRID, 1)
        _write(picture, f"{share * top:.0f}", (8, level + 5), 0.4)
    unit_s, unit = (DAY_S, "d") if at[-1] >= DAY_S else (60.0, "min")
    length = at[-1] / unit_s
    parts = next((parts for parts in (6, 5, 4) if not length % parts), 6)
    for share in np.linspace(0, 1, parts + 1):
        name = f"{share * length:.3g} {unit}"
        (width, _), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        left = round(_LEFT + share * (_RIGHT - _LEFT)) - width // 2
        _write(picture, name, (min(left, _SIZE[0] - width), _BOTTOM + 20), 0.4)
    cv2.polylines(picture, [np.stack((x, y), 1).astype(np.int32)], False, _INK, 1, cv2.LINE_AA)
    return picture


def _write(picture: Drawing, text: str, at: tuple[int, int], scale: float) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (0, 0, 0), 1, cv2.LINE_AA)
