"""Writes the bill of materials of a release, ``labelcam-VERSION.cdx.json``, as CycloneDX 1.6.

In it are the packages of ``requirements.lock`` with the hashes of their files, and the models
that ship with the SHA-256 and licence that ``models/catalog.toml`` gives. It needs Python alone,
and the same checkout gives the same bytes; SOURCE_DATE_EPOCH is its time.

usage: python systemd/sbom.py FOLDER
"""

import hashlib
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

Component = dict[str, object]


def sha256s(*digests: str) -> list[dict[str, str]]:
    """Give hashes as a component has them."""
    return [{"alg": "SHA-256", "content": digest} for digest in digests]


def packages(lock: str) -> Iterator[Component]:
    """Give the packages of a lock; a hash is of one wheel, so that most packages have several."""
    for name, version, marker, hashes in re.findall(
        r"^([\w.-]+)==(\S+)(?: ; (.+?))? \\\n((?: +--hash=\S+(?: \\)?\n)+)", lock, re.MULTILINE
    ):
        purl = f"pkg:pypi/{name}@{version}"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "hashes": sha256s(*re.findall(r"sha256:(\w+)", hashes)),
            "properties": [{"name": "labelcam:marker", "value": marker}] if marker else [],
        }


def models(folder: Path) -> Iterator[Component]:
    """Give the models of the catalogue whose files are in the folder, and their labels.

    Raises:
        SystemExit: where a file is not the one of the catalogue.
    """
    catalog = tomllib.loads((folder / "catalog.toml").read_text())
    labels = {}
    for name, entry in catalog["models"].items():
        if not (folder / entry["cpu"]["file"]).exists():
            continue
        yield {
            **_file(folder, "machine-learning-model", entry["cpu"]),
            "name": name,
            "description": entry["summary"],
            "licenses": [{"license": {"id": entry["licence"]}}],
        }
        if names := entry.get("labels"):
            labels[names["file"]] = names
    for entry in labels.values():
        yield _file(folder, "data", entry)


def _file(folder: Path, kind: str, entry: dict[str, str]) -> Component:
    name = entry["file"]
    if hashlib.sha256((folder / name).read_bytes()).hexdigest() != entry["sha256"]:
        raise SystemExit(f"models/{name} is not the file of catalog.toml; restore it")
    return {"type": kind, "bom-ref": name, "name": name, "hashes": sha256s(entry["sha256"])}


def bill(version: str, made: datetime) -> dict[str, object]:
    """Give the whole document."""
    lock = (ROOT / "systemd" / "requirements.lock").read_text()
    components = [*packages(lock), *models(ROOT / "models")]
    product = f"labelcam@{version}"
    text = json.dumps([product, components])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, text).urn,
        "version": 1,
        "metadata": {
            "timestamp": made.isoformat(),
            "component": {
                "type": "application",
                "bom-ref": product,
                "name": "labelcam",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            },
        },
        "components": components,
        "dependencies": [
            {"ref": product, "dependsOn": [component["bom-ref"] for component in components]}
        ],
    }


def main() -> None:
    """Write the file."""
    init = (ROOT / "device" / "__init__.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.+)"$', init, re.MULTILINE)
    made = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    target = Path(sys.argv[1]) / f"labelcam-{version}.cdx.json"
    target.write_text(json.dumps(bill(version, made), indent=1) + "\n")


if __name__ == "__main__":
    main()
