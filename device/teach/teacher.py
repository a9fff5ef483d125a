"""Lessons and the head that follows from them: whoever teaches does it through here."""

import contextlib
import fcntl
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from device.config import Camera, Teach
from device.errors import TeachError
from device.frames import Frame
from device.recordings.rendering import jpeg, upright
from device.system.files import replace_file
from device.system.text import from_json
from device.teach.head import Features, folder_of, write_head
from device.teach.learner import Lesson, learn
from device.teach.lessons import Lessons, Picture

# Enough to sort by, and small.
_LONGEST_PX = 320
_QUALITY = 80


def picture_of(frame: Frame, features: Features, camera: Camera, *, keep: bool) -> Picture:
    """A frame of ``camera`` that was classified, taught by its features, float32 (features,)."""
    digest = hashlib.sha256(np.ascontiguousarray(frame.pixels).tobytes()).digest()
    picture = None
    if keep:
        picture = jpeg(upright(frame, camera.rotate, camera.mirror, _LONGEST_PX), _QUALITY)
    return Picture(features[np.newaxis], digest, frame.width, frame.height, picture)


class Grade(msgspec.Struct, frozen=True):
    """How good the last lesson is, from pictures that were held out of it.

    ``accuracy`` is a share and ``spread`` its standard error, None where a label has too few
    pictures for one to be held out; ``mixed`` are the two labels that are mixed up most.
    ``confusion`` has what pictures are, what they were taken for, and how many, none of 0.
    """

    accuracy: float | None = None
    spread: float | None = None
    mixed: tuple[str, str] | None = None
    confusion: tuple[tuple[str, str, int], ...] = ()


def grade(lesson: Lesson | None) -> Grade:
    """The grade of a lesson."""
    if lesson is None or lesson.estimate is None:
        return Grade()
    confusion = lesson.estimate.confusion
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    mixed = wrong + wrong.T
    row, column = np.unravel_index(int(mixed.argmax()), mixed.shape)
    labels = lesson.head.labels
    pair = (labels[int(row)], labels[int(column)]) if mixed.any() else None
    return Grade(
        round(lesson.estimate.accuracy, 4),
        round(lesson.estimate.spread, 4),
        pair,
        tuple((labels[i], labels[j], int(confusion[i, j])) for i, j in np.argwhere(confusion)),
    )


class Teacher:
    """Changes a set of lessons and learns from it at once; for one thread.

    ``name`` is the set's, ``model`` the SHA-256 of the model file whose features are taught.
    Each change returns what was learned, None while there are not two labels: then there is no
    head, and a device that runs goes back to the model's own labels. Raises TeachError.
    """

    def __init__(self, name: str, model: str, settings: Teach) -> None:
        self.lessons = Lessons(folder_of(name), model)
        self._model = model
        self._settings = settings

    def add(self, label: str, pictures: Iterable[Picture]) -> Lesson | None:
        """Teach pictures of a label."""
        self.lessons.add(label, pictures)
        return self.learn()

    def remove(self, entries: Sequence[int]) -> Lesson | None:
        """Forget pictures."""
        self.lessons.remove(entries)
        return self.learn()

    def remove_label(self, label: str) -> Lesson | None:
        """Forget a label."""
        self.lessons.remove_label(label)
        return self.learn()

    def move(self, entries: Sequence[int], label: str) -> Lesson | None:
        """Put pictures under another label; those that waited for one are kept as others are."""
        self.lessons.move(entries, label)
        if not self._settings.keep_pictures:
            self.lessons.forget_pictures()
        return self.learn()

    def rename(self, label: str, new: str) -> Lesson | None:
        """Give a label another name."""
        self.lessons.rename(label, new)
        return self.learn()

    def undo(self) -> tuple[str, Lesson | None]:
        """Take the last change back; what it was, and what is learned without it."""
        return self.lessons.undo(), self.learn()

    def learn(self) -> Lesson | None:
        """Learn from all that is taught and put the head in the place of the one before.

        Who else teaches the set waits meanwhile, or an older head could follow a newer.
        """
        with self._alone():
            return self._learn()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        path = self.lessons.folder / "lock"
        try:
            file = path.open("wb")
        except OSError as error:
            raise TeachError(f"{path} cannot be written: {error.strerror}") from None
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _learn(self) -> Lesson | None:
        samples, labels = self.lessons.samples(mirror=self._settings.mirror)
        if len(labels) < 2:
            self._keep_grade(None)
            try:
                self.lessons.head_file.unlink(missing_ok=True)
            except OSError as error:
                raise TeachError(
                    f"{self.lessons.head_file} cannot be removed: {error.strerror}"
                ) from None
            return None
        lesson = learn(samples, labels, self._model, strictness=self._settings.strictness)
        write_head(self.lessons.head_file, lesson.head)
        self._keep_grade(lesson)
        return lesson

    @property
    def grade(self) -> Grade:
        """How good the last lesson is."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            return from_json(self._grade_file.read_bytes(), Grade)
        return Grade()

    @property
    def _grade_file(self) -> Path:
        return self.lessons.folder / "grade.json"

    def _keep_grade(self, lesson: Lesson | None) -> None:
        # What is lost here is only said again after the next lesson.
        with contextlib.suppress(OSError):
            replace_file(self._grade_file, msgspec.json.encode(grade(lesson)))

    def close(self) -> None:
        """Let the lessons go; may be called twice."""
        self.lessons.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
