"""The sink that shows the live picture on a screen.

All of SDL lives on one thread, which draws the newest frame at a rate of its own, so that
inference never waits for a screen.
"""

import re
import threading
import time
from collections.abc import Sequence
from datetime import datetime

import cv2
import numpy as np
import pygame

from device import config
from device.control.commands import Answer, Command, Device
from device.control.table import CONTROLS, limits
from device.errors import CommandError, OutputClosed, SinkError
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.frames import Frame
from device.recordings.rendering import ROTATIONS, jpeg, upright
from device.sinks.window.display import Display, Screen, open_screen
from device.sinks.window.scene import Scene, View
from device.system.paths import state_directory

_OPENED_WITHIN_S = 10.0
_NOTE_S = 4.0
_STEP = 0.05
_QUALITY = 92


class WindowSink(Sink):
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
        self._camera = next(iter(self._views))
        self._health: DeviceHealth | None = None
        self._frozen: Observation | None = None
        self._note = ("", 0.0)
        self._version = 1
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
        self._version += 1

    def change(self, change: LabelChange, _frame: Frame | None = None, /) -> None:
        """Show this label in the next picture."""
        view = self._views[change.camera]
        view.standing = view.standing.after(change)

    def report(self, health: DeviceHealth) -> None:
        """Show this state in the next picture."""
        self._check()
        self._health = health
        self._version += 1

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
            screen = open_screen(self._settings)
            scene = Scene()
            self._opened.set()
            drawn, period_s = 0, 1 / self._settings.max_fps
            while not self._stop.is_set():
                started = time.monotonic()
                if isinstance(screen, Display):
                    self._handle_keys(screen)
                if self._note[0] and started > self._note[1]:
                    self._show_note("")
                if self._version != drawn:
                    drawn = self._version
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

    def _draw(self, scene: Scene, screen: Screen) -> None:
        turned = self._settings.rotate in (90, 270)
        width, height = screen.size[::-1] if turned else screen.size
        view = self._views[self._camera]
        feed = [v for v in self._views.values() if v.feed == view.feed]
        picture = scene.draw((width, height), view, feed, self._health, self._frozen, self._note[0])
        if self._settings.rotate:
            picture = np.asarray(cv2.rotate(picture, ROTATIONS[self._settings.rotate]), np.uint8)
        screen.show(picture)

    def _handle_keys(self, display: Display) -> None:
        for event in pygame.event.get():
            if event.type == pygame.QUIT:
                self._ended_by_user = True
            elif event.type in (pygame.VIDEORESIZE, pygame.VIDEOEXPOSE):
                self._version += 1
            elif event.type == pygame.KEYDOWN:
                self._press(event.key, display)

    def _press(self, key: int, display: Display) -> None:
        match key:
            case pygame.K_q | pygame.K_ESCAPE:
                self._ended_by_user = True
            case pygame.K_f | pygame.K_F11:
                display.toggle_fullscreen()
            case pygame.K_SPACE:
                held = self._frozen is not None
                self._frozen = None if held else self._views[self._camera].observation
            case pygame.K_s:
                self._save()
            case pygame.K_n | pygame.K_TAB:
                names = list(self._views)
                self._camera = names[(names.index(self._camera) + 1) % len(names)]
                self._frozen = None
            case pygame.K_UP | pygame.K_PLUS | pygame.K_KP_PLUS | pygame.K_EQUALS:
                self._move_threshold(_STEP)
            case pygame.K_DOWN | pygame.K_MINUS | pygame.K_KP_MINUS:
                self._move_threshold(-_STEP)
            case pygame.K_h | pygame.K_F1 | pygame.K_QUESTION:
                self._show_note(
                    "q quit   f full screen   space freeze   s save   n next   up/down threshold"
                )
        self._version += 1

    def _move_threshold(self, step: float) -> None:
        healths = self._health.cameras if self._health else ()
        controls = next((c.controls for c in healths if c.name == self._camera), None)
        if controls is None:
            return
        _, most = limits(CONTROLS["enter"])
        value = round(min(most, max(_STEP, controls.enter + step)), 2)

        def report(answer: Answer) -> None:
            self._show_note(answer.error or f"a label begins at {value:.2f}")

        try:
            self._device.submit(Command(self._camera, "enter", value), report)
        except CommandError as error:
            self._show_note(str(error))

    def _save(self) -> None:
        """Write the picture that is shown to a file: the key is what asks for it."""
        view = self._views[self._camera]
        seen = self._frozen or view.observation
        if seen is None:
            return
        name = re.sub(r"[^\w-]+", "-", self._camera)
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")[:-3]
        path = state_directory() / "pictures" / f"{name}-{stamp}.jpg"
        picture = upright(seen.frame, view.camera.rotate, view.camera.mirror)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(jpeg(picture, _QUALITY))
        except OSError as error:
            self._show_note(f"{path} cannot be written: {error.strerror}")
        else:
            self._show_note(f"saved {path}")

    def _show_note(self, note: str) -> None:
        self._note = (note, time.monotonic() + _NOTE_S)
        self._version += 1
