"""One camera that sees a cup of espresso, as the sinks are told of it."""

from typing import Any

import numpy as np

from device.events import (
    OFF_DUTY,
    UNAVAILABLE,
    Beside,
    CameraHealth,
    Description,
    DeviceHealth,
    LabelChange,
    Latency,
    Observation,
    Prediction,
    StageTimes,
)
from device.frames import Frame, PixelFormat
from device.health.vitals import Board

FRAME = Frame(np.zeros((2, 2), np.uint8), PixelFormat.GREY, 2, 2, number=0, captured_at=0.0)
SCORES = {
    "espresso": 0.9375,
    "cup": 0.03,
    "eggnog": 0.02,
    "chocolate sauce": 0.01,
    "coffee mug": 0.002,
    "soup bowl": 0.001,
}


def observation(
    label: str | None = "espresso",
    score: float = 0.9,
    scores: dict[str, float] = SCORES,
    camera: str = "camera",
    at: float = 7.7,
) -> Observation:
    predictions = tuple(Prediction(name, n, s) for n, (name, s) in enumerate(scores.items()))
    stages = StageTimes(preprocess_ms=0.4, invoke_ms=10.0, postprocess_ms=0.1)
    active = () if label in (None, "unknown") else (label,)
    return Observation(camera, FRAME, predictions, label, score, stages, 12.0, at, active=active)


def change(**different: Any) -> LabelChange:
    usual: dict[str, Any] = {
        "camera": "camera",
        "label": "espresso",
        "score": 0.93125,
        "previous": "unknown",
        "held_s": 2.1,
        "model": "efficientnet-lite0-224-int8",
        "at": 3.2,
    }
    made = usual | different
    given = made["label"]
    idle = given in ("unknown", UNAVAILABLE, OFF_DUTY)
    return LabelChange(**({"active": () if idle else (given,)} | made))


def description(**different: Any) -> Description:
    usual: dict[str, Any] = {
        "model": "efficientnet-lite0-224-int8",
        "runtime": "tflite-runtime",
        "version": "2.14.0",
        "delegate": "xnnpack",
        "operators_delegated": 63,
        "operators_total": 64,
        "on_cpu": ("SOFTMAX",),
        "threads": 1,
        "inputs": (),
        "outputs": (),
    }
    return Description(**(usual | different))


def beside(problem: str = "") -> Beside:
    on = description(
        model="mobilenet-v1-person-96", operators_delegated=31, operators_total=31, on_cpu=()
    )
    return Beside(on, None, problem)


STAGES = {
    "preprocess": Latency(0.41, 0.4, 0.62),
    "invoke": Latency(10.21, 10.1, 12.8),
    "postprocess": Latency(0.08, 0.08, 0.11),
    "decide": Latency(0.02, 0.02, 0.03),
    "total": Latency(12.3, 12.1, 15.9),
}


VITALS = Board().read()


def camera_health(**different: Any) -> CameraHealth:
    usual: dict[str, Any] = {
        "name": "camera",
        "source": "footage",
        "state": "live",
        "seen": 540,
        "classified": 533,
        "dropped": 7,
        "fps": 29.83,
        "stages": STAGES,
    }
    return CameraHealth(**(usual | different))


def device_health(*cameras: CameraHealth, **interpreter: Any) -> DeviceHealth:
    return DeviceHealth(18.0, cameras or (camera_health(),), description(**interpreter), VITALS)
