"""``labelcam web token``: the token that the page in the browser asks for."""

import argparse
import os

from device.cli.arguments import VERBOSE, Commands, config_file, group
from device.cli.service import OWN
from device.system import audit, logs


def register(commands: Commands) -> None:
    """Add the command."""
    token = group(commands, "web", "the page in the browser").add_parser(
        "token",
        parents=[VERBOSE, config_file(), OWN],
        help="make the token that the page asks for, in place of the old one",
    )
    token.set_defaults(command=_token)


def _token(options: argparse.Namespace) -> int:
    from device import config
    from device.sinks.web import token

    path = token.token_path(config.load(options.config).web.token_file)
    # Alone on stdout, so that it can be piped to where it is needed.
    print(token.make(path))
    audit.note("token-made", f"for the web view, by user {os.getuid()}")
    logs.complain(
        f"this is shown once; its hash is in {path}. What runs takes it at its next start"
    )
    return 0
