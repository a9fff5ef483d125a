"""The outlet that records: the frames that were classified and what was made of them, or their
scores alone."""

import contextlib
import logging
from pathlib import Path
from typing import NoReturn

import cv2
import msgspec
import numpy as np

from device.errors import OutputClosed, SinkError, UsageError
from device.events import DeviceHealth, Observation, Sink
from device.frames import Frame, PixelFormat, Pixels
from device.recordings.format import INDEX, PICTURES, SCORES, TICKS_PER_S, Entry, Header
from device.recordings.scores import SUFFIX, ScoresWriter, Source
from device.system.text import json_line

_QUALITY = 95
_PREDICTIONS = 5
_TO_BGR = {PixelFormat.YUV420: cv2.COLOR_YUV2BGR_I420, PixelFormat.RGB: cv2.COLOR_RGB2BGR}

_log = logging.getLogger("labelcam.record")


class _Recording(Sink):
    """A new folder that something is recorded into, until its time or its bytes are used up."""

    name = "record"

    def __init__(self, folder: Path, for_s: float, max_bytes: int) -> None:
        """Make the folder. Raises UsageError where it holds something, SinkError on disk."""
        self.frames = 0
        self.bytes = 0
        self.failure = ""
        self.full = False
        self._folder = folder
        self._for_s = for_s
        self._max_bytes = max_bytes
        self._model = ""
        self._source = ""
        self._begun_at: float | None = None
        self._made = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if any(folder.iterdir()):
                raise UsageError(f"record: {folder} holds files already; give a new folder")
            self._index = (folder / INDEX).open("wb")
        except OSError as error:
            raise SinkError(f"record: {folder} cannot be written: {error.strerror}") from None
        _log.info("record: writing to %s, at most %d MB", folder, max_bytes >> 20)

    def report(self, health: DeviceHealth) -> None:
        """Learn what runs."""
        self._model = health.interpreter.model
        self._source = ", ".join(camera.source for camera in health.cameras)

    def close(self) -> None:
        """Finish the index, or leave nothing behind of what has no frame; may be called twice."""
        if self._index.closed:
            return
        self._index.close()
        if not self.frames:
            with contextlib.suppress(OSError):
                (self._folder / INDEX).unlink()
                if self._made:
                    self._folder.rmdir()

    def _begin(self, form: int, frame: Frame) -> float:
        """Seconds since the first frame; the header comes before that.

        Raises OutputClosed when the time is over.
        """
        if self._begun_at is None:
            self._begun_at = frame.captured_at
            self._write_line(Header(form, self._model, self._source))
        at_s = round((frame.captured_at - self._begun_at) * TICKS_PER_S) / TICKS_PER_S
        if at_s >= self._for_s:
            raise OutputClosed
        return at_s

    def _write_line(self, line: msgspec.Struct) -> None:
        data = json_line(line).encode() + b"\n"
        try:
            self._index.write(data)
            self._index.flush()
        except OSError as error:
            self._fail_to_write(error)
        self.bytes += len(data)

    def _fail_to_write(self, error: OSError) -> NoReturn:
        self._fail(f"{self._folder} cannot be written: {error.strerror}")

    def _fail(self, reason: str) -> NoReturn:
        self.failure = f"record: {reason}; what was recorded until then is whole"
        raise OutputClosed


class ScoresSink(_Recording):
    """Writes the scores of every frame, and no pixel of any."""

    def __init__(self, folder: Path, for_s: float, max_bytes: int) -> None:
        """Make the folder. Raises UsageError where it holds something, SinkError on disk."""
        super().__init__(folder, for_s, max_bytes)
        self._writer: ScoresWriter | None = None

    def observe(self, observation: Observation) -> None:
        """Take the scores of the frame. Raises OutputClosed when the recording is at its end."""
        scored = observation.scored
        assert scored is not None
        at_s = self._begin(SCORES, observation.frame)
        source = Source(
            observation.camera,
            scored.model,
            scored.model_sha256,
            scored.names,
            scored.taught,
            bool(observation.look),
        )
        try:
            if self._writer is None:
                self._writer = ScoresWriter(self._folder / f"recorded{SUFFIX}")
            self._writer.add(source, at_s, scored.values)
        except OSError as error:
            self._fail_to_write(error)
        self.frames = self._writer.frames
        if self._writer.bytes + self.bytes >= self._max_bytes:
            self.full = True
            raise OutputClosed

    def close(self) -> None:
        """Write what waits; may be called twice."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                with contextlib.suppress(OutputClosed):
                    self._fail_to_write(error)
            self.bytes += writer.bytes
        super().close()


class RecordSink(_Recording):
    """Writes what is observed, with its pictures.

    It encodes while the node waits, so that no frame that made a label is missing.
    """

    def __init__(self, folder: Path, for_s: float, max_bytes: int, *, lossless: bool) -> None:
        """Make the folder. Raises UsageError where it holds something, SinkError on disk."""
        super().__init__(folder, for_s, max_bytes)
        self._lossless = lossless
        self._frame: Frame | None = None
        self._file = ""

    def observe(self, observation: Observation) -> None:
        """Write the frame, once however many regions were made of it, and its label.

        Raises OutputClosed when the recording is at its end.
        """
        frame = observation.frame
        at_s = self._begin(PICTURES, frame)
        if frame is not self._frame:
            self._write_frame(frame)
        layout = frame.format if self._lossless or frame.format is PixelFormat.GREY else None
        self._write_line(
            Entry(
                self._file,
                at_s,
                frame.width,
                frame.height,
                (layout or PixelFormat.BGR).value,
                observation.camera,
                observation.label,
                round(observation.score, 4),
                observation.predictions[:_PREDICTIONS],
                observation.look,
            )
        )

    def _write_frame(self, frame: Frame) -> None:
        pixels, suffix, options = self._encoded(frame)
        done, data = cv2.imencode(suffix, pixels, options)
        if not done:
            self._fail(f"a frame of {frame.width}x{frame.height} cannot be encoded")
        # Room for the lines of this frame too.
        if self.bytes + len(data) + 4096 > self._max_bytes:
            self.full = True
            raise OutputClosed
        self._file = f"{self.frames:06d}{suffix}"
        try:
            (self._folder / self._file).write_bytes(data.tobytes())
        except OSError as error:
            self._fail_to_write(error)
        self.bytes += len(data)
        self.frames += 1
        self._frame = frame

    def _encoded(self, frame: Frame) -> tuple[Pixels, str, list[int]]:
        if self._lossless:
            # Whatever the order of its colours: it comes back in the same.
            return frame.pixels, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]
        pixels = frame.pixels
        if code := _TO_BGR.get(frame.format):
            pixels = np.asarray(cv2.cvtColor(pixels, code), np.uint8)[:, : frame.width]
        return pixels, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
