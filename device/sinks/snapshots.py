"""A picture of each label that begins, into the ring on disk.

The node's thread only keeps a reference to the frame; ``labelcam-snapshots`` encodes and writes.
"""

import logging
import threading
from collections import deque
from typing import NamedTuple

from device.events import LabelChange, Sink
from device.frames import Frame
from device.sinks.captions import moment
from device.sinks.outlet import Run
from device.sinks.photos import Photo, Photos
from device.sinks.ring import Ring
from device.system.text import one_line

_log = logging.getLogger("labelcam.snapshots")

# Pixels that wait for the disk: 18 pictures of 640 x 480, 2 of 1920 x 1080.
QUEUE_BYTES = 16 << 20
# The same frame may begin many labels, and weighs once.
QUEUE_COUNT = 64
# After a fault of the disk the picture that it refused is tried again.
RETRY_S = 10.0
# How long a picture may outlive its day.
_TRIM_S = 600.0
# A card takes a tenth of a second for each of what still waits.
GOODBYE_S = 2.0


class Waiting(NamedTuple):
    """A picture that is to be written, and the label that began in it."""

    photo: Photo
    change: LabelChange


class SnapshotSink(Sink):
    """Writes the pictures; ``problem`` is why it cannot, and ``lost`` counts what came to nothing.

    ``wanted`` are the labels that get one, none for all.
    """

    name = "snapshots"

    def __init__(self, ring: Ring, photos: Photos, wanted: tuple[str, ...] = ()) -> None:
        self.problem = ""
        self.lost = 0
        self._ring = ring
        self._photos = photos
        self._wanted = frozenset(wanted)
        self._waiting: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._told = False
        # A daemon, because a disk that hangs for good must not keep the process.
        self._thread = threading.Thread(target=self._run, name="labelcam-snapshots", daemon=True)
        self._thread.start()

    def change(self, change: LabelChange, frame: Frame | None = None, /) -> None:
        """Take the frame in which a label began; the end of one, or nothing, is no picture."""
        began = change.on and change.label in change.active
        if frame is None or not began or (self._wanted and change.label not in self._wanted):
            return
        with self._changed:
            self._waiting.append(Waiting(self._photos.of(change.camera, frame), change))
            # The newest are kept: of a storm, and while the disk takes nothing.
            while len(self._waiting) > 1 and (
                len(self._waiting) > QUEUE_COUNT or self._bytes > QUEUE_BYTES
            ):
                self._waiting.popleft()
                if not (self.lost or self.problem):
                    _log.warning("snapshots: changes come faster than pictures are written")
                self.lost += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Write what waits, as far as the disk is not slow, and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(GOODBYE_S)

    @property
    def _bytes(self) -> int:
        # Of one frame several labels may have begun, and it weighs once.
        return sum(photo.size for photo in {waiting.photo for waiting in self._waiting})

    # The thread labelcam-snapshots.

    def _run(self) -> None:
        self._write(None)
        while True:
            with self._changed:
                if not (self._waiting or self._closing):
                    self._changed.wait(RETRY_S if self.problem else _TRIM_S)
                if self._closing and not self._waiting:
                    break
                waiting = self._waiting.popleft() if self._waiting else None
                is_last_try = self._closing
            if not self._write(waiting) and waiting is not None:
                with self._changed:
                    self._waiting.appendleft(waiting)
                    if is_last_try:
                        break
                    self._changed.wait_for(lambda: self._closing, RETRY_S)
        self.lost += len(self._waiting)
        if self.lost:
            _log.warning("snapshots: %d pictures came to nothing", self.lost)

    def _write(self, waiting: Waiting | None) -> bool:
        """Write the picture, or where there is none look after the ring; False to try it again."""
        ring = self._ring
        try:
            if waiting is None:
                count, size = ring.prepare()
                if not self._told:
                    self._told = True
                    _log.info(
                        "snapshots: kept in %s, %d so far, %.1f MB", ring.folder, count, size / 1e6
                    )
            else:
                photo, change = waiting
                taken = moment(change.at)
                ring.add(photo.jpeg(), change.camera, change.label, change.score, taken)
        except OSError as error:
            reason = error.strerror or str(error)
            self._say(f"{ring.folder}: {reason[:1].lower()}{reason[1:]}")
            return False
        except Exception as error:  # noqa: BLE001 - one picture is lost, and not those after it
            self.lost += waiting is not None
            _log.error("snapshots: a picture cannot be made: %s", one_line(str(error)))
        else:
            turns = f"{ring.folder}: {ring.cramped}; old pictures go for new ones"
            self._say(turns if ring.is_cramped else "")
        return True

    def _say(self, problem: str) -> None:
        """Say once what is wrong, and when it is no more."""
        if problem and problem != self.problem:
            _log.warning("snapshots: %s; labelcam goes on, and tries it again", problem)
        elif self.problem and not problem:
            _log.info("snapshots: %s takes pictures again", self._ring.folder)
        self.problem = problem


def open_sink(run: Run) -> Sink:
    """The pictures of changes on disk; never fails, for a disk may come to be."""
    return SnapshotSink(run.ring, run.photos, run.settings.snapshots.labels)
