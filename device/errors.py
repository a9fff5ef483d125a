"""Every error labelcam raises on purpose, in one tree.

    LabelcamError               exit 1, a fault
    ├── UsageError              exit 2, ValueError: the command line asks for the impossible
    │   └── ConfigError         a configuration file or a --set that does not hold
    ├── ModelError              ValueError: a model file that cannot be used
    │   └── LabelsError         labels that do not belong to the model
    ├── DelegateError           RuntimeError: an asked-for delegate that does not engage
    ├── InferenceError          RuntimeError: a loaded model that fails in invoke()
    ├── PictureError            ValueError: a picture that cannot be read or used
    ├── CameraError             OSError: a camera that is absent, busy or broken
    │   └── CameraStalled       TimeoutError: a camera that is open but delivers nothing
    ├── SinkError               RuntimeError: a way out that cannot be used
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


class LabelsError(ModelError):
    """Labels that do not belong to the model they were given for."""


class DelegateError(LabelcamError, RuntimeError):
    """A delegate that was asked for by name and does not engage."""


class InferenceError(LabelcamError, RuntimeError):
    """A model that loaded and then failed in invoke()."""


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


class DependencyError(LabelcamError, ImportError):
    """A package that is needed and not installed; names the command that installs it."""
