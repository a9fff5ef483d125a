"""``labelcam teach``: labels of one's own, from pictures or from the camera."""

import argparse
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from device.cli.arguments import (
    MODEL,
    SET,
    VERBOSE,
    Commands,
    Parser,
    as_json,
    config_file,
    count,
    duration_s,
    group,
    parent,
    source,
)
from device.cli.service import OWN
from device.errors import PictureError, TeachError, UsageError
from device.system.logs import complain
from device.system.text import json_line, printable

if TYPE_CHECKING:
    from device.frames import Frame
    from device.teach.embedder import Embedder
    from device.teach.lessons import Picture
    from device.teach.teacher import Teacher


def _set_name(text: str) -> str:
    """The name of a set of lessons, which is that of a folder too."""
    if re.fullmatch("[A-Za-z0-9_-]{1,64}", text) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not made of A-Z, a-z, 0-9, _ and -")
    return text


_LESSONS = parent(
    "--lessons",
    metavar="NAME",
    type=_set_name,
    help="the set of lessons (that of the camera, or default)",
)
_BAR_AFTER_S = 2.0


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "teach", "labels of your own, from a few pictures")
    common = [VERBOSE, OWN, config_file(), SET, MODEL, _LESSONS]

    def add(
        name: str, does: Callable[[argparse.Namespace], int], text: str, *more: Parser
    ) -> Parser:
        parser = ways.add_parser(name, parents=[*common, *more], help=text)
        parser.set_defaults(command=does, reads_all=True)
        return parser

    label = parent("label", metavar="LABEL", help="what the pictures show")
    parser = add("add", _add, "learn a label from pictures", label)
    parser.add_argument("pictures", metavar="PICTURE", nargs="+", type=Path, help="or a folder")
    parser = add("capture", _capture, "learn a label from the camera", label, source())
    parser.add_argument(
        "--for", metavar="TIME", dest="for_s", type=duration_s, required=True, help="as 10s, 1m"
    )
    parser.add_argument(
        "--most", metavar="N", type=count, default=20, help="keep at most so many (20)"
    )
    add("list", _list, "the labels, and how many pictures each has", as_json("one JSON object"))
    add("remove", _remove, "forget a label", label)
    parser = add("rename", _rename, "give a label another name, or join it with another", label)
    parser.add_argument("new", metavar="NEW", help="its new name")
    add("undo", _undo, "take the last change back")
    parser = add("test", _test, "how good it is on other pictures", as_json("one JSON object"))
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="a folder in it for each label")
    parser.add_argument(
        "--png", metavar="FILE", type=Path, help="write confusion and curves as one picture"
    )
    parser = add("export", _export, "write what was learned, for another device or program")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="a model, as FILE.tflite; all lessons, as FILE.lessons; or a new folder for the "
        "pictures that were kept",
    )
    parser = add("import", _import, "add what another device has exported")
    parser.add_argument("file", metavar="FILE", type=Path, help="FILE.lessons")
    add("forget-pictures", _forget, "delete the pictures and keep what was learned of them")


def _add(options: argparse.Namespace) -> int:
    """Learn from what can be read; what cannot is named, and the exit code is then 1."""
    with _Session(options) as session:
        files = _Files()
        new = session.teacher.lessons.add(
            options.label, map(session.picture, files.read(options.pictures))
        )
        if not files.count:
            return 1
        _say(f"{options.label!r}: {new} new, {files.count - new} there already")
        session.learn()
    return 1 if files.failed else 0


def _capture(options: argparse.Namespace) -> int:
    """Learn the most different frames of a time; Ctrl+C ends it early with what it has."""
    from device.cameras import open_camera
    from device.system.signals import Signals
    from device.teach.selection import Selection

    with _Session(options) as session:
        if len(session.settings.camera) != 1:
            raise UsageError("teach capture: the configuration has several cameras; give --source")
        selection = Selection(options.most)
        with (
            Signals(reloads=False) as signals,
            open_camera(session.settings.camera[0], threading.Event()) as camera,
        ):
            _say(f"looking at {camera.source}; move it, or what it sees, Ctrl+C ends it")
            end, was_full = time.monotonic() + options.for_s, False
            while time.monotonic() < end and not signals.stop and (frame := camera.read()):
                selection.offer(session.picture(frame))
                if selection.is_full and not was_full:
                    was_full = True
                    _say(
                        f"has {options.most} different pictures: that is enough; better ones "
                        "still take the place of some"
                    )
        if not selection.pictures:
            raise TeachError("capture: no frame came; look at `labelcam doctor`")
        new = session.teacher.lessons.add(options.label, selection.pictures)
        _say(f"{options.label!r}: {new} new")
        if not was_full and new < options.most:
            _say("fewer than wanted, the others were nearly the same; move what it sees")
        session.learn()
    return 0


