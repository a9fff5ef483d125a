"""Recordings with their truth, ready to be tuned on: what is replayed, and what it is judged by."""

import logging
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device import config
from device.config import Decide
from device.errors import UsageError
from device.pipeline.groups import groups_for
from device.pipeline.words import Words, nearest
from device.recordings.scores import Track
from device.system.text import printable, quoted
from device.tune.judge import Change, Said, Verdict, judge, true_changes
from device.tune.progress import Bar
from device.tune.replay import Series, gaps, replay, series_of
from device.tune.tracks import tracks_of
from device.tune.truth import Interval, check_truth, find_truth, read_truth

_log = logging.getLogger("labelcam.tune")


class Stream(NamedTuple):
    """One camera of a recording; ``name`` is its own among all that are tuned on.

    ``truth`` is None where nobody has said yet what was there.
    """

    name: str
    folder: Path
    series: Series
    words: Words
    truth: Sequence[Interval] | None

    @property
    def length_s(self) -> float:
        """From the first frame to the latest."""
        return float(self.series.at_s.max())


class Bench:
    """Judges settings on some streams, each of which has its truth.

    With ``labels`` only they count. ``decide`` is what all settings that are tried have in common
    with the configuration. Raises UsageError where no change of them is in the truth.
    """

    def __init__(
        self, streams: Sequence[Stream], decide: Decide, labels: Collection[str] = ()
    ) -> None:
        self.streams = streams
        self._one = decide.mode == "one"
        self._labels = labels
        self._true: dict[str, list[Change]] = {
            stream.name: true_changes(
                stream.truth or (),
                one_at_a_time=self._one,
                labels=labels,
                length_s=stream.length_s,
            )
            for stream in streams
        }
        self.changes = sum(one.counts for some in self._true.values() for one in some)
        if not self.changes:
            of = f" of {', '.join(map(quoted, labels))}" if labels else ""
            raise UsageError(
                f"tune: the truth has no change{of}, and where there is nothing to find the best "
                "is to say nothing; mark what was there"
            )

    def judge(self, settings: Sequence[Decide]) -> list[Verdict]:
        """How each of these settings does."""
        if not settings:
            return []
        frames = sum(len(stream.series.at_s) for stream in self.streams)
        said: list[dict[str, Sequence[Said]]] = [{} for _ in settings]
        done = 0
        with Bar(f"trying {len(settings)} settings", frames) as bar:
            for stream in self.streams:
                begun = done
                progress: Callable[[int], None] = lambda frame, begun=begun: bar.update(  # type: ignore[misc]  # noqa: E731
                    begun + frame
                )
                replayed = replay(stream.series, settings, stream.words, progress)
                for of_setting, one in zip(said, replayed, strict=True):
                    of_setting[stream.name] = one
                done += len(stream.series.at_s)
        return [self.verdict(one) for one in said]

    def said(self, settings: Decide) -> dict[str, list[Said]]:
        """What a setting says of each stream."""
        return {s.name: replay(s.series, [settings], s.words)[0] for s in self.streams}

    def naive(self, least: float = 0.0) -> dict[str, list[Said]]:
        """What the best label of each frame by itself says, where it has ``least`` or more."""
        return {stream.name: _naive(stream.series, least) for stream in self.streams}

    def verdict(self, said: dict[str, Sequence[Said]]) -> Verdict:
        """The verdict on what was said."""
        return judge(said, self._true, one_at_a_time=self._one, labels=self._labels)


def read_streams(
    folders: Sequence[Path],
    settings: config.Config,
    truth: Path | None = None,
    labels: Collection[str] = (),
) -> list[Stream]:
    """The streams of all recordings; ``truth`` is that of the only one, in place of its own.

    Raises CameraError for what is no recording, UsageError for a truth that does not hold, and
    for ``labels`` that are never said.
    """
    streams: list[Stream] = []
    for folder in folders:
        tracks = tracks_of(folder, settings)
        found = [_stream(folder, track, settings.decide, len(folders) > 1) for track in tracks]
        _warn_of_gaps(folder, tracks)
        path = truth or find_truth(folder)
        streams += _with_truth(found, path, settings.decide) if path else found
    names = [name for stream in streams for name in stream.series.names]
    for label in labels:
        if label not in names:
            raise UsageError(f"--labels: {quoted(label)} is never said{nearest(label, names)}")
    return streams


def _stream(folder: Path, track: Track, decide: Decide, several: bool) -> Stream:
    source = track.source
    groups = {} if source.taught else groups_for(decide, source.model)
    words = Words(decide, source.names, groups, strict=False)
    # Names of folders are any bytes, and those of cameras any text.
    name = printable(f"{folder.name}: {source.camera}" if several else source.camera)
    return Stream(name, folder, series_of(track, words), words, None)


def _with_truth(found: Sequence[Stream], path: Path, decide: Decide) -> list[Stream]:
    truth = check_truth(
        path,
        read_truth(path),
        {stream.series.camera: stream.length_s for stream in found},
        {stream.series.camera: stream.series.names for stream in found},
        one_at_a_time=decide.mode == "one",
    )
    return [stream._replace(truth=truth[stream.series.camera]) for stream in found]


def _warn_of_gaps(folder: Path, tracks: Sequence[Track]) -> None:
    left_out = sum(gaps(track) for track in tracks)
    if left_out:
        _log.warning(
            "%s: the gate left frames out %d times, so that delays are rough; `labelcam record "
            "--set gate.motion=off` keeps all",
            folder,
            left_out,
        )
    for track in tracks:
        back = int((np.diff(track.at_s) < 0).sum())
        if back:
            _log.warning("%s: its time runs back %d times; that counts as none", folder, back)


def _naive(series: Series, least: float) -> list[Said]:
    best = series.scores.argmax(axis=1)
    scores = series.scores[np.arange(len(best)), best]
    best = np.where((scores > 0) & (scores >= np.float32(least)), best, -1)
    changes = np.flatnonzero(np.diff(best, prepend=-1))
    return [
        Said(float(series.at_s[n]), (series.names[best[n]],) if best[n] >= 0 else ())
        for n in changes.tolist()
    ]
