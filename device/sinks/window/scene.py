"""What the window shows: the picture, its regions, the label and the best scores."""

from collections.abc import Sequence

import cv2
import numpy as np
import pygame

from device import config
from device.events import OFF_DUTY, DeviceHealth, Observation
from device.recordings.rendering import upright
from device.sinks.standing import Standing, headline
from device.sinks.window.display import Canvas
from device.system.text import printable

_BARS = 5
_GROUND, _PANEL = (12, 15, 14), (12, 15, 14, 190)
_INK, _SOFT, _TRACK = (240, 244, 242), (176, 186, 182), (70, 78, 75)
_ACCENT, _WARN, _BAD = (85, 207, 169), (231, 183, 95), (255, 138, 128)


class View:
    """What is to be seen of one camera, as of now."""

    def __init__(self, camera: config.Camera) -> None:
        self.camera = camera
        self.observation: Observation | None = None
        self.standing = Standing()

    @property
    def headline(self) -> str:
        """The label in force, and those beside it; empty before the first."""
        label = self.standing.label(self.observation.label if self.observation else None)
        last = self.standing.last
        return printable(headline(label, last.active)) if label and last else ""

    @property
    def feed(self) -> str:
        """The camera's own name, without that of a region."""
        return self.camera.name.partition("/")[0]


