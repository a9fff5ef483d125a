"""Where the device keeps what must outlive a restart, of the board or of the process."""

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# The models, labels and footage that come with labelcam: in the package where it was installed
# from a wheel, beside it in a checkout.
MODELS = next(path for path in (_PACKAGE / "_models", _PACKAGE.parent / "models") if path.is_dir())


def state_directory() -> Path:
    """The directory for fetched models, choices and undelivered events; it may not exist yet.

    Under systemd it is $STATE_DIRECTORY (the first, where the unit names several), else
    $LABELCAM_STATE, else ``labelcam`` in $XDG_STATE_HOME, by default ``~/.local/state``.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    given = given or os.environ.get("LABELCAM_STATE", "")
    if given:
        return Path(given)
    home = os.environ.get("XDG_STATE_HOME")
    # By the XDG base directory specification a relative path there does not count.
    if home and Path(home).is_absolute():
        return Path(home) / "labelcam"
    return Path.home() / ".local" / "state" / "labelcam"


def runtime_directory() -> Path | None:
    """The directory for what a reboot may forget, in memory; it may not exist yet.

    Under systemd it is $RUNTIME_DIRECTORY (the first, where the unit names several), else
    ``labelcam`` in $XDG_RUNTIME_DIR, else None: no place that spares the SD card.
    """
    if given := os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]:
        return Path(given)
    home = os.environ.get("XDG_RUNTIME_DIR")
    return Path(home) / "labelcam" if home and Path(home).is_absolute() else None
