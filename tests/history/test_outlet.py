"""The outlet into the history: what it is given is on disk, and the disk may fail."""

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from device import config
from device.errors import HistoryError
from device.history.reader import Reader, Selection
from device.history.writer import Writer
from device.sinks import history, history_is_on
from device.sinks.history import HistorySink
from tests.history.story import change, result
from tests.sinks.examples import device_health, observation

ALL = Selection(0, float("inf"))
PATIENCE_S = 20.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def labels(path: Path) -> list[str]:
    try:
        with Reader(path) as reader:
            return [one.label for one in reader.intervals(ALL, 100_000)][::-1]
    except HistoryError:  # it is being made
        return []


def test_changes_and_actions_are_on_disk_at_the_end(path: Path) -> None:
    sink = HistorySink(config.History(), path)
    now = time.monotonic()
    health = device_health()
    vitals = msgspec.structs.replace(health.vitals, clock_synced=True)
    sink.report(msgspec.structs.replace(health, vitals=vitals))
    sink.change(change(now, "cat"))
    sink.observe(observation("cat", 0.97, camera="door"))
    sink.acted(result(now))
    sink.close()
    with Reader(path) as reader:
        (one,) = reader.intervals(ALL, 9)
        (deed,) = reader.actions(ALL, 9)
    assert (one.camera, one.label, one.score, one.clock_set) == ("door", "cat", 0.97, True)
    assert abs(one.begin - time.time()) < 60
    assert one.end is not None
    assert (deed.action, deed.done) == ("lamp", True)


def test_a_storm_of_changes_is_one_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    original = Writer.write

    def write(self: Writer, happened: list[object], *rest: object, **more: object) -> None:
        written.append(len(happened))
        original(self, happened, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Writer, "write", write)
    sink = HistorySink(config.History(), path, commit_s=0.2)
    until(lambda: written)
    for number in range(500):
        sink.change(change(number, f"label {number}"))
    until(lambda: sum(written) == 500)
    sink.close()
    assert len(written) <= 20
    assert len(labels(path)) == 500


def test_it_is_on_under_the_service_and_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on(enabled: object) -> bool:
        return history_is_on(config.load(None, [f"history.enabled={enabled}"]))

    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert (on('"auto"'), on("true"), on("false")) == (False, True, False)
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert (on('"auto"'), on("true"), on("false")) == (True, True, False)


def test_a_file_that_is_damaged_while_it_runs_is_kept_aside(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sink = HistorySink(config.History(), path, commit_s=0.01)
    sink.change(change(1, "cat"))
    until(lambda: path.exists() and labels(path) == ["cat"])
    damage = sqlite3.DatabaseError("database disk image is malformed")
    damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    with pytest.MonkeyPatch.context() as patch:
        failures = [damage]
        original = Writer.write

        def write(self: Writer, *args: object, **more: object) -> None:
            if failures:
                raise failures.pop()
            original(self, *args, **more)  # type: ignore[arg-type]

        patch.setattr(Writer, "write", write)
        sink.change(change(2, "dog"))
        until(lambda: path.with_name("history.db.damaged").exists())
        until(lambda: path.exists() and labels(path) == ["dog"])
    sink.close()
    assert "a new one is begun" in caplog.text


def test_a_folder_that_cannot_be_had_is_said_once_and_tried_again(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(history, "RETRY_S", 0.02)
    path.parent.write_text("a file, where the folder should be")
    sink = HistorySink(config.History(), path, commit_s=0.01)
    sink.change(change(1, "cat"))
    until(lambda: sink.problem)
    assert "cannot be written" in sink.problem
    time.sleep(0.1)
    path.parent.unlink()
    until(lambda: not sink.problem)
    sink.close()
    assert labels(path) == ["cat"]
    assert caplog.text.count("cannot be written") == 1
    assert "is written again" in caplog.text


def test_what_waits_is_bounded_and_what_is_lost_is_told(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_WAITING", 100)
    path.parent.write_text("a file, where the folder should be")
    sink = HistorySink(config.History(), path)
    until(lambda: sink.problem)
    for number in range(150):
        sink.change(change(number, "cat"))
    sink.close()
    assert "150 entries are lost" in caplog.text


_FULL = """
import resource, sys, time
from pathlib import Path
from device import config
from device.sinks import history
from tests.history.story import change
history.RETRY_S = 0.05
limit = 300_000
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
sink = history.HistorySink(config.History(), path, commit_s=0.01)
number = 0
while not sink.problem:
    for _ in range(200):
        number += 1
        sink.change(change(number, f"label {number}"))
    time.sleep(0.02)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
while sink.problem:
    time.sleep(0.01)
sink.close()
print(number)
"""


@pytest.mark.slow
def test_a_full_disk_costs_nothing_but_time(path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(path)],
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    count = int(ended.stdout)
    assert ended.stderr.count("cannot be written") == 1
    assert labels(path) == [f"label {n + 1}" for n in range(count)]


_KILLED = """
import sys, time
from pathlib import Path
from device import config
from device.sinks.history import HistorySink
from tests.history.story import change
sink = HistorySink(config.History(), Path(sys.argv[1]), commit_s=0.02)
number = 0
while True:
    number += 1
    sink.change(change(number, f"label {number}"))
    time.sleep(0.001)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_killed_device_loses_the_last_seconds_at_most(path: Path) -> None:
    for round_ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", _KILLED, str(path)], stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            told = 0
            for line in child.stdout:
                told = int(line)
                if told >= 400 + 60 * round_:
                    break
            os.kill(child.pid, signal.SIGKILL)
        with sqlite3.connect(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            runs = db.execute("SELECT max(id) FROM runs").fetchone()[0]
            found = [
                row[0]
                for row in db.execute(
                    "SELECT label FROM intervals WHERE run = ? ORDER BY id", (runs,)
                )
            ]
        db.close()
        # What is there is whole and without a hole; a commit is 0.02 s here.
        assert found == [f"label {n + 1}" for n in range(len(found))]
        assert told - 200 <= len(found)


def test_readers_do_not_wait_for_the_writer_nor_it_for_them(path: Path) -> None:
    sink = HistorySink(config.History(), path, commit_s=0.001)
    until(path.exists)
    over = threading.Event()
    counts: list[int] = []

    def read() -> None:
        while not over.is_set():
            counts.append(len(labels(path)))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(300):
        sink.change(change(number, f"label {number}"))
        time.sleep(0.001)
    sink.close()
    over.set()
    thread.join()
    assert counts == sorted(counts)
    assert len(labels(path)) == 300
