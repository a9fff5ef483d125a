"""Video through OpenCV's FFmpeg: a file, or a camera's own HTTP or RTSP stream."""

import ctypes
import functools
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.cameras import REMEDY, Camera, Request, shown
from device.cameras.jpegs import open_jpegs
from device.cameras.pace import Pace
from device.errors import CameraError, CameraStalled, ConfigError, UsageError
from device.frames import Frame
from device.recordings.pictures import as_frame, quiet_opencv

_OPEN_TIMEOUT_S = 5.0
# The age of the last frame says first that a stream has stalled; then FFmpeg lets go too.
_READ_GRACE_S = 1.0
# A packet lost on the way fails one read; more in a row than this and the stream is over.
_LIVE_ATTEMPTS = 10
# A recording counts as whole when so little is missing: counts are often estimates.
_MISSING_FRAMES_MAX = 2
_MISSING_SHARE_MAX = 0.05
# Longer between two frames is a broken time stamp, not a pause.
_STEP_MAX_S = 10.0
_PIECE_MAX_BYTES = 24 << 20
_PORTS = {"http": 80, "https": 443, "rtsp": 554, "rtsps": 322}


def open_source(request: Request) -> Camera:
    """The camera at an http(s) or rtsp(s) address."""
    check_source(request)
    return _open_url(request.source, shown(request.source), request.settings, request.stop)


def check_source(request: Request) -> None:
    """Raise UsageError for what is no address, ConfigError where TLS cannot be verified."""
    source, scheme = shown(request.source), request.source.partition("://")[0].lower()
    if scheme not in ("http", "https", "rtsp", "rtsps"):
        raise UsageError(f"camera {source}: {scheme}:// is not a camera; {REMEDY}")
    if request.settings.tls_verify and scheme == "rtsps":
        raise _unverified(source)


def open_video(path: Path, source: str, stop: threading.Event) -> Camera:
    """The video file, played once at its recorded pace. Raises CameraError."""
    if path.stat().st_size == 0:
        raise CameraError(source, "is empty, 0 bytes; copy it again")
    # Absolute, since FFmpeg takes a relative name with a colon in it for a protocol.
    capture = _capture(str(path.absolute()))
    if not capture.isOpened():
        raise CameraError(
            source,
            "is neither a picture nor a video that can be read, or was cut off before its index; "
            "copy it again, or save it as MP4 or AVI",
        )
    return RecordedVideo(capture, source, stop)


def _open_url(url: str, source: str, settings: config.Camera, stop: threading.Event) -> Camera:
    """The stream at the URL: live, or played once where it has an end.

    Raises CameraError, ConfigError where a server is to be verified and cannot be.
    """
    read_timeout_s = settings.stall_s + _READ_GRACE_S
    if url.lower().startswith("http"):
        try:
            jpegs = open_jpegs(url, source, settings, read_timeout_s, _OPEN_TIMEOUT_S, stop)
        except CameraError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise CameraError(
                source,
                f"its certificate is not trusted ({error.verify_message}); let this system trust "
                "who signed it, or set camera.tls_verify to false to take whoever answers",
            ) from None
        except (OSError, ValueError, http.client.HTTPException):
            raise CameraError(source, _why_not(url)) from None
        if jpegs is not None:
            return LiveStream(jpegs, source, read_timeout_s, stop)
        if settings.tls_verify and url.lower().startswith("https"):
            raise _unverified(source)
    _bound_ffmpeg()
    capture = _capture(
        url,
        (
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC,
            int(_OPEN_TIMEOUT_S * 1000),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC,
            int(read_timeout_s * 1000),
        ),
    )
    if not capture.isOpened():
        raise CameraError(source, _why_not(url))
    if _frame_count(capture):
        return RecordedVideo(capture, source, stop)
    return LiveStream(capture, source, read_timeout_s, stop)


