"""The process of the soaked device, so that what it holds can be measured.

It writes lines of JSON to stdout, and for what is not its own to do (to kill the broker, to rotate
the log) it asks there and waits for a line on stdin.
"""

import argparse
import sys
from pathlib import Path

from tests.soak.clock import Clock


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("broker_port", type=int)
    parser.add_argument("web_port", type=int)
    parser.add_argument("length_s", type=float)
    parser.add_argument("seed", type=int)
    parser.add_argument("--replay", action="store_true")
    options = parser.parse_args()
    clock = None
    if options.replay:
        clock = Clock()
        clock.install()
    # Only now: from here on ``device`` reads that clock.
    from tests.soak.world import live

    ports = options.broker_port, options.web_port
    return live(options.folder, *ports, options.length_s, options.seed, clock)


if __name__ == "__main__":
    sys.exit(main())
