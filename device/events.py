"""What flows from stage to stage and out through the sinks; frozen, and no code.

Times named ``at`` are monotonic seconds; wall time is added only where a message leaves.
"""

from typing import Literal, Protocol

import msgspec

from device.frames import Frame

CameraState = Literal["starting", "live", "stalled", "lost", "ended"]


class Prediction(msgspec.Struct, frozen=True):
    """One label of one frame; ``index`` is its row in the model's output."""

    label: str
    index: int
    score: float


class StageTimes(msgspec.Struct, frozen=True):
    """Milliseconds one frame spent in each stage of the classifier."""

    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float


class Observation(msgspec.Struct, frozen=True):
    """One classified frame: what the model saw, and the label in force after it.

    ``predictions`` are the model's own scores, best first; ``label`` and ``score`` are the
    decider's, smoothed over time, ``label`` being None until it has decided for the first
    time; ``latency_ms`` is from capture to here.
    """

    camera: str
    frame: Frame
    predictions: tuple[Prediction, ...]
    label: str | None
    score: float
    stages: StageTimes
    latency_ms: float
    at: float


class LabelChange(msgspec.Struct, frozen=True):
    """The active label of a camera became another; ``held_s`` is how long ``previous`` was."""

    camera: str
    label: str
    score: float
    previous: str | None
    held_s: float
    model: str
    at: float


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a model; ``scale`` is 0 where the tensor is not quantized.

    A quantized value q stands for the real number ``scale * (q - zero_point)``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Description(msgspec.Struct, frozen=True):
    """What an interpreter really runs on, read from its graph and not from its settings.

    ``operators_delegated`` of ``operators_total`` run in the delegate; ``on_cpu`` names the
    kinds of operator that do not. ``reason`` says why ``auto`` chose what it chose.
    """

    model: str
    runtime: str
    version: str
    delegate: str
    operators_delegated: int
    operators_total: int
    on_cpu: tuple[str, ...]
    threads: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    reason: str = ""


class Latency(msgspec.Struct, frozen=True):
    """A stage's milliseconds: mean of all frames, percentiles of the recent ones."""

    mean_ms: float
    p50_ms: float
    p99_ms: float


class CameraHealth(msgspec.Struct, frozen=True):
    """One camera since the start; ``fps`` is of classified frames, lately."""

    name: str
    source: str
    state: CameraState
    seen: int
    classified: int
    dropped: int
    fps: float
    stages: dict[str, Latency]


class Snapshot(msgspec.Struct, frozen=True):
    """How the device is, once a second or at the end."""

    uptime_s: float
    cameras: tuple[CameraHealth, ...]
    interpreter: Description


class Sink(Protocol):
    """A way out. Calls come from the node's thread only and must not block it.

    A sink that raises is isolated by the node: reported, closed, and started again later;
    the other sinks never notice.
    """

    name: str

    def observe(self, observation: Observation) -> None:
        """Take one classified frame."""

    def change(self, change: LabelChange) -> None:
        """Take one label change; called before ``observe`` of the frame that caused it."""

    def report(self, snapshot: Snapshot) -> None:
        """Take the state of the device, about once a second."""

    def close(self) -> None:
        """Flush and let go; may be called twice."""
