"""Features with classes in them, for tests of what learns from features."""

import numpy as np

from device.teach.learner import Samples


def clouds(
    shots: int,
    classes: int = 4,
    *,
    width: int = 96,
    views: int = 2,
    seed: int = 0,
    far: float = 1.0,
) -> Samples:
    """Pictures of classes that lie ``far`` apart, as a network's features: never negative."""
    chance = np.random.default_rng(seed)
    # The classes stay the same whatever the seed of the pictures.
    centres = np.random.default_rng(99).normal(size=(classes, width)) * far
    pictures = np.repeat(centres, shots, 0) + chance.normal(size=(classes * shots, width)) * 2
    rows = np.repeat(pictures, views, 0) + chance.normal(size=(classes * shots * views, width)) / 4
    return Samples(
        np.maximum(rows, 0).astype(np.float32),
        np.repeat(np.arange(classes), shots * views),
        np.repeat(np.arange(classes * shots), views),
    )
