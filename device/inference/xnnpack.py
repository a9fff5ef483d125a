"""XNNPACK for INT8 graphs in tflite-runtime, through the C API its own library exports.

tflite-runtime's default delegate takes float graphs only: an INT8 graph runs on the
built-in kernels and nothing says so. The same shared object exports the functions that
make a delegate with flags of one's own (x86-64 and aarch64; the armv7l wheel has none).
"""

import ctypes
import importlib
from typing import Any

from device.errors import DelegateError
from device.inference.runtimes import DelegateRequest, NativeDelegate, OpenedDelegate

# TFLITE_XNNPACK_DELEGATE_FLAG_QS8 and _QU8, tensorflow/lite/delegates/xnnpack/
# xnnpack_delegate.h at TensorFlow 2.14: take signed and unsigned 8-bit operators.
_QUANTIZED = 0x1 | 0x2
_LIBRARY = "tflite_runtime._pywrap_tensorflow_interpreter_wrapper"


def open_delegate(request: DelegateRequest) -> OpenedDelegate:
    """XNNPACK on the threads asked for. Raises DelegateError."""
    return OpenedDelegate(XnnpackDelegate(request.threads), "XNNPACK with quantized operators")


class _Options(ctypes.Structure):
    """TfLiteXNNPackDelegateOptions of TensorFlow 2.14, 24 bytes on a 64-bit machine.

    It is returned by value. Both ABIs return a struct of over 16 bytes through memory that
    the caller owns, so that spare room behind it is safe where a build has more fields.
    """

    _fields_ = (
        ("num_threads", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
        ("weights_cache", ctypes.c_void_p),
        ("handle_variable_ops", ctypes.c_bool),
        ("spare", ctypes.c_char * 104),
    )


class XnnpackDelegate(NativeDelegate):
    """An XNNPACK delegate that takes quantized operators.

    Raises DelegateError where tflite-runtime's library does not export XNNPACK.
    """

    def __init__(self, threads: int) -> None:
        # The options are four bytes of threads, four of flags and pointers behind them on
        # every 64-bit build; on a 32-bit one the struct would come back in registers.
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise DelegateError(
                "delegate xnnpack: this 32-bit build of tflite-runtime has none; "
                'use delegate = "auto" or a 64-bit system'
            )
        library: Any = ctypes.CDLL(importlib.import_module(_LIBRARY).__file__)
        try:
            defaults = library.TfLiteXNNPackDelegateOptionsDefault
            create = library.TfLiteXNNPackDelegateCreate
            flags = library.TfLiteXNNPackDelegateGetFlags
            self._destroy = library.TfLiteXNNPackDelegateDelete
        except AttributeError:
            raise DelegateError(
                "delegate xnnpack: this build of tflite-runtime does not export it; "
                'use delegate = "auto" or the wheel of the package index'
            ) from None
        defaults.restype = _Options
        create.restype, create.argtypes = ctypes.c_void_p, [ctypes.POINTER(_Options)]
        flags.restype, flags.argtypes = ctypes.c_int, [ctypes.c_void_p]
        library.TfLiteXNNPackDelegateDelete.argtypes = [ctypes.c_void_p]
        library.TfLiteXNNPackDelegateDelete.restype = None
        options = defaults()
        options.num_threads = threads
        options.flags |= _QUANTIZED
        self._pointer = create(ctypes.byref(options))
        if not self._pointer:
            raise DelegateError(
                "delegate xnnpack: this processor is not supported by it; "
                'use delegate = "auto" or "none"'
            )
        # The delegate's own view of its options: another layout of the struct shows here.
        if flags(self._pointer) & _QUANTIZED != _QUANTIZED:
            self.close()
            raise DelegateError(
                "delegate xnnpack: this build of tflite-runtime has other options than 2.14; "
                "pip install tflite-runtime==2.14.0"
            )
