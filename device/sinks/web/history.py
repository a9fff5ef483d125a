"""The page's view of the past: what was seen, when nothing was, and what was done about it.

The database is read on threads of their own: a card may take longer than a picture of the stream
may wait.
"""

import math
import time
from collections.abc import Callable
from typing import Literal, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from device.errors import HistoryError
from device.history import history_file
from device.history.reader import Deed, Gap, Interval, Reader, Selection, Total
from device.system.text import json_line

Result = TypeVar("Result")

ROWS_MAX = 2000
_DAY_S = 86_400.0
# Ten years by the day, and five weeks by the hour, are about as many rows.
SPAN_MAX_S = {"hour": 35 * _DAY_S, "day": 3660 * _DAY_S}


class Past(msgspec.Struct, frozen=True):
    """What was seen and done between two moments, the latest first; times in seconds since 1970.

    ``begun`` is when the history begins, ``now`` the device's own clock. ``more`` says whether
    there is more than is told.
    """

    begun: float | None
    now: float
    cameras: tuple[str, ...]
    labels: tuple[str, ...]
    intervals: tuple[Interval, ...]
    gaps: tuple[Gap, ...]
    actions: tuple[Deed, ...]
    more: bool


class Totals(msgspec.Struct, frozen=True):
    """How long and how often each label was there, by local hours or days of the device."""

    totals: tuple[Total, ...]


class History:
    """The requests about the past."""

    def __init__(self) -> None:
        self.routes = [
            Route("/api/history", self._past),
            Route("/api/history/totals", self._totals),
        ]

    async def _past(self, request: Request) -> Response:
        wanted = _selection(request, _DAY_S, math.inf)

        def read(reader: Reader) -> Past:
            intervals = reader.intervals(wanted, ROWS_MAX)
            gaps = reader.gaps(wanted, ROWS_MAX)
            actions = reader.actions(wanted, ROWS_MAX)
            cameras, labels = reader.names()
            return Past(
                reader.begun(),
                time.time(),
                tuple(cameras),
                tuple(labels),
                tuple(intervals),
                tuple(gaps),
                tuple(actions),
                ROWS_MAX in (len(intervals), len(gaps), len(actions)),
            )

        return await _answer(read)

    async def _totals(self, request: Request) -> Response:
        given = request.query_params.get("by", "hour")
        if given not in SPAN_MAX_S:
            raise HTTPException(422, "by is hour or day")
        by: Literal["hour", "day"] = "hour" if given == "hour" else "day"
        wanted = _selection(request, 7 * _DAY_S, SPAN_MAX_S[by])
        return await _answer(lambda reader: Totals(tuple(reader.totals(wanted, by, time.time()))))


def _selection(request: Request, usual_s: float, most_s: float) -> Selection:
    query = request.query_params
    until = _moment(query.get("until"), time.time(), "until")
    since = _moment(query.get("since"), until - usual_s, "since")
    if not 0 < until - since <= most_s:
        raise HTTPException(422, f"since is before until, by {most_s / _DAY_S:g} days at most")
    return Selection(since, until, query.get("camera") or None, query.get("label") or None)


def _moment(text: str | None, usual: float, name: str) -> float:
    try:
        moment = usual if text is None else float(text)
    except ValueError:
        moment = math.nan
    # The year 9999, after which no calendar has names.
    if not 0 <= moment < 253_370_764_800:
        raise HTTPException(422, f"{name} is a number of seconds since 1970")
    return moment


async def _answer(read: Callable[[Reader], msgspec.Struct]) -> Response:
    def work() -> msgspec.Struct:
        with Reader(history_file()) as reader:
            return read(reader)

    try:
        found = await run_in_threadpool(work)
    except HistoryError as error:
        raise HTTPException(404, str(error)) from None
    return Response(json_line(found), media_type="application/json")
