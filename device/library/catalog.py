"""The models that labelcam knows (``models/catalog.toml``), and any other by its path.

Files that ship lie in ``models/``, fetched ones in ``models/`` of the state directory; the
catalogue pins the bytes of both.
"""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from device.errors import LabelsError, ModelError, UnknownModel
from device.library import tflite_file
from device.library.labels import check_labels, embedded_labels, read_labels
from device.library.tflite_file import TfliteFile
from device.system.paths import MODELS, state_directory

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]


class ModelInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The picture a model takes; scale and zero point where they are known before a fetch."""

    width: int
    height: int
    type: Literal["uint8", "int8", "float32"]
    scale: float | None = None
    zero_point: int | None = None


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of a model, relative to ``models/``; without ``url`` it ships or is built."""

    file: str
    bytes: int
    sha256: Sha256
    url: str = ""


class LabelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The names of a model's ``count`` outputs.

    With ``background`` the model's first output is the class "background", which the file
    does not list: models trained on the same classes with and without it share one file.
    """

    file: str
    sha256: Sha256
    background: bool
    count: int
    bytes: int = 0
    url: str = ""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of the catalogue; ``edgetpu`` is its twin, compiled for the Edge TPU."""

    summary: str
    task: Literal["classification", "embedding"]
    family: str
    licence: str
    output: Literal["probabilities", "logits", "embedding"]
    input: ModelInput
    cpu: ModelFile
    labels: LabelFile | None = None
    edgetpu: ModelFile | None = None
    built_by: str = ""
    published: dict[str, Any] = {}
    measured: dict[str, Any] = {}


