"""The web view's requests and answers: an ASGI application around a ``WebState``."""

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from device import config
from device.control.commands import Answer, Command, Device, parse
from device.errors import CommandError
from device.recordings.rendering import jpeg, upright
from device.sinks.ring import Ring
from device.sinks.web import openapi
from device.sinks.web.access import (
    COOKIE,
    COOKIE_AGE_S,
    App,
    Gatekeeper,
    Receive,
    Refused,
    Scope,
    Send,
    client_of,
)
from device.sinks.web.drift import DriftAlarm
from device.sinks.web.history import History
from device.sinks.web.metrics import Metrics
from device.sinks.web.snapshots import Snapshots
from device.sinks.web.state import Done, Order, Refusal, WebState
from device.sinks.web.streams import EVENTS_TYPE, VIDEO_TYPE, Events, Video, stream
from device.sinks.web.teaching import Teaching
from device.sinks.web.token import Token
from device.system import audit
from device.system.text import from_json, json_line, one_line

_log = logging.getLogger("labelcam.sinks.web")

_PAGE = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SNAPSHOT_QUALITY = 92
# A picture of megabytes is held until its asker has taken it: so many at once, in such parts.
_SNAPSHOTS_AT_ONCE = 8
_PART_BYTES = 65_536
# A camera whose interpreter is at work answers between two frames.
_ANSWER_WITHIN_S = 5.0


