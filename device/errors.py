"""Every error labelcam raises on purpose, in one tree.

    LabelcamError               exit 1, a fault
    ├── UsageError              exit 2, ValueError: the command line asks for the impossible
    │   └── ConfigError         a configuration file or a --set that does not hold
    ├── ModelError              ValueError: a model file that cannot be used
    │   ├── UnknownModel        exit 2: a name that no model has
    │   └── LabelsError         labels that do not belong to the model
    ├── FetchError              RuntimeError: a download that fails, or is not what was pinned
    ├── DelegateError           RuntimeError: an asked-for delegate that does not engage
    ├── InferenceError          RuntimeError: a loaded model that fails in invoke()
    │   └── InferenceHung       an invoke() that does not return, nor can be cancelled
    ├── TrialError              RuntimeError: a trial in a child process that failed
    │   └── TrialCrash          a child that a signal ended, or that hung
    ├── PictureError            ValueError: a picture that cannot be read or used
    ├── CameraError             OSError: a camera that is absent, busy or broken
    │   └── CameraStalled       TimeoutError: a camera that is open but delivers nothing
    ├── SinkError               RuntimeError: a way out that cannot be used
    │   └── OutputClosed        whoever read our output has gone; ends a run quietly
    ├── ActionError             RuntimeError: an action that could not be done
    ├── HistoryError            RuntimeError: a history that is not there or cannot be read
    ├── CommandError            ValueError: an order to the running device that is refused
    ├── TeachError              ValueError: something that cannot be taught
    │   └── HeadError           a taught head that cannot be used
    └── DependencyError         ImportError: a package that is not installed

A message is one line: the thing, the value met, what to do. The command line prints
it after ``labelcam: `` and exits with ``exit_code``; no traceback reaches a user.
"""

from typing import ClassVar


class LabelcamError(Exception):
    """A fault that labelcam foresaw; str() is the line a user reads."""

    exit_code: ClassVar[int] = 1


class UsageError(LabelcamError, ValueError):
    """The command line asks for something that cannot be."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration that cannot be used; names file, key, value and limit."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")


class ModelError(LabelcamError, ValueError):
    """A model file that cannot be used as a classifier."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"model {path}: {problem}")


class UnknownModel(ModelError):
    """A name that is no model's; what asks for it is to be corrected."""

    exit_code = 2


class LabelsError(ModelError):
    """Labels that do not belong to the model they were given for."""


class FetchError(LabelcamError, RuntimeError):
    """A download that fails for good, or is not the file that was pinned."""

    def __init__(self, what: object, problem: str) -> None:
        super().__init__(f"fetch {what}: {problem}")


class DelegateError(LabelcamError, RuntimeError):
    """A delegate that was asked for by name and does not engage."""


class InferenceError(LabelcamError, RuntimeError):
    """A model that loaded and then failed in invoke()."""


class InferenceHung(InferenceError):
    """An invoke() that does not return; nothing but the end of the process cancels it."""


class TrialError(LabelcamError, RuntimeError):
    """A trial in a process of its own that failed."""


class TrialCrash(TrialError):
    """A child that a signal ended, whose name is ``signal``, or that gave no answer in time."""

    def __init__(self, message: str, signal: str = "") -> None:
        super().__init__(message)
        self.signal = signal


class PictureError(LabelcamError, ValueError):
    """A picture that cannot be read or is not usable as a frame."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"picture {path}: {problem}")


class CameraError(LabelcamError, OSError):
    """A camera that is absent, busy, or broke off."""

    def __init__(self, source: object, problem: str) -> None:
        super().__init__(f"camera {source}: {problem}")


class CameraStalled(CameraError, TimeoutError):
    """A camera that is open but delivers no frames."""


class SinkError(LabelcamError, RuntimeError):
    """A way out that cannot be used."""


class OutputClosed(SinkError):
    """Whoever read our output has gone, as ``head`` does: time to end, quietly."""

    def __init__(self) -> None:
        super().__init__("the output was closed by its reader")


class ActionError(LabelcamError, RuntimeError):
    """An action that could not be done; ``problem`` is why, without its name."""

    def __init__(self, action: str, problem: str) -> None:
        super().__init__(f"action {action}: {problem}")
        self.problem = problem


class HistoryError(LabelcamError, RuntimeError):
    """A history that is not there, or cannot be read."""


class CommandError(LabelcamError, ValueError):
    """A command to the running device that is refused; names the key and the reason."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"command {key}: {problem}")


class TeachError(LabelcamError, ValueError):
    """Something that cannot be taught, or lessons that cannot be kept."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"teach: {problem}")


class HeadError(TeachError):
    """A taught head that cannot be read, written or used."""

    def __init__(self, where: object, problem: str) -> None:
        super().__init__(f"head {where}: {problem}")


class DependencyError(LabelcamError, ImportError):
    """A package that is needed and not installed; names the command that installs it."""
