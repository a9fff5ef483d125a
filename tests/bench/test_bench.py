"""``labelcam bench``: what it prints, writes and refuses; and how a start is kept short."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from device import config
from device.bench import bench
from device.bench.entrants import ROUNDS, Entrant, PeerEntrant, take_turns
from device.bench.rehearsal import Picture
from device.bench.report import Report, text
from device.cli import main
from device.errors import TrialError
from device.frames import PixelFormat
from device.inference import choice, runtimes
from device.library import catalog
from tests.conftest import FOOTAGE

ROOT = Path(__file__).parent.parent.parent
FIELDS = (
    "runtime", "delegate", "threads", "model", "source_size", "invoke_ms", "frame_ms",
    "plain_invoke_ms", "fps", "cpu_ms_per_frame", "rss_mb", "first_label_s",
    "beside", "alone_ms", "beside_ms", "beside_share",
)  # fmt: skip
# Before any test: there, nothing is measured unless it says so.
_CANDIDATES = choice.candidates
CONFIGURATION = """\
# Ours.
[model]
threads = 0  # by hand
name = "efficientnet-lite0-224-int8"

[gate]
max_fps = 5.0
"""


@pytest.mark.slow
def test_measured_printed_remembered_and_written(
    colours: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    file = tmp_path / "config.toml"
    file.write_text(CONFIGURATION)
    file.chmod(0o640)
    arguments = ["bench", "--source", str(FOOTAGE / "coffee.jpg"), "--model", str(colours())]
    options = ["--threads", "1", "--seconds", "1", "--json", "--write", "--config", str(file)]
    assert main([*arguments, *options]) == 0
    out, _ = capsys.readouterr()
    raw = json.loads(out)
    assert set(raw) == {"machine", "results", "recommended"}
    ways = [(row["runtime"], row["delegate"], row["threads"]) for row in raw["results"]]
    assert ways == [(r, d, 1) for r in runtimes.installed() for d in ("xnnpack", "none")]
    for row in raw["results"]:
        assert tuple(row) == FIELDS
        assert row["beside"] == []
        assert row["alone_ms"] is None
        assert row["source_size"] == [640, 480]
        for key in ("invoke_ms", "frame_ms", "plain_invoke_ms"):
            assert 0 < row[key]["min"] <= row[key]["median"] <= row[key]["p99"]
        assert row["frame_ms"]["min"] > row["invoke_ms"]["min"]
        assert 20 < row["rss_mb"] < 200
        assert 0.05 < row["first_label_s"] < 30
        assert row["fps"] == pytest.approx(1e3 / row["frame_ms"]["median"], rel=0.9)
    best = raw["recommended"]
    assert (best["runtime"], best["delegate"], best["threads"]) in ways
    # Now it is in the file, whose comments, other keys and mode stay, and it is remembered.
    written_text = file.read_text()
    assert written_text.startswith("# Ours.\n[model]\nthreads = 1  # by hand\n")
    assert "max_fps = 5.0" in written_text
    assert file.stat().st_mode & 0o777 == 0o640
    written = config.load(file).model
    assert (written.runtime, written.delegate) == (best["runtime"], best["delegate"])
    monkeypatch.setattr(choice, "candidates", _CANDIDATES)
    model = catalog.find(str(tmp_path / "colours.tflite")).file
    made = choice.choose(model, config.Model())
    assert made is not None
    assert made.reason == best["reason"]
    # The same for people.
    report = msgspec.json.decode(out, type=Report)
    startups = {"a candidate": {"Python": 0.021, "imports": 0.2}}
    lines = list(text(report, startups))
    assert sum("640×480" in line and "1 thread" in line for line in lines) == len(ways)
    assert any(line.split()[-2:] == ["0.021", "0.200"] for line in lines)
    assert lines[-1] == best["reason"]
    assert len(list(text(msgspec.structs.replace(report, results=()), {}))) == 1


@pytest.mark.parametrize("threads", ["0", "-1", "10000", "1,0", "x", "", "1,,2"])
def test_threads_that_cannot_be(threads: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"--threads={threads}"]) == 2
    err = capsys.readouterr().err
    assert f"'{threads}' is not a list of numbers from 1 to 64, such as 1,2,4" in err
    assert err.count("\n") == 1


def test_threads_beyond_the_cores_are_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtimes, "usable_cores", lambda: 2)
    model = catalog.find(config.Model().name)
    assert {way.threads for way in bench._candidates(model, (2, 4, 8), None)} == {2}
    assert "threads 4, 8: more than the 2 cores" in caplog.text
    assert main(["bench", "--threads", "4"]) == 2


@pytest.mark.parametrize("runtime", runtimes.RUNTIMES)
def test_a_runtime_that_is_not_installed(
    runtime: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtimes, "installed", dict)
    assert main(["bench", "--runtime", runtime]) == 1
    assert f"{runtime} is not installed; pip install {runtime}" in capsys.readouterr().err


def test_what_cannot_be_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--model", "nonsense"]) == 2
    assert "model nonsense: is neither" in capsys.readouterr().err
    assert main(["bench", "--source", "/nonexistent"]) == 1
    assert "camera /nonexistent" in capsys.readouterr().err
    assert main(["bench", "--config", "/nonexistent.toml"]) == 2


class Counter(Entrant):
    """Starts no process, counts its turns and fails after some."""

    def __init__(self, name: str, fails: int = 99) -> None:
        super().__init__(name)
        self.fails, self.turns, self.closed = fails, 0, False

    def start(self) -> None:
        self.turn(0.0, 0.0)

    def turn(self, limit_s: float, interval_s: float) -> None:
        assert limit_s + interval_s < 10.0
        if self.turns == self.fails:
            raise TrialError(f"{self.name}: was ended by SIGILL")
        self.turns += 1

    def close(self) -> None:
        self.closed = True


def test_who_fails_drops_out_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    entrants = [Counter("first", 0), Counter("second"), Counter("third", 4)]
    take_turns(entrants, 1.0)
    assert [entrant.turns for entrant in entrants] == [0, 1 + ROUNDS, 4]
    assert all(entrant.closed for entrant in entrants)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["first: was ended by SIGILL", "third: was ended by SIGILL"]


@pytest.mark.parametrize(
    ("interval_s", "rounds"), [(0.0, ROUNDS), (0.01, ROUNDS), (0.5, 3), (4.0, 1)]
)
def test_a_slow_pace_keeps_to_the_time(interval_s: float, rounds: int) -> None:
    entrants = [Counter("first"), Counter("second")]
    take_turns(entrants, 10.0, interval_s)
    assert [entrant.turns for entrant in entrants] == [1 + rounds] * 2


@pytest.fixture
def mediapipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that every Python started finds."""
    (tmp_path / "mediapipe-9.8.dist-info").mkdir()
    (tmp_path / "mediapipe-9.8.dist-info/METADATA").write_text("Name: mediapipe\nVersion: 9.8\n")
    (tmp_path / "mediapipe.py").write_text(
        "from types import SimpleNamespace as N\n"
        "ImageFormat = N(SRGB=1)\n"
        "def Image(image_format, data):\n"
        "    assert data.shape == (48, 64, 3) and data[0, 0].tolist() == [30, 20, 10]\n"
        "    print('noise')\n"
        "    return N()\n"
        "best = N(classifications=[N(categories=[N(index=7)])])\n"
        "classifier = N(create_from_options=lambda o: N(classify=lambda image: best))\n"
        "vision = N(ImageClassifier=classifier, ImageClassifierOptions=lambda **k: k)\n"
        "tasks = N(vision=vision, BaseOptions=lambda **k: k)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("mediapipe")
def test_another_program_takes_its_turns(colours: Callable[..., Path], tmp_path: Path) -> None:
    file = tmp_path / "picture.npy"
    np.save(file, np.full((48, 64, 3), (10, 20, 30), np.uint8))
    picture = Picture(str(file), PixelFormat.BGR, 64, 48)
    model = catalog.find(str(colours()))
    peers = [PeerEntrant(name, sys.executable, model, picture) for name in bench._PEERS]
    take_turns(peers, 0.1)
    absent, present, _ = peers
    assert absent.times.ms == []
    result = present.peer
    assert (result.name, result.version, result.source_size) == ("mediapipe", "9.8", (64, 48))
    assert 0 < result.call_ms.min <= result.call_ms.p99


@pytest.mark.slow
@pytest.mark.usefixtures("mediapipe")
def test_at_pace_and_against_each_environment(
    colours: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.png"
    cv2.imwrite(str(picture), np.full((48, 64, 3), (10, 20, 30), np.uint8))
    pythons = [tmp_path / "one", tmp_path / "other"]
    for python in pythons:
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
    arguments = ["bench", "--model", str(colours()), "--source", str(picture), "--seconds", "2"]
    arguments += ["--threads", "1", "--pace", "50", "--json"]
    assert main([*arguments, *(word for p in pythons for word in ("--against", str(p)))]) == 0
    out, _ = capsys.readouterr()
    report = msgspec.json.decode(out, type=Report)
    assert report.pace_fps == 50
    assert [(p.name, p.python) for p in report.against] == [("mediapipe", str(p)) for p in pythons]
    assert all(result.cpu_ms_per_frame > 0 for result in report.results)
    lines = list(text(report, {"a candidate": {"Python": 0.021}}))
    assert "At 50 frames a second:" in lines
    head = next(line for line in lines if "frame to label" in line)
    assert "CPU ms" in head
    assert [line.split()[-1] for line in lines if "mediapipe" in line] == [*map(str, pythons)]


@pytest.mark.parametrize("pace", ["0", "-5", "nan", "fast", "241", ""])
def test_paces_that_cannot_be(pace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", f"--pace={pace}"]) == 2
    err = capsys.readouterr().err
    assert f"'{pace}' is not a number of frames a second from 1 to 240" in err
    assert err.count("\n") == 1


def _imported_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(run.stdout.split())


def test_a_start_imports_nothing_that_only_others_need() -> None:
    modules = _imported_by("import device.node, device.sinks.terminal.sink")
    only_others = {
        "device.bench.bench", "device.inference.race", "device.inference.trial",
        "device.inference.edgetpu.device", "device.inference.edgetpu.engine",
        "device.inference.edgetpu.failover", "device.inference.edgetpu.delegate",
        "device.library.fetch", "rich", "starlette", "uvicorn", "paho", "tomlkit", "pygame",
        "prometheus_client", "statistics", "asyncio", "sqlite3", "importlib.metadata",
    }  # fmt: skip
    assert not modules & only_others


@pytest.mark.slow
def test_a_start_is_quick_and_small_and_the_way_to_a_label_short(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["bench", "--threads", "1", "--seconds", "8", "--json"]) == 0
    out = capsys.readouterr().out
    lines = list(text(msgspec.json.decode(out, type=Report), {"a candidate": {"Python": 0.021}}))
    assert "Beside efficientnet-lite0-224-int8: mobilenet-v1-person-96" in lines
    assert any("of that beside" in line for line in lines)
    rows: list[dict[str, Any]] = json.loads(out)["results"]
    engaged = [r for r in rows if r["delegate"] == "xnnpack" and r["source_size"] == [640, 480]]
    assert len(engaged) == len(runtimes.installed())
    for row in engaged:
        assert row["beside"] == ["mobilenet-v1-person-96"]
        # The median of neighbours, with and without it.
        assert row["beside_share"] * row["alone_ms"]["median"] == pytest.approx(
            row["beside_ms"], rel=0.01
        )
        assert row["beside_ms"] != 0
        assert row["first_label_s"] <= 1.0
        assert row["rss_mb"] <= 95
        # The least of many: what else the machine does must not make this fail.
        assert row["alone_ms"]["min"] <= row["invoke_ms"]["min"] + 1.0
