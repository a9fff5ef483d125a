"""How good what is taught is, in figures: `python -m tests.teach.figures [--json] [--png FILE]`.

Pictures of CIFAR-10 from $LABELCAM_TESTDATA are drawn from its training part and judged on its
test part, on the features of the embedded model and of Coral's extractor. The features are
computed once, which takes minutes, and kept in `.figures-teach/` of the checkout. Exits with 1
where a goal is missed.
"""

import argparse
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from device import config
from device.cameras import open_camera
from device.frames import Frame
from device.library import catalog
from device.teach.embedder import Embedder
from device.teach.head import Features, Head, normalized
from device.teach.learner import Classes, Samples, learn
from tests.conftest import FOOTAGE, frame_of

CACHE = Path(__file__).parents[2] / ".figures-teach"
EXTRACTOR = "models/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
SHOTS = (1, 2, 3, 5, 10, 20)
DRAWS = 10
# Of each class, to draw from.
POOL = 160
STRANGERS = 20  # crops of each photograph

Float = NDArray[np.float64]


class Embedded(NamedTuple):
    """Features of one model: ``pool`` (pictures, 2, features) with mirrors, the others without."""

    pool: Features
    pool_classes: Classes
    test: Features
    test_classes: Classes
    strangers: Features
    sha256: str


def main() -> int:
    """Measure, print and draw; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--png", metavar="FILE", type=Path, help="draw the curves")
    options = parser.parse_args()
    if "LABELCAM_TESTDATA" not in os.environ:
        parser.error("LABELCAM_TESTDATA is not set: no pictures to teach")
    testdata = Path(os.environ["LABELCAM_TESTDATA"])
    models = {"embedded Lite0": config.Model().name, "Coral's extractor": str(testdata / EXTRACTOR)}
    results = {name: measure(embedded(model, testdata)) for name, model in models.items()}
    goals = reached(results)
    if options.png:
        cv2.imwrite(str(options.png), drawn(results))
    if options.json:
        print(json.dumps({"models": results, "goals": goals}))
    else:
        print_tables(results, goals)
    return 0 if all(goal["met"] for goal in goals) else 1


def embedded(name: str, testdata: Path) -> Embedded:
    """The features that a model gives, from the cache where they are there."""
    model = catalog.find(name)
    path = CACHE / f"{model.file.sha256[:16]}.npz"
    if not path.exists():
        found = _embed(model, testdata)
        CACHE.mkdir(exist_ok=True)
        np.savez(path, **dict(zip(Embedded._fields, found[:-1], strict=False)))
    with np.load(path) as stored:
        return Embedded(**stored, sha256=model.file.sha256)


def _embed(model: catalog.Model, testdata: Path) -> Embedded:
    pool, test = [], []
    with (
        Embedder(model, config.Model()) as embedder,
        zipfile.ZipFile(testdata / "cifar10-small.zip") as archive,
    ):
        names = sorted(archive.namelist())
        classes = sorted({name.split("/")[1] for name in names})
        rows: dict[str, list[int]] = {"train": [], "test": []}
        for name in track(names, model.name, console=_stderr()):
            part, label, file = name.split("/")
            if part == "train" and int(Path(file).stem) >= POOL:
                continue
            frame = _decoded(archive.read(name))
            rows[part].append(classes.index(label))
            if part == "train":
                pool.append(embedder.picture(frame, mirror=True, keep=False).features)
            else:
                test.append(embedder.features(frame))
        strangers = [embedder.features(frame) for frame in strange_pictures(testdata)]
    drawn_from, judged = (np.array(rows[part], np.intp) for part in ("train", "test"))
    sha256 = model.file.sha256
    return Embedded(np.stack(pool), drawn_from, np.stack(test), judged, np.stack(strangers), sha256)


def _stderr() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _decoded(data: bytes) -> Frame:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return frame_of(picture.astype(np.uint8, copy=False))


def strange_pictures(testdata: Path) -> Iterator[Frame]:
    """Another kind of picture than CIFAR's: drawn scenes, and parts of large photographs."""
    with open_camera(config.Camera(source="synthetic")) as camera:
        for _ in range(STRANGERS):
            frame = camera.read()
            assert frame
            yield frame
    chance = np.random.default_rng(0)
    for path in sorted([*FOOTAGE.glob("*.jpg"), *(testdata / "images").iterdir()]):
        pixels = _decoded(path.read_bytes()).pixels
        for _ in range(STRANGERS):
            side = int(chance.integers(96, min(pixels.shape[:2]) + 1))
            top, left = (int(chance.integers(0, size - side + 1)) for size in pixels.shape[:2])
            yield frame_of(np.ascontiguousarray(pixels[top : top + side, left : left + side]))


