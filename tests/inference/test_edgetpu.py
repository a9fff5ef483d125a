"""The Edge TPU: finding one, and what is said of each thing that can stand in the way."""

import _ctypes
import grp
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from device import config
from device.errors import ConfigError, DelegateError, InferenceError, ModelError
from device.inference.edgetpu import delegate, device, proof
from device.inference.edgetpu.device import Device
from device.inference.edgetpu.self_test import SelfTest
from device.inference.interpreter import Interpreter
from device.inference.trial import Trial
from device.library import tflite_file
from tests.conftest import classifier_of, footage
from tests.edgetpu.standin import Standin
from tests.tiny import edgetpu_model


def _settings(standin: Standin, **more: object) -> config.Model:
    values = {"delegate": "edgetpu", "edgetpu_library": str(standin.library), **more}
    return config.Model(**values)  # type: ignore[arg-type]


@pytest.fixture
def compiled(twins: Callable[..., Path]) -> tflite_file.TfliteFile:
    return tflite_file.read(twins().with_name("colours_edgetpu.tflite"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /dev and /sys."""
    monkeypatch.setattr(device, "ROOT", tmp_path / "root")
    return tmp_path / "root"


def _plug_in(
    root: Path, port: str, ids: str = "18d1:9302", speed: str = "5000", number: int = 7
) -> Path:
    """Put a USB device into ``root``; returns its device file."""
    folder = root / "sys/bus/usb/devices" / port
    folder.mkdir(parents=True)
    vendor, _, product = ids.partition(":")
    values = {"idVendor": vendor, "idProduct": product, "speed": speed}
    values |= {"busnum": "2", "devnum": str(number)}
    for name, value in values.items():
        (folder / name).write_text(f"{value}\n")
    node = root / f"dev/bus/usb/002/{number:03}"
    node.parent.mkdir(parents=True, exist_ok=True)
    node.touch()
    return node


def test_devices_are_found_without_opening_them(root: Path) -> None:
    assert device.find_devices() == ()
    fresh = _plug_in(root, "2-1", "1a6e:089a", "480")
    ready = _plug_in(root, "2-2", number=8)
    _plug_in(root, "2-3", "046d:0825", number=9)
    # An interface of a device, and a device that goes while it is looked at, have no ids.
    (root / "sys/bus/usb/devices/2-1:1.0").mkdir()
    (root / "dev/apex_0").touch()
    fresh.chmod(0)
    assert device.find_devices() == (
        Device("pci", "apex_0", root / "dev/apex_0"),
        Device("usb", "2-1", fresh, 480),
        Device("usb", "2-2", ready, 5000),
    )


@pytest.mark.parametrize(
    ("wanted", "name"),
    [("", "apex_0"), ("pci", "apex_0"), ("usb", "2-1"), (":1", "2-1"), ("usb:1", "2-2")],
)
def test_the_device_option_names_one(root: Path, wanted: str, name: str) -> None:
    _plug_in(root, "2-1")
    _plug_in(root, "2-2", number=8)
    (root / "dev/apex_0").touch()
    assert device.choose_device(wanted).name == name


def test_a_device_option_that_fits_none_names_those_there_are(root: Path) -> None:
    _plug_in(root, "2-1")
    with pytest.raises(DelegateError, match=r'edgetpu_device = "pci" is none .* \(usb 2-1, 5000'):
        device.choose_device("pci")
    with pytest.raises(DelegateError, match='edgetpu_device = "usb:1" is none'):
        device.choose_device("usb:1")


@pytest.mark.parametrize("text", ["tpu", "usb1", "usb:", ":x", "usb:100", "/dev/apex_0"])
def test_a_device_option_that_libedgetpu_does_not_know_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.edgetpu_device"):
        config.load(settings=[f"model.edgetpu_device='{text}'"])


def test_no_device(root: Path) -> None:
    with pytest.raises(DelegateError, match="no Edge TPU found; plug one in: `lsusb`"):
        device.choose_device("")


def test_a_device_on_pcie_without_its_driver(root: Path) -> None:
    card = root / "sys/bus/pci/devices/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "vendor").write_text("0x1ac1\n")
    (card / "device").write_text("0x089a\n")
    with pytest.raises(DelegateError, match=r"0000:01:00\.0 has no driver .* install gasket-dkms"):
        device.choose_device("")


@pytest.mark.parametrize(
    ("mode", "remedy"),
    [(0o664, "sudo usermod -aG daemon USER"), (0o644, "udev rule must give it to group plugdev")],
)
def test_no_permission(root: Path, monkeypatch: pytest.MonkeyPatch, mode: int, remedy: str) -> None:
    node = _plug_in(root, "2-1")
    node.chmod(mode)
    # Also where the tests run as root, who may open everything.
    monkeypatch.setattr(os, "access", lambda path, _: path != node)
    daemon = grp.getgrnam("daemon")
    monkeypatch.setattr(grp, "getgrgid", lambda _: daemon)
    with pytest.raises(DelegateError, match=f"may not be opened by this user.*{remedy}"):
        device.choose_device("")


def test_a_device_without_its_device_file(root: Path) -> None:
    _plug_in(root, "2-1").unlink()
    with pytest.raises(DelegateError, match="has no device file"):
        device.choose_device("")


def test_it_is_engaged_and_proved_from_the_graph(
    standin: Standin, compiled: tflite_file.TfliteFile
) -> None:
    with Interpreter(compiled, _settings(standin, edgetpu_device="pci")) as interpreter:
        got = interpreter.description
        assert (got.delegate, got.device) == ("edgetpu", "pci apex_0")
        assert (got.operators_delegated, got.operators_total, got.on_cpu) == (1, 1, ())
        assert got.reason == "an Edge TPU answers"
    assert standin.device() == "pci"
    assert standin.ask("delegates") == 0


def test_auto_runs_a_compiled_model_on_the_edge_tpu(
    standin: Standin, compiled: tflite_file.TfliteFile
) -> None:
    with Interpreter(compiled, _settings(standin, delegate="auto")) as interpreter:
        assert interpreter.description.delegate == "edgetpu"
    assert standin.device() == ""


def test_a_usb_2_port_is_said_to_be_slow(
    standin: Standin, compiled: tflite_file.TfliteFile
) -> None:
    _plug_in(device.ROOT, "1-1", speed="480")
    with Interpreter(compiled, _settings(standin, edgetpu_device="usb")) as interpreter:
        assert interpreter.description.device == "usb 1-1, 480 Mbit/s"
        assert "USB 2 port (480 Mbit/s)" in interpreter.description.reason
        assert "use a USB 3 port" in interpreter.description.reason


@pytest.mark.parametrize("delegate", ["none", "xnnpack"])
def test_a_compiled_model_on_the_cpu(compiled: tflite_file.TfliteFile, delegate: str) -> None:
    settings = config.Model(delegate=delegate)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=f'runs nowhere else; .* not "{delegate}"'):
        Interpreter(compiled, settings)


def test_a_compiled_model_without_an_edge_tpu(root: Path, compiled: tflite_file.TfliteFile) -> None:
    with pytest.raises(ModelError, match=r"no Edge TPU found.*or use its CPU twin"):
        Interpreter(compiled, config.Model())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("absent", r"pci apex_0 does not open; another program may hold it"),
        ("busy", r"does not open \(Device is held by another process\); another program"),
        ("newer", r"is compiled for Edge TPU runtime 15, and this libedgetpu is runtime 14"),
        ("claimless", r"was not taken by libedgetpu; library and runtime do not match"),
    ],
)
def test_a_library_that_refuses(
    standin: Standin, compiled: tflite_file.TfliteFile, words: str, message: str
) -> None:
    standin.tell(words)
    with pytest.raises((DelegateError, ModelError), match=message) as caught:
        Interpreter(compiled, _settings(standin))
    assert "\n" not in str(caught.value)
    standin.tell()
    with Interpreter(compiled, _settings(standin)) as interpreter:
        interpreter.invoke()
    assert standin.ask("delegates") == 0


@pytest.mark.usefixtures("unproved")
@pytest.mark.slow
def test_a_library_that_crashes_takes_another_process_with_it(
    standin: Standin, compiled: tflite_file.TfliteFile
) -> None:
    standin.tell("crash")
    for _ in range(2):
        with pytest.raises(
            DelegateError,
            match=r"crashes \S+ \S+ \(SIGSEGV\); library and runtime do not match: install",
        ):
            Interpreter(compiled, _settings(standin))
    standin.tell()
    Interpreter(compiled, _settings(standin)).close()


@pytest.mark.usefixtures("unproved")
@pytest.mark.slow
def test_a_library_that_does_not_come_back(
    standin: Standin, compiled: tflite_file.TfliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "_TIMEOUT_S", 0.5)
    standin.tell("wait")
    with pytest.raises(DelegateError, match=r"no answer from the Edge TPU within 0\.5 s"):
        Interpreter(compiled, _settings(standin))


@pytest.mark.usefixtures("unproved")
@pytest.mark.slow
def test_a_library_is_proved_once_until_it_or_the_runtime_changes(
    standin: Standin, compiled: tflite_file.TfliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    children = []

    class Child(Trial):
        def __init__(self, module: str, name: str) -> None:
            children.append(module)
            super().__init__(module, name=name)

    monkeypatch.setattr(proof, "Trial", Child)
    for _ in range(2):
        Interpreter(compiled, _settings(standin)).close()
    assert len(children) == 1
    # Another process finds it in the runtime directory.
    proof._proofs.clear()
    Interpreter(compiled, _settings(standin)).close()
    assert len(children) == 1
    os.utime(standin.library, (1, 1))
    Interpreter(compiled, _settings(standin)).close()
    assert len(children) == 2
    # A model that nobody knows is proved as well, and is at fault where the library is not.
    compiled.path.write_bytes(edgetpu_model(classes=4))
    standin.tell("crash")
    with pytest.raises(ModelError, match=r"colours_edgetpu\.tflite: cannot be run \(.*SIGSEGV\)"):
        Interpreter(tflite_file.read(compiled.path), _settings(standin))
    assert len(children) == 3


def _other_machine(standin: Standin, path: Path) -> None:
    data = bytearray(standin.library.read_bytes())
    data[18] = 40 if data[18] != 40 else 62
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _, path: None, "cannot be read: no such file or directory"),
        (lambda _, path: path.mkdir(), "cannot be read: is a directory"),
        (lambda _, path: path.write_text("not a library"), "is not a library"),
        (lambda _, path: path.touch(), "is not a library"),
        (_other_machine, r"is for (32-bit ARM|x86-64), this Python is for .*install the build for"),
        (
            lambda standin, path: path.write_bytes(standin.library.read_bytes()[:64]),
            "cannot be loaded: .*install the build for this system",
        ),
        (
            lambda _, path: path.symlink_to(_ctypes.__file__),
            r"none for TensorFlow Lite \(tflite_plugin_create_delegate is missing\)",
        ),
    ],
)
def test_a_path_that_is_no_libedgetpu(
    standin: Standin,
    compiled: tflite_file.TfliteFile,
    tmp_path: Path,
    make: Callable[[Standin, Path], None],
    message: str,
) -> None:
    path = tmp_path / "other.so"
    make(standin, path)
    with pytest.raises(DelegateError, match=message):
        Interpreter(compiled, _settings(standin, edgetpu_library=str(path)))


@pytest.mark.usefixtures("unproved")
def test_a_library_that_is_cut_short(
    standin: Standin, compiled: tflite_file.TfliteFile, tmp_path: Path
) -> None:
    path = tmp_path / "cut.so"
    path.write_bytes(standin.library.read_bytes()[:2000])
    with pytest.raises(DelegateError, match=r"is damaged \(SIGBUS\); install it again"):
        Interpreter(compiled, _settings(standin, edgetpu_library=str(path)))


def test_a_library_that_is_not_installed(
    standin: Standin, compiled: tflite_file.TfliteFile
) -> None:
    with pytest.raises(DelegateError, match=r"libnothing\.so\.1 is not installed; install the"):
        Interpreter(compiled, _settings(standin, edgetpu_library="libnothing.so.1"))


def test_a_library_that_lacks_another() -> None:
    said = "libusb-1.0.so.0: cannot open shared object file: No such file or directory"
    assert delegate._not_loaded("libedgetpu.so.1", said) == (
        "libedgetpu.so.1 needs libusb-1.0.so.0, which is not installed; "
        "sudo apt install libusb-1.0-0"
    )


def test_an_error_of_invoke(standin: Standin, compiled: tflite_file.TfliteFile) -> None:
    standin.tell("fail=3")
    with Interpreter(compiled, _settings(standin)) as interpreter:
        interpreter.invoke()
        interpreter.invoke()
        with pytest.raises(InferenceError, match="USB transfer error 1") as caught:
            interpreter.invoke()
        assert "\n" not in str(caught.value)


def test_the_real_compiled_models_run(testdata: Path, standin: Standin) -> None:
    standin.tell("class=283")
    models = testdata / "models"
    path = models / "mobilenet_v1_0.25_128_quant_edgetpu.tflite"
    with classifier_of(path, _settings(standin)) as classifier:
        scores = classifier.classify(footage("cat"))
        assert classifier.top(1)[0].label == "tiger cat"
        # 200 of a scale of 1/256, taken as the probability that it is.
        assert scores[283] == pytest.approx(200 / 256)
    path = models / "mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu.tflite"
    with Interpreter(tflite_file.read(path), _settings(standin)) as interpreter:
        interpreter.invoke()
        assert interpreter.output().reshape(-1).argmax() == 283
        cpu = tflite_file.read(path.with_name(path.name.replace("_edgetpu", "")))
        with (
            Interpreter(cpu, config.Model(delegate="none")) as itself,
            pytest.raises(
                DelegateError, match=r"it says feature 283 where the CPU says feature \d"
            ),
        ):
            SelfTest(itself, ()).check(interpreter)
