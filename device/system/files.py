"""Files that are replaced whole: a reader, or a loss of power, meets the old one or the new."""

import errno
import os
import stat
import threading
from pathlib import Path


def read_file(path: Path, max_bytes: int) -> bytes:
    """What is in a regular file, at most so much.

    Raises OSError, also for a pipe or a device, which may never end, and for a larger file.
    """
    # Opening a pipe would wait for its writer; a regular file does not know of the flag.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"is over {max_bytes:,} bytes", str(path))
    return data


def replace_file(
    path: Path,
    data: bytes,
    *,
    mode: int | None = None,
    owner: tuple[int, int] | None = None,
    durable: bool = False,
) -> None:
    """Put ``data`` in the place of the file, whose folders are made where they are missing.

    ``mode`` is set whatever the umask, which has its say where it is None; ``owner`` are the
    numbers of a user and a group. A ``durable`` file has reached the disk, and its name too,
    when this returns; without that, a loss of power soon after may bring the old one back.
    Raises OSError, and then leaves the old file and nothing else behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The kernel's number of a thread is no other's, in this process or in any.
    beside = path.with_name(f".{path.name}.{threading.get_native_id()}")
    beside.unlink(missing_ok=True)
    try:
        # Nobody else may read what the mode, which comes later, will keep from them.
        created = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if mode is None else 0o600
        )
        with os.fdopen(created, "wb") as file:
            file.write(data)
            file.flush()
            if owner is not None:
                os.fchown(created, *owner)
            if mode is not None:
                os.fchmod(created, mode)
            if durable:
                os.fsync(created)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the names in the folder outlive a loss of power. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
