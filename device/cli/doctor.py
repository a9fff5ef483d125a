"""``labelcam doctor``: tell what is wrong with this machine, and what mends it."""

import argparse

from device.cli.arguments import VERBOSE, Commands, as_json, config_file
from device.cli.service import OWN


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "doctor",
        parents=[
            VERBOSE,
            OWN,
            config_file(", if not the service's"),
            as_json("all findings as one JSON array"),
        ],
        help="tell what is wrong with this machine, and what mends it",
    )
    parser.add_argument(
        "--self-test",
        action="store_true",
        help="only whether this release works here, whatever is plugged in",
    )
    parser.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from device.doctor import doctor

    return doctor(options.config, as_json=options.json, self_test=options.self_test)
