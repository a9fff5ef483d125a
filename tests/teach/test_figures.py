"""The figures of teaching come out of the features as they should; those are made up here."""

import sys
from collections.abc import Callable

import numpy as np
import pytest

from tests.teach import figures
from tests.teach.samples import clouds


def made_up(name: str, _: object) -> figures.Embedded:
    pool = clouds(24, classes=10, far=1.5)
    test = clouds(20, classes=10, views=1, seed=1, far=1.5)
    features = pool.features.reshape(240, 2, -1)
    strange = np.roll(test.features, 48, axis=1)
    return figures.Embedded(features, pool.classes[::2], test.features, test.classes, strange, name)


@pytest.mark.slow
def test_goals_are_told_and_decide_how_it_ends(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    picture = tmp_path_factory.mktemp("figures") / "curves.png"
    monkeypatch.setenv("LABELCAM_TESTDATA", "not looked at")
    monkeypatch.setattr(figures, "embedded", made_up)
    monkeypatch.setattr(figures, "DRAWS", 2)
    monkeypatch.setattr(sys, "argv", ["figures", "--png", str(picture)])
    status = figures.main()
    told = capsys.readouterr().out
    assert told.count("| labelcam |") == 2
    assert "met: % at 20 a class, Coral's extractor: " in told
    assert status == ("MISSED" in told)
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize("way", figures.WAYS.values(), ids=list(figures.WAYS))
def test_more_pictures_are_better(
    way: Callable[..., "np.ndarray[tuple[int], np.dtype[np.intp]]"],
) -> None:
    found = made_up("", None)
    right = [
        np.mean(
            [
                way(figures.draw(found, n, seed), found.test) == found.test_classes
                for seed in range(4)
            ]
        )
        for n in (1, 20)
    ]
    assert right[1] > right[0] + 0.1


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    known, strange = np.array([1.0, 2, 3]), np.array([0.0, 2, 5, 6])
    pairs = [(s > k) + 0.5 * (s == k) for k in known for s in strange]
    assert figures.area(known, strange) == pytest.approx(np.mean(pairs))
