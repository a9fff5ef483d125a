"""A bit that a card forgot: one row is set aside, and everything else is delivered."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest

from tests.mqtt.conftest import Listener, Rig, unique_labels
from tests.mqtt.mosquitto import Mosquitto

# What the outbox of before 0.2.0 was.
OLD_FORM = (
    "CREATE TABLE events (number INTEGER PRIMARY KEY, camera TEXT NOT NULL, "
    "seq INTEGER NOT NULL, body BLOB, boot TEXT NOT NULL, since REAL NOT NULL)"
)
DAMAGES = {
    "a changed byte of the body": "body = CAST(substr(body, 1, length(body) - 1) || '?' AS BLOB)",
    "another label": "body = CAST(replace(CAST(body AS TEXT), '\"2\"', '\"X\"') AS BLOB)",
    "a body that is none": "body = 7",
    "no body": "body = NULL",
    "a seq that is text": "seq = 'three'",
    "a seq that is huge": "seq = 9223372036854775807",
    "a seq that is a fraction": "seq = 2.5",
    "a byte that is not UTF-8": "camera = CAST(X'63ff' AS TEXT)",
    "a boot that is not UTF-8": "boot = CAST(X'ff' AS TEXT)",
    "an age that is text": "since = 'long ago'",
    "a number that is huge": "number = 9223372036854775807",
}


def leave_events(rig: Rig, listener: Listener, broker: Mosquitto) -> Path:
    """Make ten label changes with no broker, and end; returns the outbox's file."""
    listener.subscribed.clear()
    broker.kill()
    rig.open()
    for number in range(10):
        rig.change(str(number))
    rig.close()
    return rig.state / "outbox.db"


def change_file(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def make_old(path: Path) -> None:
    """Turn the file into one of the old form."""
    columns = "number, camera, seq, body, boot, since"
    change_file(
        path,
        "ALTER TABLE events RENAME TO new",
        OLD_FORM,
        f"INSERT INTO events SELECT {columns} FROM new",
        "DROP TABLE new",
        "PRAGMA user_version = 1",
    )


def expect_the_rest(
    rig: Rig, listener: Listener, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    """All but the third event arrive, and the one that is missing is counted and named."""
    broker.start()
    rig.open()
    rig.report()
    rig.change("10")
    left = [label for label in rig.made if label != "2"]
    listener.wait(lambda: unique_labels(listener) == left)
    seqs = [message.json["seq"] for message in listener.of("/event")]
    assert seqs == [1, 2, *range(4, 12)]
    rig.report(interval_s=61.0)
    listener.wait(lambda: listener.of("/health")[-1].json["outbox"]["damaged"] == 1)
    assert listener.of("/health")[-1].json["outbox"]["dropped"] == 0
    said = f"outbox: damaged rows in {rig.state / 'outbox.db'}: 1; set aside in outbox.db.damaged"
    assert caplog.text.count(said) == 1
    (line,) = (rig.state / "outbox.db.damaged").read_text().splitlines()
    assert len(json.loads(line)) == 7
    listener.wait(lambda: rig.stored == 0)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_row_is_set_aside_and_the_rest_delivered(
    rig: Rig,
    listener: Listener,
    broker: Mosquitto,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    path = leave_events(rig, listener, broker)
    change_file(path, f"UPDATE events SET {damage} WHERE number = 3")
    expect_the_rest(rig, listener, broker, caplog)


@pytest.mark.parametrize(
    "damage",
    [damage for name, damage in DAMAGES.items() if "seq" in name or "camera" in damage]
    + [DAMAGES["a changed byte of the body"]],
)
def test_a_damaged_row_of_the_old_form_is_set_aside_too(
    rig: Rig,
    listener: Listener,
    broker: Mosquitto,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    path = leave_events(rig, listener, broker)
    make_old(path)
    change_file(path, f"UPDATE events SET {damage} WHERE number = 3")
    expect_the_rest(rig, listener, broker, caplog)


def test_an_outbox_of_the_old_form_goes_on(
    rig: Rig, listener: Listener, broker: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    make_old(leave_events(rig, listener, broker))
    broker.start()
    rig.open()
    rig.report()
    listener.wait(lambda: unique_labels(listener) == rig.made)
    rig.close()
    # Empty but for the row that carries the sequence number on.
    make_old(rig.state / "outbox.db")
    rig.open()
    rig.report()
    rig.change("10")
    listener.wait(lambda: unique_labels(listener) == rig.made)
    assert [message.json["seq"] for message in listener.of("/event")] == list(range(1, 12))
    assert "damaged" not in caplog.text


def test_the_newest_row_leaves_a_gap_in_the_numbers(
    rig: Rig, listener: Listener, broker: Mosquitto
) -> None:
    path = leave_events(rig, listener, broker)
    change_file(path, "UPDATE events SET body = X'00' WHERE number = 10")
    broker.start()
    rig.open()
    rig.report()
    rig.change("10")
    listener.wait(lambda: unique_labels(listener) == [*"012345678", "10"])
    assert [message.json["seq"] for message in listener.of("/event")] == [*range(1, 10), 11]
