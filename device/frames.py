"""A picture from a camera, and the one slot it waits in."""

import enum
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
# Which parts of a picture moved, (rows, columns).
Blocks = NDArray[np.bool_]

# Of a picture, in pixels.
SIDE_MAX = 8192
# How long ``put_in_turn`` may take to see that it should stop.
_TURN_S = 0.1


class PixelFormat(enum.Enum):
    """How ``Frame.pixels`` is laid out.

    BGR and RGB are (height, width, 3); GREY is (height, width); YUV420 is planar I420,
    (height * 3 / 2, stride) with the U and V planes packed two half-rows to a row, as
    Picamera2 and ``cv2.COLOR_YUV2BGR_I420`` have it. ``stride >= width``.
    """

    BGR = "BGR"
    RGB = "RGB"
    GREY = "GREY"
    YUV420 = "YUV420"


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Frame:
    """One picture, owned: its pixels are a copy that no driver will write again.

    ``number`` counts from 0 as the camera delivers, dropped frames included;
    ``captured_at`` is monotonic seconds (``time.monotonic``), of the exposure where the
    driver tells it and of arrival otherwise; ``width`` and ``height`` are of the picture,
    without row padding. ``large`` is the same moment in full size, where one was asked for
    and the camera has it.
    """

    pixels: Pixels
    format: PixelFormat
    width: int
    height: int
    number: int
    captured_at: float
    large: "Frame | None" = None

    def fault(self) -> str:
        """What keeps the frame from being looked at; empty when its pixels are as it says."""
        width, height, pixels = self.width, self.height, self.pixels
        if not (0 < width <= SIDE_MAX and 0 < height <= SIDE_MAX):
            return f"is {width}x{height}"
        rows, *rest = pixels.shape
        match self.format:
            case PixelFormat.YUV420:
                right = 2 * rows == 3 * height and len(rest) == 1 and rest[0] >= width
            case PixelFormat.GREY:
                right = (rows, *rest) == (height, width)
            case _:
                right = (rows, *rest) == (height, width, 3)
        if not right or pixels.dtype != np.uint8:
            return f"has {pixels.dtype} pixels of shape {pixels.shape} as {self.format.value}"
        return ""


class LatestFrame:
    """One slot: the camera thread puts, the node takes, a newer frame replaces an older.

    A queue would make the device see the past; what the slot replaces is counted in
    ``dropped``. Slots that share ``ready`` can be waited for together.
    """

    def __init__(self, ready: threading.Condition | None = None) -> None:
        self.ready = ready or threading.Condition()
        self.seen = 0
        self.dropped = 0
        self._frame: Frame | None = None
        self._ended = False
        self._end_taken = False
        self._error: Exception | None = None

    def put(self, frame: Frame) -> None:
        """Offer a frame; one that nobody took is replaced and counted as dropped."""
        with self.ready:
            self.seen += 1
            if self._frame is not None:
                self.dropped += 1
            self._frame = frame
            self.ready.notify_all()

    def put_in_turn(self, frame: Frame, stop: threading.Event) -> None:
        """Offer a frame once the one before it was taken, so that none is dropped.

        Gives up when ``stop`` is set.
        """
        with self.ready:
            while self._frame is not None:
                if stop.is_set():
                    return
                self.ready.wait(_TURN_S)
            self.put(frame)

    def clear(self) -> None:
        """Forget the frame that nobody took: its camera has stalled, and it is the past."""
        with self.ready:
            self._frame = None

    def end(self, error: Exception | None = None) -> None:
        """Say that no frame will follow, and why where it was not meant to end."""
        with self.ready:
            self._ended, self._error = True, error
            self.ready.notify_all()

    @property
    def pending(self) -> bool:
        """Whether ``take`` has something to say without waiting: a frame, or once the end."""
        return self._frame is not None or (self._ended and not self._end_taken)

    @property
    def ended(self) -> bool:
        """Whether the last frame was taken, none will follow, and ``take`` has raised why."""
        told = self._end_taken or self._error is None
        return self._ended and self._frame is None and told

    def take(self, timeout_s: float = 0.0) -> Frame | None:
        """The newest frame not yet taken, or None when none came in ``timeout_s`` seconds.

        Raises what the camera ended with, once its last frame was taken.
        """
        with self.ready:
            if not self.pending:
                self.ready.wait_for(lambda: self.pending, timeout_s)
            frame, self._frame = self._frame, None
            if frame is not None:
                self.ready.notify_all()
            self._end_taken = self._ended and frame is None
            if frame is None and self._error is not None:
                raise self._error
            return frame
