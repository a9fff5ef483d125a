"""The models that labelcam knows (``models/catalog.toml``), and any other by its path."""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device import tflite_file
from device.errors import LabelsError, ModelError
from device.labels import check_labels, read_labels
from device.tflite_file import TfliteFile

MODELS = Path(__file__).resolve().parent.parent / "models"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ModelInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The picture a model takes."""

    width: int
    height: int
    type: Literal["uint8", "int8", "float32"]
    scale: float
    zero_point: int


class LabelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names of a model's ``count`` outputs.

    With ``background`` the model's first output is the class "background", which the file
    does not list: models trained on the same classes with and without it share one file.
    """

    file: str
    sha256: Sha256
    background: bool
    count: int


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model, relative to ``models/``."""

    file: str
    bytes: int
    sha256: Sha256


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the catalogue."""

    summary: str
    task: Literal["classification"]
    family: str
    licence: str
    output: Literal["probabilities", "logits"]
    input: ModelInput
    labels: LabelFile
    cpu: ModelFile
    built_by: str = ""
    published: dict[str, Any] = {}
    measured: dict[str, Any] = {}


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, Entry]


@dataclass(frozen=True)
class Model:
    """A model file that was checked, with a name for each of its outputs."""

    name: str
    file: TfliteFile
    labels: tuple[str, ...]


@cache
def entries() -> dict[str, Entry]:
    """The catalogue by name, in the order of the file."""
    raw = tomllib.loads((MODELS / "catalog.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw, _Catalog).models


def find(name: str, labels: str = "") -> Model:
    """The model of the catalogue with this name, or the one in the file ``name``.

    ``labels`` is a label file, or empty: then the catalogue's, also for a file that the
    catalogue knows by its hash, else one beside the model: ``MODEL.txt``,
    ``MODEL_labels.txt`` or ``labels.txt``.

    Raises ModelError for a model that is missing, broken or not a classifier, LabelsError
    where the labels are missing or do not fit.
    """
    entry = entries().get(name)
    path = MODELS / entry.cpu.file if entry else Path(name)
    if not entry and "/" not in name and path.suffix != ".tflite":
        known = ", ".join(entries())
        raise ModelError(name, f"is neither a .tflite file nor one of: {known}")
    file = tflite_file.read(path)
    if entry and file.sha256 != entry.cpu.sha256:
        raise ModelError(path, "does not match the catalogue's SHA-256; fetch or copy it again")
    entry = entry or next((e for e in entries().values() if e.cpu.sha256 == file.sha256), None)
    outputs = _classes(file)
    names, where = _names(file, entry, labels)
    check_labels(names, outputs, where, path.name)
    return Model(name if name in entries() else path.stem, file, names)


def _classes(file: TfliteFile) -> int:
    """How many classes the model tells apart; raises ModelError for what is no classifier."""
    if len(file.inputs) != 1:
        raise ModelError(file.path.name, f"has {len(file.inputs)} inputs; expected one picture")
    if not file.outputs:
        raise ModelError(file.path.name, "has no output; expected a score for each class")
    shape = file.tensors[file.outputs[0]].shape
    # The classes lie in the last axis; MobileNetV1 keeps its 1 × 1 spatial ones before it.
    if not shape or any(side != 1 for side in shape[:-1]) or shape[-1] < 2:
        raise ModelError(
            file.path.name, f"gives shape {list(shape)}; expected a score a class, [1, classes]"
        )
    return shape[-1]


def _names(file: TfliteFile, entry: Entry | None, labels: str) -> tuple[tuple[str, ...], str]:
    """The names of the model's outputs, and where they were read."""
    if labels:
        return read_labels(Path(labels)), labels
    if entry:
        path = MODELS / entry.labels.file
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry.labels.sha256:
            raise LabelsError(path, "does not match the catalogue's SHA-256; copy it again")
        names = read_labels(path)
        return (("background", *names) if entry.labels.background else names), str(path)
    stem = file.path.stem
    for beside in (f"{stem}.txt", f"{stem}_labels.txt", "labels.txt"):
        path = file.path.with_name(beside)
        if path.exists():
            return read_labels(path), str(path)
    raise LabelsError(
        file.path, f"has no labels; give a label file, or put {stem}.txt beside the model"
    )
