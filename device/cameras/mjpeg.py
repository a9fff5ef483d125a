"""A JPEG of a camera becomes pixels, or is told to be damaged."""

import numpy as np
import simplejpeg

from device.frames import Pixels


def decode_jpeg(
    data: bytes | bytearray | memoryview, width: int, height: int, reduction: int = 1
) -> Pixels | None:
    """The pixels, BGR or grey; None where it is damaged or of another size.

    With a ``reduction`` of 2, 4 or 8 the picture has that part of its width and height, rounded
    up. OpenCV fills what it cannot decode with grey and says so on stderr only, which is one for
    all threads; here two cameras decode at once.
    """
    size = -(-height // reduction), -(-width // reduction)
    pixels: Pixels | None = None
    try:
        high, wide, colours, _ = simplejpeg.decode_jpeg_header(data, *size)
        if (high, wide) != size:
            return None
        grey = colours == "Gray"
        pixels = np.empty(size if grey else (*size, 3), np.uint8)
        layout = "GRAY" if grey else "BGR"
        simplejpeg.decode_jpeg(data, layout, min_height=size[0], min_width=size[1], buffer=pixels)
    except ValueError as error:
        # Many cameras pad the data before its end: it was all decoded, and nothing is wrong.
        if "extraneous bytes before marker" not in str(error):
            return None
    return pixels
