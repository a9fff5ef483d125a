"""A screen to show pictures on: SDL's, or the framebuffer where there is none.

SDL finds the way: X11, Wayland, or the kernel's modesetting (kmsdrm).
"""

import os
from typing import Protocol

import numpy as np
import pygame
from numpy.typing import NDArray

from device import config
from device.errors import SinkError
from device.sinks.window import framebuffer

Canvas = NDArray[np.uint8]

_FIRST_SIZE = (1024, 768)
_REMEDY = (
    "start it on a desktop, or on the console of a device whose user is in the groups video, "
    "render and input"
)


class Screen(Protocol):
    """What a scene is shown on."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""

    def show(self, picture: Canvas) -> None:
        """Show a picture, BGRX, uint8, (height, width, 4)."""

    def close(self) -> None:
        """Give the screen back."""


class Display:
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


def open_screen(settings: config.Window) -> Screen:
    """SDL's screen, or the framebuffer where nothing else is there."""
    try:
        return Display(fullscreen=settings.fullscreen)
    except SinkError:
        named = {"DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"} & os.environ.keys()
        if named or not framebuffer.DEVICE.exists():
            raise
    return framebuffer.Framebuffer(framebuffer.DEVICE)
