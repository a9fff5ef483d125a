"""The history: what is written is read again, with the right times, whatever clock and disk do."""

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device import config
from device.errors import HistoryError
from device.events import OFF_DUTY, UNAVAILABLE
from device.history.hours import by_hour, day_after, day_of, hour_of
from device.history.reader import Deed, Gap, Reader, Selection
from tests.history.story import WALL, Story, change, result

ALL = Selection(0, math.inf)


@pytest.fixture(autouse=True)
def _in_greenwich(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield from in_zone(monkeypatch, "UTC")


def in_zone(monkeypatch: pytest.MonkeyPatch, zone: str) -> Iterator[None]:
    import time

    from device.history import hours

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    hours.forget()
    yield
    monkeypatch.undo()
    time.tzset()
    hours.forget()


@pytest.fixture
def story(tmp_path: Path) -> Story:
    made = Story(tmp_path / "history.db")
    made.start()
    return made


def told(story: Story) -> list[tuple[str, str, float, float | None]]:
    """Camera, label, and begin and end since the story's beginning, the earliest first."""
    with Reader(story.path) as reader:
        found = reader.intervals(ALL, 1000)[::-1]
    return [
        (
            one.camera,
            one.label,
            round(one.begin - WALL, 3),
            None if one.end is None else round(one.end - WALL, 3),
        )
        for one in found
    ]


def test_intervals_of_one_label_at_a_time(story: Story) -> None:
    story.tell(change(1, "cat"), change(3, "dog"), change(7), now=8)
    assert told(story) == [("door", "cat", 1, 3), ("door", "dog", 3, 7)]


def test_several_labels_come_and_go_by_themselves(story: Story) -> None:
    story.tell(change(1, "cat"), change(2, "cat", "dog"), change(4, "dog"), now=5)
    assert told(story) == [("door", "cat", 1, 4), ("door", "dog", 2, None)]


def test_cameras_and_regions_are_apart(story: Story) -> None:
    story.tell(change(1, "cat"), change(2, "cat", camera="gate/left"), change(3), now=4)
    assert told(story) == [("door", "cat", 1, 3), ("gate/left", "cat", 2, None)]
    with Reader(story.path) as reader:
        assert reader.names() == (["door", "gate/left"], ["cat"])
        assert len(reader.intervals(ALL._replace(camera="gate/left"), 9)) == 1
        assert reader.intervals(ALL._replace(label="dog"), 9) == []


def test_the_best_score_while_it_was(story: Story) -> None:
    story.tell(change(1, "cat"), now=2, scores={("door", "cat"): 0.8})
    story.tell(change(3), now=4, scores={("door", "cat"): 0.93})
    with Reader(story.path) as reader:
        (one,) = reader.intervals(ALL, 9)
    assert (one.score, one.model, one.clock_set) == (0.93, "model", True)


def test_absences_are_gaps_with_their_reason(story: Story) -> None:
    story.tell(
        change(1, "cat"),
        change(2, label=UNAVAILABLE),
        change(5, "cat"),
        change(6, label=OFF_DUTY),
        now=7,
    )
    assert told(story) == [("door", "cat", 1, 2), ("door", "cat", 5, 6)]
    with Reader(story.path) as reader:
        assert reader.gaps(ALL, 9) == [
            Gap("door", "off duty", WALL + 6, None),
            Gap("door", "camera lost", WALL + 2, WALL + 5),
        ]
        assert reader.names() == (["door"], ["cat"])


def test_what_actions_did(story: Story) -> None:
    story.tell(result(2), result(3, done=False, detail="no such pin"), now=4)
    with Reader(story.path) as reader:
        late, early = reader.actions(ALL, 9)
    assert early == Deed(WALL + 2, "lamp", "gpio", "door", "cat", on=True, done=True, detail="")
    assert (late.done, late.detail) == (False, "no such pin")


def test_a_stop_ends_what_is_in_force(story: Story) -> None:
    story.tell(change(1, "cat"), now=2)
    story.stop(5)
    assert told(story) == [("door", "cat", 1, 5)]


def test_what_a_power_cut_ended_ended_when_it_was_last_alive(story: Story) -> None:
    story.tell(change(1, "cat"), now=2)
    story.tell(now=40)
    story.lose_power()
    story.start(100)
    story.tell(change(101, "cat"), now=102)
    assert told(story) == [("door", "cat", 1, 40), ("door", "cat", 101, None)]
    with Reader(story.path) as reader:
        assert reader.gaps(ALL, 9) == [Gap(None, "not running", WALL + 40, WALL + 100)]


def test_a_restart_of_seconds_is_no_gap(story: Story) -> None:
    story.stop(10)
    story.start(14)
    with Reader(story.path) as reader:
        assert reader.gaps(ALL, 9) == []


def test_a_clock_that_is_set_corrects_what_was_seen_in_this_boot(story: Story) -> None:
    story.stop(0)
    story.boot, story.synced, story.wall_offset = "second", False, 1.0
    story.start(1000)
    story.tell(change(1001, "cat"), now=1002)
    story.wall_offset, story.synced = WALL + 3600, True
    story.tell(change(1010), now=1011)
    assert told(story) == [("door", "cat", 4601, 4610)]


@pytest.mark.parametrize("jump_s", [-366 * 86_400.0, 366 * 86_400.0])
def test_a_clock_that_jumps_a_year_makes_no_negative_interval(story: Story, jump_s: float) -> None:
    story.tell(change(1, "cat"), now=2)
    story.wall_offset += jump_s
    story.tell(change(5, "dog"), change(9), now=10)
    assert [(b, e) for _, _, b, e in told(story)] == [
        (1 + jump_s, 5 + jump_s),
        (5 + jump_s, 9 + jump_s),
    ]


def test_a_server_s_time_gives_way_to_no_guess(story: Story) -> None:
    story.synced, story.wall_offset = False, 7.0
    story.tell(change(1, "cat"), now=2)
    assert told(story) == [("door", "cat", 1, None)]


def test_time_that_stands_still_or_runs_back(story: Story) -> None:
    story.tell(change(5, "cat"), change(5, "dog"), change(2), now=6)
    assert told(story) == [("door", "cat", 5, 5), ("door", "dog", 5, 5)]


def test_of_a_failed_write_nothing_is_there_and_the_next_has_all(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    story.tell(change(1, "cat"), now=2)
    assert story.writer is not None
    monkeypatch.setattr(story.writer, "_act", lambda _: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(OSError, match="full"):
        story.tell(change(3, "dog"), result(4), now=5)
    monkeypatch.undo()
    assert told(story) == [("door", "cat", 1, None)]
    story.tell(change(3, "dog"), result(4), now=6)
    assert told(story) == [("door", "cat", 1, 3), ("door", "dog", 3, None)]


class TestTotals:
    def test_hours_days_and_all(self, story: Story) -> None:
        # From 10:30 to 12:10, and again for a minute at 13:00.
        story.tell(change(1800, "cat"), change(7800), now=7801)
        story.tell(change(10_800, "cat"), change(10_860), now=10_861)
        with Reader(story.path) as reader:
            hours = reader.totals(ALL, "hour", WALL + 20_000)
            (day,) = reader.totals(ALL, "day", WALL + 20_000)
            (whole,) = reader.totals(ALL, "all", WALL + 20_000)
        seen = [(round(t.at - WALL), t.seconds, t.times) for t in hours]
        assert seen == [(0, 1800, 1), (3600, 3600, 0), (7200, 600, 0), (10_800, 60, 1)]
        assert (day.at, day.seconds, day.times) == (WALL - 36_000, 6060, 2)
        assert (whole.seconds, whole.times) == (6060, 2)

    def test_what_is_in_force_lasts_until_now(self, story: Story) -> None:
        story.tell(change(60, "cat"), now=61)
        with Reader(story.path) as reader:
            (total,) = reader.totals(ALL, "all", WALL + 100)
        assert (total.seconds, total.times) == (40, 1)

    def test_only_what_lies_within_counts(self, story: Story) -> None:
        story.tell(change(60, "cat"), change(120), now=121)
        with Reader(story.path) as reader:
            (total,) = reader.totals(Selection(WALL + 90, WALL + 100), "all", WALL + 200)
            assert reader.totals(Selection(WALL + 120.5, math.inf), "all", WALL + 200) == []
        # It began before.
        assert (total.seconds, total.times) == (10, 0)


class TestLimits:
    @pytest.mark.slow
    def test_the_oldest_become_hours_where_the_file_is_too_large(self, tmp_path: Path) -> None:
        story = Story(tmp_path / "history.db", config.History(mb=1))
        story.start()
        count = 40_000
        for first in range(0, count, 1000):
            happened = [
                one
                for n in range(first, first + 1000)
                for one in (change(60 * n, "cat"), change(60 * n + 30))
            ]
            story.tell(*happened, now=60 * first)
        assert story.writer is not None
        assert story.writer.size_bytes > 1 << 20
        for _ in range(count // 1000):
            story.writer.trim(60 * count)
        assert story.writer.size_bytes <= 1 << 20
        story.stop(60 * count)
        assert story.path.stat().st_size <= 1 << 20
        with Reader(story.path) as reader:
            (total,) = reader.totals(ALL, "all", WALL + 60 * count)
            assert reader.begun() == WALL
        # Nothing of what it adds up to is lost.
        assert (total.seconds, total.times) == (30 * count, count)

    def test_what_is_older_than_its_days_goes(self, tmp_path: Path) -> None:
        story = Story(tmp_path / "history.db", config.History(days=2))
        story.start()
        story.tell(change(1, "cat"), result(2), change(3), change(200_000, "cat"), now=200_001)
        assert story.writer is not None
        story.writer.trim(200_001)
        assert told(story) == [("door", "cat", 200_000, None)]
        with Reader(story.path) as reader:
            assert reader.actions(ALL, 9) == []

    def test_starts_in_circles_leave_little(self, story: Story) -> None:
        for number in range(1, 1100):
            story.lose_power()
            story.start(number)
        assert story.writer is not None
        story.writer.trim(2000)
        story.stop(2000)
        with sqlite3.connect(story.path) as db:
            assert db.execute("SELECT count(*) FROM runs").fetchone() == (1001,)
        db.close()


class TestDamage:
    def test_a_damaged_file_is_kept_aside_and_a_new_one_begun(
        self, story: Story, caplog: pytest.LogCaptureFixture
    ) -> None:
        story.tell(*(change(n, f"label {n}" * 20) for n in range(400)), now=500)
        story.stop(501)
        data = bytearray(story.path.read_bytes())
        data[4096:12_288] = bytes(8192)
        story.path.write_bytes(data)
        story.start(600)
        story.tell(change(601, "cat"), now=602)
        assert told(story) == [("door", "cat", 601, None)]
        aside = story.path.with_name("history.db.damaged")
        assert aside.read_bytes()[4096:] == data[4096:]
        assert "is damaged" in caplog.text
        assert f"kept as {aside}, a new one is begun" in caplog.text

    def test_what_is_no_database_is_kept_aside(self, tmp_path: Path) -> None:
        story = Story(tmp_path / "history.db")
        story.path.write_text("a letter to my aunt, " * 100)
        story.start()
        assert story.path.with_name("history.db.damaged").read_text().startswith("a letter")

    def test_one_of_a_newer_version_is_left_alone(self, story: Story) -> None:
        story.stop(1)
        with sqlite3.connect(story.path) as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        with pytest.raises(sqlite3.OperationalError, match="newer labelcam"):
            story.start(2)
        with pytest.raises(HistoryError, match="another version"):
            Reader(story.path)

    def test_readers_say_what_is_wrong(self, tmp_path: Path) -> None:
        path = tmp_path / "history.db"
        with pytest.raises(HistoryError, match="is not there: nothing was seen yet"):
            Reader(path)
        path.write_text("a letter to my aunt, " * 100)
        with pytest.raises(HistoryError, match="is damaged"):
            Reader(path)


@given(st.floats(0, 4e9), st.floats(0, 200_000))
def test_hours_add_up_to_the_interval(begin: float, length: float) -> None:
    shares = list(by_hour(begin, begin + length))
    assert math.isclose(sum(share for _, share in shares), length, abs_tol=1e-3)
    assert [hour for hour, _ in shares] == sorted({hour for hour, _ in shares})
    assert all(share >= 0 for _, share in shares)


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"])
def test_hours_of_zones_between_the_hours(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    from datetime import datetime

    for _ in in_zone(monkeypatch, zone):
        local = datetime.fromtimestamp(hour_of(WALL + 1234))
        assert (local.minute, local.second) == (0, 0)
        assert 0 <= WALL + 1234 - hour_of(WALL + 1234) < 3600


def test_days_of_23_and_25_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in in_zone(monkeypatch, "Europe/Berlin"):
        spring = day_of(1_774_778_400.0)  # 2026-03-29, noon
        autumn = day_of(1_792_926_000.0)  # 2026-10-25, noon
        assert day_after(spring) - spring == 23 * 3600
        assert day_after(autumn) - autumn == 25 * 3600
