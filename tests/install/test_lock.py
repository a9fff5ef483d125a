"""The lock of the service's packages covers requirements.txt, and pip refuses what is not in it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.test_install import ROOT, check_failure
from tests.install.test_install_service import System

LOCK = ROOT / "systemd" / "requirements.lock"
PYTHONS = ["3.11.2", "3.12.3", "3.13.5"]
MACHINES = ["x86_64", "aarch64"]


def lines(text: str) -> list[str]:
    """Give the lines that say something, joined where they go on."""
    text = re.sub(r"(^|\s)#.*", "", text.replace("\\\n", ""), flags=re.MULTILINE)
    return [line for line in text.splitlines() if line.strip()]


def locked(python: str, machine: str) -> dict[str, str]:
    """Give the version of each package that the lock has for such a device."""
    versions: dict[str, str] = {}
    for line in lines(LOCK.read_text()):
        text, *hashes = line.split(" --hash=")
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest.strip()) for digest in hashes), line
        requirement = Requirement(text)
        if applies(requirement, python, machine):
            (pin,) = requirement.specifier
            assert pin.operator == "=="
            name = canonicalize_name(requirement.name)
            assert name not in versions, f"{name} twice for Python {python}"
            versions[name] = pin.version
    return versions


def applies(requirement: Requirement, python: str, machine: str) -> bool:
    short = python.rpartition(".")[0]
    return requirement.marker is None or requirement.marker.evaluate(
        {
            "python_version": short,
            "python_full_version": python,
            "platform_machine": machine,
            "sys_platform": "linux",
            "extra": "",
        }
    )


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_it_has_each_requirement_in_a_version_that_satisfies_it(python: str, machine: str) -> None:
    versions = locked(python, machine)
    for line in lines((ROOT / "requirements.txt").read_text()):
        requirement = Requirement(line)
        if applies(requirement, python, machine):
            version = versions[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{line}: {version}"


def test_it_has_whatever_its_packages_require() -> None:
    """Of those that are installed here; pip refuses an install whose lock misses one."""
    python = ".".join(map(str, sys.version_info[:3]))
    versions = locked(python, "x86_64")
    seen = 0
    for name in versions:
        try:
            required = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        seen += 1
        for line in required:
            requirement = Requirement(line)
            if applies(requirement, python, "x86_64"):
                assert canonicalize_name(requirement.name) in versions, f"{name} requires {line}"
    assert seen >= 10


@pytest.mark.parametrize(
    ("runtime", "without"),
    [("tflite-runtime", "ai-edge-litert"), ("ai-edge-litert", "tflite-runtime")],
)
def test_a_runtime_alone_leaves_out_what_only_the_other_brings(
    tmp_path: Path, runtime: str, without: str
) -> None:
    system = System(tmp_path)
    system.well("--runtime", runtime)
    text = (system.root / "opt/labelcam/current/venv/requirements.lock").read_text()
    names = {line.partition("==")[0] for line in lines(LOCK.read_text())}
    kept = {line.partition("==")[0] for line in lines(text)}
    assert runtime in kept
    assert without not in kept
    for name in names:
        brought_by = re.findall(
            rf"(?ms)^{name}==.*?\n    # via(.*?)(?=\n[^ ]|\Z)", LOCK.read_text()
        )
        asked_for_by = set(re.findall(r"-r requirements.txt|[\w-]+", " ".join(brought_by)))
        if name in kept:
            assert asked_for_by & (kept | {"-r requirements.txt"}), f"{name} is left over"
        elif name != without:
            assert not asked_for_by & kept, f"{name} is missing"


def test_it_names_no_index() -> None:
    assert "://" not in LOCK.read_text()


def write_wheel(folder: Path) -> Path:
    """Write a wheel of one module, for any Python."""
    wheel = folder / "probe-1.0-py3-none-any.whl"
    info = "probe-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("probe.py", "word = 'as it was made'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(
            f"{info}/RECORD", f"probe.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return wheel


def write_lock(wheel: Path, lock: Path) -> None:
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock.write_text(f"probe==1.0 \\\n    --hash=sha256:{digest}\n")


@pytest.mark.slow
def test_the_installer_refuses_a_wheel_of_which_a_byte_was_changed(tmp_path: Path) -> None:
    system = System(tmp_path)
    python = Path(sys.executable).resolve()
    system.program("python3", f'[[ $* == *base_prefix* ]] && echo /usr || exec {python} "$@"')
    (tmp_path / "wheels").mkdir()
    wheel = write_wheel(tmp_path / "wheels")
    write_lock(wheel, system.checkout / "systemd" / "requirements.lock")
    good = wheel.read_bytes()
    wheel.write_bytes(good.replace(b"as it was made", b"as it was mad3"))
    before = system.files()
    result = system.run("--offline", str(wheel.parent))
    check_failure(result, 1, "DO NOT MATCH THE HASHES")
    assert system.files() == before
    wheel.write_bytes(good)
    system.well("--offline", str(wheel.parent))
    assert list(system.root.glob("opt/labelcam/current/venv/lib/python*/site-packages/probe.py"))