class WebApp:
    """Everything that is answered, and the streams that it is answered with.

    Made on any thread, used on the loop of one.
    """

    def __init__(
        self,
        settings: config.Web,
        state: WebState,
        metrics: Metrics,
        device: Device,
        token: Token | None,
        teach: config.Teach,
        ring: Ring,
    ) -> None:
        self.ended = asyncio.Event()
        self.events = Events(state)
        self.videos = {name: Video(state, name, settings.max_fps) for name in state.cameras}
        self._settings = settings
        self._state = state
        self._metrics = metrics
        self._device = device
        self._drift = DriftAlarm(state.cameras, pictures=settings.pictures)
        self._teaching = Teaching(
            device, teach, pictures=settings.pictures, commands=settings.commands
        )
        self._kept = Snapshots(ring, pictures=settings.pictures, commands=settings.commands)
        self._pages = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir())}
        self._snapshots: dict[str, tuple[object, bytes]] = {}
        self._sending = 0
        self._faults: set[str] = set()
        public = {"/healthz", "/readyz", "/login"}
        public |= {f"/{name}" for name in self._pages if name.endswith((".css", ".js", ".svg"))}
        self.gate = Gatekeeper(settings, token, frozenset(public), self._application())

    @property
    def watchers(self) -> int:
        """How many watch live pictures now."""
        return sum(video.watchers for video in self.videos.values())

    @property
    def encoded(self) -> int:
        """How many live pictures were encoded."""
        return sum(video.encoded for video in self.videos.values())

    @property
    def refused(self) -> Mapping[int, int]:
        """How many requests were refused, by status."""
        return self.gate.refused

    def _application(self) -> App:
        routes = [
            Route("/", self._page),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/logout", self._logout, methods=["POST"]),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._prometheus),
            Route("/openapi.json", self._openapi),
            Route("/api/state", self._api_state),
            Route("/api/events", self._streamed(EVENTS_TYPE, self._watch_events), methods=["GET"]),
            Route(
                "/api/video.mjpg", self._streamed(VIDEO_TYPE, self._watch_video), methods=["GET"]
            ),
            Route("/api/snapshot.jpg", self._snapshot),
            Route("/api/command", self._command, methods=["POST"]),
            *self._teaching.routes,
            *History().routes,
            *self._drift.routes,
            *self._kept.routes,
            Route("/{file}", self._file),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={HTTPException: self._refuse, Exception: self._fault},
        )

    # The page

    async def _page(self, request: Request) -> Response:
        return self._static(request, "index.html")

    async def _file(self, request: Request) -> Response:
        name = request.path_params["file"]
        # A name that is not there, or a page that has an address of its own.
        if name not in self._pages or name.endswith(".html"):
            raise HTTPException(404, "there is nothing here")
        return self._static(request, name)

    def _static(self, request: Request, name: str) -> Response:
        etag = f'"{hashlib.sha256(self._pages[name]).hexdigest()[:16]}"'
        headers = {"etag": etag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(self._pages[name], headers=headers, media_type=_TYPES[Path(name).suffix])

    async def _login(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(self._pages["login.html"], media_type=_TYPES[".html"])
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        given = form.get("token", [""])[0].strip()
        answer = RedirectResponse("/", 303)
        if self.gate.token is None:
            return answer
        try:
            self.gate.admit(client_of(request.scope), given)
        except Refused as refused:
            note = f'<p role="alert">{refused}</p>'.encode()
            page = self._pages["login.html"].replace(b"<!-- note -->", note)
            return Response(page, refused.status, media_type=_TYPES[".html"])
        audit.note("signed-in", f"to the {_place(request)}")
        answer.set_cookie(
            COOKIE,
            given,
            max_age=COOKIE_AGE_S,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return answer

    async def _logout(self, request: Request) -> Response:
        answer = RedirectResponse("/login" if self.gate.token else "/", 303)
        answer.delete_cookie(
            COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https"
        )
        return answer

    # For other programs

    async def _healthz(self, _request: Request) -> Response:
        silent = self._state.trouble() == "the device does not answer"
        return _plain("the device does not answer" if silent else "ok", 503 if silent else 200)

    async def _readyz(self, _request: Request) -> Response:
        trouble = self._state.trouble()
        return _plain(trouble or "ok", 503 if trouble else 200)

    async def _prometheus(self, _request: Request) -> Response:
        return Response(self._metrics.exposition(), media_type=self._metrics.CONTENT_TYPE)

    async def _openapi(self, _request: Request) -> Response:
        return _json(openapi.document(needs_token=self.gate.token is not None))

    async def _api_state(self, _request: Request) -> Response:
        return _json(self._state.whole())

    async def _snapshot(self, request: Request) -> Response:
        name = self._camera(request.query_params.get("camera", ""))
        frame = self._state.frame(name)
        if frame is None:
            raise HTTPException(503, f"camera {name} has given no picture yet")
        if self._sending >= _SNAPSHOTS_AT_ONCE:
            raise HTTPException(503, "others are taking pictures; try again in a second")
        made_of, picture = self._snapshots.get(name, (None, b""))
        # However many ask, one frame is encoded once.
        if made_of is not frame:
            camera = self._state.cameras[name]
            whole = upright(frame, camera.rotate, camera.mirror)
            picture = jpeg(whole, _SNAPSHOT_QUALITY)
            self._snapshots[name] = (frame, picture)
        length = {"content-length": str(len(picture))}
        return StreamingResponse(self._parts(picture), headers=length, media_type="image/jpeg")

    async def _parts(self, picture: bytes) -> AsyncGenerator[bytes, None]:
        self._sending += 1
        try:
            for at in range(0, len(picture), _PART_BYTES):
                yield picture[at : at + _PART_BYTES]
        finally:
            self._sending -= 1

    async def _command(self, request: Request) -> Response:
        if not self._settings.commands:
            raise HTTPException(403, "commands are turned off; see web.commands")
        try:
            order = from_json(await request.body(), Order)
            value = b"" if order.value is None else msgspec.json.encode(order.value)
            command = parse(order.camera, order.key, value, self._state.cameras)
            answer = await self._obeyed(command, _place(request))
        except msgspec.DecodeError as error:
            raise HTTPException(422, one_line(str(error))) from None
        except CommandError as error:
            raise HTTPException(422, str(error)) from None
        except TimeoutError:
            raise HTTPException(503, "the device is busy and has not answered yet") from None
        if answer.error:
            raise HTTPException(409, answer.error)
        return _json(Done())

    async def _obeyed(self, command: Command, by: str) -> Answer:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[Answer] = loop.create_future()

        def resolve(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        def on_node(answer: Answer) -> None:
            # The loop may have ended meanwhile; then nobody waits.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(resolve, answer)

        self._device.submit(command, on_node, by=by)
        return await asyncio.wait_for(answered, _ANSWER_WITHIN_S)

    # Streams

    def _streamed(
        self, media_type: str, parts: Callable[[Request], AsyncGenerator[bytes, None]]
    ) -> "_Streamed":
        return _Streamed(media_type, parts, self.ended)

    def _watch_events(self, _request: Request) -> AsyncGenerator[bytes, None]:
        return self.events.watch()

    def _watch_video(self, request: Request) -> AsyncGenerator[bytes, None]:
        return self.videos[self._camera(request.query_params.get("camera", ""))].watch()

    def _camera(self, name: str) -> str:
        """The camera that is asked for, the first one where none is named."""
        if not self._settings.pictures:
            raise HTTPException(403, "pictures are turned off; see web.pictures")
        name = name or next(iter(self._state.cameras))
        if name not in self._state.cameras:
            raise HTTPException(404, "no camera has that name")
        return name

    # What goes wrong

    async def _refuse(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _json(Refusal(error.detail), error.status_code, dict(error.headers or {}))

    async def _fault(self, request: Request, error: Exception) -> Response:
        what = f"{type(error).__name__}: {error}"
        # Once for each kind: who asks again and again must not fill the log.
        if type(error).__name__ not in self._faults:
            self._faults.add(type(error).__name__)
            _log.error("web view: internal fault at %s: %s", request.url.path, what)
        return _json(Refusal("internal fault; the log says more"), 500)


class _Streamed:
    """An endpoint whose answer has no end."""

    def __init__(
        self,
        media_type: str,
        parts: Callable[[Request], AsyncGenerator[bytes, None]],
        ended: asyncio.Event,
    ) -> None:
        self._media_type = media_type
        self._parts = parts
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        parts = self._parts(Request(scope))
        headers = [(b"content-type", self._media_type.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] != "HEAD":
            await stream(receive, send, parts, self._ended)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _place(request: Request) -> str:
    return f"web view, from {client_of(request.scope)}"


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(json_line(value), status, headers, "application/json")


def _plain(text: str, status: int) -> Response:
    return Response(text + "\n", status, media_type="text/plain")