class RecordedVideo(Camera):
    """A video with an end: at the recorded pace, once, and an error when it breaks off."""

    live = False

    def __init__(self, capture: cv2.VideoCapture, source: str, stop: threading.Event) -> None:
        self.source = source
        self._capture = capture
        self._pace = Pace(stop)
        self._count = _frame_count(capture)
        fps = capture.get(cv2.CAP_PROP_FPS)
        self._step_s = 1 / fps if 0 < fps < 1000 else 1 / 25
        self._number = 0
        self._position_s = 0.0
        self._closed = False
        self._next = self._grab()
        if self._next is None:
            self.close()
            raise CameraError(source, "holds no frame that can be read; give another video")

    def read(self) -> Frame | None:
        """The next frame, BGR, when it is due."""
        pixels, self._next = self._next, None
        if pixels is None:
            pixels = self._grab()
        if pixels is None:
            if self._closed or not self._broke():
                return None
            raise CameraError(
                self.source,
                f"the video broke off at frame {self._number} of {self._count}; it is damaged or "
                "was cut off, copy it again",
            )
        if not self._pace.wait_until(self._position_s):
            return None
        frame = as_frame(pixels, self._number)
        self._number += 1
        return frame

    def close(self) -> None:
        """Close the file."""
        self._closed = True
        self._next = None
        self._capture.release()

    def _grab(self) -> NDArray[np.uint8] | None:
        taken, pixels = self._capture.read()
        if not taken:
            return None
        # Time stamps, since the frame rate of a video may vary; the rate where they are bad.
        position_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        if not 0 < position_s - self._position_s < _STEP_MAX_S:
            position_s = self._position_s + (self._step_s if self._number else 0.0)
        self._position_s = position_s
        return np.asarray(pixels, np.uint8)

    def _broke(self) -> bool:
        """Whether both count and time say that much is missing; either alone may mislead."""
        missing = self._count - self._number
        missing_s = self._count * self._step_s - self._position_s
        return (
            missing > max(_MISSING_FRAMES_MAX, _MISSING_SHARE_MAX * self._count)
            and missing_s > _MISSING_FRAMES_MAX * self._step_s
        )


class Capture(Protocol):
    """What a live stream reads from: OpenCV's capture, or our own."""

    def read(self) -> tuple[bool, Any]:
        """Whether there was a picture in time, and its pixels as OpenCV has them."""

    def release(self) -> None:
        """Hang up."""


class LiveStream(Camera):
    """A stream without an end: frames as they come."""

    def __init__(
        self, capture: Capture, source: str, timeout_s: float, stop: threading.Event
    ) -> None:
        self.source = source
        self._capture = capture
        self._timeout_s = timeout_s
        self._stop = stop
        self._number = 0
        self._closed = False

    def read(self) -> Frame | None:
        """The next frame, BGR, as soon as it is here."""
        asked_at = time.monotonic()
        for _ in range(_LIVE_ATTEMPTS):
            if self._closed or self._stop.is_set():
                return None
            taken, pixels = self._capture.read()
            if taken:
                frame = as_frame(np.asarray(pixels, np.uint8), self._number)
                self._number += 1
                return frame
            if time.monotonic() - asked_at >= self._timeout_s * 0.9:
                raise CameraStalled(
                    self.source,
                    f"gave no frame for {self._timeout_s:g} s after {self._number}; check the "
                    "camera and the network",
                )
        raise CameraError(
            self.source,
            f"the stream ended after {self._number} frames; check the camera and the network",
        )

    def close(self) -> None:
        """Hang up."""
        self._closed = True
        self._capture.release()


def _unverified(source: str) -> ConfigError:
    return ConfigError(
        "camera.tls_verify",
        f"true, but the FFmpeg in OpenCV cannot verify who sends {source}, only who sends JPEGs "
        "over https can be; set it to false to take whoever answers",
    )


@functools.cache
def _bound_ffmpeg() -> None:
    """Let no single piece of memory be larger than a frame of 16 megapixels needs.

    Else FFmpeg collects a packet of any length that a peer announces. OpenCV has no setting for
    it, and brings its FFmpeg along or takes the system's.
    """
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/libavutil" in line:
            library = ctypes.CDLL(line.split(maxsplit=5)[5])
            library.av_max_alloc(ctypes.c_size_t(_PIECE_MAX_BYTES))
            return


def _capture(target: str, options: Sequence[int] = ()) -> cv2.VideoCapture:
    quiet_opencv()
    return cv2.VideoCapture(target, cv2.CAP_FFMPEG, options)


def _frame_count(capture: cv2.VideoCapture) -> int:
    """How many frames the video says it has; 0 when it does not, as a live stream."""
    count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return int(count) if 0 < count < 1e9 else 0


def _why_not(url: str) -> str:
    """Why a URL did not open, as far as a connection tells; FFmpeg does not say."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    except ValueError:
        return "is no valid URL; write special characters in a password as %XX"
    try:
        socket.create_connection((host, port), _OPEN_TIMEOUT_S).close()
    except socket.gaierror:
        return f"the host {host} is not known; check its name"
    except TimeoutError:
        return f"nothing answers on port {port} for {_OPEN_TIMEOUT_S:g} s; check the address"
    except OSError as error:
        return f"port {port} cannot be reached: {error.strerror}; check address and camera"
    return (
        f"port {port} answers, but gave no video in {_OPEN_TIMEOUT_S:g} s; check the path, the "
        "user and the password in the URL"
    )
