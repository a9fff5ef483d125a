"""TensorFlow, loaded quietly and on as many threads as were asked for."""

from __future__ import annotations

import os
from typing import Any


class TensorFlowMissingError(ImportError):
    """TensorFlow is not installed."""


def load_tensorflow(threads: int = 0) -> Any:
    """The `tensorflow` module; `threads` of 0 leaves the number to it.

    Raises TensorFlowMissingError.
    """
    # Its notices about CPU features and absent GPUs go to stderr past Python's logging.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Without oneDNN the same run gives the same weights on every machine; here it is as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ImportError as error:
        raise TensorFlowMissingError(
            f"TensorFlow does not load ({error}); run: pip install -r models/requirements.txt"
        ) from None
    if threads:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
    return tensorflow
