"""Signals: flags that are set by handlers, however many come and wherever they meet the loop."""

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from device import config
from device.events import DeviceHealth, LabelChange, Observation, Sink
from device.node import Node
from device.system.signals import Signals

STARTS = 200
END_S = 10.0


def test_each_signal_sets_its_flag_and_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    for number, stop, reload in (
        (signal.SIGINT, True, False),
        (signal.SIGTERM, True, False),
        (signal.SIGHUP, False, True),
    ):
        with Signals(reloads=True) as signals:
            signal.raise_signal(number)
            assert (signals.stop, signals.reload) == (stop, reload)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT])
def test_what_the_terminal_sends_stops_unless_it_is_ignored(number: signal.Signals) -> None:
    # Whoever runs the tests may have had it ignored, as nohup does.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with Signals(reloads=False) as signals:
            signal.raise_signal(number)
            assert (signals.stop, signals.reload) == (True, False)
        signal.signal(number, signal.SIG_IGN)
        with Signals(reloads=False) as signals:
            signal.raise_signal(number)
            assert not signals.stop
    finally:
        signal.signal(number, before)


class _Ready(Sink):
    """Tells the parent, through a pipe, that frames are being classified."""

    name = "ready"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def observe(self, _observation: Observation) -> None:
        if self._descriptor >= 0:
            os.write(self._descriptor, b"x")
            self._descriptor = -1

    def change(self, change: LabelChange, *_: object) -> None: ...

    def report(self, health: DeviceHealth) -> None: ...

    def close(self) -> None: ...


def _start(settings: config.Config) -> int:
    """A node in a child of this process; its id, once it classifies."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os._exit(Node(settings, sinks=(lambda: _Ready(writer),)).run())
        finally:
            os._exit(70)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    return child


def _status(child: int) -> int | None:
    """The child's exit code, None where it has not ended in time and was killed."""
    deadline = time.monotonic() + END_S
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_no_storm_of_signals_keeps_the_node_from_ending(
    colours: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = config.Config(
        camera=(config.Camera(source="synthetic", fps=100, width=64, height=48),),
        model=config.Model(name=str(colours()), delegate="none", threads=1),
        terminal=config.Terminal(enabled=False),
    )
    chance = random.Random(4)
    codes = []
    for _ in range(STARTS):
        child = _start(settings)
        for _ in range(60):
            # From signals on end to far more than a frame takes, so that they meet every place.
            os.kill(child, chance.choice((signal.SIGTERM, signal.SIGINT)))
            time.sleep(chance.choice((0.0, 0.0, 0.00005, 0.0005)))
        codes.append(_status(child))
    # A signal that comes after the node has given its handlers back is the default one.
    assert set(codes) <= {0, -signal.SIGTERM, 70}, codes
    assert None not in codes
    assert "Traceback" not in capfd.readouterr().err
