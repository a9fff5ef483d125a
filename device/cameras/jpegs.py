"""The JPEGs of a camera on the network, in one answer without an end or in one answer each.

FFmpeg would collect a picture of whatever size a camera announces, and decode it before anybody
sees how large it is.
"""

import contextlib
import http.client
import ssl
import struct
import threading
import time
from typing import Protocol

from device import config
from device.cameras.http_get import Answer, ask
from device.cameras.mjpeg import decode_jpeg
from device.errors import CameraError
from device.frames import SIDE_MAX, Pixels
from device.recordings.headers import UnusableError, jpeg_header, jpeg_reduction

_JPEG_MAX_BYTES = 8 << 20
# libjpeg keeps every coefficient of a progressive JPEG: this is one of 5 megapixels.
_COEFFICIENTS_MAX_BYTES = 16 << 20
_PLAYLIST = b"#EXTM3U"
_PLAYLIST_MAX_BYTES = 1 << 20
_LINE_MAX_BYTES = 64 << 10
_STILLS = ("image/jpeg", "image/jpg", "image/pjpeg")
# The first picture may be damaged.
_FIRST_ATTEMPTS = 10
# Each still is a connection of its own.
_STILL_S = 1.0


class _TooLargeError(Exception):
    """How much a camera sends or announces, and how much is taken."""


class Jpegs:
    """Pictures as ``cv2.VideoCapture`` gives them: whether there was one, and its pixels.

    Those of over 4 megapixels are reduced to a half, a quarter or an eighth while they are
    decoded. What is too large raises CameraError before it is read or decoded.
    """

    def __init__(self, source: str, series: "_Series", timeout_s: float, deadline: float) -> None:
        self._source = source
        self._series = series
        self._timeout_s = timeout_s
        attempts = (self._picture(deadline) for _ in range(_FIRST_ATTEMPTS))
        self._first = next((pixels for pixels in attempts if pixels is not None), None)
        if self._first is None:
            self.release()
            raise ValueError("no picture")

    def read(self) -> tuple[bool, Pixels | None]:
        """The next picture; none where it is damaged, late, or the camera has hung up."""
        pixels, self._first = self._first, None
        if pixels is None:
            pixels = self._picture(time.monotonic() + self._timeout_s)
        return pixels is not None, pixels

    def release(self) -> None:
        """Hang up."""
        self._series.close()

    def _picture(self, deadline: float) -> Pixels | None:
        try:
            return _decoded(self._series.next(deadline))
        except _TooLargeError as problem:
            self.release()
            raise CameraError(self._source, f"{problem}; let it send smaller pictures") from None
        except (OSError, ValueError, http.client.HTTPException):
            return None


def open_jpegs(
    url: str,
    source: str,
    settings: config.Camera,
    read_timeout_s: float,
    open_timeout_s: float,
    stop: threading.Event,
) -> Jpegs | None:
    """The camera's pictures; None where the address gives something else than JPEGs.

    Raises CameraError for pictures that are too large; OSError, HTTPException or ValueError for
    an address that gives nothing.
    """
    trust = None
    if settings.tls_verify and url.lower().startswith("https://"):
        trust = ssl.create_default_context()
    deadline = time.monotonic() + open_timeout_s
    answer = ask(url, trust, deadline, stop)
    series: _Series
    if answer.status != http.HTTPStatus.OK:
        answer.close()
        raise ValueError(f"status {answer.status}")
    if answer.headers.get_content_maintype() == "multipart":
        series = _Parts(answer)
    elif answer.headers.get_content_type() in _STILLS:
        series = _Stills(answer, url, trust, max(_STILL_S, 1 / settings.fps), stop)
    else:
        with contextlib.closing(answer):
            _check_playlist(answer, source)
        return None
    return Jpegs(source, series, read_timeout_s, deadline)


