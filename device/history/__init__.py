"""What was seen and done, in a database in the state directory: written by one, read by many."""

from pathlib import Path

from device.system.paths import state_directory


def history_file() -> Path:
    """Where the history lies; it may not exist yet."""
    return state_directory() / "history.db"
