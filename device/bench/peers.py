"""Other programs' image classifiers, timed for ``labelcam bench --against``.

Run by the Python of the environment they are installed in, so nothing of labelcam is
imported here: ``python peers.py NAME`` answers requests as ``trial`` has it.
"""

import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], str]


def tflite_support(model: str, picture: Any) -> Call:
    """The Task Library, as TensorFlow's Raspberry Pi example uses it; one thread."""
    core = importlib.import_module("tflite_support.task.core")
    vision = importlib.import_module("tflite_support.task.vision")
    processor = importlib.import_module("tflite_support.task.processor")
    classifier = vision.ImageClassifier.create_from_options(
        vision.ImageClassifierOptions(
            base_options=core.BaseOptions(file_name=model, num_threads=1),
            classification_options=processor.ClassificationOptions(max_results=1),
        )
    )

    def call() -> str:
        result = classifier.classify(vision.TensorImage.create_from_array(picture))
        return str(result.classifications[0].categories[0].index)

    return call


def mediapipe(model: str, picture: Any) -> Call:
    """MediaPipe's ImageClassifier in image mode."""
    media = importlib.import_module("mediapipe")
    tasks = media.tasks
    classifier = tasks.vision.ImageClassifier.create_from_options(
        tasks.vision.ImageClassifierOptions(
            base_options=tasks.BaseOptions(model_asset_path=model), max_results=1
        )
    )

    def call() -> str:
        image = media.Image(image_format=media.ImageFormat.SRGB, data=picture)
        return str(classifier.classify(image).classifications[0].categories[0].index)

    return call


def openvino(model: str, picture: Any) -> Call:
    """OpenVINO's CPU device, its own resize built into the graph; one thread."""
    ov = importlib.import_module("openvino")
    core = ov.Core()
    steps = ov.preprocess.PrePostProcessor(core.read_model(model))
    layout = ov.Layout("NHWC")
    tensor = steps.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(layout).set_shape([1, *picture.shape])
    steps.input().model().set_layout(layout)
    steps.input().preprocess().resize(ov.preprocess.ResizeAlgorithm.RESIZE_LINEAR)
    options = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(steps.build(), "CPU", options)

    def call() -> str:
        return str(int(compiled(picture[np.newaxis])[0].argmax()))

    return call


PEERS = {"tflite-support": tflite_support, "mediapipe": mediapipe, "openvino": openvino}


def main(name: str) -> None:
    """Answer on standard output, one line of JSON for each line on standard input."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    call: Call | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply: object
            if call is None:
                # [height, width, 3], RGB, uint8: what each of them takes as it is.
                call = PEERS[name](request["model"], np.load(request["picture"]))
                reply = {"version": importlib.metadata.version(name), "label": call()}
            else:
                reply = _timed(call, request["limit_s"], request["interval_s"])
        except ImportError as error:
            reply = {"type": "Failure", "reason": f"is not installed there ({error})"}
        except Exception as error:  # noqa: BLE001 - the parent is told, and goes on without it
            first = (str(error).strip().splitlines() or ["no reason given"])[0]
            reply = {"type": "Failure", "reason": f"{type(error).__name__}: {first}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _timed(call: Call, limit_s: float, interval_s: float) -> dict[str, Any]:
    """As ``time_calls`` of ``trial``."""
    clock, cpu = time.perf_counter, time.process_time
    end = clock() + limit_s
    times: list[float] = []
    if not interval_s:
        call()
    cpu_before = cpu()
    while not times or clock() < end:
        start = clock()
        call()
        times.append((clock() - start) * 1e3)
        time.sleep(max(0.0, start + interval_s - clock()))
    return {"ms": times, "cpu_s": cpu() - cpu_before}


if __name__ == "__main__":
    main(sys.argv[1])