def _list(options: argparse.Namespace) -> int:
    with _Session(options) as session:
        lessons = session.teacher.lessons
        labels, kept = lessons.labels(), sum(entry.kept for entry in lessons.entries())
    if options.json:
        print(json_line({"lessons": session.name, "labels": labels, "pictures_kept": kept}))
        return 0
    width = max((len(label) for label in labels), default=0)
    for label, pictures in labels.items():
        print(f"{printable(label):{width}}  {pictures:5}")
    _say(f"{sum(labels.values())} pictures learned from, {kept} of them kept")
    return 0


def _remove(options: argparse.Namespace) -> int:
    return _change(options, lambda teacher: teacher.lessons.remove_label(options.label))


def _rename(options: argparse.Namespace) -> int:
    return _change(options, lambda teacher: teacher.lessons.rename(options.label, options.new))


def _undo(options: argparse.Namespace) -> int:
    return _change(options, lambda teacher: _say(f"taken back: {teacher.lessons.undo()}"))


def _change(options: argparse.Namespace, change: "Callable[[Teacher], object]") -> int:
    with _Session(options) as session:
        change(session.teacher)
        session.learn()
    return 0


def _forget(options: argparse.Namespace) -> int:
    with _Session(options) as session:
        _say(f"{session.teacher.lessons.forget_pictures()} pictures deleted")
    return 0


def _export(options: argparse.Namespace) -> int:
    from device.teach.archive import export_lessons, export_pictures
    from device.teach.export import export_model
    from device.teach.head import read_head

    with _Session(options) as session:
        lessons = session.teacher.lessons
        match options.out.suffix:
            case ".tflite":
                export_model(options.out, session.model.file, read_head(lessons.head_file))
                _say(f"{options.out}: a model with the labels {', '.join(lessons.labels())}")
            case ".lessons":
                _say(f"{options.out}: {export_lessons(lessons, options.out)} pictures' lessons")
            case "":
                counts = export_pictures(lessons, options.out)
                _say(f"{options.out}: {sum(counts.values())} pictures of {len(counts)} labels")
            case _:
                raise UsageError(
                    f"teach export: {options.out} is no FILE.tflite, FILE.lessons or folder"
                )
    return 0


def _import(options: argparse.Namespace) -> int:
    from device.teach.archive import import_lessons

    with _Session(options) as session:
        for label, new in import_lessons(session.teacher.lessons, options.file).items():
            _say(f"{label!r}: {new} new")
        session.learn()
    return 0


def _test(options: argparse.Namespace) -> int:
    import numpy as np

    from device.system.files import replace_file
    from device.teach.drawing import exam_png
    from device.teach.exam import examine
    from device.teach.head import read_head

    files = _Files()
    with _Session(options) as session:
        lessons = session.teacher.lessons
        head = read_head(lessons.head_file)
        features, names = [], []
        for folder in _folders(options.folder):
            for frame in files.read([folder]):
                features.append(session.embedder.features(frame))
                names.append(folder.name)
        if not features:
            raise TeachError(f"test: {options.folder} has no picture that can be read")
        samples, labels = lessons.samples(mirror=session.settings.teach.mirror)
        if labels != head.labels or head.model != session.model.file.sha256:
            raise TeachError("test: the head is not of these lessons; teach something first")
        exam = examine(head, samples, np.stack(features), names)
    if options.png:
        try:
            replace_file(options.png, exam_png(exam))
        except OSError as error:
            raise TeachError(f"test: {options.png} cannot be written: {error.strerror}") from None
    if options.json:
        print(json_line(exam))
        return 1 if files.failed else 0
    _say(f"{exam.accuracy:.1%} right of {exam.pictures} pictures, {exam.rejected} called unknown")
    _say(f"imprinting {exam.imprinting:.1%}, nearest mean {exam.nearest_mean:.1%}")
    for point in exam.curve:
        _say(
            f"with {point.pictures:2} pictures a label {point.accuracy:6.1%}, "
            f"imprinting {point.imprinting:6.1%}, nearest mean {point.nearest_mean:6.1%}"
        )
    if strangers := exam.strangers:
        area = "" if strangers.area is None else f", area under the curve {strangers.area:.3f}"
        _say(f"{strangers.pictures} strangers, {strangers.rejected:.1%} called unknown{area}")
    for is_, row in exam.confusion.items():
        for taken, times in row.items():
            if times and taken != is_:
                _say(f"{is_!r} taken for {taken!r}: {times}")
    return 1 if files.failed else 0