class _Catalog(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    models: dict[str, Entry]


@dataclass(frozen=True)
class Model:
    """A model file that was checked, with a name for each of its outputs.

    ``twin`` is the same model compiled for the Edge TPU, where it is on this device, and
    ``labels_from`` says where the names were read. Models ``beside`` it look at the same frames.
    """

    name: str
    file: TfliteFile
    labels: tuple[str, ...]
    twin: TfliteFile | None = None
    labels_from: str = ""
    beside: tuple["Model", ...] = ()

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Its labels, and then those of the models beside it."""
        return self.labels + tuple(label for other in self.beside for label in other.labels)


@cache
def entries() -> dict[str, Entry]:
    """The catalogue by name, in the order of the file."""
    raw = tomllib.loads((MODELS / "catalog.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw, _Catalog).models


def fetched() -> Path:
    """The folder of fetched models."""
    return state_directory() / "models"


def locate(file: str) -> Path:
    """Where a file of the catalogue lies, or would lie once it was fetched."""
    shipped = MODELS / file
    return shipped if shipped.exists() else fetched() / file


def installed() -> tuple[str, ...]:
    """Names of the catalogue's classifiers that are on this device with their labels."""
    return tuple(
        name
        for name, entry in entries().items()
        if entry.task == "classification"
        and entry.labels
        and locate(entry.cpu.file).exists()
        and locate(entry.labels.file).exists()
    )


def find(name: str, labels: str = "") -> Model:
    """The model of the catalogue with this name, or the one in the file ``name``.

    ``labels`` is a label file, or empty: then the catalogue's, also for a file that the
    catalogue knows by its hash, else those inside the model, else those beside it:
    ``MODEL.txt``, ``MODEL_labels.txt`` or ``labels.txt``.

    The twin is the catalogue's, or ``MODEL_edgetpu.tflite`` beside ``MODEL.tflite``. A file
    that is itself compiled for the Edge TPU was chosen by name and is used as it is.

    One that gives features alone has no labels but those that it is taught.

    Raises ModelError for a model that is missing, broken or not a classifier, LabelsError
    where the labels are missing or do not fit.
    """
    file, entry = _read(name)
    outputs = _classes(file)
    names: tuple[str, ...] = ()
    where = ""
    if file.scores is not None:
        names, where = _names(file, entry, labels)
        check_labels(names, outputs, where, file.path.name)
    stem = file.path.stem
    return Model(name if name in entries() else stem, file, names, _twin(file, entry), where)


def known_by(sha256: str) -> Entry | None:
    """The entry that a file with this SHA-256 belongs to, as CPU file or as twin."""
    for entry in entries().values():
        if sha256 in (entry.cpu.sha256, entry.edgetpu and entry.edgetpu.sha256):
            return entry
    return None


def how_to_get(name: str) -> str:
    """What to do to have a model of the catalogue here."""
    entry = entries()[name]
    if entry.cpu.url:
        return f"run: labelcam models fetch {name}"
    return f"build it: {entry.built_by}"


def _read(name: str) -> tuple[TfliteFile, Entry | None]:
    """The model's file, and the entry that it belongs to, where there is one."""
    entry = entries().get(name)
    path = locate(entry.cpu.file) if entry else Path(name)
    if not entry and "/" not in name and path.suffix != ".tflite":
        known = ", ".join(entries())
        raise UnknownModel(name, f"is neither a .tflite file nor one of: {known}")
    if entry and not path.exists():
        raise ModelError(name, f"is not on this device; {how_to_get(name)}")
    file = tflite_file.read(path)
    if entry and file.sha256 != entry.cpu.sha256:
        raise ModelError(path, "does not match the catalogue's SHA-256; fetch or copy it again")
    return file, entry or known_by(file.sha256)


def _twin(file: TfliteFile, entry: Entry | None) -> TfliteFile | None:
    """The file that is the same model compiled for the Edge TPU, if it is here."""
    if file.compiled_for_edgetpu:
        return None
    wanted = entry.edgetpu if entry else None
    # The compiler's own way to name what it writes.
    paths = [file.path.with_name(f"{file.path.stem}_edgetpu.tflite")]
    if wanted:
        paths.insert(0, locate(wanted.file))
    for path in paths:
        if not path.exists():
            continue
        twin = tflite_file.read(path)
        # A known model has one twin only. Whether another's fits is looked at where it is to
        # be used, which says so if it does not.
        if twin.compiled_for_edgetpu and (not wanted or twin.sha256 == wanted.sha256):
            return twin
    return None


def _classes(file: TfliteFile) -> int:
    """How many classes the model tells apart; raises ModelError for what is no classifier."""
    name = file.path.name
    if len(file.inputs) != 1:
        raise ModelError(name, f"has {len(file.inputs)} inputs; expected one picture")
    if not file.outputs:
        raise ModelError(name, "has no output; expected a score for each class")
    picture, scores = file.tensors[file.inputs[0]], file.tensors[file.outputs[0]]
    if len(picture.shape) == 4 and picture.shape[1] in (1, 3) and picture.shape[3] > 3:
        raise ModelError(
            name,
            f"takes the colours first, {list(picture.shape)}; convert it to "
            "[1, height, width, colours], as TensorFlow has it",
        )
    for tensor, end in ((picture, "input"), (scores, "output")):
        if tensor.dtype in ("uint8", "int8") and not tensor.scale:
            raise ModelError(
                name,
                f"has an {end} of {tensor.dtype} without a scale: its numbers mean nothing; "
                "convert it again with full-integer quantization",
            )
    # The classes lie in the last axis; MobileNetV1 keeps its 1 × 1 spatial ones before it.
    shape = scores.shape
    if not shape or any(side != 1 for side in shape[:-1]) or shape[-1] < 2:
        raise ModelError(name, f"gives shape {list(shape)}; expected a score a class, [1, classes]")
    return shape[-1]


def _names(file: TfliteFile, entry: Entry | None, labels: str) -> tuple[tuple[str, ...], str]:
    """The names of the model's outputs, and where they were read."""
    if labels:
        return read_labels(Path(labels)), labels
    if entry and entry.labels:
        path = locate(entry.labels.file)
        names = read_labels(path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != entry.labels.sha256:
            raise LabelsError(path, "does not match the catalogue's SHA-256; copy it again")
        return (("background", *names) if entry.labels.background else names), str(path)
    if inside := embedded_labels(file.path):
        return inside, f"{file.path} itself"
    stem = file.path.stem
    for beside in (f"{stem}.txt", f"{stem}_labels.txt", "labels.txt"):
        path = file.path.with_name(beside)
        if path.exists():
            return read_labels(path), str(path)
    raise LabelsError(
        file.path, f"has no labels; give a label file, or put {stem}.txt beside the model"
    )