def draw(found: Embedded, shots: int, seed: int, classes: int = 10) -> Samples:
    """So many pictures of each of the first classes, with their mirrors."""
    chance = np.random.default_rng(seed)
    rows = np.concatenate(
        [
            chance.choice(np.flatnonzero(found.pool_classes == row), shots, replace=False)
            for row in range(classes)
        ]
    )
    features = found.pool[rows].reshape(-1, found.pool.shape[-1])
    return Samples(features, np.repeat(found.pool_classes[rows], 2), np.repeat(rows, 2))


def taught(samples: Samples) -> Head:
    """The head that is learned from samples."""
    labels = [str(row) for row in range(int(samples.classes.max()) + 1)]
    return learn(samples, labels, "").head


def judge(head: Head, features: Features) -> tuple[Float, Float]:
    """Probabilities (pictures, labels) and distances (pictures,), strangers or not."""
    q = normalized(features, head.power).astype(np.float64) - head.mean
    logits = q @ head.weights.T + head.bias
    shares = np.exp(head.temperature * (logits - logits.max(1, keepdims=True)))
    along = q @ head.basis.T
    spread = (q**2).sum(1) - along**2 @ head.gains
    distances = spread / head.ridge - 2 * logits.max(1) if head.ridge else np.zeros(len(q))
    return shares / shares.sum(1, keepdims=True), distances


def ours(samples: Samples, seen: Features) -> Classes:
    """What the head says."""
    return np.asarray(np.argmax(judge(taught(samples), seen)[0], 1), np.intp)


def imprinted(samples: Samples, seen: Features) -> Classes:
    """Cosine with the mean direction of each class (Qi, Brown and Lowe, 2018)."""
    means = _means(normalized(samples.features, 1.0), samples)
    return np.asarray(np.argmax(normalized(seen, 1.0) @ normalized(means, 1.0).T, 1), np.intp)


def nearest_mean(samples: Samples, seen: Features) -> Classes:
    """The class whose mean is nearest."""
    means = _means(normalized(samples.features, 0.5), samples)
    return np.asarray(
        np.argmax(normalized(seen, 0.5) @ means.T - 0.5 * (means**2).sum(1), 1), np.intp
    )


def _means(features: Features, samples: Samples) -> Features:
    rows = [features[samples.classes == row].mean(0) for row in np.unique(samples.classes)]
    return np.stack(rows)


WAYS: dict[str, Callable[[Samples, Features], Classes]] = {
    "imprinting": imprinted,
    "nearest class mean": nearest_mean,
    "labelcam": ours,
}


def measure(found: Embedded) -> dict[str, Any]:
    """Every figure of one model; accuracies in percent."""
    accuracy = {
        name: [
            100
            * float(
                np.mean(
                    [
                        way(draw(found, shots, seed), found.test) == found.test_classes
                        for seed in range(DRAWS)
                    ]
                )
            )
            for shots in SHOTS
        ]
        for name, way in WAYS.items()
    }
    samples = draw(found, 20, 0)
    # Nine classes of 20 and one of 10.
    one_more = Samples(samples.features[:-20], samples.classes[:-20], samples.pictures[:-20])
    head = taught(samples)
    return {
        "accuracy": dict(zip(("shots", *accuracy), (SHOTS, *accuracy.values()), strict=True)),
        "strangers": strangers(found),
        "calibration": calibration(found),
        "seconds_to_learn": {
            "10 x 20": least_s(lambda: taught(samples)),
            "one more class of 10": least_s(lambda: taught(one_more)),
        },
        "ms_per_scores": least_s(lambda: [head.scores(f) for f in found.test[:200]]) * 1e3 / 200,
    }


def strangers(found: Embedded) -> dict[str, dict[str, float]]:
    """Areas under the curve, of pictures of another kind and of classes never taught."""
    areas: dict[str, list[list[float]]] = {"another kind": [], "untaught classes": []}
    for seed in range(DRAWS):
        known = judge(head := taught(draw(found, 10, seed)), found.test)
        areas["another kind"].append(_areas(known, judge(head, found.strangers)))
        head = taught(draw(found, 10, seed, classes=5))
        near = found.test_classes >= 5
        areas["untaught classes"].append(
            _areas(judge(head, found.test[~near]), judge(head, found.test[near]))
        )
    return {
        kind: dict(zip(("distance", "softmax"), np.mean(every, 0).tolist(), strict=True))
        for kind, every in areas.items()
    }


def _areas(known: tuple[Float, Float], strange: tuple[Float, Float]) -> list[float]:
    return [area(known[1], strange[1]), area(-known[0].max(1), -strange[0].max(1))]


def area(known: Float, strange: Float) -> float:
    """The share of pairs in which the stranger has the greater value: the area under the ROC."""
    known = np.sort(known)
    below = np.searchsorted(known, strange, "left") + np.searchsorted(known, strange, "right")
    return float(below.mean() / (2 * len(known)))


