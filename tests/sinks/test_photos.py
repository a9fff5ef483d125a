"""One frame, one photo, however many ask for it."""

import gc
import threading
import weakref

import cv2
import numpy as np
import pytest

from device import config
from device.frames import Frame, PixelFormat
from device.recordings.rendering import photo
from device.sinks.photos import Photos
from tests.web.conftest import FakeDevice

CAMERAS = [config.Camera(), config.Camera(name="door", rotate=90)]


def frame_of(number: int = 0) -> Frame:
    pixels = np.random.default_rng(number).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    return Frame(pixels, PixelFormat.BGR, 64, 48, number, 0.0)


class Looking(FakeDevice):
    """Looks at the left half of its picture, until it is told otherwise."""

    box = (0.0, 0.0, 0.5, 1.0)

    def region(self, _camera: str) -> tuple[float, float, float, float]:
        return self.box


def test_all_that_ask_get_the_same_photo_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []

    def count(frame: Frame, *arguments: object) -> bytes:
        encoded.append(frame)
        return photo(frame, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("device.sinks.photos.photo", count)
    photos, frame = Photos(config.Snapshots(), CAMERAS, FakeDevice()), frame_of()
    taken = [photos.of("camera", frame) for _ in range(3)]
    assert encoded == []
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda p=p: found.append(p.jpeg())) for p in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(encoded) == 1
    assert len(found) == 3
    assert len(set(found)) == 1
    assert photos.of("camera", frame) is taken[0]
    assert photos.of("camera", frame_of(1)) is not taken[0]
    # Another camera hangs otherwise.
    turned = cv2.imdecode(np.frombuffer(photos.of("door", frame).jpeg(), np.uint8), 1)
    assert turned.shape == (64, 48, 3)


def test_a_photo_lets_its_frame_go_and_goes_itself() -> None:
    photos, frame = Photos(config.Snapshots(), CAMERAS, FakeDevice()), frame_of()
    taken = photos.of("camera", frame)
    picture, gone = taken.jpeg(), weakref.ref(taken)
    pixels = weakref.ref(frame)
    del frame
    gc.collect()
    assert pixels() is None
    assert taken.jpeg() == picture
    del taken
    gc.collect()
    assert gone() is None


def test_it_is_blurred_around_the_region_of_its_moment() -> None:
    device = Looking()
    photos = Photos(config.Snapshots(blur=True), CAMERAS, device)
    frame = frame_of()
    taken = photos.of("camera", frame)
    # What is chosen after the frame is not what it was looked at with.
    device.box = (0.0, 0.0, 1.0, 1.0)
    picture = cv2.imdecode(np.frombuffer(taken.jpeg(), np.uint8), 1)
    assert picture[:, :28].std() > 2 * picture[:, 36:].std()
    later = cv2.imdecode(np.frombuffer(photos.of("camera", frame_of(1)).jpeg(), np.uint8), 1)
    assert later[:, 36:].std() > 2 * picture[:, 36:].std()
