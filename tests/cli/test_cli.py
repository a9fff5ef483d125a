"""The program as a user runs it: a process, its output, its exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from device import __version__
from device.cli import COMMANDS, main
from device.library import catalog
from device.system.paths import MODELS

ROOT = Path(__file__).parent.parent.parent
FOOTAGE = ROOT / "models" / "footage"


TEACH = "--own --config --set --model --lessons"
# Every command, with what its help lists beside --help and --verbose.
HELP = {
    "": "run classify teach bench record history tune models web doctor config mqtt action "
    "--version",
    "run": "--source --config --set --frames",
    "classify": "FILE --model --labels --top --json --groups",
    "teach": "add capture list remove rename undo test export import forget-pictures",
    "teach add": f"LABEL PICTURE {TEACH}",
    "teach capture": f"LABEL --source --for --most {TEACH}",
    "teach list": f"--json {TEACH}",
    "teach remove": f"LABEL {TEACH}",
    "teach rename": f"LABEL NEW {TEACH}",
    "teach undo": TEACH,
    "teach test": f"FOLDER --json --png {TEACH}",
    "teach export": TEACH + " OUT",
    "teach import": TEACH + " FILE",
    "teach forget-pictures": TEACH,
    "bench": "--source --config --model --labels --threads --runtime --seconds --pace --json "
    "--write --against",
    "record": "OUT --for --scores --source --config --set --lossless --max-mb",
    "tune": "RECORDING --truth --mark --labels --check --html --json --write --config --set",
    "history": "--own --json --since --until --label --camera --by --actions --gaps --csv --limit",
    "models": "list show fetch verify remove",
    "models list": "--own --config",
    "models show": "NAME-or-FILE --labels",
    "models fetch": "NAME --own",
    "models verify": "--own",
    "models remove": "NAME --own",
    "web": "token",
    "web token": "--config --own",
    "doctor": "--own --config --json --self-test",
    "config": "check adopt",
    "config check": "FILE --own --set --source --deep",
    "config adopt": "",
    "mqtt": "check forget",
    "mqtt check": "--own --config --set",
    "mqtt forget": "--own --config --set",
    "action": "list test",
    "action list": "--own --config --set --json",
    "action test": "NAME --own --config --set --label --camera --off --for",
}


def labelcam(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``labelcam`` with these arguments to its end."""
    return subprocess.run(
        [sys.executable, "-m", "device", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def assert_one_line(run: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """The run failed with this exit code and one line on stderr that has the words."""
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert run.stderr.startswith("labelcam: ")
    for word in words:
        assert word in run.stderr
    assert run.returncode == code


def test_version() -> None:
    run = labelcam("--version")
    assert (run.stdout, run.returncode) == (f"labelcam {__version__}\n", 0)


def test_help_names_every_command_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command, words in HELP.items():
        with pytest.raises(SystemExit) as ended:
            main([*command.split(), "--help"])
        assert ended.value.code == 0
        said = capsys.readouterr().out
        found = set(re.findall(r"^ {2,4}(--[a-z-]+|[A-Za-z-]+)\b", said, re.MULTILINE))
        assert found - {"COMMAND", "--verbose", "-h"} == set(words.split()), command
    assert HELP[""].split()[:-1] == list(COMMANDS)


def test_help_loads_neither_numpy_nor_a_runtime() -> None:
    program = (
        "import sys; from device.cli import COMMANDS, main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'numpy', 'cv2', 'ssl', 'rich', 'tflite_runtime',"
        " 'ai_edge_litert'} & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", ["a'''b.mp4", 'a"b\\c.mp4', "''''.mp4", "ü 'x'.mp4"])
def test_a_source_arrives_as_it_was_given(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--source", f"/nonexistent/{name}"]) == 1
    assert f"camera /nonexistent/{name}: " in capsys.readouterr().err


@pytest.mark.parametrize("character", ["\x1b", "\n", "\x00", "\x85", "\udcff"])
def test_a_source_with_control_characters_is_refused(
    character: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--source", f"a{character}b.mp4"]) == 2
    assert capsys.readouterr().err == (
        f"labelcam: argument --source: {f'a{character}b.mp4'!r} has the control character "
        f"{character!r}; see labelcam run --help\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND; see labelcam --help"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "--sauce", "x"], "unrecognized arguments: --sauce x"),
        (["run", "--frames", "0"], "'0' is not a whole number over 0"),
        (["run", "--frames", "many"], "'many' is not a whole number over 0"),
        (["run", "--set", "camera.fps"], "--set camera.fps: expected section.key=value"),
        (["run", "--set", "camera.fps=0"], "camera.0.fps = 0: expected `float` >= 0.01"),
        (
            ["run", "--set", "decide.allow=['catt']"],
            "'catt' is no label of the model; did you mean",
        ),
        (["run", "--set", "decide.allow=['cat']"], "but an everyday word; set decide.groups = "),
        (["run", "--config", "/nonexistent.toml"], "/nonexistent.toml: no such file"),
        (["run", "--source", "gopher://x"], "gopher:// is not a camera"),
        (["classify"], "required: FILE"),
        (["run", "--source", "footage", "--set", "model.name=x"], "model x: is neither a .tflite"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--source", "/dev/video99"], "camera /dev/video99: "),
        (["run", "--source", "/nonexistent.mp4"], "camera /nonexistent.mp4: "),
        (["run", "--source", "footage", "--set", "model.name=x.tflite"], "model x.tflite: no such"),
        (["run", "--source", "footage", "--set", "model.labels=x.txt"], "no such label file"),
        (["run", "--source", "footage", "--set", "model.delegate=edgetpu"], "delegate edgetpu: "),
        (["classify", "/nonexistent.jpg"], "picture /nonexistent.jpg: "),
        (["classify", "x.jpg", "--model", "/etc/hostname"], "is not a TensorFlow Lite model"),
    ],
)
def test_a_fault_is_one_line_and_exit_1(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert words in err


def test_an_unforeseen_fault_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(catalog, "find", fail)
    assert main(["classify", "x.jpg"]) == 1
    assert capsys.readouterr().err.startswith(
        "labelcam: internal fault: ZeroDivisionError: two lines; please report it"
    )


def test_nor_does_one_in_a_thread() -> None:
    program = (
        "import threading; from device.cli import COMMANDS, main; main(['models', 'list'])\n"
        "threading.Thread(target=lambda: 1 / 0).start()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stderr.startswith("labelcam: internal fault: ZeroDivisionError: ")
    assert ended.stderr.count("\n") == 1


def test_classify_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(FOOTAGE / "coffee.jpg"), "--top", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(FOOTAGE / "coffee.jpg")
    assert lines[1].split()[1:] == ["espresso"]
    assert len(lines) == 3


def test_classify_says_words_where_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coffee, mine = str(FOOTAGE / "coffee.jpg"), tmp_path / "mine.toml"
    mine.write_text('"hot drink" = ["espresso", "cup"]\n')
    for options, words in (
        (["--groups"], ["cup"]),
        (["--groups", "everyday"], ["cup"]),
        (["--groups", str(mine)], ["hot", "drink"]),
    ):
        assert main(["classify", coffee, "--top", "1", *options]) == 0
        assert capsys.readouterr().out.splitlines()[1].split()[1:] == words
    assert main(["classify", coffee, "--groups", "/none.toml"]) == 2
    assert "cannot be read as groups" in capsys.readouterr().err


def test_classify_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(FOOTAGE), "--json", "--top", "3"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(row["file"]).stem for row in rows] == ["cat", "coffee", "rocket"]
    for row in rows:
        assert set(row) == {"file", "predictions", "stages"}
        assert set(row["stages"]) == {"preprocess_ms", "invoke_ms", "postprocess_ms"}
        scores = [p["score"] for p in row["predictions"]]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
    assert rows[1]["predictions"][0]["label"] == "espresso"
    assert set(rows[1]["predictions"][0]) == {"label", "index", "score"}


def test_classify_goes_on_after_a_bad_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"not a picture")
    good = FOOTAGE / "coffee.jpg"
    assert main(["classify", str(bad), str(good), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["file"] == str(good)
    assert err.startswith(f"labelcam: picture {bad}: ")
    assert err.count("\n") == 1


def test_classify_says_names_that_are_not_utf_8(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    picture.write_bytes((FOOTAGE / "coffee.jpg").read_bytes())
    for options in (["--json"], []):
        assert main(["classify", str(picture), str(FOOTAGE / "coffee.jpg"), *options]) == 0
        said = capsys.readouterr().out
        assert "caf\\xe9.jpg" in (json.loads(said.splitlines()[0])["file"] if options else said)
        assert "coffee.jpg" in said


def test_classify_goes_on_after_a_jpeg_without_components(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jpeg = bytearray((FOOTAGE / "coffee.jpg").read_bytes())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 2 : at + 4], jpeg[at + 9] = (8).to_bytes(2, "big"), 0
    del jpeg[at + 10 : at + 19]
    (tmp_path / "none.jpg").write_bytes(jpeg)
    assert main(["classify", str(tmp_path / "none.jpg"), str(FOOTAGE / "coffee.jpg")]) == 1
    out, err = capsys.readouterr()
    assert "is corrupt, a JPEG without a size" in err
    assert "coffee.jpg" in out


@pytest.mark.slow
def test_classify_into_a_pipe_that_closes() -> None:
    run = subprocess.run(
        f"{sys.executable} -m device classify models/footage models/footage | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )
    assert run.stdout == "models/footage/cat.jpg\n"
    assert run.stderr == ""


def shell(command: str, *, unbuffered: str = "") -> subprocess.CompletedProcess[str]:
    """Run ``labelcam`` by a shell, for what only a shell does to its streams."""
    return subprocess.run(
        f"PYTHONUNBUFFERED={unbuffered} {sys.executable} -m device {command}",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )


@pytest.mark.parametrize("command", ["classify models/footage/coffee.jpg", "models list"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.slow
def test_a_full_stdout_is_one_line_and_exit_1(command: str, unbuffered: str) -> None:
    ended = shell(f"{command} >/dev/full", unbuffered=unbuffered)
    assert ended.stderr == "labelcam: stdout cannot be written: No space left on device\n"
    assert ended.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full"])
def test_stdout_does_without_stderr(stderr: str) -> None:
    ended = shell(f"classify /nonexistent.jpg models/footage/coffee.jpg {stderr}")
    assert "espresso" in ended.stdout
    assert ended.returncode == 1
    assert shell(f"run --source footage --frames 2 {stderr}").returncode == 0


@pytest.mark.slow
def test_a_run_needs_no_stream_at_all() -> None:
    ended = shell("run --source footage --frames 2 <&- >&- 2>/dev/full")
    assert ended.returncode == 0
    assert shell("run --source footage --frames 2 <&- >&- 2>&-").returncode == 0
    assert shell("run --source footage --frames 2 >&-").stderr == ""


@pytest.mark.slow
def test_run_plays_the_footage_and_sums_up() -> None:
    run = labelcam("run", "--source", "footage")
    assert run.returncode == 0
    assert run.stderr == ""
    said = run.stdout
    assert "cup" in said
    assert "cat" in said
    for word in ("frames seen", "classified", "dropped", "mean", "p99", "xnnpack 60/63 operators"):
        assert word in said
    for stage in ("preprocess", "invoke", "postprocess", "decide", "total"):
        assert f"\n  {stage}" in said


@pytest.mark.slow
def test_run_as_json_lines_keeps_stdout_for_them() -> None:
    run = labelcam("run", "--source", "footage", "--frames", "5", "--set", "jsonl.enabled=true")
    assert run.returncode == 0
    changes = [json.loads(line) for line in run.stdout.splitlines()]
    assert [change["label"] for change in changes] == ["cup"]
    assert "5 classified" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_a_signal_ends_it_with_the_summary(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", "synthetic"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    assert "unknown" in first or "camera" in first
    process.send_signal(number)
    # The promise is two seconds; communicate raises when they have passed.
    out, err = process.communicate(timeout=2)
    assert process.returncode == 0
    assert err == ""
    assert "frames seen" in out


@pytest.mark.slow
def test_run_into_a_pipe_that_closes() -> None:
    run = subprocess.run(
        f"{sys.executable} -m device run --source footage --set decide.min_hold_s=0 | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        cwd=ROOT,
    )
    assert "cup" in run.stdout
    assert run.stderr == ""


def test_bad_models_and_label_files(
    tmp_path: Path, colours: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    embedded = (MODELS / "efficientnet-lite0-224-int8.tflite").read_bytes()
    files = {
        "truncated.tflite": (embedded[:100_000], "truncated or corrupt"),
        "empty.tflite": (b"", "is empty (0 bytes)"),
        "text.tflite": (b"hello world, this is text", "not a TensorFlow Lite model"),
    }
    picture = str(FOOTAGE / "coffee.jpg")
    for name, (data, words) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert main(["classify", picture, "--model", str(path)]) == 1
        assert words in capsys.readouterr().err
    assert main(["classify", picture, "--model", str(colours("two.tflite", inputs=2))]) == 1
    assert "has 2 inputs" in capsys.readouterr().err
    short = tmp_path / "short.txt"
    short.write_text("red\ngreen\n")
    model = str(colours())
    assert main(["classify", picture, "--model", model, "--labels", str(short)]) == 1
    assert "has 2 names for the 3 outputs" in capsys.readouterr().err


def test_an_edge_tpu_model_without_an_edge_tpu(
    testdata: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = testdata / "models" / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    labels = testdata / "labels" / "imagenet_labels.txt"
    picture = str(FOOTAGE / "coffee.jpg")
    assert main(["classify", picture, "--model", str(model), "--labels", str(labels)]) == 1
    assert "compiled for the Edge TPU" in capsys.readouterr().err
