"""The live picture in a window, or straight on a screen where there is no desktop.

SDL finds the way: X11, Wayland, or the kernel's modesetting (kmsdrm); where none of them is
there, the framebuffer takes its place. All of SDL lives on one thread, which draws the newest
frame at a rate of its own, so that inference never waits for a screen.
"""

import os
import re
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.control.commands import Answer, Command, Device
from device.errors import CommandError, DependencyError, OutputClosed, SinkError
from device.events import DeviceHealth, LabelChange, Observation
from device.sinks.picture import jpeg, upright
from device.sinks.window import framebuffer
from device.system.paths import state_directory

# Read when pygame is imported and SDL starts: no banner on stdout, and signals are the node's.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_NO_SIGNAL_HANDLERS", "1")
try:
    import pygame
except ImportError:
    raise DependencyError("the window needs pygame-ce; run: pip install pygame-ce") from None

Canvas = NDArray[np.uint8]

_OPENED_WITHIN_S = 10.0
_FIRST_SIZE = (1024, 768)
_NOTE_S = 4.0
_STEP = 0.05
_QUALITY = 92
_ROTATIONS = {
    90: cv2.ROTATE_90_CLOCKWISE,
    180: cv2.ROTATE_180,
    270: cv2.ROTATE_90_COUNTERCLOCKWISE,
}

_GROUND, _PANEL = (12, 15, 14), (12, 15, 14, 190)
_INK, _SOFT, _TRACK = (240, 244, 242), (176, 186, 182), (70, 78, 75)
_ACCENT, _WARN, _BAD = (85, 207, 169), (231, 183, 95), (255, 138, 128)


class Screen(Protocol):
    """What a scene is shown on."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def show(self, picture: Canvas) -> None:
        """Show a picture, BGRX, uint8, (height, width, 4)."""

    def close(self) -> None:
        """Give the screen back."""


class View:
    """What is to be seen of one camera, as of now."""

    def __init__(self, camera: config.Camera) -> None:
        self.camera = camera
        self.observation: Observation | None = None
        self.change: LabelChange | None = None

    @property
    def feed(self) -> str:
        """The camera's own name, without that of a region."""
        return self.camera.name.partition("/")[0]


class WindowSink:
    """Shows one camera at a time, from construction to ``close``.

    ``cameras`` are those that are reported, each region as one of its own. Raises SinkError
    where there is no screen. Closing the window ends the run: ``observe`` and ``report``
    raise OutputClosed from then on.
    """

    name = "window"

    def __init__(
        self, settings: config.Window, cameras: Sequence[config.Camera], device: Device
    ) -> None:
        self._settings = settings
        self._device = device
        self._views = {camera.name: View(camera) for camera in cameras}
        self._shown = next(iter(self._views))
        self._health: DeviceHealth | None = None
        self._frozen: Observation | None = None
        self._note = ("", 0.0)
        self._news = 1
        self._ended_by_user = False
        self._stop = threading.Event()
        self._opened = threading.Event()
        self._error: SinkError | None = None
        # A daemon: a display server that hangs must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-window", daemon=True)
        self._thread.start()
        if not self._opened.wait(_OPENED_WITHIN_S):
            raise SinkError("the screen does not answer; is the display server well?")
        if self._error is not None:
            raise self._error

    def observe(self, observation: Observation) -> None:
        """Show this frame in the next picture."""
        self._check()
        self._views[observation.camera].observation = observation
        self._news += 1

    def change(self, change: LabelChange) -> None:
        """Show this label in the next picture."""
        self._views[change.camera].change = change

    def report(self, health: DeviceHealth) -> None:
        """Show this state in the next picture."""
        self._check()
        self._health = health
        self._news += 1

    def close(self) -> None:
        """Give the screen back."""
        self._stop.set()
        self._thread.join(timeout=2.0)

    def _check(self) -> None:
        if self._ended_by_user:
            raise OutputClosed
        if self._error is not None:
            raise self._error

    # The thread labelcam-window.

    def _run(self) -> None:
        screen: Screen | None = None
        try:
            screen = _open_screen(self._settings)
            scene = Scene()
            self._opened.set()
            drawn, period_s = 0, 1 / self._settings.max_fps
            while not self._stop.is_set():
                started = time.monotonic()
                if isinstance(screen, _Display):
                    self._handle_keys(screen)
                if self._note[0] and started > self._note[1]:
                    self._tell("")
                if self._news != drawn:
                    drawn = self._news
                    self._draw(scene, screen)
                self._stop.wait(max(0.005, period_s - (time.monotonic() - started)))
        except SinkError as error:
            self._error = error
        except (pygame.error, OSError) as error:
            self._error = SinkError(f"the screen is lost: {error}")
        finally:
            if screen is not None:
                screen.close()
            self._opened.set()

    def _draw(self, scene: "Scene", screen: Screen) -> None:
        turned = self._settings.rotate in (90, 270)
        width, height = screen.size[::-1] if turned else screen.size
        view = self._views[self._shown]
        feed = [v for v in self._views.values() if v.feed == view.feed]
        picture = scene.draw((width, height), view, feed, self._health, self._frozen, self._note[0])
        if self._settings.rotate:
            picture = np.asarray(cv2.rotate(picture, _ROTATIONS[self._settings.rotate]), np.uint8)
        screen.show(picture)

    def _handle_keys(self, display: "_Display") -> None:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._ended_by_user = True
            elif event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                self._news += 1
            elif event.type == pygame.KEYDOWN:
                self._press(event.key, display)

    def _press(self, key: int, display: "_Display") -> None:
        match key:
            case pygame.K_q | pygame.K_ESCAPE:
                self._ended_by_user = True
            case pygame.K_f | pygame.K_F11:
                display.toggle_fullscreen()
            case pygame.K_SPACE:
                held = self._frozen is not None
                self._frozen = None if held else self._views[self._shown].observation
            case pygame.K_s:
                self._save()
            case pygame.K_n | pygame.K_TAB:
                names = list(self._views)
                self._shown = names[(names.index(self._shown) + 1) % len(names)]
                self._frozen = None
            case pygame.K_UP | pygame.K_PLUS | pygame.K_KP_PLUS | pygame.K_EQUALS:
                self._move_threshold(_STEP)
            case pygame.K_DOWN | pygame.K_MINUS | pygame.K_KP_MINUS:
                self._move_threshold(-_STEP)
            case pygame.K_h | pygame.K_F1 | pygame.K_QUESTION:
                self._tell(
                    "q quit   f full screen   space freeze   s save   n next   up/down threshold"
                )
        self._news += 1

    def _move_threshold(self, step: float) -> None:
        healths = self._health.cameras if self._health else ()
        controls = next((c.controls for c in healths if c.name == self._shown), None)
        if controls is None:
            return
        value = round(min(1.0, max(_STEP, controls.enter + step)), 2)

        def told(answer: Answer) -> None:
            self._tell(answer.error or f"a label begins at {value:.2f}")

        try:
            self._device.submit(Command(self._shown, "enter", value), told)
        except CommandError as error:
            self._tell(str(error))

    def _save(self) -> None:
        """Write the picture that is shown to a file: the key is what asks for it."""
        view = self._views[self._shown]
        seen = self._frozen or view.observation
        if seen is None:
            return
        name = re.sub(r"[^\w-]+", "-", self._shown)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = state_directory() / "pictures" / f"{name}-{stamp}.jpg"
        picture = upright(seen.frame, view.camera.rotate, view.camera.mirror)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(picture, _QUALITY))
        except OSError as error:
            self._tell(f"{path} cannot be written: {error.strerror}")
        else:
            self._tell(f"saved {path}")

    def _tell(self, note: str) -> None:
        self._note = (note, time.monotonic() + _NOTE_S)
        self._news += 1


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
                label = view.change.label if view.change else "looking"
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
        elif view.change is None:
            label, colour = "looking", _SOFT
        else:
            label = view.change.label
            held = seen is not None and all(p.label != label for p in seen.predictions)
            colour = _WARN if held else _INK
        column = width // 2 if side_by_side else width
        big = self._fitted(label, column - 3 * unit, 5 * unit)
        self._canvas.blit(big.render(label, True, colour), (2 * unit, top + unit * 2))
        if seen and view.change and not trouble:
            since_s = max(0.0, seen.at - view.change.at)
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
        for number, prediction in enumerate(seen.predictions[:5]):
            y = top + number * row
            active = view.change is not None and prediction.label == view.change.label
            name = font.render(prediction.label, True, _INK if active else _SOFT)
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
        font = self._font(self._unit_of_text())
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


