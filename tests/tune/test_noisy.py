"""Of a recording under heavy noise, tuning finds what top-1 cannot."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from device.cli import main
from tests.tune import noisy
from tests.tune.figures import SEED


def test_the_same_seed_makes_the_same_recording_with_twenty_changes() -> None:
    states = noisy.timeline(np.random.default_rng(SEED))
    assert len(states) == noisy.CHANGES + 1
    assert all(before[2] != after[2] for before, after in pairwise(states))
    first, again = (next(noisy.frames(SEED)) for _ in range(2))
    assert first[0] == again[0]
    assert (first[1] == again[1]).all()


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nineteen_of_twenty_are_found_and_nothing_false_within_half_a_second(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy.make(tmp_path / "noisy", SEED)
    assert main(["tune", str(tmp_path / "noisy"), "--json", "--set", "model.threads=1"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["changes"] == noisy.CHANGES
    best, naive = told["best"][0], told["naive"][0]
    assert best["found"] >= 19
    assert best["false"] == 0
    assert best["median_s"] <= 0.5
    assert naive["false"] > 100
    assert best["median_s"] < told["current"]["median_s"]
