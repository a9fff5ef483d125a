"""The command line: arguments to calls, errors to exit codes.

Exit 0: done. 1: a fault. 2: usage or configuration. Each command imports what it needs
when it runs, so that ``labelcam --help`` loads no model runtime.
"""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from device import __version__
from device.cli import service
from device.cli.arguments import Parser
from device.errors import LabelcamError
from device.system import logs

# A file in this folder each, whose ``register(commands)`` adds the command of its name.
COMMANDS = (
    "run",
    "classify",
    "teach",
    "bench",
    "record",
    "history",
    "tune",
    "models",
    "web",
    "doctor",
    "config",
    "mqtt",
    "action",
)
# What a write to stdout meets; all other files are written by those who name them.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``labelcam`` with these arguments, by default the process's; returns the exit code."""
    _open_closed_streams()
    _set_up_libraries()
    # Where nobody else waits for what a thread could not cope with, it is said as here.
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _complain_of_thread
    try:
        options = _parser().parse_args(arguments)
        logs.configure(verbose=options.verbose)
        if hasattr(options, "own"):
            service.join(options, sys.argv[1:] if arguments is None else arguments)
        _load(getattr(options, "loads", ()))
        code: int = options.command(options)
        sys.stdout.flush()
    except LabelcamError as error:
        logs.complain(str(error))
        _tell_service_manager(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone, as in ``labelcam classify … | head -1``.
        logs.discard(sys.stdout)
        return 0
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback reaches a user
        if isinstance(error, OSError) and error.errno in _FULL and error.filename is None:
            logs.discard(sys.stdout)
            logs.complain(f"stdout cannot be written: {error.strerror}")
        else:
            _complain_of_fault(error)
        return 1
    return code


def _load(modules: Sequence[str]) -> None:
    """Load what a command needs; Ctrl-C meanwhile ends the process in silence.

    NumPy, interrupted while it loads, prints a traceback of its own and raises ImportError.
    """
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for module in modules:
        import_module(module)
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _open_closed_streams() -> None:
    """Have a closed standard stream lead nowhere, or the next file opened would be in its place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115


def _complain_of_fault(error: BaseException) -> None:
    logging.getLogger("labelcam").debug("fault", exc_info=error)
    logs.complain(
        f"internal fault: {type(error).__name__}: {error}; "
        "please report it with the output of the same command with --verbose"
    )


def _complain_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        _complain_of_fault(ended.exc_value)


def _tell_service_manager(problem: str) -> None:
    """Leave it to ``systemctl status`` why the service ended."""
    if "NOTIFY_SOCKET" in os.environ:
        from device.system.notify import Notifier

        Notifier().status(problem)


def _set_up_libraries() -> None:
    """Say what libraries read when they are loaded.

    OpenCV and FFmpeg keep their own messages off the terminal. NumPy's linear algebra, of which
    only learning has much, leaves the other cores to the loop.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _parser() -> Parser:
    parser = Parser(prog="labelcam", description="A camera that says what it sees.")
    parser.add_argument("--version", action="version", version=f"labelcam {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"device.cli.{name}").register(commands)
    return parser