class _Display:
    """SDL's window, or the whole screen."""

    def __init__(self, *, fullscreen: bool) -> None:
        self._fullscreen = fullscreen
        try:
            pygame.display.init()
            # SDL's last resort is a screen in memory, which nobody sees.
            if pygame.display.get_driver() == "offscreen" and "SDL_VIDEODRIVER" not in os.environ:
                pygame.display.quit()
                raise pygame.error("SDL finds neither X11, Wayland nor KMS")
        except pygame.error as error:
            raise SinkError(
                f"there is no screen to show a window on ({error}); {_REMEDY}"
            ) from None
        pygame.display.set_caption("labelcam")
        self._window = self._set_mode()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what can be drawn on."""
        return self._window.get_size()

    def show(self, picture: Canvas) -> None:
        """Show a picture of just this size, else at its upper left corner."""
        height, width = picture.shape[:2]
        packed = np.ascontiguousarray(picture)
        surface = pygame.image.frombuffer(packed.data, (width, height), "BGRA")
        # The fourth byte is no transparency.
        surface.set_alpha(None)
        self._window.blit(surface, (0, 0))
        pygame.display.flip()

    def toggle_fullscreen(self) -> None:
        """Full screen, or a window again."""
        self._fullscreen = not self._fullscreen
        self._window = self._set_mode()

    def close(self) -> None:
        """Give the screen back."""
        pygame.display.quit()

    def _set_mode(self) -> pygame.Surface:
        flags = pygame.FULLSCREEN if self._fullscreen else pygame.RESIZABLE
        try:
            window = pygame.display.set_mode((0, 0) if self._fullscreen else _FIRST_SIZE, flags)
        except pygame.error as error:
            raise SinkError(f"the screen takes no picture ({error}); {_REMEDY}") from None
        pygame.mouse.set_visible(not self._fullscreen)
        pygame.display.set_allow_screensaver(False)
        return window


_REMEDY = (
    "start it on a desktop, or on the console of a device whose user is in the groups video, "
    "render and input"
)


def _open_screen(settings: config.Window) -> Screen:
    """SDL's screen, or the framebuffer where nothing else is there."""
    try:
        return _Display(fullscreen=settings.fullscreen)
    except SinkError:
        named = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"} & os.environ.keys()
        if named or not framebuffer.DEVICE.exists():
            raise
    return framebuffer.Framebuffer(framebuffer.DEVICE)


def _pixels(surface: pygame.Surface) -> Canvas:
    """The surface's own memory, (height, width, 4); to be forgotten before it is drawn on."""
    pixels: Canvas = np.asarray(surface.get_view("2"), np.uint32).T.view(np.uint8)
    # A line of 32-bit pixels has no padding, so that this too is a view.
    return pixels.reshape(*surface.get_size()[::-1], 4)
