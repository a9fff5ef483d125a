"""``labelcam config``: whether a file is valid, and taking one from the boot partition."""

import argparse
from pathlib import Path

from device.cli.arguments import SET, VERBOSE, Commands, group, source
from device.cli.service import OWN
from device.errors import ConfigError, ModelError


def register(commands: Commands) -> None:
    """Add the command."""
    ways = group(commands, "config", "the configuration file")
    check = ways.add_parser(
        "check", parents=[VERBOSE, OWN, SET, source()], help="tell whether a file is valid"
    )
    check.add_argument("config", metavar="FILE", type=Path)
    check.add_argument(
        "--deep",
        action="store_true",
        help="build all parts but the cameras' streams as well, as a reload does first",
    )
    check.set_defaults(command=_check)
    adopt = ways.add_parser(
        "adopt",
        parents=[VERBOSE],
        help="move labelcam.toml from the boot partition to its place; the service does so itself",
    )
    adopt.set_defaults(command=_adopt)


def _check(options: argparse.Namespace) -> int:
    from device import config
    from device.pipeline.plan import check_labels

    settings = config.load(options.config, options.set, source=options.source)
    try:
        check_labels(settings)
    except ModelError as error:
        raise ConfigError(str(options.config), str(error)) from None
    if options.deep:
        from device import preflight

        preflight.check(settings)
    print(f"{options.config}: is valid")
    return 0


def _adopt(_options: argparse.Namespace) -> int:
    from device.system.adopt import adopt

    return adopt()
