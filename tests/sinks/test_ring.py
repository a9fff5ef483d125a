"""The pictures on disk: within their limits, whatever clock, disk and neighbours do."""

import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device import config
from device.recordings.rendering import photo
from device.sinks import captions, ring
from device.sinks.captions import Moment, caption_of
from device.sinks.ring import Limits, Ring, open_ring
from tests.conftest import footage

DAY, YEAR = 86_400.0, 365 * 86_400.0
NOON = 1_790_000_000.0  # 2026-09-21T14:13:20Z
JPEG = photo(footage("coffee"), 0, mirror=False, quality=20)
ROOMY = Limits(1000, 100 << 20, 30 * DAY)


CAPTION = captions.Caption("yard", "cat", 0.5, datetime.fromtimestamp(NOON, UTC), True, "b1", 7.0)


class Clock:
    """A board's clocks: the wall's, which may be set, and the boot's, which goes on."""

    def __init__(self, wall: float = NOON, *, synced: bool = True, boot: str = "b1") -> None:
        self.wall, self.synced, self.boot, self.since = wall, synced, boot, 100.0

    def __call__(self) -> Moment:
        return Moment(self.wall, self.synced, self.boot, self.since)

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.since += seconds

    def reboot(self, off_s: float, boot: str) -> None:
        self.wall += off_s
        self.since, self.boot = 10.0, boot


def keep(kept: Ring, clock: Clock, label: str = "cat", camera: str = "camera") -> str:
    return kept.add(JPEG, camera, label, 0.91234567, clock())


def make(folder: Path, clock: Clock, limits: Limits = ROOMY) -> Ring:
    return Ring(folder / "snapshots", limits, clock, reserve_mb=0)


def names(kept: Ring) -> list[str]:
    return sorted(path.name for path in kept.folder.iterdir())


def labels(kept: Ring) -> list[str]:
    return [shown.label for shown in kept.newest(1000)]


