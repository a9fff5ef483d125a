"""A file that is replaced is the old one or the new one, whatever happens."""

import os
import threading
from pathlib import Path

import pytest

from device.system.files import replace_file


def test_the_new_file_takes_the_place_of_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "state.json"
    replace_file(path, b"old")
    replace_file(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["state.json"]  # noqa: PTH208


def test_a_mode_holds_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        replace_file(tmp_path / "given", b"", mode=0o640)
        replace_file(tmp_path / "by-umask", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "given").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "by-umask").stat().st_mode & 0o777 == 0o600


def test_an_owner_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(os, "fchown", lambda _, user, group: given.append((user, group)))
    replace_file(tmp_path / "secret", b"", mode=0o600, owner=(12, 34))
    assert given == [(12, 34)]


def test_a_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.json"
    replace_file(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_the_same_file_never_mix(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    contents = [bytes([letter]) * 100_000 for letter in b"abcd"]
    replace_file(path, contents[0])

    def write(content: bytes) -> None:
        for _ in range(20):
            replace_file(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_bytes() in contents
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == [path]
