"""What the live display shows, without any I/O.

Only imported where there is a terminal, since it needs rich; of rich only styles and
character widths, which cost a fifth of its console's memory and start-up.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable

from rich.cells import cell_len, set_cell_size
from rich.segment import ControlType, Segment
from rich.style import Style

from device.events import OFF_DUTY, CameraHealth, DeviceHealth, LabelChange, Observation, SinkHealth
from device.sinks.lines import backend, beside, governed
from device.sinks.standing import Standing, headline
from device.sinks.terminal.letters import ASCII, Glyphs, big
from device.system.text import printable

PERIOD_S = 0.1  # ten pictures a second are as many as an eye reads

_Line = list[Segment]


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
        self._standings: dict[str, Standing] = {}
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

    def change(self, change: LabelChange) -> None:
        """Show what is in force since; for the node's thread."""
        before = self._standings.get(change.camera, Standing())
        self._standings[change.camera] = before.after(change)

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
        if first and not self._is_off_duty(shown) and (not camera or camera.state == "live"):
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
        return _stack(sections, height, width)

    def _header(self, shown: str | None, camera: CameraHealth | None, width: int) -> _Line:
        name = f"labelcam  {printable(shown)}" if shown else "labelcam"
        rate = f"{camera.look}  {camera.fps:.1f} fps".lstrip() if camera and camera.stages else ""
        if self.health and self.health.vitals.temperature_c is not None:
            degree = "°" if self._glyphs is not ASCII else " "
            rate = f"{self.health.vitals.temperature_c:.0f}{degree}C  {rate}".rstrip()
        source = f" {self._glyphs.dot} {printable(camera.source)}" if camera else ""
        source = self._crop(source, max(0, width - cell_len(name) - len(rate) - 2))
        return [Segment(name, self._bold), Segment(source, self._dim), Segment(f"  {rate}")]

    def _headline(
        self, first: Observation | None, camera: CameraHealth | None, width: int, height: int
    ) -> list[_Line]:
        """The label, as large as it fits, and beneath it how sure and since when."""
        caption = ""
        if camera and camera.state not in {"live", "starting"}:
            # A label from before the camera went would be a lie.
            text, style = f"camera {camera.state}", self._alarm
        elif self._is_off_duty(camera.name if camera else None):
            text, style = "off duty", self._quiet
        elif first is None:
            text, style = "starting", self._quiet
        elif first.label is None:
            text, style = "looking", self._quiet
        else:
            text = printable(headline(first.label, first.active))
            # Yellow for unknown, and for a label that is held but no longer seen.
            labels = first.active or (first.label,)
            seen = any(p.label in labels for p in first.predictions[: self._top])
            style = self._label if seen else self._quiet
            caption = f"{first.score:.2f}"
            standing = self._standings.get(first.camera)
            if standing and (since := standing.since(first.label)) is not None:
                caption += f"  for {first.at - since:.1f} s"
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
            active = prediction.label in first.active
            filled, rest = self._bar_cells(prediction.score, bar_width)
            lines.append(
                [
                    Segment(
                        self._crop(printable(prediction.label), name_width),
                        self._bold if active else None,
                    ),
                    Segment("  "),
                    Segment(filled, self._active_bar if active else self._bar),
                    Segment(rest, self._dim),
                    Segment(f"  {prediction.score:.2f}", self._bold if active else None),
                ]
            )
        return lines

    def _bar_cells(self, score: float, width: int) -> tuple[str, str]:
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
        title = self._crop(f"last {bar_width * PERIOD_S:.0f} s", name_width + 2)
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
        if self._is_off_duty(observation.camera):
            return [name, Segment("off duty", self._quiet)]
        return [
            name,
            Segment(
                printable(headline(observation.label or "looking", observation.active)), self._bold
            ),
            Segment(f" {observation.score:.2f}"),
            Segment(f"  {camera.fps:.1f} fps" if camera else "", self._dim),
        ]

    def _is_off_duty(self, camera: str | None) -> bool:
        standing = self._standings.get(camera) if camera else None
        last = standing.last if standing else None
        return last is not None and last.label == OFF_DUTY

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
        if camera and camera.drift and camera.drift.change:
            lines.append([Segment(f"not as usual: {camera.drift.change}", self._quiet)])
        if health and health.vitals.throttling:
            lines.append([Segment(", ".join(health.vitals.throttling), self._quiet)])
        if health and health.governed_by:
            lines.append([Segment(governed(health), self._quiet)])
        failing = [other for other in camera.beside if other.problem] if camera else []
        lines += [[Segment(printable(other.problem), self._alarm)] for other in failing]
        broken = [sink for sink in health.sinks if sink.problem] if health else []
        lines += [[Segment(f"{s.name}: {printable(s.problem)}", self._alarm)] for s in broken]
        return lines

    def _backend(self, health: DeviceHealth, width: int) -> list[_Line]:
        interpreter = health.interpreter
        named = (printable(interpreter.model), *backend(interpreter), *beside(health))
        parts = (*named, *_working(health.sinks))
        lines: list[str] = []
        separator = f" {self._glyphs.dot} "
        for part in parts:
            if lines and cell_len(lines[-1] + separator + part) <= width:
                lines[-1] += separator + part
            else:
                lines.append(part)
        return [[Segment(line, self._dim)] for line in lines]

    def _crop(self, text: str, width: int) -> str:
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


def _stack(sections: Iterable[tuple[int, list[_Line]]], height: int, width: int) -> list[_Line]:
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
