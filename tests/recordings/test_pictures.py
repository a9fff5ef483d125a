"""Every picture a user may have, and each bad one told in one line with nothing on stderr."""

import contextlib
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from device.errors import PictureError
from device.frames import PixelFormat
from device.recordings.pictures import find_pictures, read_picture

COLOUR = np.asarray(
    cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8), (64, 48)),
    np.uint8,
)


def encoded(suffix: str, pixels: NDArray[np.uint8] | NDArray[np.uint16], *options: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return bytes(data)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, row: bytes, *extra: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    packed = zlib.compress((b"\0" + row) * min(height, 64))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", packed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def exif(orientation: int) -> bytes:
    """An APP1 segment that says how the camera was held."""
    body = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "picture"


def refused(path: Path) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(path)
    message = str(caught.value)
    assert "\n" not in message
    start = f"picture {path}: "
    assert message.startswith(start)
    return message.removeprefix(start)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp", ".ppm"])
def test_every_format_in_colour(path: Path, suffix: str) -> None:
    path.write_bytes(encoded(suffix, COLOUR))
    frame = read_picture(str(path), number=7)
    assert (frame.width, frame.height, frame.number) == (64, 48, 7)
    assert frame.format is PixelFormat.BGR
    assert frame.pixels.dtype == np.uint8
    assert frame.pixels.flags.c_contiguous
    assert np.abs(frame.pixels.astype(int) - COLOUR).mean() < 4


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".bmp", ".pgm"])
def test_grey_stays_grey(path: Path, suffix: str) -> None:
    path.write_bytes(encoded(suffix, np.ascontiguousarray(COLOUR[:, :, 0])))
    frame = read_picture(path)
    assert frame.format is PixelFormat.GREY
    assert frame.pixels.shape == (48, 64)
    assert np.abs(frame.pixels.astype(int) - COLOUR[:, :, 0]).mean() < 4


@pytest.mark.parametrize(
    ("suffix", "grey"),
    [(".png", 0), (".png", 1), (".tiff", 0), (".tiff", 1), (".ppm", 0), (".pgm", 1)],
)
def test_16_bits_become_8(path: Path, suffix: str, grey: int) -> None:
    pixels = COLOUR[:, :, 0] if grey else COLOUR
    wide = np.ascontiguousarray(pixels).astype(np.uint16) * np.uint16(257)
    path.write_bytes(encoded(suffix, wide))
    assert (read_picture(path).pixels == pixels).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("depth", [8, 16])
def test_what_is_transparent_shows_white(path: Path, suffix: str, depth: int) -> None:
    pixels = np.zeros((300, 4, 4), np.uint8)
    pixels[:, 0] = (10, 20, 30, 255)
    pixels[:, 1] = (10, 20, 30, 0)
    pixels[:, 2] = (0, 0, 0, 51)
    path.write_bytes(
        encoded(suffix, pixels if depth == 8 else pixels.astype(np.uint16) * np.uint16(257))
    )
    frame = read_picture(path)
    assert frame.format is PixelFormat.BGR
    assert frame.pixels[-1].tolist() == [[10, 20, 30], [255] * 3, [204] * 3, [255] * 3]


def test_alpha_in_webp_and_in_grey_png(path: Path) -> None:
    pixels = np.full((4, 4, 4), 255, np.uint8)
    pixels[:2] = 0
    path.write_bytes(encoded(".webp", pixels, cv2.IMWRITE_WEBP_QUALITY, 101))
    assert read_picture(path).pixels.tolist() == [[[255] * 3] * 4] * 4
    path.write_bytes(png(2, 1, 8, 4, bytes([9, 255, 9, 0])))
    assert read_picture(path).pixels.tolist() == [[[9] * 3, [255] * 3]]


def test_a_palette_with_a_transparent_entry(path: Path) -> None:
    palette = chunk(b"PLTE", bytes([1, 2, 3, 4, 5, 6]))
    path.write_bytes(png(2, 1, 8, 3, bytes([0, 1]), palette))
    assert read_picture(path).pixels.tolist() == [[[3, 2, 1], [6, 5, 4]]]
    path.write_bytes(png(2, 1, 8, 3, bytes([0, 1]), palette, chunk(b"tRNS", bytes([255, 0]))))
    assert read_picture(path).pixels.tolist() == [[[3, 2, 1], [255] * 3]]


