"""Events that bear on security: a line in the log each, for whoever reads or collects it.

They come from the logger ``labelcam.audit``; an outlet that passes them on adds a handler to it.
"""

import logging
from typing import Literal

from device.system.text import printable

Event = Literal["wrong-token", "signed-in", "token-made", "changed", "refused"]
LOGGER = "labelcam.audit"
_log = logging.getLogger(LOGGER)


def note(event: Event, what: str) -> None:
    """Note an event: ``what`` says what happened, and from where if that is known.

    The text is one message of its own, so that only the same one over and over is left out.
    """
    level = logging.INFO if event in ("signed-in", "changed") else logging.WARNING
    what = printable(what)
    _log.log(level, f"security: {event}: {what}", extra={"event": event, "what": what})
