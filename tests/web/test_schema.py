"""The API against its own description: no answer that it does not tell of, and no fault."""

from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from device import config
from device.sinks.captions import moment
from device.sinks.ring import open_ring
from device.sinks.web import token as web_token
from device.sinks.web.access import Tries
from device.sinks.web.app import WebApp
from device.sinks.web.metrics import Metrics
from device.sinks.web.state import WebState
from tests.sinks.examples import camera_health, change, device_health, observation
from tests.web.conftest import CONTROLS, FakeDevice

# They answer without end.
ENDLESS = {"/api/events", "/api/video.mjpg"}
FEW = settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[WebApp, str]:
    """The application without its server, and the token that it asks for."""
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    # Each answer is asked for with a wrong token as well: never one too many here.
    monkeypatch.setattr(Tries, "BURST", 10_000)
    # The name by which a test client calls what it tests.
    web = config.Web(hosts=("testserver",))
    board = WebState(web, [config.Camera()], token=True)
    board.observe(observation())
    board.change(change())
    board.report(device_health(camera_health(controls=CONTROLS)))
    token = web_token.make(tmp_path / "token")
    known = web_token.read(tmp_path / "token")
    ring = open_ring(config.Snapshots(), tmp_path)
    ring.add(b"\xff\xd8\xff\xd9", "camera", "espresso", 0.9, moment(0.0))
    return WebApp(web, board, Metrics(), FakeDevice(), known, config.Teach(), ring), token


@pytest.mark.slow
def test_the_api_is_as_described(app: tuple[WebApp, str]) -> None:
    headers = {"Authorization": f"Bearer {app[1]}"}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app[0].gate, headers=headers)
    asked = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        if operation.path in ENDLESS:
            continue
        # Of the others nothing can be asked wrongly.
        wrongly = [GenerationMode.NEGATIVE] if operation.body else []
        for mode in [GenerationMode.POSITIVE, *wrongly]:

            @FEW
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: schemathesis.Case[Any]) -> None:
                # What value goes with a key is more than the description tells: 422 says it.
                case.call_and_validate(
                    headers=headers, excluded_checks=[checks.positive_data_acceptance]
                )

            check()
            asked.add((operation.method, operation.path))
    assert len(asked) == 17
