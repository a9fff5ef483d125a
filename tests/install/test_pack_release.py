"""A release: the same checkout packs to the same bytes, and its bill of materials is whole."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from device.library import catalog
from device.system.paths import MODELS
from tests.install.test_install import ROOT
from tests.install.test_lock import LOCK, lines, write_lock, write_wheel
from tests.install.test_wheel import copy_checkout

EPOCH = "1700000000"


def write_bill(folder: Path) -> Path:
    subprocess.run(
        [sys.executable, ROOT / "systemd" / "sbom.py", folder],
        check=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": EPOCH},
    )
    (bill,) = folder.glob("labelcam-*.cdx.json")
    return bill


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_bill(tmp_path_factory.mktemp("bill")).read_text()


def hashes(component: dict[str, Any]) -> set[str]:
    return {entry["content"] for entry in component["hashes"] if entry["alg"] == "SHA-256"}


@pytest.mark.slow
def test_the_bill_is_what_the_schema_of_cyclonedx_says(bill: str) -> None:
    missing = "cyclonedx-bom is not installed; tests/requirements.txt lists it"
    validation = pytest.importorskip("cyclonedx.validation.json", reason=missing)
    schema = pytest.importorskip("cyclonedx.schema", reason=missing)
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(bill) is None
    broken = bill.replace('"machine-learning-model"', '"thing"')
    assert validator.validate_str(broken) is not None


def test_each_locked_package_is_in_the_bill(bill: str) -> None:
    components = {part.get("purl"): part for part in json.loads(bill)["components"]}
    for line in lines(LOCK.read_text()):
        text, *digests = line.split(" --hash=sha256:")
        requirement = Requirement(text)
        (pin,) = requirement.specifier
        component = components.pop(f"pkg:pypi/{requirement.name}@{pin.version}")
        assert hashes(component) == {digest.strip() for digest in digests}
    assert set(components) == {None}


def test_each_model_that_ships_is_in_the_bill_with_its_licence(bill: str) -> None:
    parts = {part["name"]: part for part in json.loads(bill)["components"]}
    shipped = {path.name for path in MODELS.glob("*.tflite")}
    entries = {name: e for name, e in catalog.entries().items() if e.cpu.file in shipped}
    assert len(entries) == len(shipped) >= 2
    for name, entry in entries.items():
        digest = hashlib.sha256((MODELS / entry.cpu.file).read_bytes()).hexdigest()
        assert hashes(parts[name]) == {digest}
        assert parts[name]["licenses"] == [{"license": {"id": entry.licence}}]
        assert entry.labels
        assert hashes(parts[entry.labels.file]) == {entry.labels.sha256}


def test_the_same_checkout_gives_the_same_bill(bill: str, tmp_path: Path) -> None:
    assert write_bill(tmp_path).read_text() == bill


@pytest.mark.slow
def test_a_release_packed_twice_is_the_same_bytes(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    wheel = write_wheel(wheels)
    packed = []
    for number, mask in enumerate((0o022, 0o077)):
        checkout = copy_checkout(tmp_path / str(number) / "checkout", mask, 1_000_000 + number)
        write_lock(wheel, checkout / "systemd" / "requirements.lock")
        file = tmp_path / str(number) / "release.tar"
        subprocess.run(
            [checkout / "systemd" / "pack-release.sh", file, "--no-index", "-f", wheels],
            check=True,
            umask=mask,
            env=os.environ | {"PYTHON": sys.executable, "SOURCE_DATE_EPOCH": EPOCH},
        )
        packed.append([path.read_bytes() for path in sorted(file.parent.glob("*.*"))])
    assert packed[0] == packed[1]
    assert len(packed[0]) == 2
    with tarfile.open(file) as archive:
        names = archive.getnames()
        assert {int(member.mtime) for member in archive} == {int(EPOCH)}
    assert "labelcam/wheels/probe-1.0-py3-none-any.whl" in names
    assert "labelcam/systemd/requirements.lock" in names
