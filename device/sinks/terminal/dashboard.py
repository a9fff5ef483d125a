"""The live display: what it shows, and the thread that keeps it on the terminal.

Only imported where there is a terminal, since it needs rich; of rich only styles and
character widths, which cost a fifth of its console's memory and start-up.
"""

import contextlib
import itertools
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.color import ColorSystem
from rich.segment import ControlType, Segment
from rich.style import Style

from device.events import CameraHealth, DeviceHealth, LabelChange, Observation, SinkHealth
from device.sinks.lines import backend, printable

PERIOD_S = 0.1  # ten pictures a second are as many as an eye reads
_REPAIR_EVERY = 10  # pictures: once a second all lines are sent again
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[0m\x1b[?25h\x1b[?1049l"

_Line = list[Segment]


@dataclass(frozen=True)
class Glyphs:
    """The characters a terminal can show; ``bar`` and ``spark`` run from empty to full."""

    bar: str
    track: str
    spark: str
    letters: str
    dot: str
    ellipsis: str


# ``letters`` are a cell's two pixels: none, upper, lower, both.
UNICODE = Glyphs("╸━", "─", "▁▂▃▄▅▆▇█", " ▀▄█", "·", "…")
# The console font of Linux has no eighths and no half lines.
CONSOLE = Glyphs("━", "─", "▄█", " ▀▄█", "·", "~")
ASCII = Glyphs("#", ".", "_.-=#", "", "-", "~")


def glyphs_for(encoding: str, term: str) -> Glyphs:
    """What a terminal of this encoding and type can show."""
    try:
        (UNICODE.bar + UNICODE.track + UNICODE.spark + UNICODE.letters).encode(encoding)
    except UnicodeEncodeError:
        return ASCII
    return CONSOLE if term == "linux" else UNICODE


# Letters five pixels high, three to five wide. A letter is its five rows from the top, each
# one digit in base 32 whose bits are pixels: A is .#. #.# ### #.# #.#
_FONT = """
    A25755 B65656 C34443 D65556 E74647 F74644 G34553 H55755 I72227 J11152
    K55655 L44447 Mhrlhh N9db99 O75557 P75744 Q75571 R75655 S34216 T72222
    U55557 V55552 Whhlrh X55255 Y55222 Z71247 025552 126227 261247 361216
    455711 574616 634652 771222 825252 925316 -00700 _00007 '11000 .00001
    ,00012 /11244 (12221 )21112 +02720 :01010 &25253
"""
_LETTERS = {glyph[0]: glyph[1:] for glyph in _FONT.split()} | {" ": "00000"}


def big(text: str, width: int, glyphs: Glyphs) -> list[str] | None:
    """The text in letters three lines high, of one or two rows, or None where it cannot be."""
    text = text.upper()
    if not glyphs.letters or not all(char in _LETTERS for char in text):
        return None
    rows = [_drawn(text, glyphs)]
    if len(rows[0][0]) > width:
        gaps = [gap for gap, char in enumerate(text) if char == " "]
        splits = [[_drawn(text[:gap], glyphs), _drawn(text[gap + 1 :], glyphs)] for gap in gaps]
        # Broken where both rows come out most alike.
        rows = min(splits, key=lambda split: max(len(row[0]) for row in split), default=rows)
    if any(len(row[0]) > width for row in rows):
        return None
    return [line for row in rows for line in row]


def _drawn(text: str, glyphs: Glyphs) -> list[str]:
    lines = ["", "", ""]
    for char in text:
        pixels = [int(digit, 32) for digit in _LETTERS[char]]
        columns = max(pixels).bit_length() or 2
        # Two pixel rows to a line; the sixth is the space below.
        for line, (upper, lower) in enumerate(zip(pixels[::2], [*pixels[1::2], 0], strict=True)):
            lines[line] += "".join(
                glyphs.letters[(upper >> bit & 1) + 2 * (lower >> bit & 1)]
                for bit in reversed(range(columns))
            )
            lines[line] += " "
    return [line[:-1] for line in lines]


class Dashboard:
    """What the display shows, as styled lines for any size; no I/O.

    ``observations`` and ``health`` are set by the node's thread, ``lines`` is called by
    the display's; each is one reference, replaced and never changed. ``picture`` draws a
    frame as lines of at most so many columns and rows, where one is wanted.
    """

    def __init__(
        self,
        top: int,
        glyphs: Glyphs,
        color: bool,
        picture: Callable[[Observation, int, int], list[str]] | None = None,
    ) -> None:
        self.observations: dict[str, Observation] = {}
        self.changes: dict[str, LabelChange] = {}
        self.health: DeviceHealth | None = None
        self.log: deque[str] = deque(maxlen=8)
        self.note = ""
        self._picture = picture
        self._top = top
        self._glyphs = glyphs
        self._scores: deque[tuple[str | None, float]] = deque(maxlen=256)
        # The terminal's own sixteen colours: they suit whatever ground its user likes.
        green, yellow, red, cyan = ("green", "yellow", "red", "cyan") if color else (None,) * 4
        self._bold, self._dim = Style(bold=True), Style(dim=True)
        self._label = Style(color=green, bold=True)
        self._quiet = Style(color=yellow, bold=True)
        self._alarm = Style(color=red, bold=True)
        self._bar = Style(color=cyan)
        self._active_bar = Style(color=green)

    def sample(self) -> None:
        """Put the first camera's score of now into the sparkline."""
        for observation in list(self.observations.values())[:1]:
            self._scores.append((observation.label, observation.score))

    def lines(self, width: int, height: int) -> list[_Line]:
        """At most ``height`` lines of at most ``width`` cells, the less important left out."""
        # The node's thread may add a camera meanwhile.
        observations = list(self.observations.values())
        health = self.health
        cameras = {camera.name: camera for camera in health.cameras} if health else {}
        first = observations[0] if observations else None
        shown = first.camera if first else next(iter(cameras), None)
        camera = cameras.get(shown) if shown else None
        inner = width - 4
        # Each with its rank: what does not fit goes from the highest rank down.
        sections: list[tuple[int, list[_Line]]] = [(1, [self._header(shown, camera, inner)])]
        sections.append((0, self._headline(first, camera, inner, height)))
        if first and self._picture:
            rows = self._picture(first, inner, max(6, height // 3))
            # As a control it has no width for what measures and crops: it was made to fit.
            blocks = [[Segment(row, None, [(ControlType.SHOW_CURSOR,)])] for row in rows]
            sections.append((2, blocks))
        if troubles := self._troubles(camera, health):
            sections.append((1, troubles))
        if first and (not camera or camera.state == "live"):
            sections.append((2, self._bars(first, inner)))
            sections.append((4, [self._sparkline(first, inner)]))
        if others := observations[1:]:
            sections.append((3, [self._other(o, cameras.get(o.camera)) for o in others]))
        if camera and camera.stages:
            sections.append((6, self._stages(camera, inner)))
        if health:
            sections.append((5, self._backend(health, inner)))
        if self.note:
            sections.append((3, [[Segment(printable(self.note), self._quiet)]]))
        # The past gets the room that is left, an empty line above each section being kept.
        taken = sum(len(lines) + 1 for _, lines in sections if lines)
        log = list(self.log)
        if recent := log[len(log) - min(len(log), max(0, height - taken)) :]:
            sections.append((7, [[Segment(text, self._dim)] for text in recent]))
        return _stacked(sections, height, width)

    def _header(self, shown: str | None, camera: CameraHealth | None, width: int) -> _Line:
        name = f"labelcam  {printable(shown)}" if shown else "labelcam"
        rate = f"{camera.fps:.1f} fps" if camera and camera.stages else ""
        if self.health and self.health.vitals.temperature_c is not None:
            degree = "°" if self._glyphs is not ASCII else " "
            rate = f"{self.health.vitals.temperature_c:.0f}{degree}C  {rate}".rstrip()
        source = f" {self._glyphs.dot} {printable(camera.source)}" if camera else ""
        source = self._cropped(source, max(0, width - cell_len(name) - len(rate) - 2))
        return [Segment(name, self._bold), Segment(source, self._dim), Segment(f"  {rate}")]

    def _headline(
        self, first: Observation | None, camera: CameraHealth | None, width: int, height: int
    ) -> list[_Line]:
        """The label, as large as it fits, and beneath it how sure and since when."""
        caption = ""
        if camera and camera.state not in {"live", "starting"}:
            # A label from before the camera went would be a lie.
            text, style = f"camera {camera.state}", self._alarm
        elif first is None:
            text, style = "starting", self._quiet
        elif first.label is None:
            text, style = "looking", self._quiet
        else:
            text = printable(first.label)
            # Yellow for unknown, and for a label that is held but no longer seen.
            seen = any(p.label == first.label for p in first.predictions)
            style = self._label if seen else self._quiet
            caption = f"{first.score:.2f}"
            if change := self.changes.get(first.camera):
                caption += f"  for {first.at - change.at:.1f} s"
        letters = big(text, width, self._glyphs)
        # Two rows of letters would push the bars off a low terminal.
        if letters and len(letters) <= max(3, height // 3):
            lines = [[Segment(line, style)] for line in letters]
            below = [Segment(f"{text}  ", self._bold), Segment(caption)]
        else:
            padded = set_cell_size(f" {text} ", min(cell_len(text) + 2, width))
            lines = [[Segment(padded, style + Style(reverse=True))]]
            below = [Segment(caption)]
        return [*lines, below] if caption else lines

    def _bars(self, first: Observation, width: int) -> list[_Line]:
        name_width, bar_width = _columns(width)
        lines = []
        for prediction in first.predictions[: self._top]:
            active = prediction.label == first.label
            filled, rest = self._filled(prediction.score, bar_width)
            lines.append(
                [
                    Segment(
                        self._cropped(printable(prediction.label), name_width),
                        self._bold if active else None,
                    ),
                    Segment("  "),
                    Segment(filled, self._active_bar if active else self._bar),
                    Segment(rest, self._dim),
                    Segment(f"  {prediction.score:.2f}", self._bold if active else None),
                ]
            )
        return lines

    def _filled(self, score: float, width: int) -> tuple[str, str]:
        """A bar for a score of 0 to 1, and the track it leaves free."""
        steps = len(self._glyphs.bar)
        length = round(min(max(score, 0.0), 1.0) * width * steps)
        bar = self._glyphs.bar[-1] * (length // steps)
        if length % steps:
            bar += self._glyphs.bar[length % steps - 1]
        return bar, self._glyphs.track * (width - len(bar))

    def _sparkline(self, first: Observation, width: int) -> _Line:
        name_width, bar_width = _columns(width)
        spark = self._glyphs.spark
        title = self._cropped(f"last {bar_width * PERIOD_S:.0f} s", name_width + 2)
        line = [Segment(title, self._dim)]
        recent = list(self._scores)[-bar_width:]
        line.append(Segment(" " * (bar_width - len(recent))))
        for active, run in itertools.groupby(recent, lambda sample: sample[0] == first.label):
            text = "".join(spark[round(min(max(s, 0.0), 1.0) * (len(spark) - 1))] for _, s in run)
            line.append(Segment(text, self._active_bar if active else self._dim))
        line.append(Segment(f"  {first.score:.2f}"))
        return line

    def _other(self, observation: Observation, camera: CameraHealth | None) -> _Line:
        """A further camera in one line."""
        name = Segment(f"{printable(observation.camera)}  ")
        if camera and camera.state not in {"live", "starting"}:
            return [name, Segment(camera.state, self._alarm)]
        return [
            name,
            Segment(printable(observation.label or "looking"), self._bold),
            Segment(f" {observation.score:.2f}"),
            Segment(f"  {camera.fps:.1f} fps" if camera else "", self._dim),
        ]

    def _stages(self, camera: CameraHealth, width: int) -> list[_Line]:
        """Latencies: stages side by side where there is room, else below one another."""
        columns = [("ms", "mean", "p99")]
        columns += [
            (name, f"{stage.mean_ms:.2f}", f"{stage.p99_ms:.2f}")
            for name, stage in camera.stages.items()
        ]
        wide = (width - 6) // (len(columns) - 1)
        if wide > 11:
            rows = zip(*columns, strict=True)
            cells = [[f"{head:<6}", *(f"{cell:>{wide}}" for cell in rest)] for head, *rest in rows]
        else:
            cells = [[f"{name:<12}", f"{mean:>8}", f"{p99:>8}"] for name, mean, p99 in columns]
        head, *body = ["".join(row) for row in cells]
        return [[Segment(head, self._dim)], *([Segment(text)] for text in body)]

    def _troubles(self, camera: CameraHealth | None, health: DeviceHealth | None) -> list[_Line]:
        """What is wrong with the picture, the board and the ways out, a line each."""
        lines = []
        if camera and camera.picture:
            lines.append([Segment(f"picture {', '.join(camera.picture)}", self._quiet)])
        if health and health.vitals.throttling:
            lines.append([Segment(", ".join(health.vitals.throttling), self._quiet)])
        broken = [sink for sink in health.sinks if sink.problem] if health else []
        lines += [[Segment(f"{s.name}: {printable(s.problem)}", self._alarm)] for s in broken]
        return lines

    def _backend(self, health: DeviceHealth, width: int) -> list[_Line]:
        interpreter = health.interpreter
        parts = (printable(interpreter.model), *backend(interpreter), *_working(health.sinks))
        lines: list[str] = []
        separator = f" {self._glyphs.dot} "
        for part in parts:
            if lines and cell_len(lines[-1] + separator + part) <= width:
                lines[-1] += separator + part
            else:
                lines.append(part)
        return [[Segment(line, self._dim)] for line in lines]

    def _cropped(self, text: str, width: int) -> str:
        """The text in exactly ``width`` cells, with a sign where some of it is missing."""
        if cell_len(text) <= width:
            return set_cell_size(text, width)
        return set_cell_size(text, max(0, width - 1)) + self._glyphs.ellipsis


def _working(sinks: Iterable[SinkHealth]) -> list[str]:
    """The other ways out that work; this one is seen to."""
    return [f"{sink.name} works" for sink in sinks if not sink.problem and sink.name != "terminal"]


def _columns(width: int) -> tuple[int, int]:
    """Cells for a label and for its bar, the same in every picture so that nothing jumps."""
    name_width = width * 3 // 10
    return name_width, width - name_width - 8


def _stacked(sections: Iterable[tuple[int, list[_Line]]], height: int, width: int) -> list[_Line]:
    """The sections that fit, indented, with as many empty lines between as there is room for."""
    kept = [(rank, lines) for rank, lines in sections if lines]
    while len(kept) > 1 and sum(len(lines) for _, lines in kept) > height:
        kept.remove(max(kept, key=lambda section: section[0]))
    spare = height - sum(len(lines) for _, lines in kept)
    stacked: list[_Line] = []
    for _, lines in kept:
        if stacked and spare > 0:
            stacked.append([])
            spare -= 1
        stacked += [[Segment("  "), *line] for line in lines]
    # Never up to the last column: the cursor stays on it, and clearing the rest of the line
    # would take its character.
    return [Segment.adjust_line_length(line, width - 2, pad=False) for line in stacked[:height]]


class Screen:
    """Has the terminal from start to close: its other screen, no cursor, one drawing thread.

    The thread is what keeps inference from waiting: it draws while the interpreter, which
    lets go of Python's lock, works; and a terminal that has been stopped, or an ssh
    connection that stalls, holds up nobody but itself.
    """

    def __init__(self, dashboard: Dashboard, fd: int, encoding: str) -> None:
        self.error: OSError | None = None
        self._dashboard = dashboard
        self._fd = fd
        self._encoding = encoding
        self._stop = threading.Event()
        self._entered = False
        self._shown: list[str] = []
        self._size = (0, 0)
        self._held = threading.Event()
        self._left = threading.Event()
        # A daemon: a terminal that never takes another byte must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-terminal", daemon=True)

    def start(self) -> None:
        """Take the terminal and begin to draw."""
        self._thread.start()

    def hold(self) -> None:
        """Give the terminal back as it was until ``resume``; waits a moment until it is done."""
        self._held.set()
        self._left.wait(1.0)

    def resume(self) -> None:
        """Go on drawing, once the terminal is ours again."""
        self._held.clear()

    def close(self) -> None:
        """Stop drawing and give the terminal back as it was."""
        self._stop.set()
        self._thread.join(timeout=1.0)

    def _run(self) -> None:
        try:
            for picture in itertools.count():
                if self._is_ours():
                    self._draw(whole=picture % _REPAIR_EVERY == 0)
                if self._stop.wait(PERIOD_S):
                    break
        except OSError as error:
            self.error = error
        finally:
            with contextlib.suppress(OSError):
                self._leave()

    def _is_ours(self) -> bool:
        """Whether the terminal is to be drawn on now; enters and leaves it as that changes."""
        if self._held.is_set() or not self._in_foreground():
            self._leave()
            self._left.set()
            return False
        self._left.clear()
        if not self._entered and self._write(_ENTER):
            self._entered, self._size = True, (0, 0)
        return self._entered

    def _leave(self) -> None:
        if self._entered and self._write(_LEAVE):
            self._entered = False

    def _in_foreground(self) -> bool:
        """Whether the shell has given us the terminal; it has not after Ctrl-Z and ``bg``."""
        try:
            return os.tcgetpgrp(self._fd) == os.getpgrp()
        except OSError:
            # A terminal, but not the one that we were started from.
            return True

    def _draw(self, *, whole: bool) -> None:
        self._dashboard.sample()
        size = os.get_terminal_size(self._fd)
        # Serial lines and some emulators say 0 by 0.
        width, height = size.columns or 80, size.lines or 24
        lines = [_ansi(line) for line in self._dashboard.lines(width, height)]
        # Only lines that changed are sent; now and then all, should something else have
        # written to the terminal.
        out = []
        if size != self._size:
            # A terminal that was made narrower has wrapped what it had.
            out.append("\x1b[2J")
            self._shown, self._size = [], size
        elif whole or len(lines) < len(self._shown):
            self._shown = []
            if len(lines) < height:
                out.append(f"\x1b[{len(lines) + 1};1H\x1b[J")
        for row, line in enumerate(lines):
            if row >= len(self._shown) or self._shown[row] != line:
                out.append(f"\x1b[{row + 1};1H{line}\x1b[K")
        if out and self._write("".join(out)):
            self._shown = lines

    def _write(self, text: str) -> bool:
        """Whether the terminal took the text; it does not when it is stopped, by Ctrl-S say."""
        if not select.select([], [self._fd], [], PERIOD_S)[1]:
            return False
        data = text.encode(self._encoding, "replace")
        while data:
            data = data[os.write(self._fd, data) :]
        return True


def _ansi(line: Iterable[Segment]) -> str:
    return "".join(
        style.render(text, color_system=ColorSystem.STANDARD) if style else text
        for text, style, _ in line
    )
