"""The window: on a real X server, with SDL's dummy driver, and the scene by itself."""

import itertools
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pygame
import pytest

from device import config
from device.control.commands import Command
from device.errors import OutputClosed, SinkError
from device.events import OFF_DUTY, Controls
from device.frames import Frame, Pixels
from device.sinks.window import framebuffer
from device.sinks.window.scene import Scene, View
from device.sinks.window.sink import WindowSink
from tests.conftest import footage, frame_of
from tests.sinks.examples import camera_health, change, device_health, observation
from tests.web.conftest import CONTROLS, FakeDevice

ROOT = Path(__file__).parent.parent.parent
PATIENCE_S = 10.0
XVFB = shutil.which("Xvfb")


def seen(frame: Frame, **more: Any) -> Any:
    """An observation of this frame, now."""
    made = observation(at=time.monotonic(), **more)
    return type(made)(
        made.camera, frame, made.predictions, made.label, made.score, made.stages, 12.0, made.at
    )


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice()


@pytest.fixture
def window(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[WindowSink]:
    """A window of two cameras on no screen at all."""
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("LABELCAM_STATE", str(tmp_path))
    cameras = [config.Camera(), config.Camera(name="yard")]
    sink = WindowSink(config.Window(max_fps=60), cameras, device)
    sink.change(change(at=time.monotonic()))
    sink.observe(seen(footage("coffee")))
    sink.report(device_health(camera_health(controls=CONTROLS)))
    yield sink
    sink.close()
    sink.close()
    assert not any(thread.name == "labelcam-window" for thread in threading.enumerate())


def press(key: int) -> None:
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key))


def test_keys_move_the_threshold(window: WindowSink, device: FakeDevice) -> None:
    press(pygame.K_UP)
    press(pygame.K_MINUS)
    until(lambda: len(device.commands) == 2)
    assert device.commands == [
        Command("camera", "enter", 0.55),
        Command("camera", "enter", 0.45),
    ]


def pictures(folder: Path, camera: str, count: int) -> list[Pixels]:
    """Press the key that saves, and wait until there are so many pictures of the camera."""
    press(pygame.K_s)

    def saved() -> list[Any]:
        paths = sorted(folder.glob(f"pictures/{camera}-*.jpg"))
        # A file that is being written is no picture yet.
        return [read for path in paths if (read := cv2.imread(str(path))) is not None]

    until(lambda: len(saved()) == count and noted())
    return saved()


def noted() -> bool:
    """Whether a note in its colour is at the top of the screen."""
    screen = pygame.display.get_surface()
    assert screen is not None
    top = pygame.surfarray.array3d(screen)[:, :100]
    return bool((top == (85, 207, 169)).all(axis=2).any())


def test_a_key_saves_what_is_shown_frozen_or_of_the_next_camera(
    window: WindowSink, tmp_path: Path
) -> None:
    coffee, white = footage("coffee"), frame_of(np.full((8, 8, 3), 255, np.uint8))
    press(pygame.K_SPACE)
    pictures(tmp_path, "camera", 1)
    window.observe(seen(white))
    for picture in pictures(tmp_path, "camera", 2):
        assert cv2.absdiff(picture, coffee.pixels).mean() < 3
    press(pygame.K_SPACE)
    assert pictures(tmp_path, "camera", 3)[2].mean() > 250
    window.observe(seen(white, camera="yard"))
    press(pygame.K_n)
    assert pictures(tmp_path, "yard", 1)[0].mean() > 250
    press(pygame.K_TAB)
    pictures(tmp_path, "camera", 4)


def test_keys_for_the_whole_screen_and_for_help(window: WindowSink) -> None:
    assert not noted()
    press(pygame.K_f)
    press(pygame.K_h)
    until(noted)
    window.observe(seen(footage("coffee")))


@pytest.mark.parametrize("how", [pygame.QUIT, pygame.K_q, pygame.K_ESCAPE])
def test_closing_it_ends_the_run(window: WindowSink, how: int) -> None:
    if how == pygame.QUIT:
        pygame.event.post(pygame.event.Event(pygame.QUIT))
    else:
        press(how)
    with pytest.raises(OutputClosed):
        until(lambda: window.observe(observation()))