def calibration(found: Embedded) -> dict[str, list[float]]:
    """By pictures a class from 3: percent right, percent sure, percent of right ones refused."""
    rows: dict[str, list[float]] = {}
    for shots in SHOTS[2:]:
        told = []
        for seed in range(DRAWS):
            head = taught(draw(found, shots, seed))
            shares, distances = judge(head, found.test)
            right = shares.argmax(1) == found.test_classes
            refused = (distances[right] > head.threshold).mean()
            told.append([right.mean(), shares.max(1).mean(), refused])
        rows[str(shots)] = (100 * np.mean(told, 0)).tolist()
    return rows


def least_s(call: Callable[[], object]) -> float:
    """The least seconds of five calls: what others do on the machine only ever adds."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def reached(results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The goals, what was measured, and whether it is enough."""
    goals: list[tuple[str, float, float, bool]] = []
    coral = dict(zip(SHOTS, results["Coral's extractor"]["accuracy"]["labelcam"], strict=True))
    for shots, least in ((5, 47.5), (10, 55.0), (20, 61.5)):
        at_least = coral[shots] >= least
        goals.append((f"% at {shots} a class, Coral's extractor", coral[shots], least, at_least))
    for name, result in results.items():
        accuracy = result["accuracy"]
        ahead = np.subtract(accuracy["labelcam"], accuracy["imprinting"])[2:].min()
        goals.append((f"ahead of imprinting from 3, {name}", float(ahead), -0.5, ahead >= -0.5))
        other = result["strangers"]["another kind"]["distance"]
        goals.append((f"area, strangers of another kind, {name}", other, 0.99, other >= 0.99))
        for (what, seconds), most in zip(
            result["seconds_to_learn"].items(), (1.0, 0.5), strict=True
        ):
            goals.append((f"s for {what}, {name}", seconds, most, seconds <= most))
    keys = ("goal", "measured", "limit", "met")
    return [dict(zip(keys, (*goal[:3], bool(goal[3])), strict=True)) for goal in goals]


def print_tables(results: dict[str, dict[str, Any]], goals: list[dict[str, Any]]) -> None:
    """Everything as Markdown."""
    for name, result in results.items():
        accuracy = result["accuracy"]
        print(f"### {name}\n\n| pictures a class | {' | '.join(map(str, accuracy['shots']))} |")
        print(f"|---|{'---|' * len(SHOTS)}")
        for way in WAYS:
            print(f"| {way} | {' | '.join(f'{value:.1f}' for value in accuracy[way])} |")
        print("\n| strangers, area under the curve | distance | softmax |\n|---|---|---|")
        for kind, areas in result["strangers"].items():
            print(f"| {kind} | {areas['distance']:.3f} | {areas['softmax']:.3f} |")
        print("\n| pictures a class | right % | sure % | right ones refused % |\n|---|---|---|---|")
        for shots, row in result["calibration"].items():
            print(f"| {shots} | {' | '.join(f'{value:.1f}' for value in row)} |")
        for what, seconds in result["seconds_to_learn"].items():
            print(f"\n{what} learned in {seconds:.2f} s", end="")
        print(f"; a frame's scores in {result['ms_per_scores']:.3f} ms\n")
    for goal in goals:
        mark = "met" if goal["met"] else "MISSED"
        print(f"{mark}: {goal['goal']}: {goal['measured']:.3f} ({goal['limit']})")


def drawn(results: dict[str, dict[str, Any]]) -> NDArray[np.uint8]:
    """The curves of all models side by side, BGR."""
    return np.hstack([_panel(name, result["accuracy"]) for name, result in results.items()])


def _panel(name: str, accuracy: dict[str, Any]) -> NDArray[np.uint8]:
    width, height, left, top, bottom = 560, 420, 60, 50, 360
    colours = dict(zip(WAYS, ((160, 160, 160), (60, 140, 230), (170, 90, 20)), strict=True))
    panel = np.full((height, width, 3), 255, np.uint8)

    def text(what: str, x: float, y: float, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
        place = (int(x), int(y))
        cv2.putText(panel, what, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)

    def row(percent: float) -> float:
        return bottom - (percent - 20) * (bottom - top) / 55

    columns = left + (width - left - 30) * np.log(SHOTS) / np.log(SHOTS[-1])
    text(f"{name}: % right, 10 classes of CIFAR-10", left, 25)
    for percent in range(20, 80, 10):
        level = round(row(percent))
        cv2.line(panel, (left, level), (width - 30, level), (225, 225, 225), 1)
        text(str(percent), left - 30, level + 5)
    for shots, column in zip(SHOTS, columns, strict=True):
        text(str(shots), column - 5, bottom + 20)
    text("pictures a class", left + 170, bottom + 42)
    for number, (way, colour) in enumerate(colours.items()):
        points = np.array([columns, [row(value) for value in accuracy[way]]]).T
        corners = np.round(points * 16).astype(np.int32)[:, None]
        cv2.polylines(panel, [corners], False, colour, 2, cv2.LINE_AA, 4)
        text(way, width - 200, bottom - 60 + 20 * number, colour)
    return panel


if __name__ == "__main__":
    sys.exit(main())
