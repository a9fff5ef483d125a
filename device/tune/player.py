"""A recording as it plays in a terminal: its picture or its scores, the labels and their keys."""

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from device import config
from device.errors import CameraError
from device.recordings.format import Entry, frame_of
from device.recordings.rendering import upright
from device.sinks.terminal.blocks import half_blocks, size
from device.sinks.terminal.letters import glyphs_for
from device.system.text import printable
from device.tune.marks import Marks
from device.tune.recordings import Stream

_PICTURE_PX = 320
_HELP = "space plays, 1-9 begin and end, ← → 2 s, [ ] a frame, - + speed, u undo, q save, x leave"


class Player:
    """Where in the recording it is, and what is to be seen there.

    ``at_s`` is since the first frame. Without ``entries`` there is no picture.
    """

    def __init__(
        self,
        stream: Stream,
        entries: Sequence[Entry],
        camera: config.Camera,
        labels: Sequence[str],
        encoding: str,
    ) -> None:
        self.at_s = 0.0
        self.playing = False
        self.speed = 1.0
        self.labels = labels
        self.length_s = stream.length_s
        self._stream = stream
        self._entries = sorted(entries, key=lambda entry: entry.at_s)
        self._entry_times = [entry.at_s for entry in self._entries]
        self._times = sorted(stream.series.at_s.tolist())
        self._order = stream.series.at_s.argsort(kind="stable")
        self._camera = camera
        self._rows = [stream.series.names.index(label) for label in labels]
        self._true_colour = os.environ.get("COLORTERM", "") in {"truecolor", "24bit"}
        self._glyphs = glyphs_for(encoding, os.environ.get("TERM", ""))
        self._picture: tuple[tuple[str, int, int], list[str]] | None = None

    def advance(self, passed_s: float) -> None:
        """Play on; at its end it stands."""
        if self.playing:
            self.seek(self.at_s + passed_s * self.speed)
            self.playing = self.at_s < self.length_s

    def seek(self, at_s: float) -> None:
        """Go to a time, as far as there is any."""
        self.at_s = min(max(0.0, at_s), self.length_s)

    def step(self, frames: int) -> None:
        """Go so many frames on, or back, and stand there."""
        self.playing = False
        now = bisect_right(self._times, self.at_s) - 1
        self.seek(self._times[min(max(0, now + frames), len(self._times) - 1)])

    def lines(self, columns: int, rows: int, marks: Marks) -> list[str]:
        """What to show in a terminal of this size."""
        below = len(self.labels) + 3
        picture = self._picture_lines(columns, rows - below - 1)
        marked = marks.at(self.at_s)
        return [*picture, *self._label_lines(columns, marked, marks), *self._status(columns)]

    def _picture_lines(self, columns: int, rows: int) -> list[str]:
        if not self._entries or rows < 4:
            return []
        entry = self._entries[max(0, bisect_right(self._entry_times, self.at_s) - 1)]
        key = (entry.file, columns, rows)
        if self._picture is None or self._picture[0] != key:
            self._picture = key, self._drawn(self._stream.folder, entry, columns, rows)
        return self._picture[1]

    def _drawn(self, folder: Path, entry: Entry, columns: int, rows: int) -> list[str]:
        try:
            frame = frame_of(folder, entry, f"replay:{folder}", 0, entry.at_s)
        except CameraError:
            return [f"{entry.file} cannot be read"[:columns]]
        picture = upright(frame, self._camera.rotate, self._camera.mirror, _PICTURE_PX)
        across, down = size(picture, columns, rows)
        return half_blocks(picture, across, down, true_colour=self._true_colour)

    def _label_lines(self, columns: int, marked: set[str], marks: Marks) -> list[str]:
        frame = self._order[max(0, bisect_right(self._times, self.at_s) - 1)]
        wide = min(24, max((len(printable(label)) for label in self.labels), default=0))
        bar = max(4, columns - wide - 22)
        lines = []
        for number, (label, row) in enumerate(zip(self.labels, self._rows, strict=True), 1):
            score = float(self._stream.series.scores[frame, row])
            full = round(score * bar)
            ink = "\x1b[32;1m" if label in marked else ""
            state = "begun" if label in marks.open else "there" if label in marked else ""
            name = printable(label)[:wide].ljust(wide)
            track = self._glyphs.bar[-1] * full + self._glyphs.track * (bar - full)
            lines.append(f"{ink}{number} {name} {track} {score:4.0%} {state:5}\x1b[0m")
        return lines

    def _status(self, columns: int) -> list[str]:
        state = "plays" if self.playing else "stands"
        where = f"{_clock(self.at_s)} of {_clock(self.length_s)}, {state}, {self.speed:g}x"
        done = round((columns - 1) * self.at_s / self.length_s) if self.length_s else 0
        line = self._glyphs.bar[-1] * done + self._glyphs.track * (columns - 1 - done)
        text = _HELP if self._glyphs.ellipsis == "…" else _HELP.replace("← →", "arrows")
        return [line, where[:columns], text[: columns - 1]]


def _clock(at_s: float) -> str:
    minutes, seconds = divmod(round(at_s, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}"
