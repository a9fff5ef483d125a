"""The scores of a recording: as they were recorded, or of its pictures, classified once."""

import contextlib
import hashlib
import logging
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from device import __version__, config
from device.errors import CameraError, UsageError
from device.events import Observation, Vitals
from device.health.meters import Health
from device.library import catalog
from device.pipeline.feeds import Feeds
from device.pipeline.plan import model_of, streams
from device.recordings.format import INDEX, PICTURES, SCORES, Entry, entries, header_of
from device.recordings.scores import SUFFIX, ScoresWriter, Source, Track, read_scores
from device.system.text import printable
from device.teach.head import HeadFile
from device.tune.progress import Bar

_log = logging.getLogger("labelcam.tune")

_WAIT_S = 0.2
_NO_VITALS = Vitals(*[None] * len(Vitals.__struct_fields__))


def tracks_of(folder: Path, settings: config.Config) -> list[Track]:
    """The scores of each camera, or region of one, that has any.

    The pictures of a recording are classified as the configuration has it, and the scores kept
    in its folder, so that the next time they are read. Raises CameraError for what is no
    recording, UsageError where several cameras are configured and none of them made it.
    """
    source = f"recording {folder}"
    header = header_of(folder, source)
    if header.recording == SCORES:
        kept = folder / f"recorded{SUFFIX}"
        tracks, damage = read_scores(kept)
        _check_model(tracks, settings)
    elif header.recording == PICTURES:
        tracks, damage, kept = _of_pictures(folder, settings)
    else:
        raise CameraError(folder, f"is a recording of form {header.recording}")
    if damage:
        _log.warning("%s: %s; tuning on what comes before", kept, damage)
    for track in tracks:
        if track.not_numbers:
            _log.warning("%s: %d scores are no numbers and count as 0", kept, track.not_numbers)
    if not tracks:
        raise CameraError(folder, "holds no frame; record it again")
    return tracks


def picture_entries(folder: Path) -> list[Entry]:
    """The frames of a recording up to its end or its damage, of which is told; one each."""
    found: dict[str, Entry] = {}
    try:
        for entry in entries(folder, f"replay:{folder}"):
            found.setdefault(entry.file, entry)
    except CameraError as error:
        if not found:
            raise
        _log.warning("%s; tuning on the %d frames before", error, len(found))
    return list(found.values())


def _check_model(tracks: Sequence[Track], settings: config.Config) -> None:
    names = {model_of(settings, camera).name for camera in settings.camera}
    for track in tracks:
        if not {track.source.model} & {*names, *(Path(name).stem for name in names)}:
            _log.warning(
                "the scores are of model %s, and the configuration has %s: its thresholds are "
                "for the former",
                printable(track.source.model),
                ", ".join(sorted(names)),
            )


def _of_pictures(folder: Path, settings: config.Config) -> tuple[list[Track], str, Path]:
    found = picture_entries(folder)
    if not found:
        return [], "", folder / INDEX
    camera = _camera(found, settings)
    kept = folder / f"{_key(camera, settings)[:16]}{SUFFIX}"
    with contextlib.suppress(CameraError):
        tracks, damage = read_scores(kept)
        # One that was interrupted, or of a recording that has grown, is made anew.
        if not damage and tracks and all(len(t.at_s) == len(found) for t in tracks):
            return tracks, "", kept
    gated = any(entry.look for entry in found)
    with tempfile.TemporaryDirectory() as elsewhere:
        made = kept.with_name(f".{kept.name}")
        try:
            writer = ScoresWriter(made)
        except OSError as error:
            _log.info("%s cannot be written (%s): its scores are not kept", folder, error.strerror)
            made = Path(elsewhere) / kept.name
            writer = ScoresWriter(made)
        try:
            _classify(folder, writer, camera, settings, len(found), gated=gated)
            tracks, damage = read_scores(made)
            if made.parent == folder:
                made.replace(kept)
        except OSError as error:
            if isinstance(error, CameraError):
                raise
            raise CameraError(folder, f"its scores cannot be kept: {error.strerror}") from None
        finally:
            made.unlink(missing_ok=True)
    return tracks, damage, kept


def _camera(found: Sequence[Entry], settings: config.Config) -> config.Camera:
    """The camera of the configuration that is meant: its only one, or that of the same name."""
    if len(settings.camera) == 1:
        return settings.camera[0]
    recorded = found[0].camera
    for camera in settings.camera:
        if recorded == camera.name or recorded.startswith(f"{camera.name}/"):
            return camera
    names = ", ".join(camera.name for camera in settings.camera)
    raise UsageError(
        f"tune: was recorded of camera {printable(recorded)!r}, and the configuration has {names}"
    )


def _key(camera: config.Camera, settings: config.Config) -> str:
    """What the scores depend on, as a hash."""
    chosen = model_of(settings, camera)
    digest = hashlib.sha256(catalog.find(chosen.name, chosen.labels).file.sha256.encode())
    seen = camera.crop, camera.region, camera.rotate, camera.mirror, camera.regions
    parts = __version__, chosen.name, chosen.labels, settings.model.beside, settings.teach.beside
    digest.update(msgspec.json.encode((seen, parts)))
    for stream in streams(camera):
        with contextlib.suppress(OSError):
            digest.update(HeadFile(stream.lessons).path.read_bytes())
    return digest.hexdigest()


def _classify(
    folder: Path,
    writer: ScoresWriter,
    camera: config.Camera,
    settings: config.Config,
    frames: int,
    *,
    gated: bool,
) -> None:
    """Classify every picture up to the end, or to one that is damaged, of which is told."""
    plain = msgspec.structs.replace(
        settings,
        camera=(msgspec.structs.replace(camera, source=f"replay:{folder}?pace=max"),),
        gate=config.Gate(motion="off"),
        teach=msgspec.structs.replace(settings.teach, doubts=0),
    )
    _log.info("%s: classifying its %d pictures, once", folder, frames)
    begun_at, first_at = time.monotonic(), None
    with contextlib.closing(writer), Bar(f"{folder.name}: classifying", frames) as bar:
        try:
            for seen in _observations(plain):
                first_at = seen.frame.captured_at if first_at is None else first_at
                what = seen.scored
                assert what is not None
                source = Source(
                    seen.camera, what.model, what.model_sha256, what.names, what.taught, gated
                )
                writer.add(source, seen.frame.captured_at - first_at, what.values)
                bar.update(seen.frame.number + 1)
        except CameraError as error:
            if not writer.frames:
                raise
            _log.warning("%s; tuning on what comes before", error)
    _log.info("%s: classified in %.1f s", folder, time.monotonic() - begun_at)


def _observations(settings: config.Config) -> Iterator[Observation]:
    """What a device with this configuration makes of every frame, without its outlets."""
    feeds = Feeds(settings, Health(time.monotonic(), lambda: _NO_VITALS), scores=True)
    try:
        feeds.start()
        feeds.load(lambda _, controls: controls)
        feeds.wait_until_open(lambda: False)
        feeds.play(loop_footage=False)
        while not feeds.ended:
            feeds.wait(_WAIT_S, lambda: False)
            feeds.check()
            for feed, frame in feeds:
                for channel in feed.channels:
                    if observation := channel.process(frame):
                        yield observation
    finally:
        feeds.close()
        feeds.close_models()
