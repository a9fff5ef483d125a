"""A picture on disk becomes a frame; a bad one becomes one line that says why.

The size that a file claims is checked before anything is decoded, so that no picture takes
more memory than a small device has, and damage is looked for, since a decoder would rather
fill the rest with grey.
"""

import contextlib
import os
import re
import stat
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from device.errors import PictureError
from device.frames import Frame, PixelFormat
from device.recordings.headers import (
    HEADERS,
    KINDS,
    Header,
    UnusableError,
    jpeg_header,
    jpeg_reduction,
    kind_of,
)
from device.system.stderr import caught

# HEIC and AVIF too, so that a folder of them is not passed over in silence.
_SUFFIX = re.compile(r"\.(jpe?g|jpe|png|webp|bmp|tiff?|p[bgpn]m|hei[cf]|avif)", re.IGNORECASE)

_READABLE = "JPEG, PNG, WebP, TIFF, BMP or PNM"
_FILE_MAX_BYTES = 128 << 20
# OpenCV holds a PNG or TIFF up to twice while it decodes; the device may have 512 MB.
_DECODED_MAX_BYTES = 96 << 20
# libjpeg keeps every coefficient of a progressive JPEG, however small the result.
_COEFFICIENTS_MAX_BYTES = 192 << 20


def read_picture(path: str | os.PathLike[str], number: int = 0) -> Frame:
    """The picture as a frame: BGR, or GREY where the file is grey; upright, 8 bits.

    EXIF orientation is applied; 16 bits become 8; what is transparent shows white. A JPEG
    over 4 megapixels is decoded at a half, a quarter or an eighth of its size. Raises
    PictureError.
    """
    path = Path(path)
    data = _load(path)
    kind = kind_of(data)
    quiet_opencv()
    try:
        pixels = _decode_jpeg(data) if kind == "JPEG" else _decode(kind, data)
        return as_frame(_eight_bits(pixels), number)
    except (struct.error, IndexError):
        raise PictureError(path, "is cut off within its header; copy it again") from None
    except UnusableError as problem:
        raise PictureError(path, str(problem)) from None


def find_pictures(path: str | os.PathLike[str]) -> list[Path]:
    """The file itself, or the pictures directly in the folder in natural order.

    Pictures are told by suffix and hidden files passed over. Raises PictureError where
    there is nothing, or a folder without a picture.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            path.stat()
            return [path]
        found = [p for p in path.iterdir() if _SUFFIX.fullmatch(p.suffix) and p.name[0] != "."]
    except OSError as error:
        raise _unreadable(path, error) from None
    if not found:
        raise PictureError(path, f"the folder holds no picture; put {_READABLE} files into it")
    return sorted(found, key=lambda p: [_ordinal(s) for s in re.split(r"(\d+)", p.name.lower())])


def is_picture(path: Path) -> bool:
    """Whether the file is a picture by its first bytes, or means to be one by its suffix."""
    with path.open("rb") as file:
        kind = kind_of(file.read(32))
    return kind in KINDS or kind == "HEIC" or bool(_SUFFIX.fullmatch(path.suffix))


def as_frame(pixels: NDArray[Any], number: int) -> Frame:
    """A frame of pixels as OpenCV gives them: BGR, or grey with two dimensions; taken now."""
    height, width = pixels.shape[:2]
    layout = PixelFormat.GREY if pixels.ndim == 2 else PixelFormat.BGR
    return Frame(pixels, layout, width, height, number, time.monotonic())


def quiet_opencv() -> None:
    """Keep OpenCV and the FFmpeg in it from writing to stderr: labelcam says it in one line.

    To be called before OpenCV opens its first video. Who sets ``OPENCV_LOG_LEVEL`` or
    ``OPENCV_FFMPEG_LOGLEVEL`` gets to see it all.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    if os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT") == "SILENT":
        cv2.setLogLevel(0)