def _check_playlist(answer: Answer, source: str) -> None:
    """Refuse a playlist of HLS whose every line FFmpeg would keep, if it were sent it again."""
    got = len(_PLAYLIST) if answer.read(len(_PLAYLIST)) == _PLAYLIST else 0
    while got and (more := answer.read(_LINE_MAX_BYTES)):
        got += len(more)
        if got > _PLAYLIST_MAX_BYTES:
            raise CameraError(
                source,
                f"sends a playlist of more than {_PLAYLIST_MAX_BYTES >> 20} MB; give the address "
                "of one that holds the last minutes",
            )


class _Series(Protocol):
    def next(self, deadline: float) -> bytes:
        """The next file, empty where none follows; raises what reading an answer does."""

    def close(self) -> None:
        """Hang up."""


class _Parts:
    """The parts of a multipart answer, which may or may not say how long they are."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        # Some cameras declare it with its dashes.
        boundary = str(answer.headers.get_param("boundary", "")).lstrip("-")
        self._delimiter = f"--{boundary}".encode("latin-1")
        self._is_at_part = False

    def next(self, deadline: float) -> bytes:
        self._answer.wait_until(deadline)
        while not self._is_at_part:
            if not (line := self._answer.line(_LINE_MAX_BYTES)):
                return b""
            self._is_at_part = line.startswith(self._delimiter)
        self._is_at_part = False
        length = None
        while line := self._answer.line(_LINE_MAX_BYTES).strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                length = int(value)
        if length is not None:
            return _collect(self._answer, length)
        data = bytearray()
        while line := self._answer.line(_LINE_MAX_BYTES):
            if line.startswith(self._delimiter):
                self._is_at_part = True
                break
            data += line
            _check_length(len(data))
        return bytes(data)

    def close(self) -> None:
        self._answer.close()


class _Stills:
    """One picture an answer, asked for again and again."""

    def __init__(
        self,
        answer: Answer,
        url: str,
        trust: ssl.SSLContext | None,
        interval_s: float,
        stop: threading.Event,
    ) -> None:
        self._answer: Answer | None = answer
        self._url = url
        self._trust = trust
        self._interval_s = interval_s
        self._stop = stop
        self._due = time.monotonic()

    def next(self, deadline: float) -> bytes:
        if self._stop.wait(max(0.0, self._due - time.monotonic())):
            return b""
        self._due = time.monotonic() + self._interval_s
        answer, self._answer = self._answer, None
        answer = answer or ask(self._url, self._trust, deadline, self._stop)
        try:
            answer.wait_until(deadline)
            length = answer.headers.get("Content-Length")
            return _collect(answer, None if length is None else int(length))
        finally:
            answer.close()

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


def _collect(answer: Answer, length: int | None) -> bytes:
    """So many bytes, or all up to the end."""
    _check_length(length or 0)
    most = _JPEG_MAX_BYTES + 1 if length is None else length
    data = bytearray()
    while len(data) < most and (more := answer.read(min(most - len(data), _LINE_MAX_BYTES))):
        data += more
    _check_length(len(data))
    return bytes(data)


def _check_length(length: int) -> None:
    if length > _JPEG_MAX_BYTES:
        raise _TooLargeError(
            f"sends a picture of {length:,} bytes, more than {_JPEG_MAX_BYTES >> 20} MB"
        )


def _decoded(data: bytes) -> Pixels | None:
    try:
        width, height, _, coefficient_bytes, _ = jpeg_header(data)
    except (UnusableError, struct.error, IndexError):
        return None
    if max(width, height) > SIDE_MAX:
        raise _TooLargeError(f"sends a picture of {width}x{height}, more than {SIDE_MAX} a side")
    if coefficient_bytes > _COEFFICIENTS_MAX_BYTES:
        raise _TooLargeError(
            f"sends a progressive JPEG of {width}x{height}, which takes "
            f"{coefficient_bytes >> 20} MB to decode, more than {_COEFFICIENTS_MAX_BYTES >> 20} MB"
        )
    return decode_jpeg(data, width, height, jpeg_reduction(width, height))
