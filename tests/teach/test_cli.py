"""``labelcam teach`` as a user has it: what it says, what it makes, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from device.cli import main
from device.library import catalog
from device.teach.head import read_head
from device.teach.lessons import Lessons
from tests.conftest import FOOTAGE

ROOT = Path(__file__).resolve().parents[2]
MODEL = catalog.find("efficientnet-lite0-224-int8").file.sha256
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    return tmp_path / "state" / "teach" / "default"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of two labels: crops of a cup and of a cat."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    for name in ("coffee", "cat"):
        whole = cv2.imread(str(FOOTAGE / f"{name}.jpg"))
        (folder / name).mkdir()
        for number in range(6):
            left, top = chance.integers(0, 80, 2)
            cv2.imwrite(str(folder / name / f"{number}.jpg"), whole[top:, left:])
    return folder


def teach(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main(["teach", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_from_pictures_to_a_device_and_to_another(
    capsys: pytest.CaptureFixture[str], pictures: Path, state: Path, tmp_path: Path
) -> None:
    code, out, _ = teach(capsys, "add", "a cup", pictures / "coffee")
    assert code == 0
    assert "teach a second label" in out
    assert not (state / "head").exists()
    code, out, _ = teach(capsys, "add", "the/cat #🐈", pictures / "cat")
    assert code == 0
    assert "right on new pictures" in out
    assert read_head(state / "head").labels == ("a cup", "the/cat #🐈")
    code, out, _ = teach(capsys, "list", "--json")
    assert json.loads(out)["labels"] == {"a cup": 6, "the/cat #🐈": 6}
    exam = tmp_path / "exam"
    for label, name in (("a cup", "coffee"), ("cat", "cat")):
        (exam / label).mkdir(parents=True)
        whole = (FOOTAGE / f"{name}.jpg").read_bytes()
        (exam / label / "it.jpg").write_bytes(whole)
    code, out, _ = teach(capsys, "rename", "the/cat #🐈", "cat")
    assert code == 0
    code, out, _ = teach(capsys, "test", exam, "--json", "--png", tmp_path / "confusion.png")
    found = json.loads(out)
    assert found["accuracy"] == 1.0
    assert found["confusion"]["cat"] == {"a cup": 0, "cat": 1}
    assert found["rejected"] in (0, 1, 2)
    assert cv2.imread(str(tmp_path / "confusion.png")) is not None
    for out_file in ("mine.tflite", "mine.lessons"):
        assert teach(capsys, "export", tmp_path / out_file)[0] == 0
    assert main(["classify", "--model", str(tmp_path / "mine.tflite"), "--top", "1",
                 str(FOOTAGE / "cat.jpg")]) == 0  # fmt: skip
    assert "cat" in capsys.readouterr().out
    code, out, _ = teach(capsys, "undo")
    assert "renamed" in out
    assert teach(capsys, "remove", "a cup")[0] == 0
    assert not (state / "head").exists()
    code, out, _ = teach(capsys, "import", tmp_path / "mine.lessons", "--lessons", "other")
    assert code == 0
    assert read_head(state.parent / "other" / "head").labels == ("a cup", "cat")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("add", "", "x.jpg"), 1, "give a word"),
        (("add", "a\nb", "x.jpg"), 1, "printable"),
        (("add", "unavailable", "x.jpg"), 1, "a camera that does not look"),
        (("remove", "ghost"), 1, "no label is called 'ghost'; there are none yet"),
        (("undo",), 1, "there is nothing to undo"),
        (("test", "/nonexistent"), 1, "is not there; teach something first"),
        (("export", "x.zip"), 2, "is no FILE.tflite, FILE.lessons or folder"),
        (("export", "x.tflite"), 1, "teach something first"),
        (("add", "x", "--lessons", "../up", "x.jpg"), 2, "'../up' is not made of"),
        (("add", "x", "--model", "mobilenet-v1-person-96", "x.jpg"), 1, "gives no features"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    arguments: tuple[str, ...],
    code: int,
    words: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jpg").write_bytes((FOOTAGE / "cat.jpg").read_bytes())
    met, _, err = teach(capsys, *arguments)
    assert met == code
    assert words in err
    assert len(err.splitlines()) == 1


def test_bad_pictures_are_named_and_the_rest_is_learned(
    capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for number in range(100):  # one picture a hundred times
        (mixed / f"{number}.jpg").write_bytes((FOOTAGE / "cat.jpg").read_bytes())
    (mixed / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (mixed / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\1\0\0\0\1\0\0\x08\2\0\0\0")
    code, out, err = teach(capsys, "add", "cat", mixed)
    assert code == 1
    assert "broken.jpg" in err
    assert "huge.png" in err
    assert "'cat': 1 new, 99 there already\n" in out
    # The same picture under another label is a contradiction, and said.
    code, out, _ = teach(capsys, "add", "dog", FOOTAGE / "cat.jpg")
    assert "'cat' and 'dog' have nearly the same picture" in out


def test_a_kill_at_any_moment_leaves_lessons_and_head_whole(
    pictures: Path, state: Path, tmp_path: Path
) -> None:
    env = os.environ | {"LABELCAM_STATE": str(tmp_path / "state")}

    def start(label: str, folder: Path) -> subprocess.Popen[bytes]:
        arguments = ["teach", "add", label, str(folder)]
        return subprocess.Popen(
            [sys.executable, "-m", "device", *arguments],
            cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    for label, name in (("cup", "coffee"), ("cat", "cat")):
        assert start(label, pictures / name).wait(60) == 0
    begun = time.monotonic()
    assert start("more", pictures / "cat").wait(60) == 0
    took_s = time.monotonic() - begun
    for moment in range(20):
        child = start(f"more {moment}", pictures / ("coffee", "cat")[moment % 2])
        time.sleep(took_s * (0.4 + 0.03 * moment))
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        head = read_head(state / "head")
        assert {"cup", "cat"} <= set(head.labels)
        with Lessons(state, MODEL) as lessons:
            assert lessons.labels()["cup"] == 6


def test_from_the_camera_the_most_different_frames(
    capsys: pytest.CaptureFixture[str], state: Path
) -> None:
    code, out, _ = teach(
        capsys, "capture", "scene", "--for", "20s", "--most", "2", "--source", "footage"
    )
    assert code == 0
    assert "has 2 different pictures: that is enough" in out
    assert "'scene': 2 new\n" in out
    assert teach(capsys, "capture", "x", "--for", "1s", "--source", "/dev/video99")[0] == 1
    with Lessons(state, MODEL) as lessons:
        assert lessons.labels() == {"scene": 2}


def test_a_bar_on_a_terminal_and_nowhere_else(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = (
        "import sys, device.cli.teach as t; t._BAR_AFTER_S = 0.0; from device.cli import main; "
        f"sys.exit(main(['teach', 'add', 'cat', {str(pictures / 'cat')!r}]))"
    )
    env = os.environ | {"LABELCAM_STATE": str(tmp_path / "state"), "TERM": "xterm"}
    command = [sys.executable, "-c", begin]
    plain = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, check=True)
    assert plain.stderr == b""
    master, slave = os.openpty()
    with os.fdopen(master, "rb", 0) as screen:
        subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=slave, check=True)
        os.close(slave)
        assert "━".encode() in screen.read(1 << 16)


@pytest.mark.timeout(300)
def test_ten_thousand_pictures_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    (tmp_path / "many").mkdir()
    for number in range(10_000):
        picture = np.kron(
            chance.integers(0, 255, (6, 6, 3), np.uint8), np.ones((12, 12, 1), np.uint8)
        )
        cv2.imwrite(str(tmp_path / "many" / f"{number}.jpg"), picture)
    # Their features are made up: 20,000 inferences would take minutes and no more memory.
    code = """
