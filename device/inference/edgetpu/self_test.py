"""Whether a compiled model is the twin of the CPU's: by its tensors, and by a picture."""

from typing import Final

import numpy as np

from device import config
from device.errors import DelegateError, ModelError
from device.events import Tensor
from device.inference.interpreter import Interpreter
from device.inference.preprocess import Preprocessor
from device.library.tflite_file import TfliteFile
from device.recordings.pictures import read_picture
from device.system.paths import MODELS

# A self-test must not turn on rounding, so the first picture counts on which the CPU is this
# sure, as the share by which its best score leads, or else the one on which it is surest.
_SURE: Final = 0.2
_PICTURES: Final = ("coffee.jpg", "cat.jpg", "rocket.jpg")


class SelfTest:
    """A picture, and what the CPU sees in it: the Edge TPU must see the same."""

    def __init__(self, cpu: Interpreter, labels: tuple[str, ...]) -> None:
        """Run the CPU on the pictures that ship, until it is sure of one."""
        self._labels = labels
        surest = -1.0
        preprocess = Preprocessor(cpu.description.inputs[0], config.Camera())
        for name in _PICTURES:
            preprocess(read_picture(MODELS / "footage" / name), cpu.input())
            # Kept before it is run: what the input holds afterwards is the runtime's affair.
            picture = cpu.input().copy()
            cpu.invoke()
            # In float32: the difference of two int8 does not fit into one.
            scores = cpu.output().reshape(-1).astype(np.float32)
            best = np.sort(scores)
            lead = float((best[-1] - best[-2:][0]) / (best[-1] - best[0] or 1))
            if lead > surest:
                surest, self._picture, self._scores = lead, picture, scores
            if surest >= _SURE:
                break

    def check(self, interpreter: Interpreter) -> None:
        """Raise DelegateError unless its best label is one that the CPU holds for the best."""
        np.copyto(interpreter.input(), self._picture)
        interpreter.invoke()
        row = int(interpreter.output().reshape(-1).argmax())
        if self._scores[row] < self._scores.max():
            expected = self._name(int(self._scores.argmax()))
            raise DelegateError(
                f"delegate edgetpu: in the self-test it says {self._name(row)} where the CPU "
                f"says {expected}; the twin belongs to another model, or the device is faulty"
            )

    def _name(self, row: int) -> str:
        return repr(self._labels[row]) if self._labels else f"feature {row}"


def check_twin(file: TfliteFile, twin: TfliteFile) -> None:
    """Raise ModelError unless ``twin`` takes and gives what ``file`` does."""
    for end in ("inputs", "outputs"):
        ours = [_form(file.tensors[i]) for i in getattr(file, end)]
        theirs = [_form(twin.tensors[i]) for i in getattr(twin, end)]
        if ours != theirs:
            raise ModelError(
                twin.path.name,
                f"is no twin of {file.path.name}: its {end} are {', '.join(theirs)}, expected "
                f"{', '.join(ours)}; compile {file.path.name} itself with edgetpu_compiler",
            )


def _form(tensor: Tensor) -> str:
    shape = "×".join(map(str, tensor.shape))
    return f"{tensor.dtype} {shape} (scale {tensor.scale:g}, zero point {tensor.zero_point})"
