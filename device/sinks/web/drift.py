"""The pictures of an alarm: how it usually looks at that hour, and how it looked."""

from collections.abc import Collection

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from device.health.drift_pictures import DriftPictures, Which
from device.system.paths import state_directory


class DriftAlarm:
    """The requests about what is other than usual."""

    def __init__(self, cameras: Collection[str], *, pictures: bool) -> None:
        self._cameras = cameras
        self._pictures = pictures
        self._kept = DriftPictures(state_directory())
        # A region's name has its camera's before it, and a slash.
        self.routes = [
            Route("/api/drift/{camera:path}/then.jpg", self._then),
            Route("/api/drift/{camera:path}/now.jpg", self._now),
        ]

    async def _then(self, request: Request) -> Response:
        return await self._answer(request, "then")

    async def _now(self, request: Request) -> Response:
        return await self._answer(request, "now")

    async def _answer(self, request: Request, which: Which) -> Response:
        if not self._pictures:
            raise HTTPException(403, "pictures are turned off; see web.pictures")
        camera = request.path_params["camera"]
        if camera not in self._cameras:
            raise HTTPException(404, "no camera has that name")
        found = await run_in_threadpool(self._kept.read, camera, which)
        if found is None:
            raise HTTPException(404, "no picture was kept; see drift.pictures")
        # The next alarm's has the same address.
        headers = {"Cache-Control": "private, no-cache"}
        return Response(found, headers=headers, media_type="image/jpeg")
