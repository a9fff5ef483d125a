"""``labelcam run``: classify a camera until it is stopped."""

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from device.cli.arguments import SET, VERBOSE, Commands, config_file, count, source

if TYPE_CHECKING:
    from device import config


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "run",
        parents=[VERBOSE, source(), config_file(), SET],
        help="classify a camera until it is stopped",
    )
    parser.add_argument("--frames", metavar="N", type=count, help="stop after N classified frames")
    parser.set_defaults(command=_run, loads=("device.node",))


def _run(options: argparse.Namespace) -> int:
    from device import config
    from device.node import Node

    def read() -> "config.Config":
        return config.load(options.config, options.set, source=options.source)

    # A service waits for its camera; who names one sees at once that it is not there.
    patient = options.config is not None and options.source is None
    node = Node(read(), frames=options.frames, reload=read, patient=patient)
    code = node.run()
    if node.wants_restart:
        # A driver may have opened files that would outlive the process image, and keep the
        # camera busy for the one that follows.
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        # Another reload must not end the program before it has a handler again.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - no shell is wanted
    return code
