"""Files that are replaced whole: a reader, or a loss of power, meets the old one or the new."""

import os
import threading
from pathlib import Path


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