class _Session:
    """The lessons that the options name, and the model, loaded when a picture needs it."""

    def __init__(self, options: argparse.Namespace) -> None:
        import msgspec

        from device import config
        from device.library import catalog
        from device.teach.teacher import Teacher

        given = getattr(options, "source", None)
        settings = config.load(options.config, options.set, source=given)
        camera = settings.camera[0]
        model = options.model or camera.model or settings.model.name
        self.settings = settings
        self.model = catalog.find(model)
        self.name = options.lessons or camera.lessons
        # Files are whole pictures, seen the right way round; only the camera's own need turning.
        self._camera = camera if hasattr(options, "source") else config.Camera(crop=camera.crop)
        self._model_settings = msgspec.structs.replace(settings.model, name=model)
        self._stack = ExitStack()
        self.teacher = self._stack.enter_context(
            Teacher(self.name, self.model.file.sha256, settings.teach)
        )

    @cached_property
    def embedder(self) -> "Embedder":
        """Loaded only where there are pictures to look at."""
        from device.teach.embedder import Embedder

        made = Embedder(self.model, self._model_settings, self._camera)
        return self._stack.enter_context(made)

    def picture(self, frame: "Frame") -> "Picture":
        """The frame as it is to be learned."""
        teach = self.settings.teach
        return self.embedder.picture(frame, mirror=teach.mirror, keep=teach.keep_pictures)

    def learn(self) -> None:
        """Learn from all that is taught, and say in a line how good that is."""
        from device.teach.report import report

        lesson = self.teacher.learn()
        _say(str(report(self.teacher.lessons, lesson)))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let lessons and model go."""
        self._stack.close()


class _Files:
    """Reads pictures and names on stderr those that cannot be, which are skipped."""

    def __init__(self) -> None:
        self.count = 0
        self.failed = False

    def read(self, paths: Iterable[Path]) -> "Iterator[Frame]":
        """The pictures in these files and folders, one at a time."""
        from device.recordings.pictures import read_picture

        for path in _with_bar(self._find(paths)):
            try:
                frame = read_picture(path)
            except PictureError as error:
                self._complain(error)
                continue
            self.count += 1
            yield frame

    def _find(self, paths: Iterable[Path]) -> list[Path]:
        from device.recordings.pictures import find_pictures

        found: list[Path] = []
        for path in paths:
            try:
                found += find_pictures(path)
            except PictureError as error:
                self._complain(error)
        return found

    def _complain(self, error: PictureError) -> None:
        sys.stdout.flush()
        complain(str(error))
        self.failed = True


def _with_bar(paths: Sequence[Path]) -> Iterator[Path]:
    """The paths, with a bar on stderr from two seconds on, where that is a terminal."""
    if not sys.stderr.isatty():
        yield from paths
        return
    from rich.console import Console
    from rich.progress import Progress

    with ExitStack() as stack:
        start, bar = time.monotonic(), Progress(console=Console(stderr=True), transient=True)
        task = bar.add_task("pictures", total=len(paths))
        for path in paths:
            if not bar.live.is_started and time.monotonic() - start > _BAR_AFTER_S:
                stack.enter_context(bar)
            yield path
            bar.advance(task)


def _folders(folder: Path) -> list[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise TeachError(f"test: {folder} cannot be read: {error.strerror}") from None
    if not found:
        raise TeachError(f"test: {folder} has no folders; make one for each label")
    return found


def _say(text: str) -> None:
    print(printable(text))
