"""The description of the web view's API, made from the structs that it answers with."""

from typing import Any

import msgspec

from device import __version__
from device.sinks.ring import LIST_MAX
from device.sinks.web.history import SPAN_MAX_S, Past, Totals
from device.sinks.web.snapshots import Album, Removed
from device.sinks.web.state import Done, Order, Refusal, State
from device.sinks.web.teaching import Correction, Lessons

_REFUSALS = {
    400: "The request names no host.",
    403: "Not allowed: from another site, or turned off in the configuration.",
    404: "No camera has that name, no picture that id, or there is no history.",
    409: "The device refused; the reason is told.",
    411: "The length of the body is not told.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    421: "The request names another host.",
    422: "No such command, or not with that value.",
    431: "The head is too large.",
    429: "Too many wrong tokens.",
    503: "Not yet.",
}
_CAMERA = {
    "name": "camera",
    "in": "query",
    "description": "The camera's name; the first one where it is not given.",
    "schema": {"type": "string"},
}
_ONE_CAMERA = {
    "name": "camera",
    "in": "query",
    "required": True,
    "description": "The camera's name.",
    "schema": {"type": "string"},
}
_ENTRY = {
    "name": "entry",
    "in": "query",
    "required": True,
    "description": "The number of the picture.",
    "schema": {"type": "integer", "minimum": 0},
}
_SECONDS = {"type": "number", "minimum": 0, "description": "Seconds since 1970."}
_SNAPSHOT = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id of the picture, as the list has it.",
    "schema": {"type": "string", "pattern": "^[0-9]{10}-[0-9]{8}T[0-9]{6}Z$"},
}
_OF_ALBUM = [
    {
        "name": "camera",
        "in": "query",
        "description": "Only the pictures of the camera with this name.",
        "schema": {"type": "string"},
    },
    {
        "name": "before",
        "in": "query",
        "description": "Only the pictures older than the one with this id.",
        "schema": {"type": "string"},
    },
    {
        "name": "limit",
        "in": "query",
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": LIST_MAX, "default": 24},
    },
]
_OF_HISTORY = [
    {
        "name": name,
        "in": "query",
        "description": text,
        "schema": {"type": "string"} if name in ("camera", "label") else _SECONDS,
    }
    for name, text in (
        ("camera", "Only of the camera with this name."),
        ("label", "Only of this label."),
        ("since", "From then on; a day, or a week of totals, before the end."),
        ("until", "Before then; by default now."),
    )
]
_BY = {
    "name": "by",
    "in": "query",
    "description": "By the hour, for 35 days at most, or by the day.",
    "schema": {"type": "string", "enum": list(SPAN_MAX_S), "default": "hour"},
}
_CAMERA_IN_PATH = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "The camera; a region as camera/region.",
    "schema": {"type": "string"},
}
_WRITE = {
    "name": "X-Labelcam",
    "in": "header",
    "required": True,
    "description": "Any value; no form and no picture of another site can send it.",
    "schema": {"type": "string", "pattern": "^[0-9A-Za-z]+$"},
}


