"""The wheel holds all that a run needs: unpacked far from the checkout, it labels and plays."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def copy_checkout(target: Path, umask: int, mtime: int) -> Path:
    """Copy the files that git has, so that nothing which lies about gets in."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    names = [os.fsdecode(name) for name in listed.stdout.split(b"\0") if name]
    if not names:
        tops = ["device", "models", "systemd", "install.sh", "LICENSE", "CHANGELOG.md"]
        tops += ["setup.py", "pyproject.toml", "requirements.txt", "README.md", "MANIFEST.in"]
        found = [path for top in tops for path in (ROOT / top, *(ROOT / top).rglob("*"))]
        names = [str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts]
    for name in names:
        copy = target / name
        if (ROOT / name).is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
            copy.chmod(((ROOT / name).stat().st_mode | 0o066) & 0o777 & ~umask)
            os.utime(copy, (mtime, mtime))
    return target


def build(folder: Path, umask: int, mtime: int) -> Path:
    """Build the wheel of a copy of the checkout that was made with this umask, at this time."""
    source = copy_checkout(folder / "source", umask, mtime)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q",
         "-w", folder, source],
        check=True,
        capture_output=True,
        umask=umask,
        env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), 0o022, 1_600_000_000)


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(wheel.parent / "site")
    return wheel.parent / "site"


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


_PROGRAM = """
import labelcam
with labelcam.Classifier() as classifier, labelcam.Camera("footage") as camera:
    print(labelcam.__file__, classifier.classify(next(iter(camera)))[0].label)
"""


@pytest.mark.slow
def test_programs_import_it_by_its_name(unpacked: Path, tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(unpacked), "LABELCAM_STATE": str(tmp_path)},
        timeout=50,
    )
    assert ended.stdout == f"{unpacked / 'labelcam' / '__init__.py'} cup\n", ended.stderr
    assert (unpacked / "labelcam" / "py.typed").exists()
    assert not (unpacked / "device" / "labelcam").exists()


@pytest.mark.slow
def test_it_runs_the_footage_and_labels_pictures(unpacked: Path, tmp_path: Path) -> None:
    run = labelcam(unpacked, tmp_path, "run", "--source", "footage", "--frames", "20")
    assert run.returncode == 0, run.stderr
    assert "cup" in run.stdout
    picture = shutil.copy2(ROOT / "models" / "footage" / "cat.jpg", tmp_path)
    found = labelcam(unpacked, tmp_path, "classify", str(picture), "--top", "1")
    assert "Egyptian cat" in found.stdout
    listed = labelcam(unpacked, tmp_path, "models", "list")
    assert "efficientnet-lite0-224-int8" in listed.stdout


@pytest.mark.slow
def test_it_has_no_tools_to_make_models(unpacked: Path) -> None:
    assert not list((unpacked / "device" / "_models").rglob("*.py"))
    assert (unpacked / "device" / "sinks" / "web" / "page" / "index.html").exists()


@pytest.mark.slow
def test_two_builds_give_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "elsewhere", 0o077, 1_650_000_000)
    assert again.name == wheel.name
    assert again.read_bytes() == wheel.read_bytes()