@pytest.fixture
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    """SDL's choice where it finds nothing, also on a machine with a screen it would find."""
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pygame.display, "init", lambda: None)
    monkeypatch.setattr(pygame.display, "get_driver", lambda: "offscreen")


@pytest.mark.parametrize("driver", ["x11", ""])
def test_no_screen_is_said_in_one_line(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, driver: str
) -> None:
    if driver:
        monkeypatch.setenv("SDL_VIDEODRIVER", driver)
    else:
        request.getfixturevalue("no_screen")
    monkeypatch.setenv("DISPLAY", ":987")
    with pytest.raises(SinkError) as caught:
        WindowSink(config.Window(), [config.Camera()], device)
    assert str(caught.value).startswith("there is no screen to show a window on (")
    assert "\n" not in str(caught.value)


def draw(size: tuple[int, int], views: Sequence[View], **more: Any) -> Pixels:
    health = [camera_health(name=v.camera.name, **more) for v in views]
    drawn = Scene().draw(size, views[0], views, device_health(*health), None, "")
    return drawn[:, :, :3].copy()


def view(frame: Frame, camera: config.Camera | None = None) -> View:
    made = View(camera or config.Camera())
    made.observation = seen(frame)
    made.standing = made.standing.after(change(at=made.observation.at - 2))
    return made


def test_of_many_labels_all_are_in_the_headline_and_their_bars_are_bright() -> None:
    one, both = view(footage("coffee")), view(footage("coffee"))
    both.standing = both.standing.after(change(label="cup", active=("espresso", "cup")))
    assert (one.headline, both.headline) == ("espresso", "espresso + cup")
    alone, together = draw((1280, 800), [one]), draw((1280, 800), [both])
    # The rows of both names, and of one that is not in force.
    names = [slice(608 + n * 36, 640 + n * 36) for n in range(3)]
    bright = [[shown[rows, 640:760].max() for rows in names] for shown in (alone, together)]
    assert [level > 230 for level in bright[0]] == [True, False, False]
    assert [level > 230 for level in bright[1]] == [True, True, False]
    ended = change(label="cup", on=False, active=("espresso",))
    assert both.standing.after(ended).label("cup") == "espresso"


def inside(shown: Pixels, frame: Pixels, margin: float = 0.3) -> float:
    """How far the shown picture is from the frame, above the panel; 0 to 255 a pixel."""
    height, width = shown.shape[:2]
    scale = min(width / frame.shape[1], height / frame.shape[0])
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    expected = cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    left, top = (width - size[0]) // 2, (height - size[1]) // 2
    rows = slice(top + round(size[1] * 0.15), top + round(size[1] * (1 - margin) * 0.9))
    part = shown[rows, left : left + size[0]]
    return float(cv2.absdiff(part, expected[rows.start - top : rows.stop - top]).mean())


@pytest.mark.parametrize("size", [(1280, 800), (640, 480), (480, 800), (320, 240), (1920, 400)])
def test_the_picture_keeps_its_shape(size: tuple[int, int]) -> None:
    frame = footage("coffee")
    shown = draw(size, [view(frame)])
    assert shown.shape == (size[1], size[0], 3)
    assert inside(shown, frame.pixels, margin=0.5) < 6
    # The sides that the picture leaves are dark.
    if size == (1920, 400):
        assert shown[100, 5].max() < 30


def test_it_is_turned_as_the_camera_is() -> None:
    frame = footage("coffee")
    shown = draw((480, 640), [view(frame, config.Camera(rotate=90, mirror=True))])
    turned = cv2.flip(cv2.rotate(frame.pixels, cv2.ROTATE_90_CLOCKWISE), 1)
    assert inside(shown, np.asarray(turned, np.uint8), margin=0.6) < 6


def test_regions_are_framed() -> None:
    dark = np.zeros((480, 640, 3), np.uint8)
    cameras = [
        config.Camera(name="door/left", region=(0.0, 0.0, 0.5, 0.5)),
        config.Camera(name="door/right", region=(0.5, 0.25, 1.0, 0.5)),
    ]
    shown = draw((640, 480), [view(frame_of(dark), camera) for camera in cameras])
    # Left edges of both, half way down.
    assert shown[120, 0:3].max() > 200
    assert shown[180, 319:323].max() > 200
    assert shown[60, 500].max() < 60


