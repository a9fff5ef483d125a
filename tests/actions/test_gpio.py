"""Pins: gpiozero's mock pins stand in for a board's."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPWMPin

from device import config
from device.errors import ActionError, ConfigError, DependencyError
from device.sinks.actions import gpio
from device.sinks.actions.gpio import GpioPerformer, check_action
from tests.actions.moments import occurrence

LIMIT_S = 10.0


@pytest.fixture(autouse=True)
def pins() -> Iterator[MockFactory]:
    """A board whose pins are all there, and all with PWM."""
    before = Device.pin_factory
    factory = MockFactory(pin_class=MockPWMPin)
    Device.pin_factory = factory
    yield factory
    factory.reset()
    Device.pin_factory = before


def opened(**keys: Any) -> GpioPerformer:
    usual: dict[str, Any] = {"name": "lamp", "kind": "gpio", "on": 17}
    made = GpioPerformer(config.Action(**(usual | keys)))
    made.open()
    return made


def states(pins: MockFactory, number: int) -> list[float]:
    """All that a pin has been since its first state."""
    return [state.state for state in pins.pin(number).states]


def test_a_pin_is_high_while_a_label_is_in_force(pins: MockFactory) -> None:
    lamp = opened()
    assert pins.pin(17).state == 0
    assert lamp.begin(occurrence()) == "pin 17 on"
    assert pins.pin(17).state == 1
    assert lamp.end(occurrence(on=False)) == "pin 17 off"
    assert pins.pin(17).state == 0


def test_it_is_high_while_any_of_several_is(pins: MockFactory) -> None:
    lamp = opened()
    lamp.begin(occurrence("cat"))
    lamp.begin(occurrence("dog"))
    lamp.end(occurrence("cat", on=False))
    assert pins.pin(17).state == 1
    lamp.end(occurrence("dog", on=False))
    assert states(pins, 17)[-3:] == [0, 1, 0]


def test_active_low_is_the_other_way_round(pins: MockFactory) -> None:
    lamp = opened(active_low=True)
    assert pins.pin(17).state == 1
    lamp.begin(occurrence())
    assert pins.pin(17).state == 0
    lamp.end(occurrence(on=False))
    assert pins.pin(17).state == 1


def test_the_pins_of_off_are_high_while_nothing_is_in_force(pins: MockFactory) -> None:
    lights = opened(on=("GPIO17", 27), off="22")
    assert [pins.pin(n).state for n in (17, 27, 22)] == [0, 0, 1]
    assert lights.begin(occurrence()) == "pin GPIO17 on, 27 on, 22 off"
    assert [pins.pin(n).state for n in (17, 27, 22)] == [1, 1, 0]
    lights.end(occurrence(on=False))
    assert [pins.pin(n).state for n in (17, 27, 22)] == [0, 0, 1]


def test_a_pulse_ends_by_itself(pins: MockFactory) -> None:
    bell = opened(pulse_s=0.02, off=22)
    assert bell.begin(occurrence()) == "pin 17 on for 0.02 s"
    wait_for(pins, 17, [0, 1, 0])
    assert states(pins, 22)[-1] == 0
    assert bell.end(occurrence(on=False)) == "pin 22 on for 0.02 s"
    wait_for(pins, 22, [0, 1, 0])


def wait_for(pins: MockFactory, number: int, wanted: list[float]) -> None:
    until = time.monotonic() + LIMIT_S
    while states(pins, number)[-len(wanted) :] != wanted:
        assert time.monotonic() < until, states(pins, number)
        time.sleep(0.005)


def test_a_pulse_during_a_pulse_makes_it_longer(pins: MockFactory) -> None:
    bell = opened(pulse_s=60)
    bell.begin(occurrence("cat"))
    wait_for(pins, 17, [0, 1])
    bell.begin(occurrence("dog"))
    bell.close()
    assert states(pins, 17) == [0, 1, 0]


def test_pwm_follows_the_best_score(pins: MockFactory) -> None:
    lamp = opened(pwm=True)
    assert lamp.wants_score
    assert lamp.begin(occurrence("cat", score=0.5)) == "pin 17 at 0.50"
    lamp.begin(occurrence("dog", score=0.25))
    lamp.update(occurrence("cat", score=0.75))
    assert pins.pin(17).state == pytest.approx(0.75)
    lamp.end(occurrence("cat", on=False))
    assert pins.pin(17).state == pytest.approx(0.25)
    lamp.end(occurrence("dog", on=False))
    assert pins.pin(17).state == 0


def test_a_score_that_is_none_is_no_value_of_a_pin(pins: MockFactory) -> None:
    lamp = opened(pwm=True)
    lamp.begin(occurrence(score=1.25))
    assert pins.pin(17).state == 1
    lamp.update(occurrence(score=float("nan")))
    assert pins.pin(17).state == 0


def test_all_are_off_in_the_end_and_free_for_others(pins: MockFactory) -> None:
    lights = opened(off=22)
    lights.begin(occurrence())
    pin = pins.pin(17)
    lights.close()
    lights.close()
    assert pin.state == 0
    other = opened(off=22)
    other.close()


def test_what_is_in_force_is_shown_when_it_is_opened_again(pins: MockFactory) -> None:
    lamp = opened()
    lamp.begin(occurrence())
    lamp.open()
    assert pins.pin(17).state == 1


@pytest.mark.parametrize(
    ("pin", "problem"),
    [
        ("GPIO99", "GPIO99 is no pin of this board; `pinout` shows which there are"),
        ("BOARD1", "BOARD1 is no pin of this board; `pinout` shows which there are"),
        (27, "pin 27 is another action's; let one action have all its labels"),
    ],
)
def test_a_pin_that_cannot_be_had_is_told_and_the_others_are_free(
    pin: str | int, problem: str
) -> None:
    other = opened(on=27)
    with pytest.raises(ActionError) as caught:
        opened(on=(17, pin))
    assert caught.value.problem == problem
    opened(on=17).close()
    other.close()


def test_a_pin_without_pwm_says_so(pins: MockFactory) -> None:
    pins.pin_class = type(pins.pin(2)).__mro__[1]
    with pytest.raises(ActionError, match="pin 21 has no PWM here"):
        opened(on=21, pwm=True)


def test_where_there_are_no_pins_it_is_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    Device.pin_factory = None
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    monkeypatch.setattr(gpio, "_CHIP", tmp_path / "gpiochip0")
    with pytest.raises(ActionError) as caught:
        opened()
    assert caught.value.problem.startswith("this computer has no pins that the system knows of")
    assert capfd.readouterr() == ("", "")
    (tmp_path / "gpiochip0").touch(mode=0)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(ActionError, match="is for the group gpio; sudo usermod -aG gpio"):
        opened()


def test_the_way_to_the_pins_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    Device.pin_factory = None
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "mock")
    opened().close()
    assert isinstance(Device.pin_factory, MockFactory)
    Device.pin_factory = None
    monkeypatch.setenv("GPIOZERO_PIN_FACTORY", "xyzzy")
    with pytest.raises(ActionError, match="no way to the pins: Unable to find pin factory 'xyzzy'"):
        opened()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"on": "seventeen!"}, 'action.lamp: expected a pin such as 17, "GPIO17" or "BOARD11"'),
        ({"on": (17, 17)}, "action.lamp: expected each pin once, met '17' twice"),
        ({"on": 17, "off": "17"}, "action.lamp: expected each pin once, met '17' twice"),
    ],
)
def test_what_is_no_pin_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_action(config.Action(name="lamp", kind="gpio", **keys))
    assert str(caught.value).startswith(message)


def test_without_gpiozero_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpio, "find_spec", lambda _name: None)
    with pytest.raises(DependencyError, match="sudo apt install python3-gpiozero python3-lgpio"):
        check_action(config.Action(name="lamp", kind="gpio", on=17))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "command", "on": ("true",), "pwm": True}, "`pwm` only where `kind` is gpio"),
        ({"kind": "gpio", "on": 17, "timeout_s": 1.0}, "`timeout_s` only where `kind` is"),
        ({"kind": "gpio"}, "`on`, `off` or both, met neither"),
        ({"kind": "gpio", "on": 17, "pwm": True, "pulse_s": 1.0}, "`pwm` or `pulse_s`, not both"),
        ({"kind": "gpio", "on": 17, "hours": ("7-8",)}, '`hours` as "07:00-22:00"'),
    ],
)
def test_keys_that_do_not_go_together_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="Expected") as caught:
        config.Action(name="lamp", **keys)
    assert message in str(caught.value)
