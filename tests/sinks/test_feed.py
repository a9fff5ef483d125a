"""The feed: what programs get, those that do not read, and the socket's file."""

import json
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from device import config
from device.errors import ConfigError, SinkError
from device.sinks import feed
from device.sinks.feed import MAX_CLIENTS, FeedSink, socket_path
from device.sinks.jsonl import JsonlSink
from device.sinks.outlet import Outlet
from tests.sinks.examples import change, device_health, observation

LIMIT_S = 10.0


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[FeedSink]:
    made = FeedSink(tmp_path / "s", ["camera", "door"], wall_clock=lambda: 1_767_323_045.678)
    yield made
    made.close()


class Program:
    """A program that has connected."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(LIMIT_S)
        self.socket.connect(str(path))
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def lines(self, count: int) -> list[dict[str, Any]]:
        return [json.loads(self.file.readline()) for _ in range(count)]


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_program_gets_the_state_of_each_camera_and_then_each_change(
    sink: FeedSink, tmp_path: Path
) -> None:
    sink.change(change(camera="door", label="cat"))
    with Program(tmp_path / "s") as program:
        first = program.lines(2)
        assert [(line["camera"], line["label"], line["active"]) for line in first] == [
            ("camera", "", []),
            ("door", "cat", ["cat"]),
        ]
        sink.change(change(label="dog"))
        assert program.lines(1)[0]["label"] == "dog"


def test_a_line_is_as_jsonl_writes_it(
    sink: FeedSink, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    label = 'café "noir"\n猫'
    with Program(tmp_path / "s") as program:
        program.lines(2)
        sink.change(change(label=label))
        JsonlSink(wall_clock=lambda: 1_767_323_045.678).change(change(label=label))
        assert program.file.readline() == capfdbinary.readouterr().out


def test_a_program_that_does_not_read_is_let_go_and_the_others_miss_nothing(
    sink: FeedSink, tmp_path: Path
) -> None:
    with Program(tmp_path / "s") as slow, Program(tmp_path / "s") as quick:
        slow.lines(2)
        quick.lines(2)
        for number in range(1000):
            sink.change(change(label=f"{number} {'x' * 1000}"))
            assert quick.lines(1)[0]["label"].startswith(f"{number} ")
        assert len(sink._clients) == 1
        # What it has not read is there still, in whole lines but the last, and then the end.
        read = slow.file.read()
        assert b'"label":"0 xxx' in read
        assert len(read) < 1 << 20


def test_one_that_goes_is_forgotten_without_a_change(sink: FeedSink, tmp_path: Path) -> None:
    with Program(tmp_path / "s") as program:
        program.lines(2)
        assert len(sink._clients) == 1
    wait_for(lambda: not sink._clients)


def test_one_that_says_it_will_write_no_more_still_reads(sink: FeedSink, tmp_path: Path) -> None:
    with Program(tmp_path / "s") as program:
        program.socket.sendall(b"whatever it says is not read")
        program.socket.shutdown(socket.SHUT_WR)
        program.lines(2)
        sink.change(change(label="dog"))
        assert program.lines(1)[0]["label"] == "dog"


def test_more_than_so_many_are_not_let_in(
    sink: FeedSink, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    programs = [Program(tmp_path / "s") for _ in range(MAX_CLIENTS)]
    for program in programs:
        program.lines(2)
    for _ in range(2):
        with Program(tmp_path / "s") as late:
            assert late.file.read() == b""
    assert [r.message for r in caplog.records] == ["feed: more than 32 programs; none is let in"]
    for program in programs:
        program.__exit__()
    wait_for(lambda: not sink._clients)
    with Program(tmp_path / "s") as program:
        program.lines(2)


def test_a_heartbeat_says_each_state_again(tmp_path: Path) -> None:
    sink = FeedSink(tmp_path / "s", ["camera", "door"], heartbeat_s=60.0)
    try:
        with Program(tmp_path / "s") as program:
            program.lines(2)
            sink.change(change(label="dog"))
            sink.observe(observation())
            sink.report(device_health())
            sink.change(change(label="cow"))
            lines = program.lines(4)
            assert [line["label"] for line in lines] == ["dog", "dog", "", "cow"]
            assert lines[0] == lines[1]
    finally:
        sink.close()


def test_without_one_only_changes_are_sent(sink: FeedSink, tmp_path: Path) -> None:
    with Program(tmp_path / "s") as program:
        program.lines(2)
        sink.observe(observation())
        sink.report(device_health())
        sink.change(change(label="cow"))
        assert program.lines(1)[0]["label"] == "cow"


def test_the_socket_is_for_its_owner_and_group_and_goes_with_the_sink(
    sink: FeedSink, tmp_path: Path
) -> None:
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o660
    with Program(tmp_path / "s") as program:
        program.lines(2)
        sink.close()
        sink.close()
        assert program.file.read() == b""
    assert not (tmp_path / "s").exists()
    assert not any(thread.name == "labelcam-feed" for thread in threading.enumerate())


def test_a_socket_that_a_dead_process_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "s"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
    sink = FeedSink(path, ["camera"])
    with Program(path) as program:
        program.lines(1)
    sink.close()


def test_one_that_another_serves_is_left_alone(sink: FeedSink, tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="another program serves it; give another path"):
        FeedSink(tmp_path / "s", ["camera"])
    with Program(tmp_path / "s") as program:
        program.lines(2)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("precious")
    with pytest.raises(SinkError, match="is there and is no socket"):
        FeedSink(tmp_path / "s", ["camera"])
    assert (tmp_path / "s").read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match=r"feed: .*: not a directory"):
        FeedSink(tmp_path / "file" / "folder" / "s", ["camera"])


def test_the_device_goes_on_without_it(tmp_path: Path) -> None:
    (tmp_path / "s").touch()
    outlet = Outlet(lambda: FeedSink(tmp_path / "s", ["camera"]), spare="feed")
    assert "is no socket" in outlet.look().problem


def test_its_path_is_in_the_runtime_directory_and_not_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/labelcam")
    assert socket_path(config.Feed()) == Path("/run/labelcam/labels.sock")
    assert socket_path(config.Feed(path="/tmp/x")) == Path("/tmp/x")
    longest = "/" + "x" * 106
    assert socket_path(config.Feed(path=longest)) == Path(longest)
    with pytest.raises(ConfigError, match="has 108 bytes, and a socket's path 107 at most"):
        socket_path(config.Feed(path=longest + "x"))
    with pytest.raises(ConfigError, match="has 108 bytes"):
        socket_path(config.Feed(path="/" + "é" * 53 + "x"))
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(ConfigError, match="there is no runtime directory here"):
        feed.check_settings(config.Config(feed=config.Feed(enabled=True)))


def test_it_leaves_no_descriptor_behind(tmp_path: Path) -> None:
    def count() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = count()
    for _ in range(3):
        sink = FeedSink(tmp_path / "s", ["camera"])
        with Program(tmp_path / "s") as program:
            program.lines(1)
            sink.close()
    assert count() == before