def test_what_is_wrong_is_said_and_no_label() -> None:
    frame = footage("coffee")
    well, lost = (draw((640, 480), [view(frame)], state=state) for state in ("live", "lost"))
    off = draw((640, 480), [view(frame)], controls=Controls(False, 0.5, 0.3, 0.0, "m"))
    resting = view(frame)
    resting.standing = resting.standing.after(change(label=OFF_DUTY, score=0.0))
    off_duty = draw((640, 480), [resting])
    panels = [picture[360:, :320] for picture in (well, lost, off, off_duty)]
    assert all(
        cv2.absdiff(one, other).max() > 100 for one, other in itertools.combinations(panels, 2)
    )
    # No bars beside a label that is not there.
    for other in (off, off_duty):
        assert cv2.absdiff(lost[360:, 330:], other[360:, 330:]).max() == 0


@pytest.mark.parametrize(
    ("bits", "line"),
    [
        (32, [3, 2, 200, 0, 9, 200, 1, 0]),
        (24, [3, 2, 200, 9, 200, 1]),
        # Five bits of red, six of green, five of blue, the low byte first.
        (16, [0x00, 0xC8, 0x41, 0x06]),
    ],
)
def test_pixels_of_a_framebuffer(bits: int, line: list[int]) -> None:
    picture = np.array([[[3, 2, 200, 0], [9, 200, 1, 0]]], np.uint8)
    assert framebuffer.packed(picture, bits).tolist() == [line]


def test_a_framebuffer_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "fb0").write_bytes(b"")
    for path in (tmp_path / "fb0", tmp_path / "none"):
        with pytest.raises(SinkError, match="cannot be used"):
            framebuffer.Framebuffer(path)


@pytest.mark.usefixtures("no_screen")
def test_where_sdl_finds_no_screen_the_framebuffer_is_tried(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(framebuffer, "DEVICE", tmp_path / "fb0")
    (tmp_path / "fb0").write_bytes(b"")
    with pytest.raises(SinkError, match="fb0 cannot be used"):
        WindowSink(config.Window(), [config.Camera()], device)


@pytest.mark.slow
@pytest.mark.skipif(XVFB is None, reason="no Xvfb here: apt install xvfb")
def test_a_whole_labelcam_on_an_x_server(tmp_path: Path) -> None:
    assert XVFB
    ready, told = os.pipe()
    server = subprocess.Popen(
        [XVFB, "-displayfd", str(told), "-screen", "0", "800x600x24", "-fbdir", str(tmp_path)],
        pass_fds=[told],
        stderr=subprocess.DEVNULL,
    )
    os.close(told)
    with os.fdopen(ready) as pipe:
        display = pipe.readline().strip()
    settings = ["window.enabled=true", "window.fullscreen=true", "jsonl.enabled=true"]
    options = [f"--set={setting}" for setting in settings]
    source = str(ROOT / "models" / "footage" / "coffee.jpg")
    labelcam = subprocess.Popen(
        [sys.executable, "-m", "device", "run", "--source", source, *options],
        cwd=ROOT,
        env=os.environ | {"DISPLAY": f":{display}", "LABELCAM_STATE": str(tmp_path / "state")},
        stdout=subprocess.DEVNULL,
    )
    screen = tmp_path / "Xvfb_screen0"
    try:
        until(lambda: _is_coffee(_shot(screen)))
        shot = _shot(screen).copy()
    finally:
        labelcam.terminate()
        ended = labelcam.wait(PATIENCE_S)
        server.terminate()
        server.wait(PATIENCE_S)
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "window.png"), shot)
    assert ended == 0


def _is_coffee(shot: Pixels) -> bool:
    return inside(shot, footage("coffee").pixels, margin=0.4) < 8


def _shot(path: Path) -> Pixels:
    """What an X server shows, from the file that it keeps it in (xwd, XWDFile.h)."""
    data = path.read_bytes()
    head = struct.unpack(">25I", data[:100])
    header, width, height, line, colours = head[0], head[4], head[5], head[12], head[19]
    pixels = np.frombuffer(data, np.uint8, line * height, header + 12 * colours)
    return pixels.reshape(height, line // 4, 4)[:, :width, :3]
