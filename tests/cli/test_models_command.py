"""``labelcam models``: list, show, fetch, verify, remove."""

import hashlib
import ssl
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trustme

from device import config
from device.cli import main, models
from device.errors import FetchError
from device.inference import choice
from device.inference.runtimes import Candidate, Choice
from device.library import catalog
from device.library.catalog import Entry, LabelFile, ModelFile, ModelInput
from device.library.fetch import Fetcher
from device.system.paths import MODELS
from tests.tiny import colour_model, edgetpu_model, failing_model
from tests.tls_server import Behaviour, TlsServer, answer, tls_server

FILES = {
    "colours.tflite": colour_model(softmax=True),
    "colours_edgetpu.tflite": edgetpu_model(),
    "colours.txt": b"red\ngreen\nblue\n",
}


@pytest.fixture
def server() -> Iterator[TlsServer]:
    with tls_server(trustme.CA()) as running:
        running.behaviours = [_serve(FILES)]
        yield running


@pytest.fixture
def fetcher(server: TlsServer, monkeypatch: pytest.MonkeyPatch) -> Fetcher:
    monkeypatch.setenv("no_proxy", "localhost")
    context = ssl.create_default_context()
    server.authority.configure_trust(context)
    return Fetcher(trust=context, wait=lambda _s: None, stall_s=2)


