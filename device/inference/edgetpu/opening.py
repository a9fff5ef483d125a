"""An Edge TPU as a delegate, once its library was proved not to crash this runtime."""

from device.inference.edgetpu import proof
from device.inference.edgetpu.delegate import EdgetpuDelegate
from device.inference.edgetpu.device import choose_device
from device.inference.runtimes import DelegateRequest, OpenedDelegate


def open_delegate(request: DelegateRequest) -> OpenedDelegate:
    """The Edge TPU that the settings name, with a library that was proved first.

    Raises DelegateError.
    """
    library, device = request.settings.edgetpu_library, request.settings.edgetpu_device
    found = choose_device(device)
    proof.prove(request.model, library, device, request.module, request.runtime)
    reason = f"an Edge TPU answers; {found.slow_port}".removesuffix("; ")
    return OpenedDelegate(EdgetpuDelegate(library, device), reason, str(found))
