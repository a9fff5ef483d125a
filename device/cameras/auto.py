"""The camera that a device has, whichever it is."""

import logging

from device.cameras import REMEDY, Camera, Request, v4l2
from device.errors import CameraError, DependencyError

_log = logging.getLogger("labelcam.cameras")


def open_source(request: Request) -> Camera:
    """A Raspberry Pi's own camera where there is one, else the first that captures."""
    found, looked_at = v4l2.find_devices()
    if v4l2.has_pi_camera():
        from device.cameras.pi import PiCamera

        try:
            pi = PiCamera(request.settings, request.stop, "", request.wanted)
        except (CameraError, DependencyError) as error:
            if not found:
                raise
            _log.info("camera auto: not the Raspberry Pi's own (%s)", error)
        else:
            _log.info("camera auto: chose %s, the Raspberry Pi's own", pi.source)
            return pi
    if not found:
        seen = "; ".join(looked_at) or "there is no /dev/video*"
        raise CameraError("auto", f"no camera found ({seen}); plug one in, or {REMEDY}")
    path, node = found[0]
    camera = v4l2.V4l2Camera(path, request.settings, request.stop)
    _log.info("camera auto: chose %s (%s), the first that captures", path, node.card)
    return camera
