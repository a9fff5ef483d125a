"""``labelcam`` and ``python -m device``: the program's first line and its last."""

import signal
import sys


def main() -> int:
    """Run the command line; returns the exit code.

    Ctrl-C ends the process at once and in silence while there is nobody yet, or no more, who
    makes an exit code of it: loading takes a second on a small board.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from device import cli

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    code = cli.main()
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    return code


if __name__ == "__main__":
    sys.exit(main())
