"""What deciding costs a frame: ``python -m tests.pipeline.cost`` prints a table in microseconds.

Between two inferences, as in a run: an inference empties the caches. ``rank`` is the list of the
best words that goes out with each frame.
"""

import time
from collections.abc import Callable, Sequence

import numpy as np

from device.config import Decide, Label
from device.pipeline.channel import PREDICTIONS
from device.pipeline.classifier import Classifier, Scores, predictions
from device.pipeline.decider import Decider
from device.pipeline.groups import EMBEDDED, groups_for
from device.recordings.pictures import read_picture
from tests.conftest import FOOTAGE, classifier_of

_FRAMES = 300
_WARM_UP = 20
_LABELS = 20_000


def measure(
    classifier: Classifier, decider: Decider, scores_of: Callable[[Scores], Scores]
) -> tuple[list[float], list[float], float]:
    """Microseconds of update, and of ranking, for each frame; the median invoke in milliseconds."""
    frame = read_picture(FOOTAGE / "coffee.jpg")
    updates, ranks, invokes = [], [], []
    for number in range(_FRAMES + _WARM_UP):
        scores = scores_of(classifier.classify(frame))
        begun = time.perf_counter()
        decider.update(scores, number / 10)
        decided = time.perf_counter()
        predictions(decider.names, decider.scores, PREDICTIONS, 0.01)
        ranked = time.perf_counter()
        updates.append((decided - begun) * 1e6)
        ranks.append((ranked - decided) * 1e6)
        invokes.append(classifier.stages.invoke_ms)
    return updates[_WARM_UP:], ranks[_WARM_UP:], float(np.median(invokes))


def main() -> None:
    """Print the table."""
    with classifier_of(EMBEDDED) as classifier:
        labels, many = classifier.labels, tuple(f"label {n}" for n in range(_LABELS))
        large = np.zeros(_LABELS, np.float32)

        def enlarged(scores: Scores) -> Scores:
            large[: len(scores)] = scores
            return large

        cases: list[tuple[str, Decide, Sequence[str], Callable[[Scores], Scores]]] = [
            ("one, 1000 labels", Decide(groups=""), labels, lambda scores: scores),
            ("one, everyday words", Decide(), labels, lambda scores: scores),
            (
                "one, words, margin, cooldown, a label's own",
                Decide(margin=0.1, cooldown_s=5, label={"cat": Label(enter=0.9)}),
                labels,
                lambda scores: scores,
            ),
            ("any, everyday words", Decide(mode="any", cooldown_s=5), labels, lambda s: s),
            ("one, 20,000 labels", Decide(groups=""), many, enlarged),
            ("any, 20,000 labels", Decide(groups="", mode="any"), many, enlarged),
        ]
        print(f"{'':<44}{'update p50':>11}{'p99':>7}{'rank p50':>10}{'p99':>7}{'of invoke':>11}")
        for name, decide, names, scores_of in cases:
            decider = Decider(decide, names, groups_for(decide, EMBEDDED))
            updates, ranks, invoke_ms = measure(classifier, decider, scores_of)
            half = [float(np.percentile(part, 50)) for part in (updates, ranks)]
            most = [float(np.percentile(part, 99)) for part in (updates, ranks)]
            share = sum(half) / 1e3 / invoke_ms
            print(
                f"{name:<44}{half[0]:>11.0f}{most[0]:>7.0f}{half[1]:>10.0f}{most[1]:>7.0f}"
                f"{share:>11.2%}"
            )


if __name__ == "__main__":
    main()
