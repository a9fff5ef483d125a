"""The two streams of the web view: live pictures (MJPEG) and events (server-sent events).

Both are made once for all who watch, and only while somebody does. A watcher takes the newest
part when it is ready for one, so that a slow one skips some; one that takes nothing at all is
dropped by its connection.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from device.recordings.rendering import jpeg, upright
from device.sinks.web.state import WebState
from device.system.text import json_line

# As many as an eye follows in a column of numbers.
_EVENTS_PERIOD_S = 0.2
_HEALTH_EVERY = 5
# Larger pictures are shrunk before they are sent: more does not show on a page.
LONGEST_PX = 960
_QUALITY = 75
_BOUNDARY = b"labelcam-frame"
EVENTS_TYPE = "text/event-stream"
VIDEO_TYPE = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
# Events that a listener has not taken yet; with more it is behind, and better begins again.
_UNSENT_EVENTS = 256

Send = Callable[[Any], Any]


class Video:
    """One camera's live pictures."""

    def __init__(self, state: WebState, camera: str, max_fps: float) -> None:
        self.encoded = 0
        self.watchers = 0
        self._state = state
        self._camera = camera
        self._period_s = 1 / max_fps
        self._part = b""
        self._fresh: asyncio.Event = asyncio.Event()
        self._encoder: asyncio.Task[None] | None = None

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Parts of the stream, each a picture, newest first in line; without end."""
        self.watchers += 1
        try:
            if self._encoder is None:
                self._encoder = asyncio.create_task(self._encode())
            yield b"--" + _BOUNDARY + b"\r\n"
            sent = b""
            while True:
                while self._part is sent:
                    await self._fresh.wait()
                sent = self._part
                yield sent
        finally:
            self.watchers -= 1
            if not self.watchers and self._encoder is not None:
                self._encoder.cancel()
                self._encoder = None
                self._part = b""

    async def _encode(self) -> None:
        """Encode the newest frame again and again, at most ``max_fps`` times a second."""
        loop = asyncio.get_running_loop()
        camera = self._state.cameras[self._camera]
        last = None
        while True:
            started = loop.time()
            frame = self._state.frame(self._camera)
            if frame is not None and frame is not last:
                last = frame
                # Here and not in a further thread: the picture's conversion and encoding let
                # go of Python's lock, and nothing on this loop is in a hurry.
                picture = jpeg(upright(frame, camera.rotate, camera.mirror, LONGEST_PX), _QUALITY)
                self._publish(picture)
            # Where encoding takes longer than the period, half the time is left for the rest.
            spent_s = loop.time() - started
            await asyncio.sleep(max(self._period_s - spent_s, spent_s))

    def _publish(self, picture: bytes) -> None:
        self.encoded += 1
        # The boundary comes right behind the picture: browsers show it only when they see that.
        self._part = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n--%b\r\n" % (
            len(picture),
            picture,
            _BOUNDARY,
        )
        self._fresh.set()
        self._fresh = asyncio.Event()


class Events:
    """What the page follows: ``state`` at first, then ``live``, ``health``, ``change``, ``log``."""

    def __init__(self, state: WebState) -> None:
        self.watchers = 0
        self._state = state
        self._queues: set[asyncio.Queue[bytes]] = set()
        self._ticker: asyncio.Task[None] | None = None

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Events; without end, unless the listener fell behind."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(_UNSENT_EVENTS)
        self._queues.add(queue)
        self.watchers += 1
        try:
            if self._ticker is None:
                self._ticker = asyncio.create_task(self._tick())
            # A browser that was cut off comes back after two seconds.
            yield b"retry: 2000\n\n" + _event("state", self._state.whole())
            while queue in self._queues:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
            self.watchers -= 1
            if not self.watchers and self._ticker is not None:
                self._ticker.cancel()
                self._ticker = None

    async def _tick(self) -> None:
        state = self._state
        _, changed = state.changes_after(0)
        _, logged = state.log.lines_after(0)
        tick = 0
        while True:
            await asyncio.sleep(_EVENTS_PERIOD_S)
            changes, changed = state.changes_after(changed)
            lines, logged = state.log.lines_after(logged)
            parts = [_event("change", change) for change in changes]
            parts += [_event("log", line) for line in lines]
            tick += 1
            if tick % _HEALTH_EVERY == 0:
                parts.append(_event("health", state.health()))
            else:
                parts.append(_event("live", state.views()))
            self._publish(b"".join(parts))

    def _publish(self, part: bytes) -> None:
        for queue in list(self._queues):
            try:
                queue.put_nowait(part)
            except asyncio.QueueFull:
                self._queues.discard(queue)


def _event(name: str, value: object) -> bytes:
    # JSON has no line ends of its own, so that it is one line of the event.
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_line(value).encode())


async def stream(
    receive: Callable[[], Any], send: Send, parts: AsyncGenerator[bytes, None], ended: asyncio.Event
) -> None:
    """Send the parts until the watcher has gone, there are no more, or ``ended`` is set."""
    work = asyncio.create_task(_send_all(send, parts))
    gone = asyncio.create_task(_until_gone(receive))
    over = asyncio.create_task(ended.wait())
    tasks = (work, gone, over)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await parts.aclose()


async def _send_all(send: Send, parts: AsyncGenerator[bytes, None]) -> None:
    async for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})


async def _until_gone(receive: Callable[[], Any]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
