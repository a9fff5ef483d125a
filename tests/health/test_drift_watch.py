"""The watch: hours by the wall clock, over restarts, jumps and damage; its alarms."""

import logging
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from device import config
from device.events import Controls, DeviceHealth, Drift, Observation, Prediction
from device.health.drift import LEARN_DAYS, Detector, Hour, Memory, Range
from device.health.drift_pictures import DriftPictures
from device.health.drift_watch import (
    FILE,
    DriftWatch,
    Record,
    Records,
    Sums,
    entropy,
    read_records,
    say,
)
from device.health.wall_clock import WallClock, on_the_wall
from tests.conftest import footage
from tests.health.drift_world import START
from tests.sinks.examples import camera_health, device_health, observation

CONTROLS_OFF = Controls(False, 0.5, 0.3, 0.0, "")
SURE = {"cup": 0.9}
UNSURE = {"cup": 0.3, "bowl": 0.25, "plate": 0.2}


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Device:
    """A device with one camera, on whose clocks hours pass at once."""

    def __init__(self, folder: Path, hour: float = START, **settings: bool) -> None:
        self.folder = folder
        self.settings = config.Drift(**settings)
        self.wall = hour * 3600.0
        self.now = 1000.0
        self.synced: bool | None = True
        self.photo = footage("coffee")
        self.start()

    def start(self) -> None:
        self.watch = DriftWatch(self.settings, self.folder, lambda: self.wall)
        self.watch.add(config.Camera(name="camera"), "usb:0", "unknown")
        self.report()

    def restart(self) -> None:
        self.watch.close()
        self.now = 5.0
        self.start()

    def report(self, **camera: Any) -> Drift:
        vitals = msgspec.structs.replace(device_health().vitals, clock_synced=self.synced)
        health = msgspec.structs.replace(device_health(camera_health(**camera)), vitals=vitals)
        found: DeviceHealth = self.watch.update(health, self.now)
        drift = found.cameras[0].drift
        assert drift is not None
        return drift

    def see(self, label: str | None, scores: dict[str, float]) -> None:
        made: Observation = observation(label, 0.9, scores)
        self.watch.observe(msgspec.structs.replace(made, frame=self.photo))

    def live(self, hours: float, label: str | None = "cup", **camera: Any) -> Drift:
        """Live on; a step is of five seconds, which is the most that counts."""
        scores = SURE if label == "cup" else UNSURE
        drift = Drift()
        for step in range(round(hours * 720)):
            # A still scene: a frame is classified each minute.
            if step % 12 == 0:
                self.see(label, scores)
            self.now += 5.0
            self.wall += 5.0
            drift = self.report(**camera)
        return drift

    @property
    def hours(self) -> list[Hour]:
        self.watch._writer.close()
        records = read_records(self.folder / FILE).cameras.values()
        return [hour for record in records for hour in record.memory.hours]


def learnt(folder: Path, days: int = 20, **settings: bool) -> Device:
    """A device that has seen a cup all along; its past is put on disk, as a device would."""
    device = Device(folder, START + 24 * days, **settings)
    device.live(1.01)
    device.watch.close()
    [(key, record)] = device.watch._records.cameras.items()
    past = [
        Hour(number, number % 7 / 100, 0.45 + number % 5 / 50)
        for number in range(START, START + 24 * days)
    ]
    record.memory = Memory(hours=past)
    (folder / FILE).write_bytes(msgspec.json.encode(Records(cameras={key: record})))
    device.start()
    return device


