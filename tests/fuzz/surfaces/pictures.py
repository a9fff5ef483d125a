"""Pictures: from a disk, out of a camera's stream, and over HTTP."""

import contextlib
import http.client
import struct
import threading
import zlib
from pathlib import Path
from random import Random
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.cameras import jpegs
from device.cameras.mjpeg import decode_jpeg
from device.errors import CameraError, PictureError
from device.recordings.headers import UnusableError, jpeg_header
from device.recordings.pictures import is_picture, read_picture
from tests.fuzz import mutation
from tests.fuzz.surface import Answering, Surface


def _seeds() -> dict[str, list[bytes]]:
    """Small pictures of each kind."""
    shades = np.arange(24 * 17 * 4, dtype=np.uint32).reshape(24, 17, 4)
    colours = (shades * 2654435761 >> 24).astype(np.uint8)
    deep = colours.astype(np.uint16) * 257
    pictures = {
        "jpg": [
            _encoded(".jpg", colours[:, :, :3]),
            _encoded(".jpg", colours[:, :, 0]),
            _encoded(".jpg", colours[:, :, :3], cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
            _encoded(".jpg", colours[:, :, :3], cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
        ],
        "png": [_encoded(".png", one) for one in (colours, colours[:, :, :3], deep[:, :, 0])],
    }
    for suffix in ("webp", "tiff", "bmp", "ppm", "pgm"):
        grey = suffix == "pgm"
        pictures[suffix] = [_encoded(f".{suffix}", colours[:, :, 0] if grey else colours[:, :, :3])]
    pictures["tiff"].append(_encoded(".tiff", deep[:, :, :3]))
    pictures["webp"].append(_encoded(".webp", colours))
    pictures["pbm"] = [b"P1\n4 2\n0 1 0 1\n1 0 1 0\n", b"P4\n8 2\n\x55\xaa"]
    pictures["jpg"].append(_with_exif(pictures["jpg"][0]))
    return pictures


def _encoded(suffix: str, pixels: NDArray[Any], *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, pixels, options)[1])


def _with_exif(jpeg: bytes) -> bytes:
    """The picture lying on its side."""
    entry = struct.pack("<HHIHH", 0x112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def _mutated_jpeg(chance: Random, data: bytes) -> bytes:
    """A JPEG with changes in its segments, and segments at other places."""
    segments = [data[:2]]
    at = 2
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        segments.append(data[at : at + 2 + length])
        at += 2 + length
    segments.append(data[at:])
    for _ in range(chance.randint(1, 3)):
        index = chance.randrange(len(segments))
        way = chance.randrange(8)
        if way == 0:
            del segments[index]
        elif way == 1:
            segments.insert(chance.randrange(len(segments)), segments[index])
        else:
            segment = segments[index]
            changed = mutation.mutated(chance, segment, range(min(24, len(segment))))
            if way < 5 and len(changed) > 4:  # its length is right again
                changed = changed[:2] + struct.pack(">H", len(changed) - 2) + changed[4:]
            segments[index] = changed
        if not segments:
            break
    return b"".join(segments)


def _mutated_png(chance: Random, data: bytes) -> bytes:
    """A PNG with changes in its chunks, most of whose sums are right again."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length
        if chance.random() < 0.3:
            body = mutation.mutated(chance, body)
        if chance.random() < 0.05:
            kind = chance.choice((b"tRNS", b"PLTE", b"IDAT", b"IEND", b"eXIf", b"iCCP"))
        sum_ = zlib.crc32(kind + body)
        for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2))):
            out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", sum_)
    return bytes(out)


class Pictures(Surface):
    """A picture file, whatever its kind."""

    name = "pictures"
    share = 120
    memory_mb = 400

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._kinds = _seeds()

    def make(self, chance: Random) -> bytes:
        """One of a kind with changes, mostly where it says what it is."""
        kind = chance.choice(("jpg", "jpg", "png", *self._kinds))
        data = chance.choice(self._kinds[kind])
        way = chance.random()
        if kind == "jpg" and way < 0.6:
            return _mutated_jpeg(chance, data)
        if kind == "png" and way < 0.8:
            return _mutated_png(chance, data)
        places = range(min(64, len(data))) if chance.random() < 0.7 else ()
        return mutation.mutated(chance, data, places)

    def feed(self, data: bytes) -> None:
        """Read it."""
        file = self.folder / "picture"
        file.write_bytes(data)
        is_picture(file)
        with contextlib.suppress(PictureError):
            read_picture(file)


class Mjpeg(Surface):
    """A picture out of a camera's stream, and the size that the driver has said."""

    name = "mjpeg"
    share = 150

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._jpegs = _seeds()["jpg"]

    def make(self, chance: Random) -> bytes:
        """Width, height and reduction, two bytes each, and the picture."""
        width, height = chance.choice(((17, 24), (17, 24), (16, 24), (640, 480)))
        head = struct.pack("<HHH", width, height, chance.choice((1, 1, 2, 4, 8)))
        return head + _mutated_jpeg(chance, chance.choice(self._jpegs))

    def feed(self, data: bytes) -> None:
        """Decode it."""
        width, height, reduction = struct.unpack_from("<HHH", data.ljust(6, b"\1"))
        jpeg = data[6:]
        pixels = decode_jpeg(jpeg, width, height, reduction)
        assert pixels is None or pixels.shape[:2] == (
            -(-height // reduction),
            -(-width // reduction),
        )
        with contextlib.suppress(UnusableError, struct.error, IndexError):
            jpeg_header(jpeg)


class _AtOnce(threading.Event):
    """Ends no wait, and has none: who is to be asked again later is asked again now."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return self.is_set()


class HttpCamera(Surface):
    """What an address of a camera answers, once for each time that it is asked."""

    name = "http-camera"
    share = 25
    memory_mb = 400

    _BETWEEN = b"\n=====\n"
    _HEADS: ClassVar[tuple[bytes, ...]] = (
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Type: image/jpeg\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest realm=a, nonce=b, qop=auth, algorithm=MD5\r\n"
        b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=a\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n#EXTM3U\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=--b\r\n\r\n"
        b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace;boundary=b\r\n\r\n--b\r\n\r\n",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._jpegs = _seeds()["jpg"]
        self._server: Answering | None = None

    def make(self, chance: Random) -> bytes:
        """Up to three answers."""
        return self._BETWEEN.join(self._answer(chance) for _ in range(chance.randint(1, 3)))

    def _answer(self, chance: Random) -> bytes:
        head = chance.choice(self._HEADS)
        parts = []
        for _ in range(chance.randint(1, 3)):
            body = chance.choice(self._jpegs)
            if chance.random() < 0.5:
                body = _mutated_jpeg(chance, body)
            parts.append((head % len(body) if b"%" in head else head) + body)
            if b"multipart" in head:
                head = b"\r\n--b\r\nContent-Length: %d\r\n\r\n"
        data = b"".join(parts)
        if chance.random() < 0.7:
            data = mutation.mutated(chance, data, range(min(160, len(data))))
        return data

    def feed(self, data: bytes) -> None:
        """Ask it, and read pictures until there is none."""
        if self._server is None:
            self._server = Answering()
        self._server.answers = data.split(self._BETWEEN)
        url = f"http://user:secret@127.0.0.1:{self._server.port}/"
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            camera = jpegs.open_jpegs(url, url, config.Camera(), 2.0, 2.0, _AtOnce())
            if camera is None:
                return
            for _ in range(4):
                try:
                    camera.read()
                except CameraError:
                    break
            camera.release()

    def close(self) -> None:
        """Listen no more."""
        if self._server:
            self._server.close()
