"""The outbox: nothing lost, in order, bounded, and no more writes than that takes."""

import contextlib
import itertools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device.sinks import outbox
from device.sinks.outbox import Limits, Outbox, Stored
from device.sinks.outbox.storage import Event

WIDE = Limits(events=1_000_000, size_bytes=1 << 30, age_s=1e9)


class Clock:
    """Seconds since boot, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Disk:
    """Opens databases that can be made to fail; ``connection`` is the one it opened last."""

    connection: sqlite3.Connection

    def __init__(self) -> None:
        self.error = ""
        self.opened = 0

    def connect(self, path: Path, **options: Any) -> sqlite3.Connection:
        disk = self
        if self.error:
            raise sqlite3.OperationalError(self.error)
        self.opened += 1

        class Failing(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                if disk.error and not sql.startswith("SELECT"):
                    raise sqlite3.OperationalError(disk.error)
                return super().execute(sql, *args)

        self.connection = sqlite3.connect(path, factory=Failing, **options)
        return self.connection


_number = itertools.count()


def event(camera: str = "door", label: str = "cat") -> Event:
    return Event(
        id=f"id-{next(_number)}",
        camera=camera,
        at="2026-01-02T03:04:05.678Z",
        clock_synced=True,
        label=label,
        score=0.9,
        previous=None,
        held_s=1.0,
        model="m",
    )


def labels(stored: list[Stored]) -> list[str]:
    return [row.event.label for row in stored]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "outbox.db"


def test_events_come_back_in_order_with_their_numbers(path: Path) -> None:
    box = Outbox(path, WIDE)
    taken = box.add([event("door", "a"), event("yard", "b"), event("door", "c")])
    assert [(e.camera, e.seq) for e in taken] == [("door", 1), ("yard", 1), ("door", 2)]
    assert labels(box.pending(0, 10)) == ["a", "b", "c"]
    assert labels(box.pending(0, 2)) == ["a", "b"]
    assert labels(box.pending(box.pending(0, 1)[0].number, 10)) == ["b", "c"]
    assert len(box) == 3
    box.close()
    box.close()


def test_what_was_acknowledged_is_gone_and_what_was_not_stays(path: Path) -> None:
    box = Outbox(path, WIDE)
    box.add([event(label=label) for label in "abc"])
    box.acknowledge(box.pending(0, 2)[1].number)
    assert (labels(box.pending(0, 9)), len(box)) == (["c"], 1)
    box.close()
    again = Outbox(path, WIDE)
    assert (labels(again.pending(0, 9)), len(again)) == (["c"], 1)
    assert again.size_bytes > 0
    again.close()


def test_sequence_numbers_survive_an_empty_outbox_and_a_restart(path: Path) -> None:
    for expected in (1, 2, 3):
        box = Outbox(path, WIDE)
        (taken,) = box.add([event()])
        assert taken.seq == expected
        box.acknowledge(box.newest)
        box.close()


def test_sequence_numbers_of_what_no_disk_took_are_not_given_again(path: Path) -> None:
    disk, clock = Disk(), Clock()
    box = Outbox(path, WIDE, clock=clock, connect=disk.connect)
    disk.error = "database or disk is full"
    box.add([event()])
    box.acknowledge(box.newest)
    disk.error = ""
    clock.now += outbox.RETRY_S
    box.tick()
    box.close()
    with contextlib.closing(Outbox(path, WIDE)) as box:
        assert [taken.seq for taken in box.add([event()])] == [2]


@pytest.mark.slow
def test_a_killed_process_loses_nothing_that_was_taken(path: Path) -> None:
    script = f"""
        from pathlib import Path
        from device.sinks.outbox import Limits, Outbox
        from tests.mqtt.test_outbox import event
        box = Outbox(Path({str(path)!r}), Limits(10**6, 10**9, 1e9))
        for number in range(10**6):
            box.add([event(label=str(number))])
            print(number, flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
    )
    assert process.stdout is not None
    made = [process.stdout.readline().strip() for _ in range(50)]
    os.kill(process.pid, signal.SIGKILL)
    made += process.stdout.read().split()
    process.wait()
    process.stdout.close()
    box = Outbox(path, WIDE)
    found = labels(box.pending(0, 10**6))
    box.close()
    # It may have been killed between taking the last one and saying so.
    assert found[: len(made)] == made
    assert len(found) - len(made) <= 1


