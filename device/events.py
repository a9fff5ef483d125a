"""What flows from stage to stage and out through the sinks; frozen, and no code.

Times named ``at`` are monotonic seconds; wall time is added only where a message leaves.
"""

from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from device.frames import Blocks, Frame

CameraState = Literal["starting", "live", "stalled", "lost", "ended"]

# The label of a camera that gives no frames. It is reported as a change, so that no way out
# goes on showing what was seen before.
UNAVAILABLE = "unavailable"
# The label outside the hours at which the device looks, reported as a change likewise.
OFF_DUTY = "off-duty"

GovernedBy = Literal["", "hot", "cpu budget"]

PictureTrouble = Literal["frozen", "black", "overexposed", "covered", "blurred", "moved"]

# Why the last frame was classified (moving, settling, re-check), or why not; empty where each is.
Look = Literal["", "moving", "settling", "re-check", "settled", "hot", "cpu budget", "off duty"]


class Prediction(msgspec.Struct, frozen=True):
    """One label of one frame; ``index`` is its row among the words that are decided on, or among
    the model's labels where those are asked for."""

    label: str
    index: int
    score: float


class StageTimes(msgspec.Struct, frozen=True):
    """Milliseconds one frame spent in each stage of the classifier."""

    preprocess_ms: float
    invoke_ms: float
    postprocess_ms: float


class LabelChange(msgspec.Struct, frozen=True):
    """A label of a camera began or ended; ``active`` are those that are in force since, best first.

    Where a camera has one label at a time, ``label`` took the place of ``previous``, which was for
    ``held_s``. Where each label comes and goes by itself, ``on`` says whether ``label`` began, or
    ended after ``held_s``; ``previous`` is None then, but after an absence.

    ``label`` is UNAVAILABLE when the camera stalled or was lost and OFF_DUTY when its hours ended,
    with a score of 0, and ``previous`` is that when it is back. Neither these nor the word for
    nothing are ever in ``active``.
    """

    camera: str
    label: str
    score: float
    previous: str | None
    held_s: float
    model: str
    at: float
    on: bool = True
    active: tuple[str, ...] = ()


class ActionResult(msgspec.Struct, frozen=True):
    """What an action did at the beginning (``on``) or the end of a label.

    ``detail`` is why it failed or was not done, empty otherwise; ``took_ms`` from the change on.
    """

    action: str
    kind: str
    camera: str
    label: str
    on: bool
    done: bool
    detail: str
    took_ms: float
    at: float


class Scored(msgspec.Struct, frozen=True):
    """All scores of one frame, as the decider got them, before they became words.

    ``values`` is an array of its own, float32 in the order of ``names``; ``taught`` says that
    these are words that were taught; ``model_sha256`` is of the model's file.
    """

    names: tuple[str, ...]
    values: NDArray[np.float32]
    model: str
    model_sha256: str
    taught: bool


class Observation(msgspec.Struct, frozen=True):
    """One classified frame: what the model saw, and the label in force after it.

    ``predictions`` are this frame's scores of the words that are decided on, best first;
    ``label`` and ``score`` are the decider's, smoothed over time, ``label`` being None until it
    has decided for the first time, and the best of ``active`` where several may be in force;
    ``latency_ms`` is from capture to here. ``changes`` are those that this frame made, if any.
    ``snapshot`` is the picture that was asked for: a still as large as the camera gives it, which
    was not classified, or the frame itself. ``look`` is why it was classified, and ``moved`` what
    moved in it, in the sensor's own picture; None where nobody looked for that.
    """

    camera: str
    frame: Frame
    predictions: tuple[Prediction, ...]
    label: str | None
    score: float
    stages: StageTimes
    latency_ms: float
    at: float
    changes: tuple[LabelChange, ...] = ()
    active: tuple[str, ...] = ()
    snapshot: Frame | None = None
    look: Look = ""
    moved: Blocks | None = None
    scored: Scored | None = None


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a model; ``scale`` is 0 where the tensor is not quantized.

    A quantized value q stands for the real number ``scale * (q - zero_point)``. Of a float32
    input that the graph itself quantizes first thing, they are those of the uint8 numbers
    that it makes: they tell which real numbers the model was made for.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Description(msgspec.Struct, frozen=True):
    """What an interpreter really runs on, read from its graph and not from its settings.

    ``operators_delegated`` of ``operators_total`` run in the delegate; ``on_cpu`` names the
    kinds of operator that do not. ``reason`` says why ``auto`` chose what it chose, ``device``
    names the Edge TPU that is in use.
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
    device: str = ""


class Accelerator(msgspec.Struct, frozen=True):
    """An Edge TPU beside the CPU, which takes over when it fails.

    ``active`` while it classifies; ``changes`` counts the times that one took over from the
    other, ``errors`` the frames on which the Edge TPU failed. ``reason`` says why it is used,
    or why not.
    """

    active: bool
    changes: int
    errors: int
    reason: str


class Beside(msgspec.Struct, frozen=True):
    """A model beside a camera's first: what it runs on, as of the first.

    ``problem`` is why it is not asked for a while, empty when it is.
    """

    interpreter: Description
    accelerator: Accelerator | None = None
    problem: str = ""


class Latency(msgspec.Struct, frozen=True):
    """A stage's milliseconds: mean of all frames, percentiles of the recent ones."""

    mean_ms: float
    p50_ms: float
    p99_ms: float


