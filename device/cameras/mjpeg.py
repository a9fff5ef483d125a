"""A JPEG of a camera becomes pixels, or is told to be damaged."""

import numpy as np
import simplejpeg

from device.frames import Pixels


def decode_jpeg(data: bytes | memoryview, width: int, height: int) -> Pixels | None:
    """The pixels, BGR or grey; None where it is damaged or of another size.

    OpenCV fills what it cannot decode with grey and says so on stderr only, which is one for
    all threads; here two cameras decode at once.
    """
    pixels: Pixels | None = None
    try:
        high, wide, colours, _ = simplejpeg.decode_jpeg_header(data)
        if (wide, high) != (width, height):
            return None
        grey = colours == "Gray"
        pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
        simplejpeg.decode_jpeg(data, "GRAY" if grey else "BGR", buffer=pixels)
    except ValueError as error:
        # Many cameras pad the data before its end: it was all decoded, and nothing is wrong.
        if "extraneous bytes before marker" not in str(error):
            return None
    return pixels