def test_an_acknowledgement_costs_no_write_of_its_own_while_events_follow(path: Path) -> None:
    clock = Clock()
    box = Outbox(path, WIDE, clock=clock)
    wal = path.with_name(path.name + "-wal")
    box.add([event()])
    size = wal.stat().st_size
    box.acknowledge(box.newest)
    box.tick()
    assert wal.stat().st_size == size
    before = size
    for _ in range(10):
        box.add([event()])
        box.acknowledge(box.newest)
    # One page of 1024 bytes and its head of 24 for each event, its predecessor's end included.
    assert wal.stat().st_size - before == 10 * (1024 + 24)
    size = wal.stat().st_size
    clock.now += outbox.TRIM_S
    box.tick()
    assert wal.stat().st_size > size
    box.close()


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (Limits(events=3, size_bytes=1 << 30, age_s=1e9), ["c", "d", "e"]),
        (Limits(events=99, size_bytes=400, age_s=1e9), ["d", "e"]),
    ],
)
def test_the_oldest_goes_first_and_is_counted(
    path: Path, limits: Limits, kept: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(path, limits)
    for label in "abcde":
        box.add([event(label=label)])
    assert labels(box.pending(0, 9)) == kept
    assert (len(box), box.dropped) == (len(kept), 5 - len(kept))
    assert box.size_bytes <= limits.size_bytes
    assert [r.getMessage() for r in caplog.records] == [
        "outbox: full; the oldest events are dropped and counted"
    ]
    box.close()


def test_age_is_by_the_clock_of_the_boot_and_not_by_the_wall_clock(path: Path) -> None:
    clock = Clock()
    box = Outbox(path, WIDE._replace(age_s=60), boot="one", clock=clock)
    box.add([event(label="old")])
    clock.now += 61
    box.add([event(label="new")])
    assert (labels(box.pending(0, 9)), box.dropped) == (["new"], 1)
    box.close()
    # After the next boot it is as old as the run that found it.
    later = Clock()
    later.now = 5.0
    box = Outbox(path, WIDE._replace(age_s=60), boot="two", clock=later)
    assert box.pending(0, 9)[0].since is None
    later.now += 59
    box.add([event(label="newer")])
    assert labels(box.pending(0, 9)) == ["new", "newer"]
    later.now += 2
    box.add([event(label="newest")])
    assert labels(box.pending(0, 9)) == ["newer", "newest"]
    box.close()


def test_a_full_disk_is_borne_in_memory_and_made_good(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    disk, clock = Disk(), Clock()
    box = Outbox(path, WIDE, clock=clock, connect=disk.connect)
    box.add([event(label="a")])
    disk.error = "database or disk is full"
    box.add([event(label="b")])
    box.add([event(label="c")])
    assert box.trouble == "database or disk is full"
    assert labels(box.pending(0, 9)) == ["a", "b", "c"]
    box.acknowledge(box.pending(0, 9)[1].number)
    assert (labels(box.pending(0, 9)), len(box)) == (["c"], 1)
    disk.error = ""
    box.tick()
    assert box.trouble
    clock.now += outbox.RETRY_S
    box.tick()
    assert box.trouble == ""
    box.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"outbox: {path} cannot be written (database or disk is full); "
        f"going on in memory with at most {outbox.MEMORY_EVENTS} events",
        f"outbox: {path} is written again",
    ]
    again = Outbox(path, WIDE)
    (left,) = again.pending(0, 9)
    assert (left.event.label, left.event.seq) == ("c", 3)
    again.close()


def test_memory_is_bounded_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "MEMORY_EVENTS", 2)
    disk = Disk()
    box = Outbox(path, WIDE, connect=disk.connect)
    box.add([event(label="on disk")])
    disk.error = "disk I/O error"
    box.add([event(label=label) for label in "abc"])
    assert labels(box.pending(0, 9)) == ["on disk", "b", "c"]
    assert (len(box), box.dropped) == (3, 1)
    box.close()