def test_the_padding_byte_of_a_bmp_is_not_alpha(path: Path) -> None:
    header = b"BM" + struct.pack("<IIIIiiHHIIIIII", 58, 0, 54, 40, 1, 1, 1, 32, 0, 4, 0, 0, 0, 0)
    path.write_bytes(header + bytes([10, 20, 30, 0]))
    assert read_picture(path).pixels.tolist() == [[[10, 20, 30]]]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp", ".ppm"])
def test_one_pixel(path: Path, suffix: str) -> None:
    path.write_bytes(encoded(suffix, np.full((1, 1, 3), 200, np.uint8)))
    frame = read_picture(path)
    assert frame.pixels.shape == (1, 1, 3)
    assert np.abs(frame.pixels.astype(int) - 200).max() < 8


@pytest.mark.parametrize(
    ("orientation", "corner"), [(1, (0, 0)), (3, (1, 1)), (6, (0, 1)), (8, (1, 0)), (2, (0, 1))]
)
def test_is_upright(path: Path, orientation: int, corner: tuple[int, int]) -> None:
    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:8, :8] = 255
    jpeg = encoded(".jpg", pixels)
    path.write_bytes(jpeg[:2] + exif(orientation) + jpeg[2:])
    frame = read_picture(path)
    assert (frame.width, frame.height) == ((32, 64) if orientation > 4 else (64, 32))
    row, column = corner[0] * (frame.height - 1), corner[1] * (frame.width - 1)
    assert frame.pixels[row, column].min() > 240


