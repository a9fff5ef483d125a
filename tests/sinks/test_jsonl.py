"""JSON lines: exact text, flushed a line at a time, and a reader that goes away."""

import io
import json
import os
from typing import Any

import pytest

from device.errors import OutputClosed, SinkError
from device.sinks.jsonl import JsonlSink
from tests.sinks.examples import change


def written(encoding: str = "utf-8", at: float = 1_767_323_045.678, **different: Any) -> bytes:
    """What one change, with these differences from the usual one, puts on the stream."""
    out = io.BytesIO()
    file = io.TextIOWrapper(out, encoding=encoding)
    sink = JsonlSink(file, wall_clock=lambda: at)
    sink.change(change(**different))
    sink.close()
    return out.getvalue()


def test_a_change_is_one_line_of_json() -> None:
    assert written(score=0.931234567, held_s=2.1000004) == (
        b'{"camera":"camera","label":"espresso","score":0.9312,"previous":"unknown",'
        b'"held_s":2.1,"model":"efficientnet-lite0-224-int8","at":"2026-01-02T03:04:05.678Z",'
        b'"on":true,"active":["espresso"]}\n'
    )


def test_the_first_change_has_no_previous() -> None:
    assert json.loads(written(previous=None))["previous"] is None


def test_whole_seconds_have_milliseconds_too() -> None:
    assert json.loads(written(at=0.0))["at"] == "1970-01-01T00:00:00.000Z"


def test_labels_are_utf_8_whatever_the_stream_encodes() -> None:
    label = 'café "noir"\n猫'
    line = written(encoding="ascii", label=label)
    assert line.count(b"\n") == 1
    assert json.loads(line.decode("utf-8"))["label"] == label


def test_without_a_stream_it_writes_to_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    JsonlSink().change(change())
    assert json.loads(capfdbinary.readouterr().out)["label"] == "espresso"


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        with pytest.raises(OutputClosed, match="was closed by its reader") as caught:
            JsonlSink(file).change(change())
        assert isinstance(caught.value, SinkError)
        # Closing the file flushes what is left in it; that must not raise again.