def test_a_file_that_opens_late_loses_none_of_what_is_in_it(path: Path) -> None:
    box = Outbox(path, WIDE)
    box.add([event(label="a"), event(label="b")])
    box.close()
    disk, clock = Disk(), Clock()
    disk.error = "unable to open database file"
    box = Outbox(path, WIDE, clock=clock, connect=disk.connect)
    box.add([event(label="x")])
    box.acknowledge(box.newest)
    box.add([event(label="y")])
    disk.error = ""
    clock.now += outbox.RETRY_S
    box.tick()
    assert labels(box.pending(0, 9)) == ["y", "a", "b"]
    (taken,) = box.add([event(label="z")])
    assert labels(box.pending(0, 9)) == ["y", "a", "b", "z"]
    assert taken.seq == 3
    box.acknowledge(box.newest)
    box.close()
    again = Outbox(path, WIDE)
    assert len(again) == 0
    assert again.add([event()])[0].seq == 4
    again.close()


def test_a_place_that_can_never_be_written_is_reported_and_borne() -> None:
    box = Outbox(Path("/proc/nowhere/outbox.db"), WIDE)
    box.add([event(label="a")])
    assert box.trouble == "No such file or directory"
    assert labels(box.pending(0, 9)) == ["a"]
    box.close()


@pytest.mark.parametrize("damage", ["text", "middle", "head"])
def test_a_broken_file_is_set_aside_and_named(
    path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    box = Outbox(path, WIDE)
    for _ in range(30):
        box.add([event() for _ in range(10)])
    box.close()
    data = bytearray(path.read_bytes())
    if damage == "text":
        data[:] = b"this is no database, whatever its name says" * 100
    elif damage == "middle":
        data[4096:8192] = b"\xa5" * 4096
    else:
        data[20:60] = b"\xff" * 40
    path.write_bytes(data)
    box = Outbox(path, WIDE)
    box.add([event(label="new")])
    assert labels(box.pending(0, 9)) == ["new"]
    assert box.trouble == ""
    box.close()
    (aside,) = path.parent.glob("outbox.db.broken-*")
    assert aside.read_bytes() == bytes(data)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert f"{path} is broken" in said
    assert f"set aside as {aside.name}" in said


def test_two_nodes_never_share_an_outbox(path: Path) -> None:
    first = Outbox(path, WIDE)
    first.add([event(label="first's")])
    second = Outbox(path, WIDE)
    second.add([event(label="second's")])
    assert second.trouble == "another labelcam uses it"
    assert labels(first.pending(0, 9)) == ["first's"]
    first.close()
    second.close()


def test_an_outbox_of_a_newer_version_is_left_alone(path: Path) -> None:
    Outbox(path, WIDE).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    box = Outbox(path, WIDE)
    assert box.trouble == "it is of a newer labelcam (schema 99)"
    box.close()


Step = Callable[[], None]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 5)),
            st.tuples(st.just("settle"), st.integers(0, 6)),
            st.tuples(st.sampled_from(["close", "kill", "break", "mend"]), st.just(0)),
        ),
        max_size=30,
    )
)
@pytest.mark.slow
def test_whatever_happens_nothing_is_lost_or_out_of_order(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("outbox") / "outbox.db"
    disk, clock = Disk(), Clock()
    box = Outbox(path, WIDE, clock=clock, connect=disk.connect)
    made: list[str] = []
    settled = 0
    for what, number in steps:
        if what == "add":
            made += [taken.id for taken in box.add([event() for _ in range(number)])]
        elif what == "settle":
            rows = box.pending(0, number)
            if rows:
                box.acknowledge(rows[-1].number)
                settled = made.index(rows[-1].event.id) + 1
        elif what == "break":
            disk.error = "database or disk is full"
        elif what == "mend":
            disk.error = ""
            clock.now += outbox.RETRY_S
            box.tick()
        elif not disk.error:
            clock.now += outbox.RETRY_S
            box.tick()
            # Killed: the descriptor goes, and nothing that was not written is written.
            box.close() if what == "close" else disk.connection.close()
            box = Outbox(path, WIDE, clock=clock, connect=disk.connect)
        found = [row.event.id for row in box.pending(0, 10**6)]
        # What was acknowledged may be sent again after a kill; nothing else may be missing.
        assert found == made[len(made) - len(found) :]
        assert len(found) >= len(made) - settled
        assert len(box) == len(found)
        if what != "kill":
            settled = max(settled, len(made) - len(found))
    assert [row.event.seq for row in box.pending(0, 10**6)] == list(
        range(len(made) - len(box) + 1, len(made) + 1)
    )
    disk.error = ""
    box.close()
