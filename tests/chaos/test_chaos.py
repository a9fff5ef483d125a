"""The chaos test itself: that it counts right, and a short run of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import Received, count
from tests.mqtt.mosquitto import MISSING, PROGRAM

NOTHING = {
    "sent": 0, "received": 0, "lost": 0, "out_of_order": 0,
    "duplicates_same_id": 0, "duplicates_other_id": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("made", "received", "expected"),
    [
        ({}, [], {}),
        ({"a": 1, "b": 2}, [("a", 1), ("b", 2)], {"sent": 2, "received": 2}),
        ({"a": 1}, [("a", 1), ("b", 2)], {"sent": 2, "received": 2}),
        ({"a": 1, "b": 2}, [("a", 1)], {"sent": 2, "received": 1, "lost": 1}),
        ({"a": 1, "c": 3}, [("a", 1), ("c", 3)], {"sent": 2, "received": 2, "lost": 1}),
        ({"a": 1, "b": 2}, [("b", 2), ("a", 1)], {"sent": 2, "received": 2, "out_of_order": 1}),
        (
            {"a": 1, "b": 2},
            [("a", 1), ("b", 2), ("a", 1), ("b", 2)],
            {"sent": 2, "received": 2, "duplicates_same_id": 2},
        ),
        ({"a": 1}, [("a", 1), ("x", 1)], {"sent": 2, "received": 2, "duplicates_other_id": 1}),
    ],
)
def test_what_is_counted(
    made: dict[str, int], received: list[tuple[str, int]], expected: dict[str, int]
) -> None:
    assert count(made, [Received(*pair) for pair in received]) == NOTHING | expected


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.skipif(not PROGRAM, reason=MISSING)
def test_a_short_run_loses_nothing() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--broker-kills", "3", "--node-kills", "3", "--json"],
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["sent"] > 50
    assert found["received"] == found["sent"]
    assert found | {"sent": 0, "received": 0, "duplicates_same_id": 0} == NOTHING
