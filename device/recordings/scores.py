"""Scores over time on disk, without pictures: small, and read up to where they are damaged.

A file is MAGIC and then blocks: the length of the body and its CRC-32 (little-endian, 4 bytes
each), and the body: MessagePack under zlib. A ``Source`` says what the scores of a camera are of;
each ``Block`` after it holds some frames of that camera. Of a frame only scores of ``LEAST`` or
more are kept, as the float32 that they are, to the bit; what is less counts as 0. So nothing is
lost of a softmax of 8 bits, whose scores are multiples of 1/256.
"""

import struct
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import CameraError
from device.recordings.format import TICKS_PER_S

MAGIC = b"labelcam scores 1\n"
SUFFIX = ".scores"
LEAST = 1 / 512

Scores = NDArray[np.float32]

# A block is ten seconds at ten frames a second: what a loss of power costs at most.
_BLOCK_FRAMES = 100
_HEAD = struct.Struct("<II")
# What a stranger's file may have us hold at once.
_BODY_MAX_BYTES = 16 << 20
_PLAIN_MAX_BYTES = 64 << 20


class Source(msgspec.Struct, frozen=True, tag="source"):
    """What the scores of a camera, or of a region of one, are of from here on.

    ``names`` are those of the rows, before they become words; ``taught`` says that they were
    taught and are words already. ``key`` tells what made the scores: the model's SHA-256, or
    more. ``gated`` says that frames in which nothing moved may be missing.
    """

    camera: str
    model: str
    key: str
    names: tuple[str, ...]
    taught: bool = False
    gated: bool = False


class Block(msgspec.Struct, frozen=True, tag="block"):
    """Frames of one camera, as little-endian arrays.

    ``ticks`` (int64) are their times since the first frame of the recording, ``counts`` (uint32)
    how many scores each has, ``rows`` (uint32) and ``scores`` (float32) those of all one after
    the other.
    """

    camera: str
    ticks: bytes
    counts: bytes
    rows: bytes
    scores: bytes


class Track(NamedTuple):
    """The scores of one camera: those of frame ``n`` are at ``starts[n]:starts[n + 1]``.

    ``at_s`` (float64) is since the first frame of the recording; ``not_numbers`` counts scores
    that are NaN or infinite, and count as 0.
    """

    source: Source
    at_s: NDArray[np.float64]
    starts: NDArray[np.int64]
    rows: NDArray[np.uint32]
    scores: Scores
    not_numbers: int = 0


class ScoresWriter:
    """Writes a file of scores. ``bytes`` is how much it has written, ``frames`` of how many."""

    def __init__(self, path: Path) -> None:
        """Begin the file. Raises OSError."""
        self.bytes = 0
        self.frames = 0
        self._sources: dict[str, Source] = {}
        self._waiting: dict[str, list[tuple[int, NDArray[np.uint32], Scores]]] = {}
        self._file = path.open("wb")
        self._write(MAGIC)

    def add(self, source: Source, at_s: float, scores: Scores) -> None:
        """Take the scores of a frame, float32 in the order of ``source.names``.

        NaN counts as 0. Raises OSError.
        """
        if self._sources.get(source.camera) != source:
            self._flush(source.camera)
            self._sources[source.camera] = source
            self._write_body(source)
        rows = np.flatnonzero(scores >= np.float32(LEAST)).astype("<u4")
        waiting = self._waiting.setdefault(source.camera, [])
        waiting.append((round(at_s * TICKS_PER_S), rows, scores[rows].astype("<f4")))
        self.frames += 1
        if len(waiting) >= _BLOCK_FRAMES:
            self._flush(source.camera)

    def close(self) -> None:
        """Write what waits, and end the file; may be called twice. Raises OSError."""
        if self._file.closed:
            return
        with self._file:
            for camera in list(self._waiting):
                self._flush(camera)

    def _flush(self, camera: str) -> None:
        if not (waiting := self._waiting.pop(camera, [])):
            return
        ticks, rows, scores = zip(*waiting, strict=True)
        counts = np.array([len(some) for some in rows], "<u4")
        self._write_body(
            Block(
                camera,
                np.array(ticks, "<i8").tobytes(),
                counts.tobytes(),
                np.concatenate(rows).tobytes(),
                np.concatenate(scores).tobytes(),
            )
        )

    def _write_body(self, value: Source | Block) -> None:
        body = zlib.compress(msgspec.msgpack.encode(value))
        self._write(_HEAD.pack(len(body), zlib.crc32(body)) + body)
        self._file.flush()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.bytes += len(data)


