"""The history: how much there is of it, and whether one was damaged."""

from datetime import datetime

from device.doctor.subject import Finding, Subject, absent, ok, warn
from device.errors import HistoryError
from device.history.database import DAMAGED_SUFFIX
from device.history.reader import Reader


def history(subject: Subject) -> Finding:
    """What was seen can be read, and none that was damaged lies there."""
    path = subject.state / "history.db"
    aside = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        if aside.exists():
            says = f"one was damaged and a new one begun; it is kept as {aside}"
            return warn(says, f"sudo rm {aside}")
        if not path.exists():
            return absent("no history is kept here")
        with Reader(path) as reader:
            begun = reader.begun()
        size_mb = path.stat().st_size / 1e6
    except HistoryError as error:
        return warn(str(error), "sudo systemctl restart labelcam")
    except OSError as error:
        return warn(f"{path}: {(error.strerror or 'unknown').lower()}", "sudo labelcam doctor")
    since = f", since {datetime.fromtimestamp(begun):%Y-%m-%d}" if begun else ""
    return ok(f"{size_mb:.1f} MB of {subject.settings.history.mb:g}{since}")
