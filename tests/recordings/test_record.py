"""Recording and replaying: what is kept, how much of it, and that it plays the same each time."""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from device import config
from device.cameras import open_camera
from device.cli import main
from device.cli.arguments import duration_s
from device.errors import CameraError, OutputClosed, SinkError, UsageError
from device.events import DeviceHealth, LabelChange, Observation, Sink, StageTimes
from device.frames import Frame, PixelFormat
from device.node import Node
from device.recordings import format as form
from device.sinks.record import RecordSink


class Changes(Sink):
    """A sink that keeps the changes and how often it observed."""

    name = "changes"

    def __init__(self) -> None:
        self.changed: list[tuple[str, str, str | None, float, float]] = []
        self.scores: list[float] = []

    def observe(self, observation: Observation) -> None:
        self.scores.append(observation.predictions[0].score)

    def change(self, change: LabelChange, *_: object) -> None:
        self.changed.append(
            (change.camera, change.label, change.previous, change.score, change.held_s)
        )

    def report(self, snapshot: DeviceHealth) -> None: ...

    def close(self) -> None: ...


@pytest.fixture
def settings(colours: Callable[..., Path]) -> list[str]:
    """A model that changes its mind often as the synthetic camera's bars drift by."""
    return [
        f"model.name='{colours(softmax=True)}'",
        "decide.enter=0.334",
        "decide.exit=0.3335",
        "decide.min_hold_s=0",
        "decide.smoothing_s=0.05",
        "camera.width=64",
        "camera.height=48",
        "camera.fps=100",
        "camera.region=[0.0, 0.0, 0.4, 0.4]",
        "terminal.enabled=false",
    ]


