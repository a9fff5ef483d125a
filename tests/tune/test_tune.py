"""The command on recordings of scores: what it shows, writes and refuses."""

import json
import logging
import os
import tomllib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from device import config
from device.cli import main
from device.events import Observation, StageTimes
from device.frames import Frame, PixelFormat
from device.recordings.format import INDEX
from device.recordings.scores import ScoresWriter, Source
from device.sinks.record import RecordSink
from device.tune.judge import Verdict
from device.tune.recordings import Bench, read_streams
from device.tune.search import key_of, search
from device.tune.truth import TRUTH, Interval, write_truth
from tests.tune.made import NAMES, intervals, make

MODEL = ["--set", "model.name='made'"]


@pytest.fixture(autouse=True)
def _said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    return make(tmp_path / "it", intervals(8))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    capsys.readouterr()
    assert main(["tune", *map(str, arguments)]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err.removeprefix("labelcam: ").strip()


def test_every_setting_is_tried_once_and_the_best_comes_first() -> None:
    tried: list[tuple[float, ...]] = []

    def judge(settings: "list[config.Decide]") -> list[Verdict]:
        verdicts = []
        for one in settings:
            tried.append(key_of(one))
            assert one.exit < one.enter
            # The more they are like these, the better.
            errors = round(20 * abs(one.enter - 0.37) + 10 * abs(one.smoothing_s - 0.4))
            verdicts.append(Verdict(10, 10, errors, 0, 0, 0.1, 0.1, {}))
        return verdicts

    current = config.Decide(enter=0.9, exit=0.8, unknown="nothing", cooldown_s=3.0)
    ranked = search(current, judge)  # type: ignore[arg-type]
    assert len(ranked) == len(tried) == len(set(tried)) == 200
    best = ranked[0].settings
    assert ranked[0].verdict.errors == 0
    assert (best.unknown, best.cooldown_s) == ("nothing", 3.0)
    assert ranked[-1].verdict.errors >= ranked[0].verdict.errors
    assert key_of(current) in tried


@pytest.mark.slow
def test_a_table_shows_the_best_the_present_ones_and_top_1(
    recording: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert main(["tune", str(recording), *MODEL]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["enter", "exit", "smooth", "frames", "hold", "margin"]
    rows = {line.split("  ")[0]: line for line in lines if line.strip()}
    assert "16/16" in rows["1"]
    assert {"as configured", "naive top-1", "top-1 from 0.5"} <= set(rows)
    assert "16 true changes" in "".join(lines)
    assert any(m.startswith("200 settings on ") for m in caplog.messages)


@pytest.mark.slow
def test_json_says_the_same_and_another_recording_checks_it(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make(tmp_path / "other", intervals(8, seed=5), seed=5)
    assert main(["tune", str(recording), *MODEL, "--json", "--check", str(other)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["changes"], len(told["best"])) == (16, 10)
    best = told["best"][0]
    assert (best["missed"], best["false"]) == (0, 0)
    assert told["naive"][0]["false"] > 50
    assert told["current"]["enter"] == 0.5
    on_other, before = told["checked"]
    assert (on_other["name"], before["name"]) == ("1 on other", "as configured on other")
    assert on_other["enter"] == best["enter"]
    assert on_other["true"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one", "any"])
def test_the_best_is_written_and_comments_stay(
    recording: Path, tmp_path: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        f'# mine\n[model]\nname = "made"\n[decide]\nmode = "{mode}"\n'
        "enter = 0.9  # a guess\nexit = 0.8\n"
    )
    assert main(["tune", str(recording), "--config", str(file), "--write"]) == 0
    text = file.read_text()
    assert text.startswith("# mine\n")
    assert "# a guess" in text
    decide = config.load(file).decide
    assert 0.1 < decide.enter < 0.9
    bench = Bench(read_streams([recording], config.load(file)), decide)
    assert bench.judge([decide])[0].errors == 0
    told = next(message for message in caplog.messages if "[decide] has now:" in message)
    assert f"enter 0.9 → {tomllib.loads(text)['decide']['enter']:g}" in told
    caplog.clear()
    assert main(["tune", str(recording), "--config", str(file), "--write"]) == 0
    again = config.load(file).decide
    assert bench.judge([again])[0].errors == 0


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_configuration_that_may_not_be_written_says_so(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[model]\nname = "made"\n')
    file.chmod(0o400)
    tmp_path.chmod(0o500)
    assert main(["tune", str(recording), "--config", str(file), "--write"]) == 2
    assert "cannot be written: Permission denied" in capsys.readouterr().err


@pytest.mark.slow
def test_a_configuration_on_a_disk_that_takes_nothing_says_so_after_the_table(
    recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("device.system.config_file.replace_file", refuses)
    file = tmp_path / "config.toml"
    file.write_text('[model]\nname = "made"\n[decide]\nenter = 0.9\n')
    assert main(["tune", str(recording), "--config", str(file), "--write"]) == 2
    said = capsys.readouterr()
    assert "true changes" in said.out
    assert "cannot be written: Read-only file system" in said.err


@pytest.mark.slow
def test_several_recordings_and_cameras_are_tuned_on_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = make(tmp_path / "one", intervals(4))
    truth = [
        Interval(i.from_s, i.to_s, i.label, camera)
        for i in intervals(3, seed=2)
        for camera in ("door/a", "door/b")
    ]
    two = make(tmp_path / "two", truth, cameras=("door/a", "door/b"))
    assert main(["tune", str(one), str(two), *MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == 8 + 2 * 6


@pytest.mark.slow
def test_what_the_truth_does_not_know_is_told_and_may_not_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = intervals(4)
    # Between them there is a wall, of which the truth says nothing.
    between = [Interval(a.to_s, b.from_s, "wall") for a, b in pairwise(there)]
    folder = make(tmp_path / "it", sorted([*there, *between], key=lambda one: one.from_s))
    write_truth(folder / TRUTH, there)
    assert main(["tune", str(folder), *MODEL]) == 0
    assert "not in the truth at all: wall (" in " ".join(capsys.readouterr().out.split())
    assert main(["tune", str(folder), *MODEL, "--json", "--labels", "cat, cup"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["elsewhere"] == {}
    assert (told["best"][0]["missed"], told["best"][0]["false"]) == (0, 0)


def test_what_cannot_be_tuned_on(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "none"
    assert "there is no" in refusal(capsys, missing, code=1)
    (recording / TRUTH).unlink()
    assert refusal(capsys, recording) == (
        f"tune: {recording} has no truth, which says what was there and when; mark it in the "
        f"terminal with `labelcam tune {recording} --mark`, or on the page of `--html FILE`, or "
        "give --truth"
    )
    (recording / TRUTH).touch()
    assert "the truth has no change, and where there is nothing" in refusal(capsys, recording)
    write_truth(recording / TRUTH, [Interval(1, 2, "kat")])
    assert "'kat', which is never said; did you mean 'cat'?" in refusal(capsys, recording)
    write_truth(recording / TRUTH, [Interval(1, 2, "cat")])
    assert "--labels: 'cub' is never said; did you mean 'cup'?" in refusal(
        capsys, recording, "--labels", "cub"
    )
    assert "the truth has no change of 'cup'" in refusal(capsys, recording, "--labels", "cup")
    assert "--truth is of one recording" in refusal(
        capsys, recording, recording, "--truth", recording / TRUTH
    )
    (recording / "recorded.scores").unlink()
    assert "cannot be read: No such file" in refusal(capsys, recording, code=1)
    (recording / INDEX).write_text("{")
    assert "line 1 of" in refusal(capsys, recording, code=1)


def test_a_recording_of_no_frame_and_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = make(tmp_path / "empty", [], length_s=0.01, fps=10)
    assert "holds no frame; record it again" in refusal(capsys, empty, code=1)
    one = make(tmp_path / "one", [], length_s=0.1, fps=10)
    write_truth(one / TRUTH, [Interval(0, 0.1, "cat")])
    assert main(["tune", str(one), *MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == 1


@pytest.mark.slow
def test_a_recording_that_is_cut_off_is_tuned_on_up_to_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(tmp_path / "it", intervals(2), length_s=60)
    file = folder / "recorded.scores"
    file.write_bytes(file.read_bytes()[:-10])
    assert main(["tune", str(folder), *MODEL]) == 0
    assert any("damaged after 500 frames" in m and "tuning on what" in m for m in caplog.messages)


@pytest.mark.slow
def test_time_that_runs_back_and_scores_that_are_no_numbers_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make(tmp_path / "it", intervals(2))
    writer = ScoresWriter(folder / "recorded.scores")
    source = Source("camera", "made", "0" * 64, NAMES)
    for at_s in (0.0, 1.0, 2.0, 1.5, 1.6, 30.0):
        writer.add(source, at_s, np.array([0.5, np.nan, 7.0], np.float32))
    writer.close()
    assert main(["tune", str(folder), *MODEL]) == 0
    assert any("its time runs back 1 times" in message for message in caplog.messages)


@pytest.mark.long
@pytest.mark.slow
def test_twenty_thousand_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (*NAMES, *(f"label {number}" for number in range(20_000 - len(NAMES))))
    folder = make(tmp_path / "it", intervals(2), names=names)
    assert main(["tune", str(folder), *MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"][0]["missed"] == 0


def pictures(folder: Path, count: int = 60) -> Path:
    """A recording of pictures that are red, and blue in the middle."""
    sink = RecordSink(folder, 1e6, 1 << 30, lossless=True)
    for number in range(count):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:, :, 0 if 20 <= number < 40 else 2] = 255
        sink.observe(
            Observation(
                camera="camera",
                frame=Frame(pixels, PixelFormat.BGR, 64, 48, number, 5 + number / 10),
                predictions=(),
                label=None,
                score=0.0,
                stages=StageTimes(0, 0, 0),
                latency_ms=0.0,
                at=number / 10,
            )
        )
    sink.close()
    write_truth(folder / TRUTH, [Interval(0, 2, "red"), Interval(2, 4, "blue")])
    return folder


@pytest.mark.slow
def test_pictures_are_classified_once_and_their_scores_kept(
    tmp_path: Path,
    colours: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = ["--set", f"model.name='{colours(softmax=True)}'"]
    folder = pictures(tmp_path / "it")
    assert main(["tune", str(folder), *model, "--json"]) == 0
    first = capsys.readouterr().out
    assert any("classifying its 60 pictures, once" in message for message in caplog.messages)
    assert len(list(folder.glob("*.scores"))) == 1
    assert list(folder.glob(".*")) == []
    caplog.clear()
    assert main(["tune", str(folder), *model, "--json"]) == 0
    assert capsys.readouterr().out == first
    assert not any("classifying" in message for message in caplog.messages)
    # Another view is another thing that is seen.
    assert main(["tune", str(folder), *model, "--json", "--set", "camera.rotate=180"]) == 0
    assert len(list(folder.glob("*.scores"))) == 2
    (folder / "000050.png").write_bytes(b"damaged")
    assert main(["tune", str(folder), *model, "--json", "--set", "camera.mirror=true"]) == 0
    assert any("tuning on what comes before" in message for message in caplog.messages)


@pytest.mark.slow
def test_where_the_folder_takes_no_scores_it_goes_on_without(
    tmp_path: Path,
    colours: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = pictures(tmp_path / "it")
    real = ScoresWriter.__init__

    def refuses(self: ScoresWriter, path: Path) -> None:
        if path.parent == folder:
            raise OSError(30, "Read-only file system")
        real(self, path)

    monkeypatch.setattr(ScoresWriter, "__init__", refuses)
    assert main(["tune", str(folder), "--set", f"model.name='{colours(softmax=True)}'"]) == 0
    assert any("its scores are not kept" in message for message in caplog.messages)
    assert list(folder.glob("*.scores")) == []


@pytest.mark.slow
def test_regions_are_tuned_on_as_the_device_sees_them(
    tmp_path: Path, colours: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "it")
    file = tmp_path / "config.toml"
    file.write_text(
        f"[model]\nname = '{colours(softmax=True)}'\n[[camera]]\nname = 'door'\n"
        "[[camera.region]]\nname = 'left'\nbox = [0.0, 0.0, 0.5, 1.0]\n"
        "[[camera.region]]\nname = 'right'\nbox = [0.5, 0.0, 1.0, 1.0]\n"
    )
    truth = [Interval(2, 4, "blue", f"door/{side}") for side in ("left", "right")]
    write_truth(folder / TRUTH, truth)
    assert main(["tune", str(folder), "--config", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changes"] == 4