class Scene:
    """Draws what there is to see, for any size; needs fonts and no screen."""

    def __init__(self) -> None:
        pygame.font.init()
        self._fonts: dict[int, pygame.font.Font] = {}
        self._canvas = pygame.Surface((0, 0))

    def draw(
        self,
        size: tuple[int, int],
        view: View,
        feed: Sequence[View],
        health: DeviceHealth | None,
        frozen: Observation | None,
        note: str,
    ) -> Canvas:
        """The scene as BGRX, (height, width, 4); the array is written again by the next call.

        ``feed`` are the views of the same camera, whose regions are framed.
        """
        if self._canvas.get_size() != size:
            # BGRX in memory, whatever the screen has.
            masks = (0xFF0000, 0xFF00, 0xFF, 0)
            self._canvas = pygame.Surface(size, depth=32, masks=masks)
        self._canvas.fill(_GROUND)
        unit = max(8, min(size[0], size[1] * 4 // 3) // 64)
        seen = frozen or view.observation
        healths = health.cameras if health else ()
        camera = next((c for c in healths if c.name == view.camera.name), None)
        picture_at = self._put_picture(seen, view.camera) if seen else None
        if picture_at:
            self._frame_regions(picture_at, feed, health, unit)
        trouble = ""
        if camera and camera.state not in {"live", "starting"}:
            trouble = f"camera {camera.state}"
        elif camera and camera.controls and not camera.controls.enabled:
            trouble = "switched off"
        elif view.standing.last and view.standing.last.label == OFF_DUTY:
            trouble = "off duty"
        self._put_verdict(view, seen, trouble, unit)
        rate = f"{camera.fps:.1f} fps" if camera and camera.stages else ""
        late = f"{seen.latency_ms:.1f} ms" if seen else ""
        begins = f"from {camera.controls.enter:.2f}" if camera and camera.controls else ""
        state = "frozen" if frozen else ""
        words = [view.camera.name, rate, late, begins, *(camera.picture if camera else ()), state]
        self._put_line("   ".join(word for word in words if word), unit, unit // 2, _INK)
        if note:
            self._put_line(note, unit, 3 * unit, _ACCENT)
        return _pixels(self._canvas)

    def _put_picture(self, seen: Observation, camera: config.Camera) -> pygame.Rect:
        """The frame, as large as it fits with its shape kept; returns where it is."""
        picture = upright(seen.frame, camera.rotate, camera.mirror)
        (width, height), (across, down) = self._canvas.get_size(), picture.shape[1::-1]
        scale = min(width / across, height / down)
        size = max(1, round(across * scale)), max(1, round(down * scale))
        # Enlarged pixels may be smooth; of a smaller picture all of them should count.
        method = cv2.INTER_LINEAR if scale > 0.5 else cv2.INTER_AREA
        shown = cv2.resize(picture, size, interpolation=method)
        place = pygame.Rect(((width - size[0]) // 2, (height - size[1]) // 2), size)
        _pixels(self._canvas)[place.top : place.bottom, place.left : place.right, :3] = shown
        return place

    def _frame_regions(
        self, place: pygame.Rect, feed: Sequence[View], health: DeviceHealth | None, unit: int
    ) -> None:
        healths = {c.name: c.controls for c in health.cameras} if health else {}
        for view in feed:
            controls = healths.get(view.camera.name)
            left, top, right, bottom = controls.region if controls else view.camera.region
            if (left, top, right, bottom) == (0, 0, 1, 1):
                continue
            box = pygame.Rect(
                place.left + round(left * place.width),
                place.top + round(top * place.height),
                round((right - left) * place.width),
                round((bottom - top) * place.height),
            )
            pygame.draw.rect(self._canvas, _INK, box, max(2, unit // 6), border_radius=unit // 3)
            if len(feed) > 1:
                label = view.headline or "looking"
                region = view.camera.name.partition("/")[2]
                self._put_line(f"{region}: {label}", box.left + unit // 2, box.top, _INK)

    def _put_verdict(self, view: View, seen: Observation | None, trouble: str, unit: int) -> None:
        """The label, how sure and since when, and bars for the best five."""
        width, height = self._canvas.get_size()
        side_by_side = width >= height
        panel_height = min(height // 2, unit * (13 if side_by_side else 21))
        panel = pygame.Surface((width, panel_height), pygame.SRCALPHA)
        panel.fill(_PANEL)
        top = height - panel_height
        self._canvas.blit(panel, (0, top))
        if trouble:
            label, colour = trouble, _BAD
        elif view.standing.last is None:
            label, colour = "looking", _SOFT
        else:
            label, active = view.headline, view.standing.last.active
            sure = any(p.label in active for p in seen.predictions[:_BARS]) if seen else True
            colour = _INK if sure else _WARN
        column = width // 2 if side_by_side else width
        big = self._fitted(label, column - 3 * unit, 5 * unit)
        self._canvas.blit(big.render(label, True, colour), (2 * unit, top + unit * 2))
        since = view.standing.since(seen.label) if seen else None
        if seen and since is not None and not trouble:
            since_s = max(0.0, seen.at - since)
            self._put_line(
                f"{seen.score:.2f}   for {since_s:.0f} s",
                2 * unit,
                top + 8 * unit,
                _SOFT,
                shade=False,
            )
        if seen and not trouble:
            left = width // 2 if side_by_side else 2 * unit
            self._put_bars(seen, view, left, top + unit * (1 if side_by_side else 10), unit)

    def _put_bars(self, seen: Observation, view: View, left: int, top: int, unit: int) -> None:
        width = self._canvas.get_width() - left - 2 * unit
        font, row = self._font(unit * 3 // 2), unit * 9 // 4
        for number, prediction in enumerate(seen.predictions[:_BARS]):
            y = top + number * row
            last = view.standing.last
            active = last is not None and prediction.label in last.active
            name = font.render(printable(prediction.label), True, _INK if active else _SOFT)
            self._canvas.blit(name, (left, y), (0, 0, width * 2 // 5, row))
            track = pygame.Rect(left + width * 2 // 5 + unit, y, width // 2 - unit, unit)
            pygame.draw.rect(self._canvas, _TRACK, track, border_radius=unit // 2)
            filled = track.copy()
            filled.width = round(track.width * min(1.0, max(0.0, prediction.score)))
            if filled.width:
                colour = _ACCENT if active else _SOFT
                pygame.draw.rect(self._canvas, colour, filled, border_radius=unit // 2)
            score = font.render(f"{prediction.score:.2f}", True, _INK if active else _SOFT)
            self._canvas.blit(score, (left + width - score.get_width(), y))

    def _put_line(
        self, text: str, left: int, top: int, colour: tuple[int, int, int], *, shade: bool = True
    ) -> None:
        text, font = printable(text), self._font(self._unit_of_text())
        if shade:
            # One pixel of dark below: readable on any picture.
            self._canvas.blit(font.render(text, True, _GROUND), (left + 1, top + 1))
        self._canvas.blit(font.render(text, True, colour), (left, top))

    def _unit_of_text(self) -> int:
        width, height = self._canvas.get_size()
        return max(12, min(width, height * 4 // 3) // 38)

    def _fitted(self, text: str, width: int, height: int) -> pygame.font.Font:
        """The largest font up to ``height`` in which the text is no wider than ``width``."""
        size = height
        while size > 12 and self._font(size).size(text)[0] > width:
            size = size * 9 // 10
        return self._font(size)

    def _font(self, size: int) -> pygame.font.Font:
        # pygame's own font: no system has to have one.
        if size not in self._fonts:
            self._fonts[size] = pygame.font.Font(None, size)
        return self._fonts[size]


def _pixels(surface: pygame.Surface) -> Canvas:
    """The surface's own memory, (height, width, 4); to be forgotten before it is drawn on."""
    pixels: Canvas = np.asarray(surface.get_view("2"), np.uint32).T.view(np.uint8)
    # A line of 32-bit pixels has no padding, so that this too is a view.
    return pixels.reshape(*surface.get_size()[::-1], 4)
