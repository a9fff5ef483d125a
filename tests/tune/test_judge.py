"""The verdict: what is found, late, missed and false."""

from collections.abc import Sequence

import pytest

from device.tune.judge import Said, Verdict, judge, true_changes
from device.tune.truth import Interval

CAT = Interval(10, 20, "cat")


def verdict(
    said: Sequence[tuple[float, str]],
    truth: Sequence[Interval],
    *,
    one: bool = True,
    labels: Sequence[str] = (),
) -> Verdict:
    """Of what was said from when on: labels with spaces between, empty for none."""
    changes = [Said(at, tuple(active.split())) for at, active in said]
    true = true_changes(truth, one_at_a_time=one, labels=labels)
    return judge({"c": changes}, {"c": true}, one_at_a_time=one, labels=labels)


def counts(one: Verdict) -> tuple[int, int, int, int]:
    return one.found, one.missed, one.false, one.late


def test_a_begin_and_an_end_are_found_with_their_delays() -> None:
    found = verdict([(10.25, "cat"), (20.75, "")], [CAT])
    assert counts(found) == (2, 0, 0, 1)
    assert (found.median_s, found.true, found.errors) == (0.5, 2, 0)
    assert [(mark.kind, mark.on, mark.delay_s) for mark in found.marks["c"]] == [
        ("found", True, 0.25),
        ("late", False, 0.75),
    ]


@pytest.mark.parametrize(
    ("begin", "end", "wanted"),
    [
        (9.5, 20, (2, 0, 0, 0)),  # marked by hand, half a second late
        (9.4, 20, (1, 1, 1, 0)),
        (12.0, 20, (2, 0, 0, 1)),
        (12.1, 20, (1, 1, 1, 0)),
        (10, 15, (1, 1, 1, 0)),  # given up too soon
        (10, 22.5, (1, 1, 1, 0)),
    ],
)
def test_what_is_out_of_time_is_missed_and_false(
    begin: float, end: float, wanted: tuple[int, int, int, int]
) -> None:
    assert counts(verdict([(begin, "cat"), (end, "")], [CAT])) == wanted


def test_what_flickers_is_false_each_time() -> None:
    said = [(10.2, "cat"), (13, ""), (14, "cat"), (16, "dog"), (17, "cat"), (20.2, "")]
    assert counts(verdict(said, [CAT])) == (2, 0, 4, 0)


def test_nothing_said_misses_all_and_nothing_true_makes_all_false() -> None:
    assert counts(verdict([], [CAT])) == (0, 2, 0, 0)
    assert counts(verdict([(1, "cat"), (2, "")], [])) == (0, 0, 2, 0)


def test_one_label_that_takes_the_place_of_another_is_one_change() -> None:
    truth = [CAT, Interval(20, 30, "dog")]
    found = verdict([(10, "cat"), (20.5, "dog"), (30.5, "")], truth)
    assert (found.true, counts(found)) == (3, (3, 0, 0, 0))
    # A moment of nothing between them is neither asked for nor wrong.
    truth = [CAT, Interval(20.5, 30, "dog")]
    for said in (
        [(10, "cat"), (20.75, "dog"), (30, "")],
        [(10, "cat"), (20.25, ""), (20.75, "dog"), (30, "")],
    ):
        assert counts(verdict(said, truth)) == (3, 0, 0, 0)
    truth = [CAT, Interval(25, 30, "dog")]
    found = verdict([(10, "cat"), (25.25, "dog"), (30, "")], truth)
    assert counts(found) == (3, 1, 0, 0)


def test_labels_that_come_and_go_by_themselves_end_by_themselves() -> None:
    truth = [CAT, Interval(15, 30, "dog")]
    said = [(10, "cat"), (15, "cat dog"), (20, "dog"), (30, "")]
    assert counts(verdict(said, truth, one=False)) == (4, 0, 0, 0)
    assert counts(verdict(said[:2], truth, one=False)) == (2, 2, 0, 0)
    assert counts(verdict([*said, (40, "cat dog")], truth, one=False)) == (4, 0, 2, 0)


def test_what_goes_on_in_the_next_interval_is_no_change() -> None:
    truth = [CAT, Interval(20, 25, "cat")]
    assert counts(verdict([(10, "cat"), (25, "")], truth)) == (2, 0, 0, 0)


def test_labels_that_do_not_matter_are_neither_true_nor_false() -> None:
    truth = [Interval(2, 4, "dog"), CAT]
    said = [(5, "cup"), (10, "cat"), (20, "cup"), (30, "")]
    assert counts(verdict(said, truth, labels=["cat"])) == (2, 0, 0, 0)
    assert counts(verdict(said, truth)) == (2, 2, 3, 0)


@pytest.mark.parametrize(("length_s", "ends"), [(20.0, 0), (20.4, 0), (21.0, 1)])
def test_what_is_there_when_the_recording_ends_has_no_end(length_s: float, ends: int) -> None:
    changes = true_changes([CAT], one_at_a_time=True, length_s=length_s)
    assert sum(change.counts for change in changes) == 1 + ends
    assert (
        judge({"c": [Said(10, ("cat",)), Said(20, ())]}, {"c": changes}, one_at_a_time=True).errors
        == 0
    )


def test_each_change_answers_one() -> None:
    truth = [Interval(10, 11, "cat"), Interval(11.5, 12.5, "cat")]
    found = verdict([(11.6, "cat"), (12.6, "")], truth, one=False)
    assert counts(found) == (2, 2, 0, 2)


def test_time_that_runs_back_is_judged_by_its_times() -> None:
    said = [(10, "cat"), (20.25, ""), (5, "cat"), (5.25, "")]
    assert counts(verdict(said, [CAT])) == (2, 0, 2, 0)
