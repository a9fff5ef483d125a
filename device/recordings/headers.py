"""What a picture says of itself before anything of it is decoded: its kind and its size."""

import re
import struct
from dataclasses import dataclass

# No model here looks at half a megapixel, and libjpeg reduces by averaging, without aliasing.
_JPEG_MAX_PIXELS = 4_000_000


class UnusableError(Exception):
    """What is wrong with a picture and what to do, before its path is known."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a picture says of itself; ``pixel_bytes`` is what one pixel takes decoded.

    ``length`` is how many bytes of the file are the picture's; None is all.
    """

    width: int
    height: int
    pixel_bytes: int
    alpha: bool = False
    length: int | None = None


def kind_of(head: bytes) -> str:
    """What a file is by its first 32 bytes; empty when unknown."""
    if head.startswith(b"RIFF"):
        return "WebP" if head[8:12] == b"WEBP" else "video"
    if head[4:8] == b"ftyp":
        return "HEIC" if head[8:12] in _HEIC_BRANDS else "video"
    return next((kind for kind, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL)), "")


_MAGIC = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "TIFF": rb"II\*\0|MM\0\*",
    "BMP": rb"BM.{4}\0{4}",
    "PNM": rb"P[1-6]\s",
    "video": rb"\x1aE\xdf\xa3",  # Matroska and WebM
}
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis")


def jpeg_header(data: bytes) -> tuple[int, int, int, int, int]:
    """Width, height, components, bytes of the coefficients held, where the first scan starts."""
    width = height = components = coefficient_bytes = 0
    at = 2
    while True:
        if data[at] != 0xFF:
            raise UnusableError(f"is corrupt at byte {at}; copy it again")
        marker = data[at + 1]
        if marker == 0xFF or 0xD0 <= marker <= 0xD7 or marker == 0x01:  # padding, no length
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, components = struct.unpack_from(">xHHB", data, at + 4)
            factors = [data[at + 11 + 3 * i] for i in range(components)]
            most = max(((f >> 4) * (f & 15) for f in factors), default=0)
            share = sum((f >> 4) * (f & 15) for f in factors) / most if most else 0
            # Two bytes a coefficient; the sampling factors say what share of the pixels.
            coefficient_bytes = int(2 * width * height * share) if marker == 0xC2 else 0
        if marker == 0xDA:
            if not (width and height and components):
                raise UnusableError("is corrupt, a JPEG without a size; copy it again")
            return width, height, components, coefficient_bytes, at + 2 + length
        at += 2 + length


def jpeg_reduction(width: int, height: int) -> int:
    """By how much a JPEG is reduced while it is decoded: 1, 2, 4 or 8."""
    reduction = 1
    while width * height > _JPEG_MAX_PIXELS * reduction**2 and reduction < 8:
        reduction *= 2
    return reduction


def _png_header(data: bytes) -> Header:
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    channels = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}.get(colour)
    if channels is None or depth not in (1, 2, 4, 8, 16):
        raise UnusableError(f"is corrupt, a PNG with colour type {colour}; copy it again")
    # OpenCV makes room for whatever length a chunk claims, 4 GB at most, before it reads it.
    at, kind, transparent = 8, b"", False
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            raise UnusableError(
                f"is cut off after {len(data)} bytes, without an end; copy it again"
            )
        transparent |= kind == b"tRNS"
    alpha = colour > 3 or transparent
    # In one without pixels OpenCV reads on behind the end, where a length may be any.
    return Header(width, height, channels * (2 if depth == 16 else 1), alpha, at)


def _bmp_header(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 14)
    if size == 12:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    # The fourth byte of a 32-bit BMP is padding more often than alpha, so it is passed over.
    return Header(width, abs(height), 4)


def _webp_header(data: bytes) -> Header:
    kind = data[12:16]
    if int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise UnusableError(f"is cut off after {len(data)} bytes; copy it again")
    if kind == b"VP8X":
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return Header(width, height, 4, bool(data[20] & 0x10))
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return Header((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, 4, bool(bits >> 28 & 1))
    width, height = struct.unpack_from("<HH", data, 26)
    return Header(width & 0x3FFF, height & 0x3FFF, 4)


def _tiff_header(data: bytes) -> Header:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (entries,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, int] = {}
    for i in range(entries):
        tag, kind, _ = struct.unpack_from(order + "HHI", data, at + 2 + 12 * i)
        form = order + ("H" if kind == 3 else "I")
        (tags[tag],) = struct.unpack_from(form, data, at + 10 + 12 * i)
    samples = tags.get(277, 1)
    # Not every writer says that the fourth sample of RGB (2) is alpha, by ExtraSamples (338).
    alpha = 338 in tags or (samples == 4 and tags.get(262) == 2)
    # Bits a sample may stand elsewhere in the file; 16 is the most that is read.
    return Header(tags.get(256, 0), tags.get(257, 0), 2 * max(samples, 1), alpha)


def _pnm_header(data: bytes) -> Header:
    fields = re.match(rb"P[1-6](?:\s+(?:#[^\n]*\n\s*)*)(\d+)\s+(?:#[^\n]*\n\s*)*(\d+)", data[:4096])
    if fields is None:
        raise UnusableError("is corrupt, a PNM without a size; copy it again")
    return Header(int(fields[1]), int(fields[2]), 6)


HEADERS = {
    "PNG": _png_header,
    "BMP": _bmp_header,
    "WebP": _webp_header,
    "TIFF": _tiff_header,
    "PNM": _pnm_header,
}
KINDS = ("JPEG", *HEADERS)
