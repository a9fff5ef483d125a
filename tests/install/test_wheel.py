"""The wheel holds all that a run needs: unpacked far from the checkout, it labels and plays."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Of the files that git has, so that nothing which lies about gets in.
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    for name in names or ["setup.py", "pyproject.toml", "requirements.txt", "README.md"]:
        target = folder / "source" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy2(ROOT / name, target)
    if not names:
        for part in ("device", "models"):
            shutil.copytree(ROOT / part, folder / "source" / part)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q",
         "-w", str(folder), str(folder / "source")],
        check=True,
        capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def labelcam(site: Path, state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "device", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=state,
        env=os.environ | {"PYTHONPATH": str(site), "LABELCAM_STATE": str(state / "state")},
        timeout=50,
    )


@pytest.mark.slow
def test_it_runs_the_footage_and_labels_pictures(unpacked: Path, tmp_path: Path) -> None:
    run = labelcam(unpacked, tmp_path, "run", "--source", "footage", "--frames", "20")
    assert run.returncode == 0, run.stderr
    assert "espresso" in run.stdout
    picture = shutil.copy2(ROOT / "models" / "footage" / "cat.jpg", tmp_path)
    found = labelcam(unpacked, tmp_path, "classify", str(picture), "--top", "1")
    assert "Egyptian cat" in found.stdout
    listed = labelcam(unpacked, tmp_path, "models", "list")
    assert "efficientnet-lite0-224-int8" in listed.stdout


@pytest.mark.slow
def test_it_has_no_tools_to_make_models(unpacked: Path) -> None:
    assert not list((unpacked / "device" / "_models").rglob("*.py"))
    assert (unpacked / "device" / "sinks" / "web" / "page" / "index.html").exists()