def read_scores(path: Path) -> tuple[list[Track], str]:
    """The scores of each camera, and where the file is damaged, empty where it is whole.

    What comes before the damage counts. Raises CameraError for a file that is none of scores,
    or cannot be read.
    """
    reader = _Reader()
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CameraError(path, "holds no scores of this form; record it again")
            damage = reader.read(file)
    except OSError as error:
        if isinstance(error, CameraError):
            raise
        raise CameraError(path, f"cannot be read: {error.strerror}") from None
    return reader.tracks(), damage


class _Reader:
    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._blocks: dict[str, list[tuple[NDArray[np.int64], ...]]] = {}
        self._frames = 0

    def read(self, file: BinaryIO) -> str:
        """Take all that is whole; why it ends before the file does."""
        place = len(MAGIC)
        while head := file.read(_HEAD.size):
            try:
                place += self._take(head, file)
            except (ValueError, msgspec.DecodeError, zlib.error) as error:
                return f"damaged after {self._frames} frames, at byte {place} ({error})"
        return ""

    def _take(self, head: bytes, file: BinaryIO) -> int:
        if len(head) < _HEAD.size:
            raise ValueError("cut off")
        length, checksum = (int(number) for number in _HEAD.unpack(head))
        if length > _BODY_MAX_BYTES:
            raise ValueError(f"a block of {length} bytes")
        body = file.read(length)
        if len(body) < length:
            raise ValueError("cut off")
        if zlib.crc32(body) != checksum:
            raise ValueError("its sum is wrong")
        plain = zlib.decompressobj().decompress(body, _PLAIN_MAX_BYTES)
        try:
            value = msgspec.msgpack.decode(plain, type=Source | Block)
        except (UnicodeDecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        if isinstance(value, Source):
            self._take_source(value)
        else:
            self._take_block(value)
        return _HEAD.size + length

    def _take_source(self, source: Source) -> None:
        before = self._sources.setdefault(source.camera, source)
        if before != source:
            raise ValueError("what its scores are of changed, as by teaching")

    def _take_block(self, block: Block) -> None:
        source = self._sources.get(block.camera)
        if source is None:
            raise ValueError("scores of nothing that was named")
        ticks, counts = np.frombuffer(block.ticks, "<i8"), np.frombuffer(block.counts, "<u4")
        rows, scores = np.frombuffer(block.rows, "<u4"), np.frombuffer(block.scores, "<f4")
        fits = len(ticks) == len(counts) and int(counts.sum()) == len(rows) == len(scores)
        if not fits or (len(rows) and int(rows.max()) >= len(source.names)):
            raise ValueError("scores that do not belong to its labels")
        self._blocks.setdefault(block.camera, []).append((ticks, counts, rows, scores))
        self._frames += len(ticks)

    def tracks(self) -> list[Track]:
        found = []
        for camera, source in self._sources.items():
            blocks = self._blocks.get(camera)
            if not blocks:
                continue
            ticks, counts, rows, scores = (
                np.concatenate(part) for part in zip(*blocks, strict=True)
            )
            numbers = np.isfinite(scores)
            starts = np.concatenate(([0], np.cumsum(counts.astype(np.int64))))
            found.append(
                Track(
                    source,
                    ticks / TICKS_PER_S,
                    starts,
                    rows.astype(np.uint32),
                    np.where(numbers, scores, 0).astype(np.float32),
                    int((~numbers).sum()),
                )
            )
        return found
