"""Scores on disk: what comes back of them, how small they are, and what of a damaged file."""

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from device import config
from device.cameras import open_camera
from device.cli import main
from device.errors import CameraError, OutputClosed
from device.events import Observation, Scored, StageTimes
from device.frames import Frame, PixelFormat
from device.recordings import format as form
from device.recordings import scores as kept
from device.sinks.record import ScoresSink

Dense = np.ndarray[tuple[int, int], np.dtype[np.float32]]
NAMES = ("red", "green", "blue")


def source(camera: str = "camera", **more: Any) -> kept.Source:
    return msgspec.structs.replace(kept.Source(camera, "m", "0" * 64, NAMES), **more)


def write(path: Path, rows: Sequence[Sequence[float]] | Dense, **more: Any) -> Path:
    writer = kept.ScoresWriter(path)
    for number, row in enumerate(rows):
        writer.add(source(**more), number / 8, np.array(row, np.float32))
    writer.close()
    return path


def dense(track: kept.Track) -> Dense:
    frames = np.zeros((len(track.at_s), len(track.source.names)), np.float32)
    for n, row in enumerate(frames):
        part = slice(track.starts[n], track.starts[n + 1])
        row[track.rows[part]] = track.scores[part]
    return frames


@pytest.mark.slow
@given(arrays(np.float32, (7, 3), elements=st.floats(0, 1, width=32)))
def test_scores_come_back_to_the_bit_and_what_is_tiny_as_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    rows: Dense,
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "it.scores", rows)
    (track,), damage = kept.read_scores(path)
    assert damage == ""
    assert (dense(track) == np.where(rows < np.float32(1 / 512), 0, rows)).all()
    assert track.at_s.tolist() == [n / 8 for n in range(7)]


def test_an_hour_of_an_eight_bit_softmax_is_small(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    writer = kept.ScoresWriter(tmp_path / "it.scores")
    names = source(names=tuple(f"label {n}" for n in range(1000)))
    for number in range(1800):  # three minutes
        shares = np.zeros(1000, np.float32)
        shares[chance.integers(0, 1000, 20)] = chance.integers(1, 12, 20) / 256
        writer.add(names, number / 10, shares)
    writer.close()
    assert writer.bytes == (tmp_path / "it.scores").stat().st_size
    assert writer.bytes * 20 < 5 << 20


def test_cameras_stay_apart_and_a_break_ends_a_block(tmp_path: Path) -> None:
    writer = kept.ScoresWriter(tmp_path / "it.scores")
    for number in range(250):
        for camera in ("a/left", "a/right"):
            value = np.array([number % 7 / 8, 0, camera == "a/left"], np.float32)
            writer.add(source(camera), number / 8, value)
    writer.close()
    tracks, damage = kept.read_scores(tmp_path / "it.scores")
    assert damage == ""
    assert [track.source.camera for track in tracks] == ["a/left", "a/right"]
    assert [len(track.at_s) for track in tracks] == [250, 250]
    assert dense(tracks[0])[:, 2].tolist() == [1] * 250
    assert dense(tracks[1])[:, 2].tolist() == [0] * 250


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_file_that_is_cut_off_is_read_up_to_there(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "it.scores", [[0.5, 0.25, n / 512] for n in range(250)])
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    (track,), damage = kept.read_scores(path)
    assert len(track.at_s) == 200
    assert damage.startswith("damaged after 200 frames, at byte ")
    assert damage.endswith("(cut off)")


def test_a_changed_byte_costs_what_comes_after_it(tmp_path: Path) -> None:
    path = write(tmp_path / "it.scores", [[0.5, 0.25, n / 512] for n in range(250)])
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    (track,), damage = kept.read_scores(path)
    assert len(track.at_s) == 200
    assert "its sum is wrong" in damage


def test_what_is_no_number_counts_as_nothing_and_is_counted(tmp_path: Path) -> None:
    block = kept.Block(
        "camera",
        np.array([0, 1], "<i8").tobytes(),
        np.array([1, 1], "<u4").tobytes(),
        np.array([0, 1], "<u4").tobytes(),
        np.array([np.nan, 0.5], "<f4").tobytes(),
    )
    data = kept.MAGIC + _framed(source()) + _framed(block)
    (tmp_path / "it.scores").write_bytes(data)
    (track,), damage = kept.read_scores(tmp_path / "it.scores")
    assert (damage, track.not_numbers) == ("", 1)
    assert dense(track).tolist() == [[0, 0, 0], [0, 0.5, 0]]
    writer = kept.ScoresWriter(tmp_path / "nan.scores")
    writer.add(source(), 0.0, np.array([np.nan, 0.5, 0.25], np.float32))
    writer.close()
    (track,), _ = kept.read_scores(tmp_path / "nan.scores")
    assert dense(track).tolist() == [[0, 0.5, 0.25]]


def _framed(value: object) -> bytes:
    body = zlib.compress(msgspec.msgpack.encode(value))
    return len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([kept.Block("camera", b"", b"", b"", b"")], "scores of nothing that was named"),
        ([source(), kept.Block("camera", bytes(8), b"", b"", b"")], "do not belong to its labels"),
        (
            [
                source(),
                kept.Block("camera", bytes(8), b"\1\0\0\0", b"\3\0\0\0", bytes(4)),
            ],
            "do not belong to its labels",
        ),
        ([source(), kept.Block("camera", bytes(7), b"", b"", b"")], "multiple of element size"),
        ([source(), source(names=("red",))], "what its scores are of changed"),
        ([{"type": "tree"}], "damaged after 0 frames"),
    ],
)
def test_what_does_not_hold_together_is_damage(
    tmp_path: Path, values: Sequence[object], reason: str
) -> None:
    (tmp_path / "it.scores").write_bytes(kept.MAGIC + b"".join(map(_framed, values)))
    tracks, damage = kept.read_scores(tmp_path / "it.scores")
    assert tracks == []
    assert reason in damage