def options(settings: list[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


def replayed(folder: Path, settings: list[str], pace: str = "?pace=max") -> Changes:
    sink = Changes()
    loaded = config.load(None, [*settings, f"camera.source='replay:{folder}{pace}'"])
    Node(loaded, sinks=(lambda: sink,)).run()
    return sink


def recorded(tmp_path: Path, settings: list[str], *more: str) -> Path:
    folder = tmp_path / "recording"
    code = main(
        ["record", "--for", "1s", "--source", "synthetic", str(folder), *options(settings), *more]
    )
    assert code == 0
    return folder


@pytest.mark.slow
def test_what_was_recorded_changes_its_labels_in_the_same_way_each_time(
    tmp_path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recorded(tmp_path, settings, "--lossless")
    first, second = replayed(folder, settings), replayed(folder, settings)
    lines = (folder / form.INDEX).read_bytes().splitlines()
    assert len(first.changed) >= 2
    assert first.changed == second.changed
    assert first.scores == second.scores
    assert len(first.scores) == len(lines) - 1, "no frame was left out"
    looks = [entry.look for entry in form.entries(folder, "it")]
    assert looks[0] == "moving"
    assert set(looks) <= {"moving", "settling", "re-check"}


@pytest.mark.slow
def test_lossless_is_what_was_seen_to_the_bit(tmp_path: Path, settings: list[str]) -> None:
    folder = recorded(tmp_path, settings, "--lossless")
    entries = list(form.entries(folder, "it"))
    again = replayed(folder, settings)
    assert [entry.predictions[0].score for entry in entries] == again.scores


@pytest.mark.parametrize(("pace", "at_pace"), [("", True), ("?pace=max", False)])
@pytest.mark.slow
def test_plays_at_the_recorded_pace(tmp_path: Path, pace: str, at_pace: bool) -> None:
    times = [0.0, 0.25, 0.375, 0.5]
    sink = RecordSink(tmp_path / "out", 10, 1 << 20, lossless=True)
    for number, at in enumerate(times):
        sink.observe(_observation(_frame(at, number)))
    sink.close()
    taken, came = [], []
    with open_camera(config.Camera(source=f"replay:{tmp_path / 'out'}{pace}")) as camera:
        while (frame := camera.read()) is not None:
            taken.append(frame.captured_at)
            came.append(time.monotonic())
    assert [at - taken[0] for at in taken] == times
    # The first may have been read late, so that the others come up to that much earlier.
    late_s = came[0] - taken[0] + 0.05
    early = [at - came[0] < due - late_s for at, due in zip(came, times, strict=True)]
    assert any(early) is not at_pace


@pytest.mark.parametrize("layout", list(PixelFormat))
@pytest.mark.parametrize("lossless", [True, False])
def test_every_layout_comes_back(tmp_path: Path, layout: PixelFormat, lossless: bool) -> None:
    bgr = np.asarray(
        cv2.resize(np.random.default_rng(0).integers(0, 255, (6, 8, 3)).astype(np.uint8), (64, 48)),
        np.uint8,
    )
    if layout is PixelFormat.YUV420:
        packed = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        bgr = np.asarray(cv2.cvtColor(packed, cv2.COLOR_YUV2BGR_I420), np.uint8)
        pixels = np.asarray(packed, np.uint8)
    elif layout is PixelFormat.GREY:
        pixels = np.ascontiguousarray(bgr[:, :, 1])
    else:
        pixels = bgr if layout is PixelFormat.BGR else np.ascontiguousarray(bgr[:, :, ::-1])
    sink = RecordSink(tmp_path / "out", 10, 1 << 20, lossless=lossless)
    sink.observe(_observation(Frame(pixels, layout, 64, 48, 0, 5.0)))
    sink.close()
    with open_camera(config.Camera(source=f"replay:{tmp_path / 'out'}?pace=max")) as camera:
        frame = camera.read()
    assert frame is not None
    assert (frame.width, frame.height, frame.fault()) == (64, 48, "")
    if lossless or layout is PixelFormat.GREY:
        assert frame.format is layout
    if lossless:
        assert (frame.pixels == pixels).all()
    else:
        wanted = pixels if layout is PixelFormat.GREY else bgr
        assert np.abs(frame.pixels.astype(int) - wanted).mean() < 6


def _observation(frame: Frame, camera: str = "camera") -> Observation:
    return Observation(
        camera=camera,
        frame=frame,
        predictions=(),
        label=None,
        score=0.0,
        stages=StageTimes(0, 0, 0),
        latency_ms=0.0,
        at=frame.captured_at,
    )


def _frame(at: float, number: int = 0) -> Frame:
    return Frame(np.full((48, 64, 3), number, np.uint8), PixelFormat.BGR, 64, 48, number, at)


def test_a_frame_of_several_regions_is_kept_once_and_played_once(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path, 10, 1 << 20, lossless=True)
    for number in range(3):
        frame = _frame(number / 10, number)
        sink.observe(_observation(frame, "camera/a"))
        sink.observe(_observation(frame, "camera/b"))
    sink.close()
    assert sink.frames == 3
    with open_camera(config.Camera(source=f"replay:{tmp_path}?pace=max")) as camera:
        numbers = []
        while (frame_again := camera.read()) is not None:
            numbers.append(int(frame_again.pixels[0, 0, 0]))
    assert numbers == [0, 1, 2]


def test_ends_at_its_bytes(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path / "out", 1e6, 20_000, lossless=True)
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    frames = [Frame(noise, PixelFormat.BGR, 64, 48, number, number / 30) for number in range(9)]
    sink.observe(_observation(frames[0]))
    with pytest.raises(OutputClosed):
        deque(map(sink.observe, map(_observation, frames[1:])))
    sink.close()
    assert sink.full
    kept = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert kept == sink.bytes <= 20_000


def test_ends_at_its_time(tmp_path: Path) -> None:
    sink = RecordSink(tmp_path, 1.0, 1 << 20, lossless=False)
    sink.observe(_observation(_frame(7.0)))
    sink.observe(_observation(_frame(7.9)))
    with pytest.raises(OutputClosed):
        sink.observe(_observation(_frame(8.0)))
    sink.close()
    assert sink.frames == 2


@pytest.mark.slow
def test_says_where_it_writes_and_how_much(
    tmp_path: Path, settings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    folder = recorded(tmp_path, settings)
    said = [message for message in caplog.messages if message.startswith("record: ")]
    assert said[0] == f"record: writing to {folder}, at most 1024 MB"
    assert said[1].endswith(f"MB, in {folder}")


def test_a_disk_that_is_full_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    sink = RecordSink(tmp_path, 10, 1 << 20, lossless=False)
    with pytest.raises(OutputClosed):
        sink.observe(_observation(_frame(0.0)))
    sink.close()
    assert sink.failure == (
        f"record: {tmp_path} cannot be written: No space left on device; what was recorded until "
        "then is whole"
    )


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="holds files already; give a new folder"):
        RecordSink(tmp_path, 1, 1, lossless=False)
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be written: File exists"):
        RecordSink(tmp_path / "file", 1, 1, lossless=False)


@pytest.mark.parametrize("there_before", [False, True])
def test_a_camera_that_gives_nothing_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], there_before: bool
) -> None:
    out = tmp_path / "out"
    if there_before:
        out.mkdir()
    missing = str(tmp_path / "missing.mp4")
    assert main(["record", "--for", "1s", str(out), "--source", missing]) == 1
    assert "cannot be opened" in capsys.readouterr().err
    assert out.exists() is there_before
    assert list(tmp_path.rglob("*.jsonl")) == []


def test_one_camera_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "two.toml").write_text("[[camera]]\nname = 'a'\n[[camera]]\nname = 'b'\n")
    out = tmp_path / "out"
    assert main(["record", str(out), "--for", "1s", "--config", str(tmp_path / "two.toml")]) == 2
    assert "records one camera, and the configuration has 2" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("5m", 300), ("1h", 3600), ("90", 90), ("0.5s", 0.5)]
)
def test_times(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0s", "5d", "-1s", "s", "1e3"])
def test_what_is_no_time(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["record", f"--for={text}", "out"]) == 2
    assert "is no time such as 60s, 5m or 1h" in capsys.readouterr().err


def _broken(folder: Path, line: object) -> str:
    header = form.Header(1, "m", "s")
    (folder / form.INDEX).write_bytes(
        msgspec.json.encode(header) + b"\n" + (line if isinstance(line, bytes) else b"") + b"\n"
    )
    with pytest.raises(CameraError) as caught:
        open_camera(config.Camera(source=f"replay:{folder}"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_that_breaks_off_ends_in_an_error_even_at_its_last_frame(
    tmp_path: Path, settings: list[str]
) -> None:
    folder = recorded(tmp_path, settings)
    last = max(folder.glob("*.jpg"))
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(CameraError, match=f"{last.name}: is cut off"):
        replayed(folder, settings)


def test_what_is_no_recording(tmp_path: Path) -> None:
    source = f"camera replay:{tmp_path}: "
    with pytest.raises(CameraError) as caught:
        open_camera(config.Camera(source=f"replay:{tmp_path}"))
    assert str(caught.value) == (
        f"{source}there is no {tmp_path / 'recording.jsonl'}; make one with `labelcam record "
        f"--for 60s {tmp_path}`"
    )
    assert _broken(tmp_path, b"{").startswith(f"{source}line 2 of")
    entry = form.Entry("../x.png", 0, 4, 4, "BGR", "c", None, 0, ())
    assert "names '../x.png'" in _broken(tmp_path, msgspec.json.encode(entry))
    entry = msgspec.structs.replace(entry, file="000000.png")
    assert "no such file or folder" in _broken(tmp_path, msgspec.json.encode(entry))
    cv2.imwrite(str(tmp_path / "000000.png"), np.zeros((8, 8, 3), np.uint8))
    assert "has uint8 pixels of shape (8, 8, 3) as BGR" in _broken(
        tmp_path, msgspec.json.encode(entry)
    )
    with pytest.raises(UsageError, match=r"is no replay; give it as replay:FOLDER"):
        open_camera(config.Camera(source=f"replay:{tmp_path}?pace=2"))