def peak_mb(path: Path) -> tuple[int, str]:
    """Peak resident memory of a process that reads the picture, and what came of it."""
    code = (
        "import sys; from device.errors import PictureError\n"
        "from device.recordings.pictures import read_picture\n"
        "try: print(read_picture(sys.argv[1]).pixels.shape)\n"
        "except PictureError as error: print(error)\n"
        # Not getrusage: its peak survives exec, and would be that of the whole test run.
        "status = open('/proc/self/status').read()\n"
        "print(int(status.split('VmHWM:')[1].split()[0]) >> 10)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    outcome, peak = done.stdout.splitlines()
    return int(peak), outcome


@pytest.mark.slow
def test_108_megapixels_of_jpeg(path: Path) -> None:
    """A subprocess, because peak memory never falls again."""
    whole = np.zeros((9000, 12000), np.uint8)
    path.write_bytes(encoded(".jpg", whole))
    peak, outcome = peak_mb(path)
    assert outcome == "(1125, 1500)"
    assert peak < 200


def test_108_megapixels_of_anything_else(path: Path) -> None:
    path.write_bytes(png(12000, 9000, 8, 2, bytes(36000)))
    peak, outcome = peak_mb(path)
    assert outcome == (
        f"picture {path}: is 12000x9000, which takes 308 MB decoded, more than 96 MB; save it as "
        "baseline JPEG or smaller"
    )
    assert peak < 200


def test_a_large_progressive_jpeg(path: Path) -> None:
    jpeg = bytearray(encoded(".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    frame = jpeg.index(b"\xff\xc2")
    struct.pack_into(">HH", jpeg, frame + 5, 9000, 12000)
    path.write_bytes(jpeg)
    assert refused(path) == (
        "is a progressive JPEG of 12000x9000, which takes 308 MB to decode, more than 192 MB; "
        "save it as baseline or smaller"
    )


def test_a_progressive_jpeg_of_common_size(path: Path) -> None:
    path.write_bytes(encoded(".jpg", COLOUR, cv2.IMWRITE_JPEG_PROGRESSIVE, 1))
    assert read_picture(path).width == 64


@pytest.mark.parametrize(
    ("kind", "claim"),
    [(".bmp", (18, "<ii")), (".tiff", None), (".ppm", None), (".webp", (26, "<HH"))],
)
def test_a_header_that_claims_too_much(
    path: Path, kind: str, claim: tuple[int, str] | None
) -> None:
    lossy = (cv2.IMWRITE_WEBP_QUALITY, 90) if kind == ".webp" else ()
    data = bytearray(encoded(kind, COLOUR, *lossy))
    if claim:
        struct.pack_into(claim[1], data, claim[0], 12000, 9000)
    elif kind == ".ppm":
        data[:] = data.replace(b"64 48", b"12000 9000", 1)
    else:
        (at,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, at)[0]):
            tag, form = struct.unpack_from("<HH", data, at + 2 + 12 * i)
            if tag in (256, 257):
                size = 12000 if tag == 256 else 9000
                struct.pack_into("<H" if form == 3 else "<I", data, at + 10 + 12 * i, size)
    path.write_bytes(data)
    assert refused(path).startswith("is 12000x9000, which takes ")


class TestBad:
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.99])
    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff", ".bmp", ".ppm"])
    def test_cut_off(
        self, path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]
    ) -> None:
        data = encoded(suffix, COLOUR)
        path.write_bytes(data[: max(16, int(len(data) * share))])
        assert refused(path).endswith(("copy it again", "copy it again, or save it anew"))
        assert capfd.readouterr().err == ""

    def test_half_a_jpeg_with_a_whole_thumbnail(self, path: Path) -> None:
        jpeg = encoded(".jpg", COLOUR)
        thumbnail = encoded(".jpg", COLOUR[:8, :8])
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        path.write_bytes((jpeg[:2] + segment + jpeg[2:])[: -len(jpeg) // 2])
        assert "is cut off after" in refused(path)

    def test_a_jpeg_with_something_after_its_end(self, path: Path) -> None:
        path.write_bytes(encoded(".jpg", COLOUR) + b"a phone's own data")
        assert read_picture(path).width == 64

    def test_a_damaged_png(self, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        data = bytearray(encoded(".png", COLOUR))
        data[len(data) // 2] ^= 255
        path.write_bytes(data)
        assert refused(path).startswith("is corrupt and cannot be decoded; copy")
        assert capfd.readouterr().err == ""

    def test_a_damaged_jpeg(self, path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        """libjpeg decodes it, grey from the damage on, and says so on stderr alone."""
        data = bytearray(encoded(".jpg", COLOUR))
        data[len(data) // 2 : len(data) // 2 + 20] = b"\xff\0" * 10  # ones: no Huffman code
        path.write_bytes(data)
        assert refused(path).startswith("is corrupt and cannot be decoded; copy")
        assert capfd.readouterr().err == ""

    def test_bytes_too_many_are_no_damage(
        self, path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path.write_bytes(encoded(".jpg", COLOUR)[:-2] + bytes(4) + b"\xff\xd9")
        assert read_picture(path).width == 64
        assert capfd.readouterr().err == ""

    def test_others_keep_their_stderr(
        self, path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path.write_bytes(encoded(".png", COLOUR))
        decode = cv2.imdecode

        def meanwhile(data: NDArray[np.uint8], flag: int) -> NDArray[np.uint8]:
            os.write(2, b"another thread's log\nlibpng warning: whatever\n")
            return np.asarray(decode(data, flag), np.uint8)

        monkeypatch.setattr(cv2, "imdecode", meanwhile)
        read_picture(path)
        assert capfd.readouterr().err == "another thread's log\n"

    def test_a_process_without_stderr(self, path: Path) -> None:
        path.write_bytes(encoded(".png", COLOUR))
        code = (
            "import sys; from device.recordings.pictures import read_picture\n"
            "print(read_picture(sys.argv[1]).width)"
        )
        command = 'exec "$0" -c "$1" "$2" 2>&-'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, code, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert done.stdout == "64\n"

    def test_a_profile_that_libpng_dislikes(
        self, path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path.write_bytes(png(1, 1, 8, 2, bytes([1, 2, 3]), chunk(b"iCCP", b"x\0\0nonsense")))
        assert read_picture(path).pixels.tolist() == [[[3, 2, 1]]]
        assert capfd.readouterr().err == ""

    @pytest.mark.parametrize("size", [(0, 5), (5, 0)])
    def test_no_pixels(self, path: Path, size: tuple[int, int]) -> None:
        path.write_bytes(png(*size, 8, 2, b""))
        assert refused(path) == f"is {size[0]}x{size[1]}, which is no picture; copy it again"

    @pytest.mark.parametrize("seed", range(40))
    def test_any_damage_is_a_picture_or_one_line(
        self, path: Path, seed: int, capfd: pytest.CaptureFixture[str]
    ) -> None:
        random = np.random.default_rng(seed)
        suffix = (".jpg", ".png", ".webp", ".tiff", ".bmp", ".ppm")[seed % 6]
        data = bytearray(encoded(suffix, COLOUR))
        for at in random.integers(0, min(len(data), 400), 6):
            data[at] = random.integers(0, 256)
        path.write_bytes(data)
        with contextlib.suppress(PictureError):
            assert read_picture(path).pixels.dtype == np.uint8
        assert capfd.readouterr().err == ""

    def test_a_png_chunk_that_claims_4_gigabytes(self, path: Path) -> None:
        """OpenCV alone would allocate them."""
        data = bytearray(encoded(".png", COLOUR))
        data[data.index(b"IDAT") - 4] = 0xFF
        path.write_bytes(data)
        assert refused(path).startswith("is cut off after ")

    def test_floats(self, path: Path) -> None:
        done, data = cv2.imencode(".tiff", COLOUR.astype(np.float32))
        assert done
        path.write_bytes(bytes(data))
        assert refused(path) == "has float32 pixels; save it with 8 or 16 bits a channel"

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "is empty, 0 bytes; copy it again"),
            (b"hello", "is not a picture that can be read; give JPEG, PNG, WebP, TIFF, BMP or PNM"),
            (b"GIF89a" + bytes(50), "is not a picture that can be read; give JPEG, PNG"),
            (bytes(4) + b"ftypheic" + bytes(50), "is HEIC or AVIF, which is not read; save it as"),
            (bytes(4) + b"ftypisom" + bytes(50), "is a video; play it with `labelcam run --source"),
            (b"RIFF" + bytes(4) + b"AVI " + bytes(50), "is a video; play it with `labelcam run"),
            (b"\xff\xd8\xff", "is cut off within its header; copy it again"),
        ],
    )
    def test_no_picture(self, path: Path, content: bytes, expected: str) -> None:
        path.write_bytes(content)
        assert refused(path).startswith(expected)

    def test_a_file_too_large_to_be_read_at_all(self, path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(200 << 20)
        assert refused(path) == "is a file of 200 MB, more than 128 MB; save it smaller"

    def test_absent_a_folder_and_a_pipe(self, path: Path) -> None:
        assert refused(path) == "no such file or folder; check the path"
        assert refused(path.parent) == "is a folder; give the files in it"
        os.mkfifo(path)
        assert refused(path).startswith("is not a file; give a JPEG")

    def test_not_allowed(self, path: Path) -> None:
        path.write_bytes(b"x")
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
        assert refused(path) == "may not be read by this user; check its permissions"


class TestFind:
    def test_a_folder_in_natural_order(self, tmp_path: Path) -> None:
        names = ["10.jpg", "2.JPEG", "a.png", ".hidden.jpg", "notes.txt", "b.heic", "c.tiff.part"]
        for name in names:
            (tmp_path / name).touch()
        (tmp_path / "deeper").mkdir()
        found = [path.name for path in find_pictures(tmp_path)]
        assert found == ["2.JPEG", "10.jpg", "a.png", "b.heic"]

    def test_a_file_is_itself(self, path: Path) -> None:
        path.touch()
        assert find_pictures(str(path)) == [path]

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(PictureError, match="no such file or folder; check the path"):
            find_pictures(tmp_path / "x")
        with pytest.raises(PictureError, match="the folder holds no picture; put JPEG, PNG"):
            find_pictures(tmp_path)
