"""The page's pictures of what began: which there are, each of them, and throwing them away.

The ring is asked on threads of their own: a card may take longer than a picture of the stream may
wait. An id is looked up in what the ring knows of its folder, and never made a path of.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from device.sinks.ring import LIST_MAX, Ring, Snapshot
from device.sinks.web.access import client_of
from device.system import audit
from device.system.text import json_line

Result = TypeVar("Result")

_LISTED = 24


class Album(msgspec.Struct, frozen=True):
    """Pictures, newest first; ``more`` says whether there are older ones."""

    snapshots: tuple[Snapshot, ...]
    more: bool


class Removed(msgspec.Struct, frozen=True):
    """How many pictures were thrown away."""

    removed: int


class Snapshots:
    """The requests about the pictures that are kept."""

    def __init__(self, ring: Ring, *, pictures: bool, commands: bool) -> None:
        self._ring = ring
        self._pictures = pictures
        self._commands = commands
        self.routes = [
            Route("/api/snapshots", self._list),
            Route("/api/snapshots", self._clear, methods=["DELETE"]),
            Route("/api/snapshots/{id}.jpg", self._picture),
            Route("/api/snapshots/{id}", self._remove, methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        self._check_pictures()
        query = request.query_params
        limit = query.get("limit", str(_LISTED))
        known = limit.isascii() and limit.isdecimal() and len(limit) <= len(str(LIST_MAX))
        if not known or not 1 <= int(limit) <= LIST_MAX:
            raise HTTPException(422, f"limit is a number from 1 to {LIST_MAX}")
        before, camera = query.get("before", ""), query.get("camera", "")
        # One more than is asked for tells whether there are more.
        found = await self._do(lambda: self._ring.newest(int(limit) + 1, before, camera))
        return _json(Album(tuple(found[: int(limit)]), len(found) > int(limit)))

    async def _picture(self, request: Request) -> Response:
        self._check_pictures()
        key = request.path_params["id"]
        picture = await self._do(lambda: self._ring.picture(key))
        if picture is None:
            raise HTTPException(404, "there is no such picture; it may have been thrown away")
        # What an id stands for never changes. Only in the browser of whoever may see it.
        headers = {"etag": f'"{key}"', "cache-control": "private, max-age=86400, immutable"}
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(picture, headers=headers, media_type="image/jpeg")

    async def _remove(self, request: Request) -> Response:
        self._check_commands()
        key = request.path_params["id"]
        if not await self._do(lambda: self._ring.remove(key)):
            raise HTTPException(404, "there is no such picture; it may have been thrown away")
        _note(request, f"snapshot {key} removed")
        return _json(Removed(1))

    async def _clear(self, request: Request) -> Response:
        self._check_commands()
        removed = await self._do(self._ring.clear)
        _note(request, f"all snapshots removed, {removed} of them")
        return _json(Removed(removed))

    def _check_pictures(self) -> None:
        if not self._pictures:
            raise HTTPException(403, "pictures are turned off; see web.pictures")

    def _check_commands(self) -> None:
        self._check_pictures()
        if not self._commands:
            raise HTTPException(403, "commands are turned off; see web.commands")

    async def _do(self, work: Callable[[], Result]) -> Result:
        try:
            return await run_in_threadpool(work)
        except OSError as error:
            why = (error.strerror or "it cannot be used").lower()
            raise HTTPException(409, f"the folder of the pictures: {why}") from None


def _note(request: Request, what: str) -> None:
    audit.note("changed", f"{what}, by web view, from {client_of(request.scope)}")


def _json(value: msgspec.Struct) -> Response:
    return Response(json_line(value), media_type="application/json")
