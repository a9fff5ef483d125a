"""A taught head: what turns the features of a model into scores for labels of one's own."""

import hashlib
import math
import stat
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.errors import HeadError
from device.system.files import replace_file
from device.system.paths import state_directory
from device.system.text import printable

Features = NDArray[np.float32]
Scores = NDArray[np.float32]

_MAGIC = b"labelcam head 1\n"
_MAX_BYTES = 64 << 20
# With more labels or features than these a file is no head of ours.
_MAX_LABELS = 1000
_MAX_FEATURES = 16_384


class _Stored(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A head as it lies on disk; arrays are float32, little-endian, row by row."""

    model: str
    labels: tuple[str, ...]
    features: int
    power: float
    temperature: float
    threshold: float
    ridge: float
    mean: bytes
    weights: bytes
    bias: bytes
    basis: bytes
    gains: bytes


class Head:
    """A linear classifier over the features of one model, and a distance that tells strangers.

    ``labels`` are its classes; ``model`` is the SHA-256 of the model file whose features it was
    learned on. Features x become q = x^power / |x^power| - mean. The score of class c is the
    softmax of ``temperature * (weights[c] @ q + bias[c])``. The squared Mahalanobis distance
    to the nearest class is q'Σ⁻¹q - 2 max(weights @ q + bias), where
    Σ⁻¹ = (I - basis' diag(gains) basis) / ridge; over ``threshold`` it is a stranger.

    Shapes, all float32: mean (features,), weights (labels, features), bias (labels,), basis
    (rank, features), gains (rank,).
    """

    def __init__(
        self,
        model: str,
        labels: tuple[str, ...],
        *,
        power: float,
        temperature: float,
        threshold: float,
        ridge: float,
        mean: Features,
        weights: Features,
        bias: Features,
        basis: Features,
        gains: Features,
    ) -> None:
        self.model = model
        self.labels = labels
        self.power = power
        self.temperature = temperature
        self.threshold = threshold
        self.ridge = ridge
        self.mean, self.weights, self.bias = mean, weights, bias
        self.basis, self.gains = basis, gains

    def scores(self, features: Features) -> Scores:
        """Probabilities of ``labels``, float32 (labels,), all 0 for a stranger.

        ``features`` is float32 (features,), as the model gives them.
        """
        q = normalized(features, self.power) - self.mean
        # Numbers of a strange head may be huge; the decider takes what comes of them as nothing.
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self.weights @ q + self.bias
            if self._distance(q, logits) > self.threshold:
                return np.zeros(len(self.labels), np.float32)
            logits *= np.float32(self.temperature)
            logits -= logits.max()
            np.exp(logits, out=logits)
            return np.asarray(logits / logits.sum(), np.float32)

    def distance(self, features: Features) -> float:
        """The squared Mahalanobis distance to the nearest class; 0 where none can be told."""
        q = normalized(features, self.power) - self.mean
        return self._distance(q, self.weights @ q + self.bias)

    def _distance(self, q: Features, logits: Scores) -> float:
        if not self.ridge:
            return 0.0
        along = self.basis @ q
        spread = float(q @ q) - float(self.gains @ (along * along))
        return spread / self.ridge - 2 * float(logits.max())

    def encode(self) -> bytes:
        """The head as a file, with its own hash in front."""
        stored = _Stored(
            self.model,
            self.labels,
            len(self.mean),
            self.power,
            self.temperature,
            self.threshold,
            self.ridge,
            *(_packed(array) for array in (self.mean, self.weights, self.bias)),
            *(_packed(array) for array in (self.basis, self.gains)),
        )
        body = msgspec.msgpack.encode(stored)
        return _MAGIC + hashlib.sha256(body).digest() + body

    @classmethod
    def decode(cls, data: bytes, where: object) -> Self:
        """The head in these bytes. Raises HeadError, which names ``where``."""
        start = len(_MAGIC) + hashlib.sha256().digest_size
        if not data.startswith(_MAGIC):
            raise HeadError(where, "is no head of this version of labelcam; teach it again")
        body = data[start:]
        if hashlib.sha256(body).digest() != data[len(_MAGIC) : start]:
            raise HeadError(where, "is damaged or cut short; `labelcam teach undo` takes the last")
        try:
            stored = msgspec.msgpack.decode(body, type=_Stored)
            return cls._unpacked(stored)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise HeadError(where, f"does not fit together: {error}; teach it again") from None

    @classmethod
    def _unpacked(cls, stored: _Stored) -> Self:
        count, width = len(stored.labels), stored.features
        named = all(label and printable(label) == label for label in stored.labels)
        if not named or len(set(stored.labels)) < count:
            raise ValueError("its labels are no names")
        numbers = (stored.power, stored.temperature, stored.ridge)
        if not (0 < count <= _MAX_LABELS and 0 < width <= _MAX_FEATURES):
            raise ValueError(f"it has {count} labels and {width} features")
        if not all(math.isfinite(number) and number >= 0 for number in numbers):
            raise ValueError("a number of it is none")
        if math.isnan(stored.threshold):
            raise ValueError("its threshold is no number")
        gains = _array(stored.gains, -1)
        return cls(
            stored.model,
            stored.labels,
            power=stored.power,
            temperature=stored.temperature,
            threshold=stored.threshold,
            ridge=stored.ridge,
            mean=_array(stored.mean, width),
            weights=_array(stored.weights, count, width),
            bias=_array(stored.bias, count),
            basis=_array(stored.basis, len(gains), width),
            gains=gains,
        )


class HeadFile:
    """The head of a set of lessons, as it lies in the state directory and may change any time."""

    def __init__(self, name: str) -> None:
        self.path = folder_of(name) / "head"
        self._seen: tuple[int, ...] | None = None

    def has_changed(self) -> bool:
        """Whether there is another head than ``read`` found, or one where it found none."""
        return self._stat() != self._seen

    def read(self, model: str) -> Head | None:
        """The head, None where there is none.

        Raises HeadError where it is damaged, or was taught on another model than that of this
        SHA-256.
        """
        self._seen = self._stat()
        if self._seen is None:
            return None
        head = read_head(self.path)
        if head.model != model:
            raise HeadError(
                self.path, "was taught on another model; go back to that one, or teach anew"
            )
        return head

    def _stat(self) -> tuple[int, ...] | None:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def folder_of(name: str) -> Path:
    """Where a set of lessons lies, in the state directory."""
    return state_directory() / "teach" / name


def read_head(path: Path) -> Head:
    """The head in a file. Raises HeadError where it cannot be read or is none."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for a writer
            raise HeadError(path, "is no file; teach again")
        if found.st_size > _MAX_BYTES:
            raise HeadError(path, f"has over {_MAX_BYTES >> 20} MB and is no head")
        return Head.decode(path.read_bytes(), path)
    except FileNotFoundError:
        raise HeadError(path, "is not there; teach something first") from None
    except OSError as error:
        raise HeadError(path, f"cannot be read: {error.strerror}") from None


def write_head(path: Path, head: Head) -> None:
    """Replace the head in a file, whole and on the card. Raises HeadError."""
    try:
        replace_file(path, head.encode(), durable=True)
    except OSError as error:
        raise HeadError(path, f"cannot be written: {error.strerror}; make room") from None


def normalized(features: Features, power: float) -> Features:
    """Features to ``power``, negative ones as 0, of length 1; float32, shape (…, features)."""
    z = np.power(np.maximum(features, 0), np.float32(power), dtype=np.float32)
    length = np.linalg.norm(z, axis=-1, keepdims=True)
    return np.asarray(z / np.maximum(length, np.float32(1e-9)), np.float32)


def _packed(array: Features) -> bytes:
    return np.ascontiguousarray(array, "<f4").tobytes()


def _array(data: bytes, *shape: int) -> Features:
    array = np.frombuffer(data, "<f4").reshape(shape)
    if not np.isfinite(array).all():
        raise ValueError("a number of it is none")
    return array.astype(np.float32)
