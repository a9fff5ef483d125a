"""The page's lessons: what was taught, and every change of it but teaching a frame.

That is the command ``teach``, as for every way in. The database is opened for each request on
a thread of its own: a lesson takes longer than a picture of the stream may wait.
"""

from collections.abc import Callable
from typing import Annotated, Literal, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from device.config import Teach
from device.control.commands import Device
from device.errors import TeachError
from device.sinks.web.access import client_of
from device.system import audit
from device.system.text import from_json, one_line
from device.teach.lessons import UNNAMED
from device.teach.teacher import Grade, Teacher

Result = TypeVar("Result")


class TaughtLabel(msgspec.Struct, frozen=True):
    """A label with its pictures by number; ``kept`` are those that can be seen."""

    label: str
    entries: tuple[int, ...]
    kept: tuple[int, ...]


class Lessons(msgspec.Struct, frozen=True):
    """What a camera was taught; ``keeps_pictures`` says whether it keeps those to come.

    ``doubts`` are pictures of which it was not sure, which wait to be named.
    """

    labels: tuple[TaughtLabel, ...]
    doubts: tuple[int, ...]
    grade: Grade
    beside: bool
    keeps_pictures: bool


# SQLite numbers no row higher.
_Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Correction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A change: ``entries`` are moved or removed, ``label`` removed, renamed or moved to."""

    camera: str
    action: Literal[
        "move", "remove", "remove_label", "rename", "undo", "forget_pictures", "forget_doubts"
    ]
    entries: tuple[_Number, ...] = ()
    label: str = ""
    name: str = ""


class Teaching:
    """The requests about lessons."""

    def __init__(self, device: Device, settings: Teach, *, pictures: bool, commands: bool) -> None:
        self._device = device
        self._settings = settings
        self._pictures = pictures
        self._commands = commands
        self.routes = [
            Route("/api/lessons", self._lessons),
            Route("/api/lessons", self._correct, methods=["POST"]),
            Route("/api/lesson.jpg", self._picture),
        ]

    async def _lessons(self, request: Request) -> Response:
        return _json(await self._with(request.query_params.get("camera", ""), self._show))

    async def _correct(self, request: Request) -> Response:
        if not self._commands:
            raise HTTPException(403, "commands are turned off; see web.commands")
        try:
            correction = from_json(await request.body(), Correction)
        except msgspec.DecodeError as error:
            raise HTTPException(422, one_line(str(error))) from None

        def correct(teacher: Teacher) -> Lessons:
            _apply(teacher, correction)
            what = f"lessons of {correction.camera}: {correction.action}"
            audit.note("changed", f"{what}, by web view, from {client_of(request.scope)}")
            return self._show(teacher)

        return _json(await self._with(correction.camera, correct))

    async def _picture(self, request: Request) -> Response:
        if not self._pictures:
            raise HTTPException(403, "pictures are turned off; see web.pictures")
        text = request.query_params.get("entry", "")
        entry = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else -1
        camera = request.query_params.get("camera", "")
        found = await self._with(camera, lambda teacher: teacher.lessons.picture(entry))
        if found is None:
            raise HTTPException(404, "that picture was not kept")
        # Its number is never given again.
        headers = {"Cache-Control": "private, max-age=86400"}
        return Response(found, headers=headers, media_type="image/jpeg")

    async def _with(self, camera: str, work: Callable[[Teacher], Result]) -> Result:
        def do() -> Result:
            with self._device.teacher(camera) as teacher:
                return work(teacher)

        try:
            return await run_in_threadpool(do)
        except TeachError as error:
            raise HTTPException(409, str(error)) from None

    def _show(self, teacher: Teacher) -> Lessons:
        entries = teacher.lessons.entries()
        labels = tuple(
            TaughtLabel(
                label,
                tuple(entry.id for entry in entries if entry.label == label),
                tuple(entry.id for entry in entries if entry.label == label and entry.kept),
            )
            for label in teacher.lessons.labels()
        )
        settings = self._settings
        doubts = tuple(entry.id for entry in teacher.lessons.entries(UNNAMED))
        return Lessons(labels, doubts, teacher.grade, settings.beside, settings.keep_pictures)


def _apply(teacher: Teacher, correction: Correction) -> None:
    match correction.action:
        case "move":
            teacher.move(correction.entries, correction.label)
        case "remove":
            teacher.remove(correction.entries)
        case "remove_label":
            teacher.remove_label(correction.label)
        case "rename":
            teacher.rename(correction.label, correction.name)
        case "undo":
            teacher.undo()
        case "forget_pictures":
            teacher.lessons.forget_pictures()
        case "forget_doubts":
            teacher.lessons.forget_doubts()


def _json(value: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