@pytest.fixture
def state(server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory; the catalogue has one model, "colours", on the server."""

    def pinned(file: str) -> dict[str, object]:
        data = FILES[file]
        url = server.url(f"/{file}")
        digest = hashlib.sha256(data).hexdigest()
        return {"file": file, "url": url, "bytes": len(data), "sha256": digest}

    entry = Entry(
        summary="red, green or blue",
        task="classification",
        family="none",
        licence="Apache-2.0",
        output="probabilities",
        input=ModelInput(width=8, height=8, type="uint8"),
        cpu=msgspec.convert(pinned("colours.tflite"), ModelFile),
        edgetpu=msgspec.convert(pinned("colours_edgetpu.tflite"), ModelFile),
        labels=msgspec.convert(
            {**pinned("colours.txt"), "background": False, "count": 3}, LabelFile
        ),
    )
    monkeypatch.setattr(catalog, "entries", lambda: {"colours": entry})
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    return tmp_path


def _serve(files: dict[str, bytes]) -> Behaviour:
    def behave(request: list[str], connection: ssl.SSLSocket) -> None:
        name = request[0].split()[1].lstrip("/")
        answer(files[name])(request, connection)

    return behave


def test_fetch_brings_model_labels_and_twin(
    state: Path, fetcher: Fetcher, server: TlsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert models.fetch("colours", fetcher) == 0
    assert {p.name: p.read_bytes() for p in (state / "models").iterdir()} == FILES
    assert 'use it as model.name = "colours"' in capsys.readouterr().out
    model = catalog.find("colours")
    assert model.labels == ("red", "green", "blue")
    assert model.twin is not None
    # What is here and right is not fetched again.
    assert models.fetch("colours", fetcher) == 0
    assert len(server.requests) == 3
    assert "is here already" in capsys.readouterr().out


def test_fetch_mends_what_is_not_as_pinned(
    state: Path, fetcher: Fetcher, server: TlsServer
) -> None:
    models.fetch("colours", fetcher)
    (state / "models" / "colours.txt").write_text("rot\ngrün\nblau\n")
    assert models.fetch("colours", fetcher) == 0
    assert (state / "models" / "colours.txt").read_bytes() == FILES["colours.txt"]
    assert len(server.requests) == 4


def test_fetch_of_a_lie_installs_nothing(state: Path, fetcher: Fetcher, server: TlsServer) -> None:
    server.behaviours = [_serve({**FILES, "colours.tflite": bytes(len(FILES["colours.tflite"]))})]
    with pytest.raises(FetchError, match="served another file"):
        models.fetch("colours", fetcher)
    assert not (state / "models" / "colours.tflite").exists()
    assert catalog.installed() == ()


def test_verify_tells_right_from_wrong(
    state: Path, fetcher: Fetcher, capsys: pytest.CaptureFixture[str]
) -> None:
    models.fetch("colours", fetcher)
    capsys.readouterr()
    assert main(["models", "verify"]) == 0
    assert capsys.readouterr().out.count(": right") == 3
    with (state / "models" / "colours.tflite").open("ab") as file:
        file.write(b"more")
    assert main(["models", "verify"]) == 1
    assert "colours.tflite: NOT the file of the catalogue" in capsys.readouterr().out


def test_remove_takes_away_what_was_fetched_and_what_was_begun(
    state: Path, fetcher: Fetcher, capsys: pytest.CaptureFixture[str]
) -> None:
    models.fetch("colours", fetcher)
    (state / "models" / "colours.tflite.part").write_bytes(b"begun")
    (state / "models" / "mine.tflite").write_bytes(b"mine")
    assert main(["models", "remove", "colours"]) == 0
    assert [p.name for p in (state / "models").iterdir()] == ["mine.tflite"]
    assert capsys.readouterr().out.count("removed ") == 4
    assert main(["models", "remove", "colours"]) == 0
    assert "has no fetched files" in capsys.readouterr().out


def test_what_ships_cannot_be_removed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "remove", "mobilenet-v1-person-96"]) == 0
    assert "has no fetched files" in capsys.readouterr().out
    assert catalog.locate("mobilenet-v1-person-96.tflite").exists()


def test_list_says_what_is_here_and_what_can_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    rows = {
        words[0]: words[1:]
        for line in capsys.readouterr().out.splitlines()
        if (words := line.split()) and words[0] in catalog.entries()
    }
    assert rows.keys() == catalog.entries().keys()
    assert rows["efficientnet-lite0-224-int8"][:6] == ["in", "use", "224x224", "5.2", "74.4", "p"]
    assert rows["mobilenet-v1-person-96"][:2] == ["yes", "96x96"]
    assert rows["mobilenet-v2-1.0-224"][0] == "fetch"
    assert rows["efficientnet-lite0-160-int8"][0] == "build"


def test_list_has_the_speed_that_was_measured_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    name = "mobilenet-v1-person-96"
    best = Candidate("tflite-runtime", "xnnpack", 1)
    monkeypatch.setattr(choice, "candidates", lambda *_: (best, best))
    choice.remember(catalog.find(name).file, config.Model(), Choice(best, "measured", 0.2345))
    assert main(["models", "list"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if name in line)
    assert row.split()[:6] == [name, "yes", "96x96", "0.3", "85.1", "p"]
    assert row.split()[6] == "0.23"


def test_show_of_a_name_that_is_mistyped_names_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "show", "mobilenet-v1-persn-96"]) == 2
    assert "did you mean 'mobilenet-v1-person-96'" in capsys.readouterr().err


def test_list_of_half_a_model(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (state / "models").mkdir()
    (state / "models" / "colours.tflite").write_bytes(FILES["colours.tflite"])
    assert main(["models", "list"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "colours" in line)
    assert row.split()[:2] == ["colours", "fetch"]


@pytest.mark.parametrize("what", ["fetch", "remove"])
def test_a_name_that_is_not_in_the_catalogue(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", what, "mobilnet"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("labelcam: models: 'mobilnet' is not one of efficientnet-lite0-224-int8")


def test_a_model_that_has_to_be_built(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "fetch", "efficientnet-lite0-192-int8"]) == 1
    assert "build it: python -m models.lite0 --size 192" in capsys.readouterr().err


def _shown(out: str, key: str) -> str:
    return next(line for line in out.splitlines() if line.startswith(key.ljust(10)))


def test_show_explains_a_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "mobilenet-v1-person-96"]) == 0
    out = capsys.readouterr().out
    assert catalog.entries()["mobilenet-v1-person-96"].cpu.sha256 in _shown(out, "SHA-256")
    assert "float32 [1, 96, 96, 3], quantized inside with scale 1" in _shown(out, "input")
    assert "probabilities" in _shown(out, "output")
    assert "14 CONV_2D, 13 DEPTHWISE_CONV_2D" in _shown(out, "operators")
    assert " of 33 operators" in _shown(out, "XNNPACK")
    assert "all operators are on Coral's list" in _shown(out, "Edge TPU")
    assert "2: person, no person (" in _shown(out, "labels")
    assert out.splitlines()[-1].split() == ["problems", "none"]


def test_show_of_a_model_that_is_not_here_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "show", "mobilenet-v1-0.5-160"]) == 0
    out = capsys.readouterr().out
    assert "57.7" in _shown(out, "published")
    assert _shown(out, "on disk").rstrip().endswith("labelcam models fetch mobilenet-v1-0.5-160")


def test_show_names_the_background_row(testdata: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = testdata / "models" / "mobilenet_v2_1.0_224_quant.tflite"
    labels = MODELS / "labels" / "imagenet-1000.txt"
    assert main(["models", "show", str(model), "--labels", str(labels)]) == 1
    out = capsys.readouterr().out
    assert 'the model has a "background" class: add it as the first line' in _shown(out, "problem")
    assert "mobilenet-v2-1.0-224: " in _shown(out, "catalogue")


def test_show_of_a_float_model(
    colours: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "show", str(colours(dtype="float32", scale=0))]) == 0
    out = capsys.readouterr().out
    assert "not quantized; no softmax at its end" in _shown(out, "output")
    assert "none of it" in _shown(out, "Edge TPU")


def test_show_of_a_model_with_labels_inside(
    colours: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = colours()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("labels.txt", "rosso\nverde\nblu\n")
    assert main(["models", "show", str(path)]) == 0
    assert f"3: rosso, verde, blu ({path} itself)" in capsys.readouterr().out


def test_show_of_an_edge_tpu_model(
    twins: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = twins().with_name("colours_edgetpu.tflite")
    path.with_suffix(".txt").write_text("red\ngreen\nblue\n")
    assert main(["models", "show", str(path)]) == 0
    out = capsys.readouterr().out
    assert "it runs nowhere else" in _shown(out, "XNNPACK")
    assert "compiled for it, all of it" in _shown(out, "Edge TPU")


def test_show_of_what_no_runtime_takes(testdata: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = testdata / "models" / "model_invoking_error.tflite"
    assert main(["models", "show", str(path)]) == 1
    out = capsys.readouterr().out
    assert "none of it: not full INT8 (1 tensors of float32)" in _shown(out, "Edge TPU")
    problems = [line for line in out.splitlines() if line.startswith("problem ")]
    assert len(problems) == 2


def test_show_of_an_operator_that_the_edge_tpu_does_not_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gather.tflite"
    path.write_bytes(failing_model())
    assert main(["models", "show", str(path)]) == 1
    assert "none of it: GATHER not on Coral's list" in _shown(capsys.readouterr().out, "Edge TPU")


def test_show_of_no_model_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "text.tflite"
    path.write_text("not a model")
    assert main(["models", "show", str(path)]) == 1
    assert "is not a TensorFlow Lite model" in capsys.readouterr().err
    assert main(["models", "show", "nothing"]) == 2
    assert "labelcam: model nothing" in capsys.readouterr().err
