"""HTTP doors of telemetry: `/api/v1/gateways`, `/series`, `/latest`, `/dead-letters`, `/events`, `/exports`, ..."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi import Path as NumberInPath
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from cloud.problems import TooLarge
from cloud.telemetry.cursors import conflict_cursor, event_cursor, letter_cursor, paged
from cloud.telemetry.schemas import (
    ConflictView,
    DeadLetterView,
    DeadLetterWhole,
    EventView,
    ExportView,
    ExportWish,
    GatewayChange,
    GatewayView,
    Latest,
    Page,
    Received,
    RegionStatistics,
    SensorView,
    SeriesPoints,
    SeriesView,
)
from cloud.telemetry.service import Telemetry
from cloud.telemetry.take_away import TakeAway
from cloud.who import Role, SignedIn, Who, having, still
from edge.wire import DEFAULT_LIMITS

__all__ = ["build_router"]

Limit = Annotated[int, Query(ge=1, le=1000)]
Start = Annotated[int, Query(alias="from", ge=0, le=2**53)]
End = Annotated[int, Query(alias="to", ge=0, le=2**53)]
Before = Annotated[int | None, Query(ge=0, le=2**53)]
Cursor = Annotated[str | None, Query(max_length=200, description="`next` of the page before")]
_STREAM_S = 2.0
_LOOKS = 10  # between two of them, whether the service stops
ASK_AGAIN_S = 10.0
_MEDIA = {".csv": "text/csv; charset=utf-8", ".parquet": "application/vnd.apache.parquet"}
Operator = Annotated[Who, Depends(having(Role.OPERATOR))]


def build_router(telemetry: Telemetry, exports: TakeAway, *, ask_again_s: float = ASK_AGAIN_S) -> APIRouter:
    """The routes over one `Telemetry` and its exports.

    Handlers are plain functions: they wait for a disk, so they run in threads.
    """
    router = APIRouter(prefix="/api/v1", tags=["telemetry"])
    _questions(router, telemetry)
    _troubles(router, telemetry)
    _traffic(router, telemetry, ask_again_s)
    _exports(router, exports)
    return router


def _questions(router: APIRouter, telemetry: Telemetry) -> None:
    @router.get("/gateways")
    def gateways(who: SignedIn) -> Page[GatewayView]:
        """Gateways with their state, silence and backlog."""
        return Page(items=telemetry.gateways(who.regions()))

    @router.get("/gateways/{gateway}")
    def gateway(gateway: str, who: SignedIn) -> GatewayView:
        """One gateway."""
        return telemetry.gateway(gateway, who.regions())

    @router.patch("/gateways/{gateway}")
    def change(gateway: str, body: GatewayChange, who: Annotated[Who, Depends(having(Role.ADMIN))]) -> GatewayView:
        """Rename it, change how many series it may have, disable it or let it send again."""
        return telemetry.change_gateway(gateway, body, who.id, who.regions(Role.ADMIN))

    @router.get("/gateways/{gateway}/sensors")
    def sensors(gateway: str, who: SignedIn) -> Page[SensorView]:
        """The sensors of one gateway."""
        return Page(items=telemetry.sensors(gateway, who.regions()))

    @router.get("/series")
    def series(who: SignedIn, gateway: str | None = None) -> Page[SeriesView]:
        """Series, all or of one gateway."""
        return Page(items=telemetry.series(gateway, who.regions()))

    @router.get("/series/{series}/points", response_model=SeriesPoints)
    def points(
        series: Annotated[int, NumberInPath(ge=0, le=2**53)],
        who: SignedIn,
        start_ms: Start,
        end_ms: End,
        max_points: Annotated[int, Query(le=2**53)] = 500,
    ) -> Response:
        """A stretch of one series in at most `max_points` rows, with its coverage."""
        return _json(telemetry.points_json(series, start_ms, end_ms, max_points, who.regions()))

    @router.get("/statistics")
    def statistics(
        who: SignedIn,
        quantity: str,
        start_ms: Start,
        end_ms: End,
    ) -> Page[RegionStatistics]:
        """One quantity by region, over a stretch of time."""
        return Page(items=telemetry.statistics(quantity, start_ms, end_ms, who.regions()))

    @router.get("/latest", response_model=Page[Latest])
    def latest(who: SignedIn, gateway: str | None = None, region: str | None = None) -> Response:
        """The newest reading of every series."""
        return _json(telemetry.latest_json(who.regions(), gateway=gateway, region=region))


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _troubles(router: APIRouter, telemetry: Telemetry) -> None:
    @router.get("/events")
    def events(
        who: SignedIn,
        gateway: str | None = None,
        kind: str | None = None,
        before: Cursor = None,
        limit: Limit = 100,
    ) -> Page[EventView]:
        """What gateways reported: gaps, clock steps, alarms of their own."""
        rows = telemetry.events(who.regions(), gateway=gateway, kind=kind, before=before, limit=limit + 1)
        return paged(rows, limit, event_cursor)

    @router.get("/conflicts")
    def conflicts(
        who: SignedIn, before: Cursor = None, limit: Annotated[int, Query(ge=1, le=5000)] = 100
    ) -> Page[ConflictView]:
        """Second values that were kept out."""
        rows = telemetry.conflicts(who.regions(), before=before, limit=limit + 1)
        return paged(rows, limit, partial(conflict_cursor, before))

    @router.get("/dead-letters")
    def dead_letters(
        who: Operator,
        gateway: str | None = None,
        before_ms: Before = None,
        before: Cursor = None,
        limit: Limit = 100,
    ) -> Page[DeadLetterView]:
        """Messages that could not be taken. Those of unregistered senders are for who sees every gateway."""
        scope = who.regions(Role.ADMIN, Role.OPERATOR)
        rows = telemetry.dead_letters(scope, gateway=gateway, before_ms=before_ms, before=before, limit=limit + 1)
        return paged(rows, limit, letter_cursor)

    @router.get("/dead-letters/{digest}")
    def dead_letter(digest: str, who: Operator) -> DeadLetterWhole:
        """One of them with what it said: text where it is UTF-8, else base64."""
        return telemetry.dead_letter(digest, who.regions(Role.ADMIN, Role.OPERATOR))

    @router.post("/dead-letters/{digest}/replay", status_code=204)
    def replay(digest: str, who: Annotated[Who, Depends(having(Role.ADMIN))]) -> None:
        """Send one through the pipeline again, after its reason was mended."""
        telemetry.replay(digest, who.regions(Role.ADMIN))


def _traffic(router: APIRouter, telemetry: Telemetry, ask_again_s: float) -> None:
    @router.post("/gateways/{gateway}/readings")
    async def receive(
        gateway: str, request: Request, precision: str = "ns", x_tianmai_signature: Annotated[str, Header()] = ""
    ) -> Received:
        """Readings as SenML, Influx line protocol or ThingsBoard telemetry, signed with the gateway's secret.

        The header `X-Tianmai-Signature` is the hex HMAC-SHA256 of the body.
        """
        body = await _counted_body(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        return await run_in_threadpool(telemetry.receive, gateway, body, kind, x_tianmai_signature, precision)

    @router.get("/stream")
    async def stream(
        request: Request, who: SignedIn, gateway: str | None = None, region: str | None = None
    ) -> StreamingResponse:
        """The newest reading of each series as server-sent events (`event: readings`, an array), and again as it moves.

        Looked at every two seconds: of several readings of a series in between only the newest comes, and one that is
        late, older than what came, does not. What is missing stands in `/series/{series}/points`. The stream ends when
        the session does (looked at every ten seconds; rights too) and when the service stops.
        """
        scope = who.regions()
        await run_in_threadpool(telemetry.latest, scope, gateway=gateway, region=region)  # refuse before the stream

        async def events() -> AsyncIterator[str]:
            seen: dict[int, int] = {}
            allowed, asked_s = scope, time.monotonic()
            while telemetry.streaming():
                if time.monotonic() - asked_s >= ask_again_s:
                    present = await run_in_threadpool(still, request)
                    if present is None:
                        return
                    allowed, asked_s = present.regions(), time.monotonic()
                rows = await run_in_threadpool(telemetry.latest, allowed, gateway=gateway, region=region)
                fresh = [row for row in rows if seen.get(row.id) != row.time_ms]
                seen.update((row.id, row.time_ms) for row in fresh)
                # A comment keeps proxies from closing a quiet line.
                body = ",".join(row.model_dump_json() for row in fresh)
                yield f"event: readings\ndata: [{body}]\n\n" if fresh else ": nothing new\n\n"
                for _ in range(_LOOKS):
                    if telemetry.streaming():
                        await asyncio.sleep(_STREAM_S / _LOOKS)

        return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


def _exports(router: APIRouter, exports: TakeAway) -> None:
    @router.post("/exports", status_code=202)
    def ask(body: ExportWish, who: SignedIn) -> ExportView:
        """Have readings written to a file; look again at `/exports/{id}` until it is ready."""
        return exports.ask(body, who.id, who.regions())

    @router.get("/exports")
    def mine(who: SignedIn) -> Page[ExportView]:
        """Your exports of the last day, the latest first."""
        return Page(items=exports.mine(who.id))

    @router.get("/exports/{number}")
    def one(number: str, who: SignedIn) -> ExportView:
        """One of your exports and how far it is."""
        return exports.get(number, who.id)

    @router.get("/exports/{number}/file")
    def file(number: str, who: SignedIn) -> FileResponse:
        """The file, once it is ready."""
        path = exports.file(number, who.id, who.regions())
        return FileResponse(path, filename=f"tianmai-{path.name}", media_type=_MEDIA[path.suffix])

    @router.delete("/exports/{number}", status_code=204)
    def remove(number: str, who: SignedIn) -> None:
        """Stop an export, or remove its file before its day is over."""
        exports.remove(number, who.id)


async def _counted_body(request: Request) -> bytes:
    """The body, as far as it may go; what a header says about its length is not believed."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > DEFAULT_LIMITS.wire_bytes:
            raise TooLarge(f"a body may have {DEFAULT_LIMITS.wire_bytes} bytes")
    return body