def document(*, needs_token: bool) -> dict[str, Any]:
    """The OpenAPI 3.1 document; with ``needs_token`` all but the probes ask for a bearer."""
    types = [State, Order, Done, Refusal, Lessons, Correction, Album, Removed, Past, Totals]
    refs, schemas = msgspec.json.schema_components(
        types, ref_template="#/components/schemas/{name}"
    )
    state, order, done, refusal, lessons, correction, album, removed, past, totals = refs
    text = {"text/plain": {"schema": {"type": "string"}}}

    def operation(
        summary: str, content: dict[str, Any], refused: tuple[int, ...] = (), **more: Any
    ) -> dict[str, Any]:
        codes = {400, 403, 411, 413, 421, 431, *refused} | ({401, 429} if needs_token else set())
        responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
        for code in sorted(codes):
            responses[str(code)] = {
                "description": _REFUSALS.get(code, "A token is asked for."),
                "content": {"application/json": {"schema": refusal}},
            }
        return {"summary": summary, "responses": responses} | more

    def probe(summary: str) -> dict[str, Any]:
        found = operation(summary, text, security=[])
        found["responses"]["503"] = {"description": "It is not.", "content": text}
        return found

    def json_of(schema: dict[str, Any]) -> dict[str, Any]:
        return {"application/json": {"schema": schema}}

    def binary(media_type: str) -> dict[str, Any]:
        return {media_type: {"schema": {"type": "string", "format": "binary"}}}

    paths: dict[str, Any] = {
        "/healthz": {"get": probe("Whether the device is at work at all.")},
        "/readyz": {"get": probe("Whether every camera that is switched on is live.")},
        "/metrics": {"get": operation("Figures for Prometheus.", text)},
        "/api/state": {"get": operation("Everything at once.", json_of(state))},
        "/api/events": {
            "get": operation(
                "Server-sent events, without end: state, then live, health, change and log.",
                {"text/event-stream": {"schema": {"type": "string"}}},
            )
        },
        "/api/video.mjpg": {
            "get": operation(
                "Live pictures, without end.",
                binary("multipart/x-mixed-replace"),
                (403, 404),
                parameters=[_CAMERA],
            )
        },
        "/api/snapshot.jpg": {
            "get": operation(
                "The newest picture.",
                binary("image/jpeg"),
                (403, 404, 503),
                parameters=[_CAMERA],
            )
        },
        "/api/lessons": {
            "get": operation(
                "What a camera was taught, and how good that is.",
                json_of(lessons),
                (409,),
                parameters=[_ONE_CAMERA],
            ),
            "post": operation(
                "Correct what was taught; the command `teach` adds to it.",
                json_of(lessons),
                (403, 409, 415, 422),
                parameters=[_WRITE],
                requestBody={"required": True, "content": json_of(correction)},
            ),
        },
        "/api/lesson.jpg": {
            "get": operation(
                "A picture that was taught.",
                binary("image/jpeg"),
                (403, 404, 409),
                parameters=[_ONE_CAMERA, _ENTRY],
            )
        },
        **{
            f"/api/drift/{{name}}/{which}.jpg": {
                "get": operation(
                    summary, binary("image/jpeg"), (404,), parameters=[_CAMERA_IN_PATH]
                )
            }
            for which, summary in (
                ("then", "How it usually looks at the hour of an alarm."),
                ("now", "How it looked at the alarm."),
            )
        },
        "/api/snapshots": {
            "get": operation(
                "The pictures that are kept of what began, newest first.",
                json_of(album),
                (422,),
                parameters=_OF_ALBUM,
            ),
            "delete": operation(
                "Throw all of them away.", json_of(removed), (409,), parameters=[_WRITE]
            ),
        },
        "/api/snapshots/{id}.jpg": {
            "get": operation("One of them.", binary("image/jpeg"), (404,), parameters=[_SNAPSHOT])
        },
        "/api/snapshots/{id}": {
            "delete": operation(
                "Throw one away.", json_of(removed), (404, 409), parameters=[_SNAPSHOT, _WRITE]
            )
        },
        "/api/history": {
            "get": operation(
                "What was seen, when nothing was, and what actions did.",
                json_of(past),
                (404, 422),
                parameters=_OF_HISTORY,
            )
        },
        "/api/history/totals": {
            "get": operation(
                "How long and how often each label was there.",
                json_of(totals),
                (404, 422),
                parameters=[*_OF_HISTORY, _BY],
            )
        },
        "/api/command": {
            "post": operation(
                "Change something.",
                json_of(done),
                (403, 409, 415, 422, 503),
                parameters=[_WRITE],
                requestBody={"required": True, "content": json_of(order)},
            )
        },
    }
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "labelcam", "version": __version__},
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if needs_token:
        found["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"token": []}]
    return found
