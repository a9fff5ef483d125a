"""What takes turns in ``labelcam bench``: a process for each way to run the model.

They are started one after the other and then asked for short rounds in turn, so that heat,
clocks and whatever else the machine does hit all alike.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from device import config
from device.bench.rehearsal import (
    Begin,
    BeginPlain,
    FrameTimes,
    Invoke,
    Label,
    Picture,
    Startup,
)
from device.bench.report import Peer, Result, Spread, memory_mb, significant
from device.errors import TrialError
from device.frames import PixelFormat
from device.inference.runtimes import RUNTIMES, Candidate, Runtime
from device.inference.trial import Times, Trial
from device.library.catalog import Model

_log = logging.getLogger("labelcam.bench")

# What a cooled board and a machine that does other things need to even out.
ROUNDS = 10
_START_TIMEOUT_S = 60.0
_TURN_TIMEOUT_S = 60.0
# What a process takes while it waits for its turn, with the kernel's share.
_PROCESS_MB = 150

Reply = TypeVar("Reply")


class Entrant:
    """A process that takes turns; ``times`` are milliseconds of its calls."""

    def __init__(
        self, name: str, *command: str, python: str = "", first: object, reply: type[Reply]
    ) -> None:
