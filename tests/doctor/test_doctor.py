"""The doctor: every check where all is well and where it is not, and what is printed."""

import io
import json
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from rich.console import Console

from device import cli, config, doctor
from device.cameras.v4l2_device import Capabilities
from device.doctor import CHECKS, SELF_TEST, camera, examine, report, software
from device.doctor.subject import Host, Identity, Subject
from device.errors import DelegateError
from device.events import Vitals
from device.history.writer import Writer
from device.inference.edgetpu import device, proof

# What the checks call in a process of its own.
PYTHONS = [Path(sys.executable).name]
CAMERA = Capabilities("uvcvideo", "Webcam", "usb-1", captures=True, metadata=False)
VITALS = Vitals(
    board="Board",
    temperature_c=50.0,
    throttling=(),
    throttling_since_boot=(),
    load=0.5,
    memory_mb=800.0,
    memory_total_mb=1000.0,
    rss_mb=80.0,
    disk_mb=5000.0,
    disk_total_mb=9000.0,
    wifi_dbm=-50.0,
    clock_synced=True,
)


class Bench(Host):
    """A machine that a test puts together; without more it is well, and has little."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.python = (3, 11)
        self.machine = "aarch64"
        self.prefix = root / "venv"
        self.commands: dict[str, tuple[int, str]] = {}
        self.versions = {"numpy": "1.26.4", "tflite-runtime": "2.14.0"}
        self.known_groups = {"video": 44, "plugdev": 46}
        self.who = Identity("labelcam", 990, (990, 44, 46))
        self.settings: dict[str, Any] = {}
        self.vitals: dict[str, Any] = {}
        self.config_text: str | None = None
        self.config_mode = 0o640

    def run(self, *command: str) -> tuple[int, str]:
        return self.commands.get(Path(command[0]).name, (127, ""))

    def version(self, package: str) -> str:
        return self.versions.get(package, "")

    def groups(self) -> dict[str, int]:
        return self.known_groups

    def identity(self) -> Identity:
        return self.who

    def write(self, path: str, text: str | bytes, mode: int = 0o644) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        file.chmod(mode)
        return file

    def unit(self, **properties: str) -> None:
        start = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled"}
        lines = (f"{key}={value}\n" for key, value in {**start, **properties}.items())
        self.commands["systemctl"] = (0, "".join(lines))

    def subject(self) -> Subject:
        if self.config_text is not None:
            self.write("etc/labelcam/config.toml", self.config_text, self.config_mode)
        made = Subject(self)
        if self.settings:
            made.settings = msgspec.structs.replace(made.settings, **self.settings)
        made.vitals = msgspec.structs.replace(VITALS, **self.vitals)
        return made


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A machine without camera or Edge TPU."""
    monkeypatch.setattr(device, "ROOT", tmp_path / "root")
    monkeypatch.setattr(camera, "find_devices", lambda _: ([], []))
    monkeypatch.setattr(camera, "has_pi_camera", lambda _: False)
    made = Bench(tmp_path / "root")
    made.root.mkdir()
    return made


def a_pi(bench: Bench) -> None:
    bench.write("proc/device-tree/model", b"Raspberry Pi 5 Model B Rev 1.0\0")


def source(bench: Bench, name: str) -> None:
    bench.settings["camera"] = (config.Camera(source=name),)


def model(bench: Bench, **fields: Any) -> None:
    bench.settings["model"] = config.Model(**fields)


def mqtt(bench: Bench, **fields: Any) -> None:
    bench.settings["mqtt"] = config.Mqtt(enabled=True, **fields)


def tpu(bench: Bench, mode: int = 0o666) -> None:
    bench.write("dev/apex_0", "", mode)


def usb_tpu(bench: Bench, speed: str) -> None:
    folder = "sys/bus/usb/devices/1-1"
    facts = {"idVendor": "18d1", "idProduct": "9302", "busnum": "1", "devnum": "2", "speed": speed}
    for name, value in facts.items():
        bench.write(f"{folder}/{name}", value)
    bench.write("dev/bus/usb/001/002", "", 0o666)


def refuse(error: Exception) -> Callable[..., Any]:
    def raise_it(*_: object, **__: object) -> None:
        raise error

    return raise_it


class Case(NamedTuple):
    """A check, what the machine is like, and the finding's level, words and remedy."""

    check: str
    arrange: Callable[[Bench], Any]
    level: str
    words: str
    mend: str = ""