def _ordinal(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() else (-1, part)


def _unreadable(path: Path, error: OSError) -> PictureError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return PictureError(path, "no such file or folder; check the path")
    if isinstance(error, PermissionError):
        return PictureError(path, "may not be read by this user; check its permissions")
    return PictureError(path, f"cannot be read: {error.strerror}; check the path and the disk")


def _load(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise PictureError(path, "is a folder; give the files in it")
        # Opening a pipe would wait for its writer, perhaps for ever.
        if not stat.S_ISREG(status.st_mode):
            raise PictureError(path, f"is not a file; give a {_READABLE} file")
        if status.st_size == 0:
            raise PictureError(path, "is empty, 0 bytes; copy it again")
        if status.st_size > _FILE_MAX_BYTES:
            raise PictureError(
                path,
                f"is a file of {status.st_size >> 20} MB, more than {_FILE_MAX_BYTES >> 20} MB; "
                "save it smaller",
            )
        data = path.read_bytes()
    except PictureError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from None
    kind = kind_of(data)
    if kind == "HEIC":
        raise PictureError(path, f"is HEIC or AVIF, which is not read; save it as {_READABLE}")
    if kind == "video":
        raise PictureError(path, "is a video; play it with `labelcam run --source FILE`")
    if kind not in KINDS:
        raise PictureError(path, f"is not a picture that can be read; give {_READABLE}")
    return data


def _decode_jpeg(data: bytes) -> NDArray[Any]:
    width, height, components, coefficient_bytes, scan = jpeg_header(data)
    # In a scan 0xFF is always followed by 0 or a restart number, so that this is the end of
    # the picture itself and not of the thumbnail in its EXIF, which came before the scan.
    if data.find(b"\xff\xd9", scan) < 0:
        raise UnusableError(f"is cut off after {len(data)} bytes, without an end; copy it again")
    if coefficient_bytes > _COEFFICIENTS_MAX_BYTES:
        raise UnusableError(
            f"is a progressive JPEG of {width}x{height}, which takes {coefficient_bytes >> 20} MB "
            f"to decode, more than {_COEFFICIENTS_MAX_BYTES >> 20} MB; save it as baseline or "
            "smaller"
        )
    reduction = jpeg_reduction(width, height)
    _check_size(Header(-(-width // reduction), -(-height // reduction), components))
    flag = cv2.IMREAD_ANYCOLOR
    if reduction > 1:
        shade = "GRAYSCALE" if components == 1 else "COLOR"
        flag = getattr(cv2, f"IMREAD_REDUCED_{shade}_{reduction}")
    return _imdecode(data, flag)


def _decode(kind: str, data: bytes) -> NDArray[Any]:
    header = HEADERS[kind](data)
    _check_size(header)
    # UNCHANGED keeps alpha and leaves the EXIF orientation alone: only where alpha is.
    flag = cv2.IMREAD_UNCHANGED if header.alpha else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    return _imdecode(data[: header.length], flag)


def _check_size(header: Header) -> None:
    width, height = header.width, header.height
    if width <= 0 or height <= 0:
        raise UnusableError(f"is {width}x{height}, which is no picture; copy it again")
    decoded_bytes = width * height * header.pixel_bytes
    if decoded_bytes > _DECODED_MAX_BYTES:
        raise UnusableError(
            f"is {width}x{height}, which takes {decoded_bytes >> 20} MB decoded, more than "
            f"{_DECODED_MAX_BYTES >> 20} MB; save it as baseline JPEG or smaller"
        )


def _imdecode(data: bytes, flag: int) -> NDArray[Any]:
    with _codec_complaints() as complaints:
        try:
            pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        except cv2.error:
            pixels = None
    if pixels is None or any(_DAMAGE.match(line) for line in complaints):
        raise UnusableError("is corrupt and cannot be decoded; copy it again, or save it anew")
    return pixels


# libjpeg fills what it cannot decode with grey and goes on. Bytes too many it finds often, in
# the pictures of some cameras, and they harm nothing.
_DAMAGE = re.compile(rb"Corrupt JPEG data: (?!\d+ extraneous)|Premature end of JPEG")
_COMPLAINT = re.compile(
    rb"Corrupt JPEG|Premature end of JPEG|Inconsistent progression|Invalid (SOS|component)"
    rb"|Unknown Adobe|Warning: unknown JFIF|Application transferred|libpng (warning|error)"
)


@contextlib.contextmanager
def _codec_complaints() -> Iterator[list[bytes]]:
    """What libjpeg and libpng write to stderr meanwhile, a line each, instead of writing it.

    It is the only way in which libjpeg tells damage. Lines of others go where they belong
    afterwards.
    """
    complaints: list[bytes] = []
    with caught() as lines:
        yield complaints
    for line in lines:
        if _COMPLAINT.match(line):
            complaints.append(line)
        else:
            with contextlib.suppress(OSError):
                os.write(2, line)


def _eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Pixels of 8 bits, grey or BGR, whatever the depth and whether there is alpha."""
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UnusableError(f"has {pixels.dtype} pixels; save it with 8 or 16 bits a channel")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels not in (1, 3, 4):
        raise UnusableError(f"has {channels} channels; save it as grey, RGB or RGBA")
    if pixels.dtype == np.uint8 and channels == 3:
        return pixels
    height, width = pixels.shape[:2]
    result = np.empty((height, width) if channels == 1 else (height, width, 3), np.uint8)
    # Strip by strip, since the intermediate copies of a whole large picture would not fit.
    for top in range(0, height, 256):
        strip = pixels[top : top + 256]
        if strip.dtype == np.uint16:
            strip = ((strip.astype(np.uint32) + 128) // 257).astype(np.uint8)  # 65535 / 255
        if channels == 4:
            alpha = strip[:, :, 3:].astype(np.uint16)
            white = 255 * (255 - alpha)
            strip = ((strip[:, :, :3] * alpha + white + 127) // 255).astype(np.uint8)
        result[top : top + 256] = strip.reshape(result[top : top + 256].shape)
    return result
