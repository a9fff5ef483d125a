"""Model files: what is read of them without a runtime, and what a runtime makes of the rest."""

import contextlib
from pathlib import Path
from random import Random
from unittest.mock import patch

from device import config
from device.errors import LabelcamError, ModelError
from device.inference import proof
from device.inference.explain import explain
from device.library import tflite_file
from device.library.tflite_file import Reader, TfliteFile
from device.system.paths import MODELS
from tests import tiny
from tests.fuzz import mutation
from tests.fuzz.surface import Surface


class _Traced(Reader):
    """Notes which bytes of a model its structure is made of."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data, len(data))
        self.places: set[int] = set()

    def check(self, start: int, length: int) -> None:
        super().check(start, length)
        self.places.update(range(start, start + min(length, 16)))


def _structure(data: bytes) -> list[int]:
    """Where a model's tables, offsets and short vectors lie."""
    traced = _Traced(data)
    tflite_file._read_graph(Path("seed"), traced)
    return sorted(traced.places)


class Models(Surface):
    """A ``.tflite`` file, and all that ``models show`` says of it but what its runtime says."""

    name = "models"
    share = 100
    limit_s = 20.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        small = [
            tiny.colour_model(),
            tiny.colour_model("int8", softmax=True),
            tiny.colour_model("float32", 0.0, inputs=2),
            tiny.constant_input_model(),
            tiny.softmax_alone(),
            tiny.edgetpu_model(),
            tiny.failing_model(),
        ]
        real = [(MODELS / "mobilenet-v1-person-96.tflite").read_bytes()]
        self._small = [(data, _structure(data)) for data in small]
        self._real = [(data, _structure(data)) for data in real]

    def make(self, chance: Random) -> bytes:
        """A small model, now and then a real one, with changes where its structure is."""
        data, places = chance.choice(self._real if chance.random() < 0.03 else self._small)
        return mutation.mutated(chance, data, places)

    def feed(self, data: bytes) -> None:
        """Read and explain it."""
        file = self.folder / "model.tflite"
        file.write_bytes(data)
        with patch.object(proof, "prove", _refuse), contextlib.suppress(LabelcamError):
            explain(str(file), "")


def _refuse(file: TfliteFile, settings: config.Model) -> None:
    raise ModelError(file.path, "is not run here")


class Proofs(Models):
    """A ``.tflite`` file that is proved in a child and then run, as ``models show`` does."""

    name = "proofs"
    share = 1
    limit_s = 60.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        model = tiny.colour_model(softmax=True)
        self._operators = model, tiny.operator_bytes(model)

    def make(self, chance: Random) -> bytes:
        """Half of them with changes in what only the runtimes read: the operators' own tables."""
        if chance.random() < 0.5:
            return super().make(chance)
        return mutation.mutated(chance, *self._operators)

    def feed(self, data: bytes) -> None:
        """Have it shown."""
        file = self.folder / "model.tflite"
        file.write_bytes(data)
        with contextlib.suppress(LabelcamError):
            explain(str(file), "")
