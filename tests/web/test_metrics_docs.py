"""docs/metrics.md and docs/grafana.json against what the device tells."""

import json
import re
from pathlib import Path

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from device.events import Accelerator, SinkHealth
from device.health.vitals import Board
from device.sinks.web.metrics import Metrics
from tests.sinks.examples import beside, camera_health, change, device_health, observation

DOCS = Path(__file__).parent.parent.parent / "docs"


class _Web:
    watchers, encoded, refused = 1, 2, {421: 3}


def told() -> set[str]:
    """Every name that can stand at the beginning of a sample, on a board that has everything."""
    board = msgspec.structs.replace(
        Board().read(), temperature_c=40.0, throttling=(), disk_mb=1.0, wifi_dbm=-50.0,
        clock_synced=True,
    )  # fmt: skip
    metrics = Metrics()
    metrics.web = _Web()
    metrics.observe(observation())
    metrics.change(change())
    everything = {
        "sinks": (SinkHealth("mqtt"),),
        "accelerator": Accelerator(True, 1, 2, ""),
        "vitals": board,
    }
    health = device_health(camera_health(beside=(beside(),)))
    metrics.report(msgspec.structs.replace(health, **everything))
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {sample.name for family in families for sample in family.samples}


def test_every_metric_is_documented_and_no_other() -> None:
    rows = re.findall(r"^\| `(labelcam_\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE)
    names = {
        re.sub(r"_(bucket|count|sum|created)$", "", name)
        for name in told()
        if "process" not in name
    }
    assert sorted(names) == sorted(rows)


def test_the_dashboard_asks_for_what_there_is() -> None:
    dashboard = json.loads((DOCS / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"(?<![\"{ ])\b(?:labelcam|process)_\w+(?=\{)", target["expr"])
    }
    assert len(asked) > 10
    assert asked <= told()