def nothing(_bench: Bench) -> None:
    """As it is."""


def setting(name: str, value: object) -> Callable[[Bench], None]:
    return lambda bench: setattr(bench, name, value)


def vital(**values: object) -> Callable[[Bench], None]:
    return lambda bench: bench.vitals.update(values)


def both(*arrange: Callable[[Bench], Any]) -> Callable[[Bench], None]:
    def all_of_them(bench: Bench) -> None:
        for one in arrange:
            one(bench)

    return all_of_them


def unit(**properties: str) -> Callable[[Bench], None]:
    return lambda bench: bench.unit(**properties)


def file(path: str, text: str | bytes, mode: int = 0o644) -> Callable[[Bench], Path]:
    return lambda bench: bench.write(path, text, mode)


CASES = [
    Case("python", nothing, "ok", "3.11"),
    Case("python", setting("python", (3, 9)), "fail", "3.9 is not one of", "PYTHON="),
    Case("venv", nothing, "n/a", "no Raspberry Pi"),
    Case(
        "venv",
        both(a_pi, file("venv/pyvenv.cfg", "include-system-site-packages = true\n")),
        "ok",
        "sees the packages",
    ),
    Case(
        "venv",
        both(a_pi, file("venv/pyvenv.cfg", "include-system-site-packages = false\n")),
        "warn",
        "Picamera2",
        "sudo ./install.sh",
    ),
    Case("architecture", nothing, "ok", "aarch64"),
    Case("architecture", setting("machine", "armv7l"), "warn", "no XNNPACK", "64-bit"),
    Case("numpy", nothing, "ok", "1.26.4"),
    Case("numpy", setting("versions", {}), "fail", "not installed", "pip install"),
    Case(
        "numpy",
        setting("versions", {"numpy": "2.1.0", "tflite-runtime": "2.14.0"}),
        "fail",
        "does not fit",
        "pip install 'numpy<2'",
    ),
    Case("runtime", nothing, "ok", "tflite-runtime 2.14.0"),
    Case(
        "runtime",
        setting("versions", {"tflite-runtime": "2.14.0", "ai-edge-litert": "2.3.0"}),
        "ok",
        "tflite-runtime 2.14.0, ai-edge-litert 2.3.0",
    ),
    Case("configuration", nothing, "ok", "none: the defaults hold"),
    Case("configuration", setting("config_text", "gate.max_fps = 5\n"), "ok", "config.toml"),
    Case(
        "configuration",
        setting("config_text", "[gate]\nmax_fsp = 5\n"),
        "fail",
        "did you mean `max_fps`",
        "sudo nano",
    ),
    Case("model", nothing, "ok", "efficientnet"),
    Case("model", lambda b: model(b, name="x.tflite"), "fail", "x.tflite", "models list"),
    Case("self-test", nothing, "ok", "coffee.jpg: espresso"),
    Case("delegate", nothing, "ok", "xnnpack, "),
    Case("delegate", lambda b: model(b, delegate="none"), "ok", "none, 0 of"),
    Case("edgetpu", nothing, "n/a", "no Edge TPU"),
    Case("edgetpu", tpu, "ok", "pci apex_0"),
    Case("edgetpu", lambda b: model(b, delegate="edgetpu"), "fail", "no Edge TPU found", "lsusb"),
    Case("edgetpu-access", nothing, "n/a", "no Edge TPU"),
    Case("edgetpu-access", tpu, "ok", "user labelcam may open it"),
    Case("edgetpu-access", lambda b: tpu(b, 0o600), "fail", "may not open", "usermod -aG plugdev"),
    Case("edgetpu-library", nothing, "n/a", "no Edge TPU"),
    Case(
        "edgetpu-library",
        both(tpu, lambda b: b.commands.update(dict.fromkeys(PYTHONS, (0, "")))),
        "ok",
        "libedgetpu.so.1 loads",
    ),
    Case("edgetpu-library", tpu, "fail", "cannot be loaded", "libedgetpu1"),
    Case(
        "edgetpu-library",
        both(tpu, lambda b: b.commands.update(dict.fromkeys(PYTHONS, (-7, "")))),
        "fail",
        "is damaged",
        "libedgetpu1",
    ),
    Case("edgetpu-match", nothing, "n/a", "no Edge TPU"),
    Case("edgetpu-match", both(tpu, unit()), "ok", "in the service's hands"),
    Case("edgetpu-match", tpu, "warn", "has no twin", "models list"),
    Case("edgetpu-port", nothing, "n/a", "no Edge TPU"),
    Case("edgetpu-port", lambda b: usb_tpu(b, "5000"), "ok", "no slow port"),
    Case("edgetpu-port", lambda b: usb_tpu(b, "480"), "warn", "USB 2 port", "USB 3 port"),
    Case("edgetpu-last-run", nothing, "ok", "no run ended in it"),
    Case("edgetpu-last-run", file("run/labelcam/edgetpu", "idle    0      \n"), "ok", "no run"),
    Case(
        "edgetpu-last-run",
        file("run/labelcam/edgetpu", "working 3      \n"),
        "warn",
        "the last 3 runs",
        "another port",
    ),
    Case("camera", lambda b: source(b, "footage"), "n/a", "none is needed: the source is footage"),
    Case("camera", nothing, "fail", "there is no /dev/video*", "rpicam-hello"),
    Case("camera-picture", unit(), "ok", "in the service's hands"),
    Case("camera-picture", lambda b: source(b, "synthetic"), "ok", "camera"),
    Case(
        "camera-picture", lambda b: source(b, "/nonexistent"), "fail", "cannot be opened", "fuser"
    ),
    Case("drift", nothing, "ok", "nothing is learnt yet: it takes 7 days"),
    Case(
        "drift",
        file(
            "var/lib/labelcam/drift.json",
            '{"cameras":{"a":{"camera":"door","running":{},"memory":{"hours":[[494616,0.5,1.0]]}}}}',
        ),
        "ok",
        "as usual; learnt of door 0 days",
    ),
    Case(
        "drift",
        file(
            "var/lib/labelcam/drift.json",
            '{"cameras":{"a":{"camera":"door","running":{},"memory":{"since":494616,'
            '"text":"nothing recognised 71 % of the time"}}}}',
        ),
        "warn",
        "not as usual: door: nothing recognised 71 %",
        "accept_drift",
    ),
    Case(
        "drift",
        file("var/lib/labelcam/drift.json", "["),
        "warn",
        "drift.json: ",
        "restart labelcam",
    ),
    Case("history", nothing, "n/a", "no history is kept here"),
    Case(
        "history",
        lambda b: Writer(
            b.write("var/lib/labelcam/history.db", ""),
            config.History(),
            "boot",
            0.0,
            0.0,
            synced=True,
        ).close(1.0),
        "ok",
        "MB of 50",
    ),
    Case(
        "history",
        file("var/lib/labelcam/history.db", "a letter to my aunt, " * 100),
        "warn",
        "history.db is damaged",
        "restart labelcam",
    ),
    Case(
        "history",
        file("var/lib/labelcam/history.db.damaged", ""),
        "warn",
        "a new one begun",
        "sudo rm",
    ),
    Case("groups", nothing, "ok", "user labelcam is in all"),
    Case(
        "groups",
        setting("who", Identity("labelcam", 990, (990, 46))),
        "fail",
        "is not in video",
        "sudo usermod -aG video labelcam",
    ),
    Case("libcamera", nothing, "n/a", "no Raspberry Pi"),
    Case(
        "libcamera",
        both(
            a_pi,
            setting("commands", {"python3": (0, ""), "dpkg-query": (0, "python3-picamera2 1, ")}),
        ),
        "ok",
        "python3-picamera2 1",
    ),
    Case(
        "libcamera",
        both(a_pi, setting("commands", {"dpkg-query": (0, "python3-picamera2 1, ")})),
        "fail",
        "does not load with this libcamera",
        "sudo apt full-upgrade",
    ),
    Case("libcamera", lambda b: source(b, "pi"), "fail", "is not installed", "sudo apt install"),
    Case("camera-memory", nothing, "n/a", "no Raspberry Pi"),
    Case(
        "camera-memory",
        both(a_pi, file("proc/meminfo", "CmaTotal:  262144 kB\nCmaFree:  131072 kB\n")),
        "ok",
        "128 of 256 MB",
    ),
    Case(
        "camera-memory",
        both(a_pi, file("proc/meminfo", "CmaTotal:   32768 kB\nCmaFree:    1024 kB\n")),
        "warn",
        "CMA has 32 MB",
        "config.txt",
    ),
    Case("temperature", vital(temperature_c=None), "n/a", "not told"),
    Case("temperature", nothing, "ok", "50 °C"),
    Case("temperature", vital(temperature_c=78.0), "warn", "78 °C", "gate.max_fps"),
    Case("temperature", vital(temperature_c=86.5), "fail", "86.5 °C", "cool it"),
    Case("throttling", vital(throttling=None), "n/a", "not told"),
    Case("throttling", nothing, "ok", "nothing is held back"),
    Case("throttling", vital(throttling=("throttled",)), "fail", "now: throttled", "cool it"),
    Case(
        "throttling", vital(throttling=("under-voltage",)), "fail", "under-voltage", "power supply"
    ),
    Case("throttling-before", vital(throttling_since_boot=None), "n/a", "not told"),
    Case("throttling-before", nothing, "ok", "nothing was held back"),
    Case(
        "throttling-before",
        vital(throttling_since_boot=("under-voltage",)),
        "warn",
        "since the start: under-voltage",
        "power supply",
    ),
    Case("power", nothing, "n/a", "not told"),
    Case(
        "power",
        file("proc/device-tree/chosen/power/max_current", struct.pack(">I", 5000)),
        "ok",
        "5000 mA",
    ),
    Case(
        "power",
        file("proc/device-tree/chosen/power/max_current", struct.pack(">I", 3000)),
        "warn",
        "offers 3000 mA",
        "5000 mA",
    ),
    Case(
        "power",
        file("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
        "fail",
        "voltage is too low",
        "power supply",
    ),
    Case("clock", vital(clock_synced=None), "n/a", "not told"),
    Case("clock", nothing, "ok", "synchronised"),
    Case("clock", vital(clock_synced=False), "warn", "not synchronised", "sudo timedatectl"),
    Case("memory", vital(memory_mb=None), "n/a", "not told"),
    Case("memory", nothing, "ok", "800 MB free"),
    Case("memory", vital(memory_mb=100.0), "warn", "100 MB free", "models list"),
    Case("memory", vital(memory_mb=20.0), "fail", "20 MB free", "models list"),
    Case("disk", nothing, "ok", "5000 MB free"),
    Case("disk", vital(disk_mb=None), "fail", "cannot be looked at", "sudo ls"),
    Case("disk", vital(disk_mb=200.0), "warn", "200 MB free", "journalctl --vacuum"),
    Case("disk", vital(disk_mb=20.0), "fail", "20 MB free", "journalctl --vacuum"),
    Case("root", file("proc/mounts", "/dev/a / ext4 rw,noatime 0 0\n"), "ok", "can be written"),
    Case(
        "root",
        file("proc/mounts", "/dev/a / ext4 noatime,ro 0 0\n"),
        "warn",
        "read-only",
        "remount,rw",
    ),
    Case("sd-card", nothing, "n/a", "not told"),
    Case("sd-card", file("sys/block/mmcblk0/device/life_time", "0x01 0x03\n"), "ok", "most 30 %"),
    Case(
        "sd-card",
        file("sys/block/mmcblk0/device/life_time", "0x09 0x01\n"),
        "warn",
        "mmcblk0 has 90 %",
        "replace it",
    ),
    Case(
        "sd-card",
        file("sys/block/mmcblk0/device/life_time", "0x0b 0x0b\n"),
        "fail",
        "beyond its life",
        "replace it",
    ),
    Case("unit", nothing, "n/a", "not installed"),
    Case("unit", unit(StatusText="cat 0.9"), "ok", "cat 0.9"),
    Case("unit", unit(StatusText="camera lost no camera found"), "warn", "waits for its camera"),
    Case("unit", unit(UnitFileState="disabled"), "warn", "at boot", "sudo systemctl enable"),
    Case("unit", unit(NRestarts="9"), "warn", "restarted 9 times", "journalctl"),
    Case("unit", unit(ActiveState="inactive"), "warn", "inactive", "sudo systemctl start"),
    Case(
        "unit",
        unit(ActiveState="failed", ExecMainStatus="2", StatusText="bad key"),
        "fail",
        "exit code 2: bad key",
        "journalctl",
    ),
    Case("release", nothing, "n/a", "not installed"),
    Case("release", file("opt/labelcam/current/.complete", "x"), "ok", "current"),
    Case("release", file("opt/labelcam/.labelcam", ""), "fail", "no whole release", "install.sh"),
    Case("state", setting("who", Identity("root", 0, (0,))), "ok", "may write"),
    Case(
        "state",
        file("var/lib/labelcam/x", ""),
        "fail",
        "labelcam may not write",
        "sudo chown -R labelcam:",
    ),
    Case("permissions", nothing, "n/a", "no configuration file"),
    Case("permissions", setting("config_text", ""), "ok", "-rw-r-----"),
    Case(
        "permissions",
        both(setting("config_text", ""), setting("config_mode", 0o644)),
        "warn",
        "everyone may read",
        "sudo chmod 640",
    ),
    Case(
        "permissions",
        both(setting("config_text", ""), setting("config_mode", 0o666)),
        "fail",
        "everyone may write",
        "sudo chmod 640",
    ),
    Case("password", nothing, "ok", "no password"),
    Case("password", file("etc/credstore/labelcam.mqtt-password", "x", 0o600), "ok", "no password"),
    Case(
        "password",
        file("etc/credstore/labelcam.mqtt-password", "x", 0o644),
        "fail",
        "everyone may read",
        "sudo chmod 600",
    ),
    Case(
        "password",
        both(lambda b: mqtt(b, password_file="/srv/pw"), file("srv/pw", "x", 0o644)),
        "fail",
        "srv/pw",
        "sudo chmod 600",
    ),
    Case("boot-partition", nothing, "ok", "no configuration was refused"),
    Case(
        "boot-partition",
        file("boot/firmware/labelcam-error.txt", "unknown key\n"),
        "fail",
        "unknown key",
        "correct /boot/firmware/labelcam.toml",
    ),
    Case("tls", nothing, "n/a", "not enabled"),
    Case("tls", mqtt, "n/a", "not asked for"),
    Case("tls", lambda b: mqtt(b, tls=True), "ok", "is verified"),
    Case(
        "tls", lambda b: mqtt(b, host="x.lan", username="u"), "warn", "goes over the network", "tls"
    ),
    Case(
        "tls",
        lambda b: mqtt(b, tls=True, ca_file="/nonexistent.pem"),
        "fail",
        "/nonexistent.pem",
        "[mqtt]",
    ),
    Case("broker", nothing, "n/a", "not enabled"),
    Case("broker", both(mqtt, unit(StatusText="cat 0.9; broker connected")), "ok", "connected"),
    Case(
        "broker",
        both(mqtt, unit(StatusText="cat 0.9; broker x:1: nothing listens")),
        "warn",
        "broker x:1: nothing listens",
        "systemctl status",
    ),
    Case(
        "broker", lambda b: mqtt(b, host="127.0.0.1", port=9), "fail", "nothing listens", "[mqtt]"
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.check}-{c.level}-{c.words or 'any'}")
def test_a_check(bench: Bench, case: Case) -> None:
    case.arrange(bench)
    found = examine(case.check, bench.subject())
    assert (found.level, case.words in found.says) == (case.level, True), found
    assert case.mend in found.mend
    assert bool(found.mend) is (found.level in ("warn", "fail"))
    assert "\n" not in found.says + found.mend


def test_runtime_that_cannot_be_imported(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(software, "RUNTIMES", {"tflite-runtime": "no_such_module"})
    found = examine("runtime", bench.subject())
    assert (found.level, found.mend) == ("fail", "pip install ai-edge-litert")
    assert "no_such_module" in found.says


@pytest.mark.parametrize("check", ["self-test", "delegate"])
def test_model_that_sees_something_else(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    description, best = software.look(config.Model())
    wrong = msgspec.structs.replace(best, label="cat")
    idle = msgspec.structs.replace(description, operators_delegated=0, reason="broken")
    monkeypatch.setattr(software, "look", lambda _: (idle, wrong))
    found = examine(check, bench.subject())
    assert found.level == {"self-test": "fail", "delegate": "warn"}[check]
    assert {"self-test": "'cat', expected 'espresso'", "delegate": "broken"}[check] in found.says
    monkeypatch.setattr(software, "look", refuse(DelegateError("delegate x: no")))
    # One cause is said once.
    assert examine(check, bench.subject()).level == {"self-test": "fail", "delegate": "n/a"}[check]


def test_library_that_fits_and_one_that_does_not(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, twins: Callable[..., Path]
) -> None:
    tpu(bench)
    model(bench, name=str(twins()))
    monkeypatch.setattr(proof, "prove", lambda *_: None)
    found = examine("edgetpu-match", bench.subject())
    assert (found.level, found.says) == ("ok", "colours_edgetpu.tflite runs on tflite-runtime")
    monkeypatch.setattr(proof, "prove", refuse(DelegateError("delegate edgetpu: crashes it")))
    found = examine("edgetpu-match", bench.subject())
    assert (found.level, found.says) == ("fail", "crashes it")


def test_camera_that_is_there(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera, "find_devices", lambda _: ([(Path("/dev/video0"), CAMERA)], []))
    assert examine("camera", bench.subject()).says == "/dev/video0 (Webcam)"
    monkeypatch.setattr(camera, "has_pi_camera", lambda _: True)
    assert "the Raspberry Pi's own, /dev/video0" in examine("camera", bench.subject()).says


def test_every_check_is_tested_in_both_outcomes() -> None:
    outcomes: dict[str, set[bool]] = {name: set() for name in CHECKS}
    for case in CASES:
        outcomes[case.check].add(case.level in ("ok", "n/a"))
    # Those that need more than a machine, above.
    for name in ("runtime", "self-test", "delegate"):
        outcomes[name].add(False)
    outcomes["camera"].add(True)
    assert len(CHECKS) >= 25
    assert {name for name, seen in outcomes.items() if seen != {True, False}} == set()


def test_check_that_fails_itself_is_a_finding(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CHECKS, "clock", refuse(ZeroDivisionError("a\nb")))
    found = examine("clock", bench.subject())
    assert (found.level, found.says) == ("fail", "could not be checked: ZeroDivisionError: a b")


def test_lines_and_exit_code(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.commands = {}
    assert doctor.doctor(None, as_json=False, self_test=True, host=bench) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == list(SELF_TEST)
    assert lines[0] == "ok    python             3.11"
    assert lines[-1] == "7 checks: all is well"
    bench.python = (3, 9)
    assert doctor.doctor(None, as_json=False, self_test=True, host=bench) == 1
    assert capsys.readouterr().out.startswith("fail  python             3.9 is not one of")


def test_what_failed_comes_first_and_one_reason_is_said_once(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.vitals = {"temperature_c": None, "throttling": None, "clock_synced": False}
    assert doctor.doctor(None, as_json=False, self_test=False, host=bench) == 1
    lines = capsys.readouterr().out.splitlines()
    levels = [line.split()[0] for line in lines[:-1]]
    assert levels == sorted(levels, key=["fail", "warn", "ok", "n/a"].index)
    assert levels.count("fail") >= 1
    assert "n/a   tls, broker        mqtt is not enabled" in lines
    assert "n/a   camera-picture     there is no camera" in lines
    assert sum("not told by this board" in line for line in lines) == 1
    assert re.fullmatch(r"\d+ checks: \d+ failed(, \d+ to be better)?", lines[-1])


def test_a_terminal_is_told_what_is_under_way(bench: Bench) -> None:
    screen = io.StringIO()
    with report.show_progress(Console(file=screen, force_terminal=True)) as progress:
        progress("self-test")
    assert "self-test" in screen.getvalue()


def test_json(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    doctor.doctor(None, as_json=True, self_test=False, host=bench)
    found = json.loads(capsys.readouterr().out)
    assert [entry["check"] for entry in found] == list(CHECKS)
    assert set(found[0]) == {"check", "level", "says", "mend"}
    assert {entry["level"] for entry in found} <= {"ok", "warn", "fail", "n/a"}


def test_self_test_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--self-test"]) == 0
    assert "espresso" in capsys.readouterr().out


def test_real_machine_is_read(tmp_path: Path) -> None:
    host = Host()
    assert host.run("true") == (0, "")
    assert host.run("/nonexistent")[0] == 127
    assert host.version("no-such-package") == ""
    assert host.version("numpy")
    who = host.identity()
    (tmp_path / "x").touch(0o600)
    assert host.may_write(tmp_path / "x", who)
    other = Identity("other", 12345, (12345,))
    assert not host.may_write(tmp_path / "x", other)
    assert not host.may_write(tmp_path / "gone", who)
    assert host.groups()["root"] == 0