class Controls(msgspec.Struct, frozen=True):
    """What commands may change of a camera, as it is in force.

    ``region`` is the part of the upright picture that is looked at, [left, top, right,
    bottom] as shares of it; ``teach_label`` is what the next lesson is about.
    """

    enabled: bool
    enter: float
    exit: float
    max_fps: float
    model: str
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    teach_label: str = ""


class Vitals(msgspec.Struct, frozen=True):
    """One look at the board.

    ``throttling`` is what holds now, ``throttling_since_boot`` what has been: in words, empty
    when nothing is wrong. ``memory_mb`` and ``disk_mb`` are what is free, ``rss_mb`` is this
    process's. ``wifi_dbm`` is the signal of the first wireless interface.
    """

    board: str | None
    temperature_c: float | None
    throttling: tuple[str, ...] | None
    throttling_since_boot: tuple[str, ...] | None
    load: float | None
    memory_mb: float | None
    memory_total_mb: float | None
    rss_mb: float | None
    disk_mb: float | None
    disk_total_mb: float | None
    wifi_dbm: float | None
    clock_synced: bool | None


class Drift(msgspec.Struct, frozen=True):
    """Whether a camera's answers are other than its own past weeks had them.

    ``change`` is what is other, empty where nothing is, and ``since`` the wall time at which that
    began to show. ``learning`` says why nothing is compared yet, empty where it is. ``pictures``
    tells whether there is one of then and one of now.
    """

    change: str = ""
    since: float | None = None
    learning: str = ""
    pictures: bool = False


class CameraHealth(msgspec.Struct, frozen=True):
    """One camera, or region of one, since the start; ``fps`` is of classified frames, lately.

    ``age_ms`` is how old the newest frame was when it came, where the driver tells when it
    was exposed, else 0. ``malformed`` frames were skipped. ``problem`` is why the camera is
    not live, empty when it is; ``openings`` is how often it was tried to open it, ``reopenings``
    how often it came back, ``left_behind`` how many threads are stuck in its driver.
    ``picture`` is what is wrong with the picture, ``brightness`` its mean grey of 255 and
    ``sharpness`` its edges by its contrast; ``drift`` is None where nobody watches for it.
    ``interpreter`` and ``accelerator`` are what its model runs on, ``beside`` the models that are
    asked as well, ``taught`` the labels that it was taught. ``look`` is why the last frame was
    classified, or was not; ``classified_per_minute`` and ``work_share``, of the frames that the
    rate limit admitted, are of the last five minutes.
    """

    name: str
    source: str
    state: CameraState
    seen: int
    classified: int
    dropped: int
    fps: float
    stages: dict[str, Latency]
    controls: Controls | None = None
    age_ms: float = 0.0
    malformed: int = 0
    openings: int = 0
    reopenings: int = 0
    left_behind: int = 0
    problem: str = ""
    picture: tuple[PictureTrouble, ...] = ()
    interpreter: Description | None = None
    accelerator: Accelerator | None = None
    beside: tuple[Beside, ...] = ()
    taught: tuple[str, ...] = ()
    look: Look = ""
    classified_per_minute: float = 0.0
    work_share: float = 1.0
    brightness: float | None = None
    sharpness: float | None = None
    drift: Drift | None = None


class SinkHealth(msgspec.Struct, frozen=True):
    """One way out; ``problem`` is why it is out of order, empty when it is not."""

    name: str
    problem: str = ""


class DeviceHealth(msgspec.Struct, frozen=True):
    """How the device is, once a second or at the end.

    ``interpreter`` and ``accelerator`` are those of the first camera, ``interval_s`` is the
    distance at which health leaves the device, as it is in force. ``rate_share`` is how much of
    its full rate it may work at, 0 for a frame a second, and ``governed_by`` why not at all of it.
    """

    uptime_s: float
    cameras: tuple[CameraHealth, ...]
    interpreter: Description
    vitals: Vitals
    accelerator: Accelerator | None = None
    sinks: tuple[SinkHealth, ...] = ()
    interval_s: float = 60.0
    rate_share: float = 1.0
    governed_by: GovernedBy = ""


class Sink:
    """A way out. Calls come from the node's thread only and must not block it.

    A class that inherits from this takes what it has no method for, and does nothing.
    A sink that raises is isolated by the node: reported, closed, and started again later;
    the other sinks never notice. One that works, but not its other end, may say so in an
    attribute ``problem``.
    """

    name: str

    def observe(self, observation: Observation) -> None:
        """Take one classified frame."""

    def change(self, change: LabelChange, frame: Frame | None = None, /) -> None:
        """Take one label change and the frame that made it, None where none did.

        Before ``observe`` of that frame.
        """

    def acted(self, result: ActionResult) -> None:
        """Take what an action did."""

    def report(self, health: DeviceHealth) -> None:
        """Take the state of the device: about once a second, and when a camera's changes."""

    def close(self) -> None:
        """Flush and let go; may be called twice."""