def test_a_picture_is_a_file_that_says_what_it_is(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    key = kept.add(JPEG, "Front door", "Egyptian cat", 0.91234567, clock())
    assert key == "0000000001-20260921T141320Z"
    path = kept.folder / f"{key}_front-door_egyptian-cat.jpg"
    assert names(kept) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700
    data = path.read_bytes()
    # Nothing but a comment is added: no EXIF, and the picture is as it was.
    assert b"\xff\xe1" not in data[:600]
    assert len(data) - len(JPEG) < 250
    assert data.endswith(JPEG[20:])
    clock.wait(5)
    (shown,) = kept.newest(10)
    assert (shown.camera, shown.label, shown.score) == ("Front door", "Egyptian cat", 0.9123)
    assert (shown.id, shown.at, shown.age_s) == (key, "2026-09-21T14:13:20.000Z", 5.0)
    assert kept.picture(key) == data


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    odd = ["../../etc/passwd", "🦊", "a\0b", "x" * 5000, "Käse_Brot", ""]
    for label in odd:
        keep(kept, clock, label, camera=f"yard/{label[:40]}")
    assert len(names(kept)) == len(odd)
    assert all(name.isascii() and len(name) < 140 for name in names(kept))
    assert labels(make(tmp_path, clock)) == [label[:1000] for label in reversed(odd)]


def test_the_oldest_go_first_by_count_and_by_size(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock, Limits(5, 100 << 20, 30 * DAY))
    for number in range(8):
        keep(kept, clock, f"label {number}")
    assert labels(kept) == [f"label {number}" for number in (7, 6, 5, 4, 3)]
    assert len(names(kept)) == 5
    size = kept.prepare()[1]
    assert size == sum((kept.folder / name).stat().st_size for name in names(kept))
    small = make(tmp_path, clock, Limits(1000, size // 2, 30 * DAY))
    assert small.prepare()[0] == 2
    keep(small, clock, "new")
    assert labels(small) == ["new", "label 7"]
    assert small.prepare()[1] <= size // 2


def test_a_picture_over_all_that_may_be_kept_is_refused(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock, "before")
    tight = make(tmp_path, clock, Limits(1000, len(JPEG) - 1, 30 * DAY))
    with pytest.raises(OSError, match=r"over snapshots\.mb"):
        keep(tight, clock)
    assert labels(kept) == ["before"]


def test_files_of_a_run_before_count_and_numbers_go_on(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    for number in range(4):
        keep(kept, clock, f"old {number}")
    again = make(tmp_path, clock, Limits(3, 100 << 20, 30 * DAY))
    assert again.prepare()[0] == 3
    assert keep(again, clock, "new").startswith("0000000005-")
    assert labels(again) == ["new", "old 3", "old 2"]


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock, Limits(1, 100 << 20, 30 * DAY))
    kept.prepare()
    ours = "0000000001-20260921T141320Z_camera_cat.jpg"
    outside = tmp_path / "outside.jpg"
    outside.write_bytes(JPEG)
    (kept.folder / "holiday.jpg").write_bytes(JPEG)
    (kept.folder / "notes.txt").write_text("mine")
    (kept.folder / ours.replace("cat", "dir")).mkdir()
    (kept.folder / ours.replace("cat", "link")).symlink_to(outside)
    foreign = names(kept)
    for number in range(3):
        keep(kept, clock, f"label {number}")
    assert kept.clear() == 1
    assert names(kept) == foreign
    assert outside.read_bytes() == JPEG
    assert kept.newest(10) == []


def test_what_a_loss_of_power_left_is_cleared_away(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock)
    half = kept.folder / f".{names(kept)[0]}.12345"
    half.write_bytes(JPEG[:100])
    other = kept.folder / ".hidden.12345"
    other.touch()
    again = make(tmp_path, clock)
    assert again.prepare()[0] == 1
    assert not half.exists()
    assert other.exists()


def test_a_file_of_ours_that_is_damaged_or_replaced_is_still_shown(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    for label in ("cut", "bare", "noise", "nested"):
        keep(kept, clock, label)
    for path in kept.folder.iterdir():
        data = path.read_bytes()
        depth = b"\xff\xfe\xff\xff" + b"[" * 70_000
        path.write_bytes(
            {"cut": data[:30], "bare": JPEG, "noise": b"\xff" * 99}.get(
                path.stem.split("_")[2], data[:2] + depth
            )
        )
    shown = make(tmp_path, clock).newest(10)
    assert [one.label for one in shown] == ["nested", "noise", "bare", "cut"]
    assert {(one.score, one.age_s) for one in shown} == {(None, None)}
    assert shown[0].at == "2026-09-21T14:13:20.000Z"


# Clocks.


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
@pytest.mark.parametrize("synced", [True, False])
def test_a_clock_that_jumps_a_year_neither_deletes_nor_reorders(
    tmp_path: Path, jump: float, synced: bool
) -> None:
    clock = Clock(synced=synced)
    kept = make(tmp_path, clock)
    for number in range(3):
        keep(kept, clock, f"before {number}")
        clock.wait(60)
    clock.wall += jump
    clock.synced = True
    for number in range(3):
        keep(kept, clock, f"after {number}")
        clock.wait(60)
    expected = [f"after {n}" for n in (2, 1, 0)] + [f"before {n}" for n in (2, 1, 0)]
    assert labels(kept) == expected
    assert [shown.age_s for shown in kept.newest(10)] == [60, 120, 180, 240, 300, 360]
    # By name as well, and in the next run.
    assert [name.split("_")[2] for name in reversed(names(kept))] == [
        f"{label.replace(' ', '-')}.jpg" for label in expected
    ]
    again = make(tmp_path, clock)
    again.prepare()
    assert labels(again) == expected


@pytest.mark.parametrize("jump", [YEAR, -YEAR])
def test_a_boot_with_a_wrong_clock_deletes_nothing(tmp_path: Path, jump: float) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock, "before")
    clock.reboot(jump, "b2")
    clock.synced = False
    again = make(tmp_path, clock)
    keep(again, clock, "after")
    assert labels(again) == ["after", "before"]
    assert again.newest(1, before="0000000002")[0].age_s is None
    # Until it has been on for as long as a picture may be kept.
    clock.wait(31 * DAY)
    again.prepare()
    assert labels(again) == []


def test_days_are_counted_over_a_boot_where_both_clocks_were_set(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock, "first")
    clock.reboot(20 * DAY, "b2")
    again = make(tmp_path, clock)
    keep(again, clock, "second")
    assert labels(again) == ["second", "first"]
    clock.reboot(11 * DAY, "b3")
    third = make(tmp_path, clock)
    third.prepare()
    assert labels(third) == ["second"]


def test_days_pass_without_a_change(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock)
    clock.wait(30 * DAY - 1)
    assert kept.prepare()[0] == 1
    clock.wait(2)
    assert kept.prepare() == (0, 0)


def test_the_real_clocks_agree(tmp_path: Path) -> None:
    kept = open_ring(config.Snapshots(), tmp_path)
    kept.add(JPEG, "camera", "cat", 0.5, captions.moment(time.monotonic() - 5))
    (shown,) = kept.newest(1)
    assert shown.age_s is not None
    assert 4.9 < shown.age_s < 30


# Disks.


def test_a_folder_that_is_a_file_is_said_in_words(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    kept.folder.write_text("mine")
    with pytest.raises(OSError, match="is a file and should be a folder"):
        keep(kept, clock)
    assert kept.folder.read_text() == "mine"
    assert kept.newest(10) == []
    assert kept.picture("0000000001-20260921T141320Z") is None
    kept.folder.unlink()
    keep(kept, clock)
    assert labels(kept) == ["cat"]


def test_a_folder_that_vanishes_is_made_again(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock, "before")
    kept.folder.rename(tmp_path / "elsewhere")
    assert kept.newest(10) == []
    assert keep(kept, clock, "after").startswith("0000000002-")
    assert labels(kept) == ["after"]
    assert kept.prepare() == (1, (kept.folder / names(kept)[0]).stat().st_size)
    # Another disk in its place, and the first one back.
    kept.folder.rename(tmp_path / "another")
    (tmp_path / "elsewhere").rename(kept.folder)
    assert labels(kept) == ["before"]


def test_a_folder_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    kept = make(tmp_path, Clock())
    kept.folder.mkdir(mode=0o755)
    kept.prepare()
    assert stat.S_IMODE(kept.folder.stat().st_mode) == 0o700


def test_pictures_that_the_owner_deletes_are_gone(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keys = [keep(kept, clock, f"label {number}") for number in range(3)]
    # The file system's clock ticks slower than a test.
    os.utime(kept.folder, (1, 1))
    assert len(kept.newest(10)) == 3
    (kept.folder / names(kept)[1]).unlink()
    assert kept.picture(keys[1]) is None
    assert labels(kept) == ["label 2", "label 0"]
    version = kept.version
    assert kept.remove(keys[0])
    assert not kept.remove(keys[0])
    assert not kept.remove("../x")
    assert kept.version > version
    assert kept.clear() == 1
    assert names(kept) == []


@contextmanager
def no_file_over(size: int) -> Iterator[None]:
    """As on a disk that fills up within a file: writing more fails for real."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_picture_that_does_not_fit_leaves_nothing_behind(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    keep(kept, clock, "before")
    before = names(kept)
    with no_file_over(1000), pytest.raises(OSError, match="File too large"):
        keep(kept, clock)
    assert names(kept) == before
    keep(kept, clock, "after")
    assert labels(kept) == ["after", "before"]


Disk = namedtuple("Disk", ("f_bavail", "f_frsize"))


def test_the_last_of_the_disk_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, free = Clock(), ring.RESERVE_MB * 2**20 - 1
    kept = Ring(tmp_path / "snapshots", ROOMY, clock)
    for number in range(4):
        keep(kept, clock, f"label {number}")
    size = kept.prepare()[1]
    cramped = [kept.is_cramped]
    monkeypatch.setattr("os.statvfs", lambda _path: Disk(free, 1))
    for number in range(4, 7):
        keep(kept, clock, f"label {number}")
    # It turns, and has not grown.
    cramped.append(kept.is_cramped)
    assert labels(kept)[0] == "label 6"
    assert kept.prepare()[1] <= size
    monkeypatch.setattr("os.statvfs", lambda _path: Disk(free * 10, 1))
    keep(kept, clock, "label 7")
    assert [*cramped, kept.is_cramped] == [False, True, False]


def test_an_empty_ring_takes_nothing_of_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    kept = Ring(tmp_path / "snapshots", ROOMY, clock)
    monkeypatch.setattr("os.statvfs", lambda _path: Disk(2**20, 1))
    with pytest.raises(OSError, match="less than 50 MB of the disk are free"):
        keep(kept, clock)
    assert names(kept) == []


def test_a_picture_that_fails_again_and_again_costs_others_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    kept = Ring(tmp_path / "snapshots", ROOMY, clock)
    for number in range(6):
        keep(kept, clock, f"label {number}")
    monkeypatch.setattr("os.statvfs", lambda _path: Disk(0, 1))
    with no_file_over(1000):
        for _ in range(20):
            with pytest.raises(OSError, match="File too large"):
                keep(kept, clock, "never")
    assert len(names(kept)) >= 4


FILL = """
import os, sys
from pathlib import Path
from tests.sinks.test_ring import JPEG, Clock, Limits, ROOMY, Ring, keep, labels, names
import pytest
folder, clock = Path(sys.argv[1]), Clock()
kept = Ring(folder / "snapshots", ROOMY, clock, reserve_mb=0)
for number in range(200):
    keep(kept, clock, f"label {number}")
assert labels(kept)[0] == "label 199"
count = len(names(kept))
assert 5 < count < 199, count
assert kept.is_cramped
# Somebody else takes what is left, between a look at the disk and the writing.
kept.clear()
hog = folder / "hog"
with pytest.raises(OSError, match="No space left"), hog.open("wb", buffering=0) as file:
    while True:
        file.write(bytes(4096))
statvfs = os.statvfs
os.statvfs = lambda path: type("Disk", (), {"f_bavail": 10**9, "f_frsize": 1})
for _ in range(3):
    with pytest.raises(OSError, match="No space left"):
        keep(kept, clock)
    assert names(kept) == []
hog.unlink()
os.statvfs = statvfs
keep(kept, clock, "after")
assert labels(kept) == ["after"]
os.system(f"mount -o remount,ro {folder}")
with pytest.raises(OSError, match="is read-only, or another user's"):
    keep(kept, clock)
assert labels(kept) == ["after"]
with pytest.raises(OSError, match="Read-only"):
    kept.clear()
os.system(f"mount -o remount,rw {folder}")
keep(kept, clock, "again")
assert labels(kept) == ["again", "after"]
"""


@pytest.mark.slow
def test_a_real_disk_that_fills_up_and_is_made_read_only(tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=400k labelcam {tmp_path}"
    alone = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here: it takes root and unshare")
    script = f'{mount} && exec "$0" -c "$1" {tmp_path}'
    done = subprocess.run(
        [*alone, script, sys.executable, FILL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_caption_without_a_time_zone_is_none(tmp_path: Path) -> None:
    data = captions.captioned(JPEG, CAPTION).replace(b"13:20Z", b"13:20 ")
    (tmp_path / "x.jpg").write_bytes(data)
    assert captions.caption_of(tmp_path / "x.jpg") is None


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 60))
def test_whatever_lies_there_has_a_caption_or_none(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.jpg"
    good = captions.captioned(JPEG, CAPTION)
    for data in (noise, good[:at] + noise + good[at:], good[:at] + noise, good[:at]):
        path.write_bytes(data)
        assert captions.caption_of(path) in (None, CAPTION) or b"{" in noise
    path.write_bytes(good)
    assert captions.caption_of(path) == CAPTION


# Ids.


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.text(max_size=60),
        st.from_regex(r"\d{10}-\d{8}T\d{6}Z", fullmatch=True),
        st.sampled_from(["..", "../outside.jpg", "/etc/passwd", "%2e%2e", "\0", "outside"]),
    )
)
def test_no_id_reaches_what_is_not_ours(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    folder = tmp_path_factory.getbasetemp() / "ids"
    clock = Clock()
    kept = make(folder, clock)
    if not kept.newest(1):
        keep(kept, clock)
        (folder / "outside.jpg").write_bytes(JPEG)
    (own,) = kept.newest(10)
    if key != own.id:
        assert kept.picture(key) is None
        assert not kept.remove(key)
    assert len(kept.newest(10, before=key)) <= 1
    assert kept.picture(own.id) is not None


# Many.


@pytest.mark.slow
def test_a_restart_with_five_thousand_pictures_opens_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "snapshots"
    folder.mkdir()
    for number in range(1, 5001):
        (folder / f"{number:010d}-20260921T141320Z_camera_cat.jpg").touch()
    opened: list[Path] = []

    def count(path: Path) -> captions.Caption | None:
        opened.append(path)
        return caption_of(path)

    monkeypatch.setattr(ring, "caption_of", count)
    kept = make(tmp_path, Clock(), Limits(10_000, 100 << 20, 30 * DAY))
    assert kept.prepare()[0] == 5000
    assert len(opened) == 1
    assert len(kept.newest(24)) == 24
    assert len(opened) == 25
    # What has been looked at is not looked at again.
    monkeypatch.setattr("os.scandir", lambda _path: pytest.fail("looked again"))
    keep(kept, Clock())
    assert kept.newest(1)[0].id.startswith("0000005001-")


def test_one_camera_of_many_is_listed_and_pages_follow_each_other(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock)
    for number in range(10):
        keep(kept, clock, f"label {number}", camera=("door", "Door", "yard/left")[number % 3])
    # The same name to a file, and not the same camera.
    assert [s.label for s in kept.newest(10, camera="Door")] == ["label 7", "label 4", "label 1"]
    assert [s.label for s in kept.newest(2, camera="yard/left")] == ["label 8", "label 5"]
    assert kept.newest(10, camera="nobody") == []
    page = kept.newest(4)
    assert [s.label for s in page] == [f"label {number}" for number in (9, 8, 7, 6)]
    assert [s.label for s in kept.newest(4, before=page[-1].id)] == [
        f"label {number}" for number in (5, 4, 3, 2)
    ]
    # Also where the last one of a page has gone meanwhile.
    kept.remove(page[-1].id)
    assert kept.newest(1, before=page[-1].id)[0].label == "label 5"


def test_threads_share_a_ring(tmp_path: Path) -> None:
    clock = Clock()
    kept = make(tmp_path, clock, Limits(20, 100 << 20, 30 * DAY))

    def work(number: int) -> None:
        for _ in range(15):
            key = keep(kept, clock, f"label {number}")
            kept.newest(5)
            kept.picture(key)
            if number == 0:
                kept.remove(key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What one of them raises is a failure by itself.
    assert kept.prepare()[0] == len(names(kept)) <= 20
    assert len({name[:10] for name in names(kept)}) == len(names(kept))
