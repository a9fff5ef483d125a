"""Trains a MobileNet to tell apart the classes of a folder of pictures."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.backend import TensorFlowMissingError, load_tensorflow
from models.dataset import Dataset, DatasetError, load_pictures, read_dataset
from models.mobilenet import ARCHITECTURES, build_keras

# Pictures are kept this much larger than the model's, so that random crops stay sharp.
MARGIN: Final = 1.15
LEARNING_RATE: Final = {"scratch": 2e-3, "head": 1e-3, "fine": 1e-4}
# Label smoothing as in the training of MobileNetV2 and V3 by their authors.
SMOOTHING: Final = 0.1
WEIGHT_DECAY: Final = 1e-4
PATIENCE: Final = 20


class TrainingError(RuntimeError):
    """Training that cannot begin."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except (DatasetError, TrainingError, TensorFlowMissingError, OSError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m models.train",
        description="Train a MobileNet on a folder of pictures, one sub-folder a class.",
    )
    parser.add_argument("pictures", type=Path, help="the folder; its sub-folders name the classes")
    parser.add_argument("--out", type=Path, required=True, help="the .keras file to write")
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="v2")
    parser.add_argument("--alpha", type=float, default=1.0, help="width multiplier (1.0)")
    parser.add_argument("--size", type=int, default=224, help="side of the picture (224)")
    parser.add_argument(
        "--weights",
        default="auto",
        metavar="W",
        help="what the network knows at the start: imagenet (Keras downloads it), a file "
        "(.keras from this command, or Keras' own .h5 without top), none, or auto: imagenet "
        "if it can be had, else none",
    )
    parser.add_argument("--epochs", type=int, default=60, help="at most (60)")
    parser.add_argument("--batch", type=int, default=32, help="pictures a step (32)")
    parser.add_argument(
        "--validation", type=float, default=0.15, help="share held back to stop early by (0.15)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="0: TensorFlow chooses")
    return parser


def _run(options: argparse.Namespace) -> None:
    if options.out.suffix != ".keras":
        raise TrainingError(f"--out {options.out}: expected a name that ends in .keras")
    if not 0 < options.validation < 1:
        raise TrainingError(f"--validation {options.validation}: expected a share of 1")
    data = read_dataset(options.pictures, least=2)
    train, held_back = data.split(options.validation, options.seed)
    network = ARCHITECTURES[options.architecture](options.alpha, options.size, len(data.classes))
    print(
        f"{network.summary}; {len(data.classes)} classes, {len(train)} pictures to learn from, "
        f"{len(held_back)} to check with"
    )
    tf = load_tensorflow(options.threads)
    tf.keras.utils.set_random_seed(options.seed)
    model, trunk = build_keras(network, dropout=0.2, momentum=0.95)
    knows = start_from(options.weights, options, trunk)
    print(f"starts from: {knows}")
    trainer = _Trainer(tf, model, train, held_back, network.size, options)
    if knows == "nothing":
        trainer.fit("scratch", options.epochs)
    else:
        # First the new head alone: its random gradients would wreck what the trunk knows.
        trunk.trainable = False
        trainer.fit("head", max(1, options.epochs // 2))
        trunk.trainable = True
        freeze_statistics(trunk)
        trainer.fit("fine", max(1, options.epochs // 2))
    model.save(options.out)
    labels = options.out.with_suffix(".txt")
    labels.write_text("".join(f"{name}\n" for name in data.classes), encoding="utf-8")
    print(
        f"{options.out} and {labels}: top-1 {trainer.top1():.1%} of the {len(held_back)} held back"
    )


def start_from(weights: str, options: argparse.Namespace, trunk: Any) -> str:
    """Give the trunk what `--weights` names; returns what that was, "nothing" for none.

    Raises TrainingError for what was named and cannot be had.
    """
    if weights == "none":
        return "nothing"
    try:
        if weights in ("auto", "imagenet"):
            trunk.set_weights(_imagenet(options).get_weights())
            return "ImageNet"
        if weights.endswith(".keras"):
            import keras

            known = keras.models.load_model(weights, compile=False).get_weights()
            trunk.set_weights(known[: len(trunk.weights)])
        else:
            trunk.load_weights(weights)
    except Exception as error:  # noqa: BLE001 - Keras raises nearly anything here
        reason = " ".join(str(error).split())[:200]
        if weights == "auto":
            print(f"no ImageNet weights to start from: {reason}")
            return "nothing"
        raise TrainingError(
            f"--weights {weights}: cannot be used: {reason}; it must be of the same "
            "architecture and alpha"
        ) from None
    return weights


def _imagenet(options: argparse.Namespace) -> Any:
    """The network of `keras.applications` with the weights that Keras downloads or has."""
    from keras import applications

    shape = {"input_shape": (options.size, options.size, 3), "alpha": options.alpha}
    common = {"include_top": False, "weights": "imagenet", **shape}
    match options.architecture:
        case "v1":
            return applications.MobileNet(**common)
        case "v2":
            return applications.MobileNetV2(**common)
        case "v3-small":
            return applications.MobileNetV3Small(minimalistic=True, **common)
    return applications.MobileNetV3Large(minimalistic=True, **common)


def freeze_statistics(trunk: Any) -> None:
    """Keep the means and deviations of a trunk that is trained on.

    A few pictures would replace what millions have taught, and training would forget it.
    """
    import keras

    for layer in trunk.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


class _Trainer:
    """Fits a model in phases, each with its own learning rate on a cosine to zero."""

    def __init__(
        self,
        tf: Any,
        model: Any,
        train: Dataset,
        held_back: Dataset,
        size: int,
        options: argparse.Namespace,
    ) -> None:
        self._tf = tf
        self._model = model
        self._size = size
        self._options = options
        larger = round(size * MARGIN)
        self._train = (load_pictures(train.files, larger), train.labels)
        pictures = as_input(load_pictures(held_back.files, size))
        self._held_back = (pictures, np.eye(len(train.classes), dtype=np.float32)[held_back.labels])
        counts = np.bincount(train.labels, minlength=len(train.classes))
        # A class with few pictures counts as much as one with many.
        self._class_weight = dict(enumerate(len(train) / len(counts) / counts))

    def fit(self, phase: str, epochs: int) -> None:
        """Train for `epochs`, or until the held back pictures are told apart no better."""
        keras = self._tf.keras
        steps = -(-len(self._train[1]) // self._options.batch)
        rate = keras.optimizers.schedules.CosineDecay(LEARNING_RATE[phase], epochs * steps)
        optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=SMOOTHING)
        self._model.compile(optimizer, loss, metrics=["accuracy"])
        stop = keras.callbacks.EarlyStopping(
            "val_accuracy", patience=PATIENCE, restore_best_weights=True, mode="max"
        )
        started = time.monotonic()

        def tell(epoch: int, logs: dict[str, float]) -> None:
            left_s = (time.monotonic() - started) / (epoch + 1) * (epochs - epoch - 1)
            print(
                f"{phase} {epoch + 1}/{epochs}: loss {logs['loss']:.3f}, "
                f"top-1 {logs['accuracy']:.1%}, held back {logs['val_accuracy']:.1%}, "
                f"{left_s:.0f} s left at most",
                flush=True,
            )

        self._model.fit(
            self._batches(),
            validation_data=self._held_back,
            epochs=epochs,
            class_weight=self._class_weight,
            shuffle=False,  # the batches are shuffled already
            callbacks=[stop, keras.callbacks.LambdaCallback(on_epoch_end=tell)],
            verbose=0,
        )

    def top1(self) -> float:
        """The share of the held back pictures that the model gets right."""
        pictures, wanted = self._held_back
        found = self._model.predict(pictures, batch_size=self._options.batch, verbose=0)
        return float((found.argmax(1) == wanted.argmax(1)).mean())

    def _batches(self) -> Any:
        tf, classes = self._tf, len(self._class_weight)
        pictures, labels = self._train

        def augment(batch: Any, rows: Any) -> tuple[Any, Any]:
            return self._augment(batch), tf.one_hot(rows, classes)

        data = tf.data.Dataset.from_tensor_slices((pictures, labels))
        data = data.shuffle(len(labels), seed=self._options.seed).batch(self._options.batch)
        return data.map(augment).prefetch(2)

    def _augment(self, batch: Any) -> Any:
        """A random part of each picture, perhaps mirrored, in random light."""
        tf = self._tf
        count = tf.shape(batch)[0]
        side = tf.random.uniform((count,), 0.7, 1.0)
        top = tf.random.uniform((count,)) * (1 - side)
        left = tf.random.uniform((count,)) * (1 - side)
        right = left + side
        mirrored = tf.random.uniform((count,)) < 0.5
        # A box whose left and right change places is cut out mirrored.
        left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
        boxes = tf.stack([top, left, top + side, right], axis=1)
        cut = tf.image.crop_and_resize(batch, boxes, tf.range(count), (self._size, self._size))
        light = tf.random.uniform((count, 1, 1, 1), -0.15, 0.15)
        contrast = tf.random.uniform((count, 1, 1, 1), 0.8, 1.25)
        return tf.clip_by_value((cut / 127.5 - 1.0) * contrast + light, -1.0, 1.0)


def as_input(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Pixels 0 to 255 as the networks take them, from -1 to 1."""
    return pictures.astype(np.float32) / 127.5 - 1.0


if __name__ == "__main__":
    sys.exit(main())
