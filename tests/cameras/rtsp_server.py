"""A real RTSP server, GStreamer's, for the tests: run by Debian's Python, which has it.

usage: rtsp_server.py PORT [PICTURE]     serves rtsp://127.0.0.1:PORT/cam, says READY, ends when
its input ends. Without a picture it shows a moving pattern.
"""

import sys
import threading
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - a version is chosen first


def main() -> None:
    port, *picture = sys.argv[1:]
    Gst.init(None)
    scene = "videotestsrc is-live=true pattern=ball"
    if picture:
        scene = f"filesrc location={picture[0]} ! jpegdec ! imagefreeze is-live=true"
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(
        f"( {scene} ! videoconvert ! videoscale ! video/x-raw,format=I420,width=320,height=240,"
        "framerate=25/1 ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
    )
    factory.set_shared(True)
    server: Any = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    loop = GLib.MainLoop()

    def end_with_input() -> None:
        sys.stdin.read()
        loop.quit()

    threading.Thread(target=end_with_input, daemon=True).start()
    print("READY", flush=True)
    loop.run()


main()