def test_what_is_no_file_of_scores(tmp_path: Path) -> None:
    (tmp_path / "it.scores").write_bytes(b"something else")
    with pytest.raises(CameraError, match="holds no scores of this form; record it again"):
        kept.read_scores(tmp_path / "it.scores")
    with pytest.raises(CameraError, match="cannot be read: No such file"):
        kept.read_scores(tmp_path / "none.scores")


def _observation(at: float, number: int = 0) -> Observation:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), PixelFormat.BGR, 4, 4, number, at)
    return Observation(
        camera="camera",
        frame=frame,
        predictions=(),
        label=None,
        score=0.0,
        stages=StageTimes(0, 0, 0),
        latency_ms=0.0,
        at=at,
        scored=Scored(NAMES, np.array([0.5, 0.25, 0.125], np.float32), "m", "0" * 64, taught=False),
    )


def test_a_recording_of_scores_has_no_picture_and_says_so_when_it_is_played(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "out"
    sink = ScoresSink(folder, 10, 1 << 20)
    for number in range(30):
        sink.observe(_observation(5 + number / 10, number))
    sink.close()
    assert {path.name for path in folder.iterdir()} == {form.INDEX, "recorded.scores"}
    assert sink.frames == 30
    assert sink.bytes == sum(path.stat().st_size for path in folder.iterdir())
    (track,), _ = kept.read_scores(folder / "recorded.scores")
    assert track.at_s == pytest.approx(np.arange(30) / 10, abs=1e-6)
    with pytest.raises(CameraError) as caught:
        open_camera(config.Camera(source=f"replay:{folder}"))
    assert str(caught.value) == (
        f"camera replay:{folder}: holds scores without pictures, so that there is nothing to "
        f"play; `labelcam tune {folder}` makes use of it"
    )


def test_a_recording_of_scores_ends_at_its_time_and_at_its_bytes(tmp_path: Path) -> None:
    sink = ScoresSink(tmp_path / "time", 1.0, 1 << 20)
    sink.observe(_observation(5.0))
    with pytest.raises(OutputClosed):
        sink.observe(_observation(6.0))
    sink.close()
    assert (sink.frames, sink.full) == (1, False)
    sink = ScoresSink(tmp_path / "bytes", 1e6, 500)
    frames = (_observation(5 + number / 10, number) for number in range(100_000))
    with pytest.raises(OutputClosed):
        deque(map(sink.observe, frames))
    sink.close()
    assert sink.full
    assert 100 <= sink.frames <= 300


def test_a_disk_that_is_full_is_said_of_scores_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = ScoresSink(tmp_path / "out", 10, 1 << 20)
    sink.observe(_observation(5.0))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept.ScoresWriter, "_write", full)
    sink.close()
    assert sink.failure.endswith(
        "cannot be written: No space left on device; what was recorded until then is whole"
    )


@pytest.mark.slow
def test_the_command_keeps_every_frame_of_a_scene_at_rest(
    tmp_path: Path, colours: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = colours(softmax=True)
    out = tmp_path / "out"
    settings = [f"model.name='{model}'", "terminal.enabled=false", "camera.fps=50"]
    settings += ["camera.width=64", "camera.height=48"]
    options = [word for setting in settings for word in ("--set", setting)]
    arguments = ["record", "--scores", "--for", "1s", "--source", "synthetic", str(out)]
    code = main([*arguments, *options])
    assert code == 0
    (track,), damage = kept.read_scores(out / "recorded.scores")
    assert damage == ""
    assert len(track.at_s) > 5
    assert track.source.names == NAMES
    assert not track.source.gated
    assert np.abs(dense(track).sum(1) - 1).max() < 0.02


def test_scores_and_lossless_exclude_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "--scores", "--lossless", "--for", "1s", str(tmp_path / "out")]) == 2
    assert "keeps no picture" in capsys.readouterr().err


def test_what_for_takes_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["record", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "seconds, or a number with s, m or h, such as 90, 60s, 5m or 1.5h" in said