def test_an_hour_is_what_was_seen_in_it_by_time_and_not_by_frames(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.live(0.75)
    device.live(0.26, "unknown")
    [hour] = device.hours
    assert hour.number == START
    assert hour.nothing == pytest.approx(0.25, abs=0.02)
    known, lost = entropy(predictions(SURE)), entropy(predictions(UNSURE))
    assert hour.entropy == pytest.approx(0.75 * known + 0.25 * lost, abs=0.05)
    assert hour.trouble == 0


def test_time_with_something_wrong_in_the_picture_counts_and_brightness_is_kept(
    tmp_path: Path,
) -> None:
    device = Device(tmp_path)
    device.live(0.5, picture=("blurred",), brightness=50.0, sharpness=0.1)
    device.live(0.51, brightness=100.0, sharpness=0.1)
    [hour] = device.hours
    assert hour.trouble == pytest.approx(0.5, abs=0.02)
    assert hour.brightness == pytest.approx(75, abs=1)
    assert hour.sharpness == pytest.approx(-2.303, abs=0.01)


@pytest.mark.parametrize(
    "away",
    [{"state": "lost"}, {"look": "off duty"}, {"controls": CONTROLS_OFF}],
    ids=["lost", "off-duty", "disabled"],
)
def test_time_in_which_nobody_looks_is_not_counted(away: dict[str, Any], tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.live(1.01, **away)
    assert not device.hours


def test_an_hour_of_which_little_was_seen_tells_nothing(tmp_path: Path) -> None:
    device = Device(tmp_path, START + 0.8)
    device.live(0.3)
    assert not device.hours


def test_a_loop_that_hung_saw_nothing_meanwhile(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.see("cup", SURE)
    device.now += 3500
    device.wall += 3500
    device.report()
    device.live(0.04)
    assert not device.hours


def test_a_restart_in_each_hour_still_learns(tmp_path: Path) -> None:
    device = Device(tmp_path)
    for _ in range(6):
        device.live(0.3)
        device.restart()
        device.live(0.2)
        device.restart()
    assert [hour.number for hour in device.hours] == [START, START + 1, START + 2]


def test_an_hour_that_ended_while_it_was_down_is_not_lost(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.live(0.9)
    device.watch.close()
    device.wall += 0.2 * 3600
    device.restart()
    device.live(1.0)
    assert [hour.number for hour in device.hours] == [START, START + 1]


def test_a_clock_that_nobody_has_set_counts_no_hours_and_that_is_said(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.restart()
    device.watch._clock = WallClock(lambda: device.wall, tmp_path / "no-rtc")
    device.synced = False
    drift = device.live(1.01)
    assert not device.hours
    assert drift.learning == f"0 of {LEARN_DAYS} days learnt; it waits for the clock to be set"


def test_a_clock_with_a_battery_is_believed(tmp_path: Path) -> None:
    rtc = tmp_path / "since_epoch"
    wall = START * 3600.0
    rtc.write_text(f"{wall:.0f}\n")
    clock = WallClock(lambda: wall, rtc)
    assert clock.look(0.0, synced=False).believed
    rtc.write_text("86400\n")
    assert not WallClock(lambda: wall, rtc).look(0.0, synced=False).believed
    rtc.write_text("nonsense\n")
    assert not WallClock(lambda: wall, rtc).look(0.0, synced=False).believed


def test_a_clock_of_1970_is_not_believed_and_once_set_it_is_until_it_jumps() -> None:
    wall = 100.0
    clock = WallClock(lambda: wall)
    assert not clock.look(1.0, synced=None).believed
    assert not clock.look(2000.0, synced=None).believed
    wall = START * 3600.0
    tick = clock.look(2001.0, synced=True)
    assert tick.jumped
    assert tick.far
    assert tick.believed
    wall += 40_000
    # A network that is away for long makes the kernel say that nobody sets the clock.
    assert clock.look(42_001.0, synced=False).believed
    wall += 40_000
    assert not clock.look(42_002.0, synced=False).believed


def test_where_nobody_tells_of_the_clock_it_is_believed_after_a_while() -> None:
    wall = START * 3600.0
    clock = WallClock(lambda: wall)
    assert not clock.look(0.0, synced=None).believed
    wall += 1000
    assert clock.look(1000.0, synced=None).believed


@pytest.mark.slow
@pytest.mark.parametrize("hours", [5, -5, 24 * 365])
def test_a_jump_of_the_clock_is_no_alarm(
    hours: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = learnt(tmp_path)
    device.live(2)
    device.wall += hours * 3600
    device.live(3)
    device.wall -= hours * 3600
    assert device.live(5) == Drift()
    assert "not as usual" not in caplog.text


@pytest.mark.slow
def test_an_alarm_is_told_in_numbers_survives_a_restart_and_is_accepted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    device = learnt(tmp_path)
    assert device.live(1) == Drift()
    drift = device.live(24, "unknown")
    assert re.match(
        r"nothing recognised 9\d % of the time; at these hours usually 3 % to 3 %; less sure, "
        r"[12]\.\d\d bits; at these hours usually 0\.4\d to 0\.\d\d$",
        drift.change,
    )
    assert drift.since == pytest.approx((START + 20 * 24 + 2) * 3600, abs=7200)
    assert not drift.pictures
    assert not list(tmp_path.glob("drift/*"))
    told = [one.message for one in caplog.records if "not as usual" in one.message]
    assert len(told) == 1
    device.restart()
    assert device.report() == drift
    device.watch.accept("camera")
    assert "of 7 days learnt" in device.report().learning
    device.restart()
    assert "of 7 days learnt" in device.report().learning


@pytest.mark.slow
def test_pictures_of_then_and_now_are_kept_where_asked_for_and_for_the_user_alone(
    tmp_path: Path,
) -> None:
    device = learnt(tmp_path, pictures=True)
    # A day, so that each hour of day has its picture.
    device.live(25)
    # On this device's clocks a day is a second, which is too short for a card.
    device.watch._writer.close(30)
    drift = device.live(30, "unknown")
    device.watch.close()
    assert drift.change
    assert drift.pictures
    kept = DriftPictures(tmp_path)
    then, now = kept.read("camera", "then"), kept.read("camera", "now")
    assert then is not None
    assert now is not None
    for picture in (then, now):
        assert picture.startswith(b"\xff\xd8\xff")
        assert b"Exif" not in picture
        assert len(picture) < 40_000
    folder = tmp_path / "drift"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len(list(folder.iterdir())) <= 26
    # Asked for no longer: they go.
    device.settings = config.Drift()
    device.restart()
    assert not folder.exists()


def test_another_model_has_a_past_of_its_own(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.live(1.01)
    device.live(1, taught=("my cup",))
    device.live(1)
    device.watch.close()
    pasts = [one.memory.hours for one in read_records(tmp_path / FILE).cameras.values()]
    assert sorted(map(len, pasts)) == [1, 2]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\x00\xff" * 50,
        b'{"version":2,"cameras":{}}',
        b'{"cameras":{"a":{"camera":"a","memory":{"high":[1]},"running":{}}}}',
        b'{"cameras":{"a":{"camera":"a","memory":{"hours":[[99999999999,1,1]]},"running":{}}}}',
        b'{"cameras":{"a":{"camera":"a","memory":{"hours":[[1,1e999,1]]},"running":{}}}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_begun_anew_and_that_is_said(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(damage)
    device = Device(tmp_path)
    device.live(1.01)
    assert "what is usual is learnt anew" in caplog.text
    assert len(device.hours) == 1


def test_the_file_is_for_the_user_alone_and_holds_no_password(tmp_path: Path) -> None:
    device = Device(tmp_path)
    device.live(1.01)
    assert device.hours
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert b"usb:0" not in (tmp_path / FILE).read_bytes()


def test_a_full_disk_is_said_once_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    device = Device(folder)
    device.live(1.01)
    device.watch._writer.close()
    device.live(1)
    device.watch.close()
    assert caplog.text.count("cannot be written") == 1
    assert device.report().learning.startswith("0 of 7")


def test_the_file_is_bounded(tmp_path: Path) -> None:
    records = {
        f"{n}": Record(f"{n}", Memory(hours=[Hour(START, 0.5, 1.0)]), Sums(), newest=START - n)
        for n in range(100)
    }
    (tmp_path / FILE).write_bytes(msgspec.json.encode(Records(cameras=records)))
    device = Device(tmp_path)
    device.live(1.01)
    kept = read_records(tmp_path / FILE).cameras if device.hours else {}
    assert len(kept) == 32
    assert "99" not in kept
    assert "0" in kept


def test_off_is_off(tmp_path: Path) -> None:
    watch = DriftWatch(config.Drift(enabled=False), tmp_path)
    watch.add(config.Camera(name="camera"), "usb:0", "unknown")
    watch.observe(observation())
    health = device_health()
    assert watch.update(health, 1.0) is health
    watch.close()
    assert not list(tmp_path.iterdir())


def predictions(scores: dict[str, float]) -> tuple[Prediction, ...]:
    return tuple(Prediction(name, n, score) for n, (name, score) in enumerate(scores.items()))


def test_entropy_is_in_bits_of_five_and_the_rest() -> None:
    assert entropy(predictions({"a": 1.0})) == 0
    assert entropy(predictions({"a": 0.5})) == pytest.approx(1)
    assert entropy(predictions(dict.fromkeys("abcd", 0.25))) == pytest.approx(2)
    assert entropy(()) == 0
    # Scores of sensors need not sum up to 1.
    assert entropy(predictions({"a": 1.0, "b": 1.0})) == pytest.approx(1)
    assert entropy(predictions({"a": float("inf"), "b": -1.0})) == 0


def test_what_is_other_is_said_in_numbers() -> None:
    assert say("nothing", Range(0.71, 0.2, 0.35)) == (
        "nothing recognised 71 % of the time; at these hours usually 20 % to 35 %"
    )
    assert say("entropy", Range(1.5, 0.5, 0.9)) == (
        "less sure, 1.50 bits; at these hours usually 0.50 to 0.90"
    )
    assert say("brightness", Range(60.4, 110, 140)).startswith("darker, 60 of 255; at these")
    assert say("sharpness", Range(-2.3, -1.6, -1.2)).startswith("less sharp, 0.1; at these hours")


def test_summer_time_and_half_hour_zones_have_their_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    assert on_the_wall(START).hour == 6
    monkeypatch.setenv("TZ", "Europe/Berlin")
    assert on_the_wall(START).hour == 2
    hours = {on_the_wall(number).hour for number in range(START, START + 24 * 365)}
    assert hours == set(range(24))


def test_a_restart_of_the_detector_goes_on_with_its_memory() -> None:
    memory = Memory(hours=[Hour(number, 0.1, 0.5) for number in range(START, START + 240)])
    detector = Detector(on_the_wall, memory)
    assert detector.days(START + 264) == 10