import resource, sys
import numpy as np
from device.cli import main
from device.teach.embedder import Embedder
chance = np.random.default_rng(0)
Embedder._features = lambda *_: chance.random(1280, np.float32)
main(["teach", "add", "few", "models/footage"])
few = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
main(["teach", "add", "many", sys.argv[1]])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - few) >> 10)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "many")],
        cwd=ROOT, env=os.environ | {"LABELCAM_STATE": str(tmp_path / "state")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    *_, line, more_mb = done.stdout.splitlines()
    assert "'many': 10000 new, 0 there already" in done.stdout
    assert "learned 2 labels from 10003 pictures" in line
    assert int(more_mb) < 250


def test_two_who_teach_at_once_both_get_in(pictures: Path, state: Path, tmp_path: Path) -> None:
    env = os.environ | {"LABELCAM_STATE": str(tmp_path / "state")}
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "device", "teach", "add", name, str(pictures / name)],
            cwd=ROOT, env=env, stdout=subprocess.DEVNULL,
        )
        for name in ("coffee", "cat")
    ]  # fmt: skip
    assert [child.wait(60) for child in children] == [0, 0]
    with Lessons(state, MODEL) as lessons:
        assert lessons.labels() == {"cat": 6, "coffee": 6}
    assert read_head(state / "head").labels == ("cat", "coffee")


def test_a_full_card_is_said_and_leaves_what_there_was(
    capsys: pytest.CaptureFixture[str], pictures: Path, state: Path, tmp_path: Path
) -> None:
    for label, name in (("cup", "coffee"), ("cat", "cat")):
        assert teach(capsys, "add", label, pictures / name)[0] == 0
    before = (state / "head").read_bytes()
    code = f"""
import resource, sys
from device.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
sys.exit(main(["teach", "add", "third", {str(pictures / "cat")!r}]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT,
        env=os.environ | {"LABELCAM_STATE": str(tmp_path / "state")},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("labelcam: teach: ")
    assert (state / "head").read_bytes() == before
