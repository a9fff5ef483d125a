"""``labelcam config``: whether a file is valid, and taking one from the boot partition."""

import argparse
from pathlib import Path

from device.cli.arguments import VERBOSE, Commands, group


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "config", "the configuration file")
    check = ways.add_parser("check", parents=[VERBOSE], help="tell whether a file is valid")
    check.add_argument("file", metavar="FILE", type=Path)
    check.set_defaults(command=_check)
    adopt = ways.add_parser(
        "adopt",
        parents=[VERBOSE],
        help="move labelcam.toml from the boot partition to its place; the service does so itself",
    )
    adopt.set_defaults(command=_adopt)


def _check(options: argparse.Namespace) -> int:
    from device import config

    config.load(options.file)
    print(f"{options.file}: is valid")
    return 0


def _adopt(_options: argparse.Namespace) -> int:
    from device.system.adopt import adopt

    return adopt()
