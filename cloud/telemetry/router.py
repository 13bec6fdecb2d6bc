"""HTTP doors of telemetry: `/api/v1/gateways`, `/series`, `/latest`, `/dead-letters`, `/events`, `/conflicts`."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from cloud.telemetry.schemas import (
    ConflictView,
    DeadLetterView,
    EventView,
    GatewayView,
    Latest,
    Page,
    RegionStatistics,
    SensorView,
    SeriesPoints,
    SeriesView,
)
from cloud.telemetry.service import Telemetry
from cloud.who import Role, SignedIn, Who, having

__all__ = ["build_router"]

Limit = Annotated[int, Query(ge=1, le=1000)]
Operator = Annotated[Who, Depends(having(Role.OPERATOR))]


def build_router(telemetry: Telemetry) -> APIRouter:
    """The routes over one `Telemetry`. Handlers are plain functions: they wait for a disk, so they run in threads."""
    router = APIRouter(prefix="/api/v1", tags=["telemetry"])
    _questions(router, telemetry)
    _troubles(router, telemetry)
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

    @router.get("/gateways/{gateway}/sensors")
    def sensors(gateway: str, who: SignedIn) -> Page[SensorView]:
        """The sensors of one gateway."""
        return Page(items=telemetry.sensors(gateway, who.regions()))

    @router.get("/series")
    def series(who: SignedIn, gateway: str | None = None) -> Page[SeriesView]:
        """Series, all or of one gateway."""
        return Page(items=telemetry.series(gateway, who.regions()))

    @router.get("/series/{series}/points")
    def points(
        series: int,
        who: SignedIn,
        start_ms: Annotated[int, Query(alias="from", ge=0)],
        end_ms: Annotated[int, Query(alias="to", ge=0)],
        max_points: int = 500,
    ) -> SeriesPoints:
        """A stretch of one series in at most `max_points` rows, with its coverage."""
        return telemetry.points(series, start_ms, end_ms, max_points, who.regions())

    @router.get("/statistics")
    def statistics(
        who: SignedIn,
        quantity: str,
        start_ms: Annotated[int, Query(alias="from", ge=0)],
        end_ms: Annotated[int, Query(alias="to", ge=0)],
    ) -> Page[RegionStatistics]:
        """One quantity by region, over a stretch of time."""
        return Page(items=telemetry.statistics(quantity, start_ms, end_ms, who.regions()))

    @router.get("/latest")
    def latest(who: SignedIn, gateway: str | None = None, region: str | None = None) -> Page[Latest]:
        """The newest reading of every series."""
        return Page(items=telemetry.latest(who.regions(), gateway=gateway, region=region))


def _troubles(router: APIRouter, telemetry: Telemetry) -> None:
    @router.get("/events")
    def events(
        who: SignedIn, gateway: str | None = None, kind: str | None = None, limit: Limit = 100
    ) -> Page[EventView]:
        """What gateways reported: gaps, clock steps, alarms of their own."""
        return Page(items=telemetry.events(who.regions(), gateway=gateway, kind=kind, limit=limit))

    @router.get("/conflicts")
    def conflicts(who: SignedIn, limit: Annotated[int, Query(ge=1, le=5000)] = 100) -> Page[ConflictView]:
        """Second values that were kept out."""
        return Page(items=telemetry.conflicts(who.regions(), limit=limit))

    @router.get("/dead-letters")
    def dead_letters(who: Operator, before_ms: int | None = None, limit: Limit = 100) -> Page[DeadLetterView]:
        """Messages that could not be taken. Those of unregistered senders are shown to administrators."""
        scope = None if who.regions(Role.ADMIN) else who.regions()
        return Page(items=telemetry.dead_letters(scope, before_ms=before_ms, limit=limit))

    @router.post("/dead-letters/{digest}/replay", status_code=204)
    def replay(digest: str, _who: Annotated[Who, Depends(having(Role.ADMIN))]) -> None:
        """Send one through the pipeline again, after its reason was mended."""
        telemetry.replay(digest)
