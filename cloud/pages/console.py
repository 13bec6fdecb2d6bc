"""The officials' console: each page answers one question, and each shows only the asker's regions."""

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from fastapi.routing import APIRoute
from starlette.datastructures import FormData

from cloud.jobs import LAND_JOB
from cloud.land import Action
from cloud.pages.case_actions import Failure, act, explain, forms_of
from cloud.pages.chain import lot_rows, refusal_texts
from cloud.pages.farms import (
    FarmRow,
    FarmView,
    ReadingView,
    RegionName,
    chart_view,
    farm_rows,
    farm_views,
    one_farm,
    series_columns,
)
from cloud.pages.gateways import Form, failed, gateway_panel, steer
from cloud.pages.land import LandView, land_view, latest_case, light_parcels, parcel_rows, parcel_view
from cloud.pages.legend import PALETTE
from cloud.pages.render import Renderer, Reply
from cloud.problems import CloudError, Forbidden, Invalid, NotFound, status_of
from cloud.who import Role, SignedIn, Who, having

if TYPE_CHECKING:
    from cloud.land import CaseDetail
    from cloud.wiring import Services

__all__ = ["build_console"]

_PAGE = 50
_MOST_RINGING = 4
_ALL = "all"
_ALARMS_A_PAGE = 200
_FARMS_A_PAGE = 100
_FARM_FILTERS: dict[str, Callable[[FarmRow], bool]] = {
    "late": lambda row: row.state != "live",
    "behind": lambda row: bool(row.backlog or row.missing),
    "ringing": lambda row: bool(row.critical or row.warnings),
}
_RECENT_EVENTS = 30
Operator = Annotated[Who, Depends(having(Role.OPERATOR))]


async def _sent(request: Request) -> AsyncIterator[FormData]:
    """The form of a request as it came; its files are closed afterwards."""
    async with request.form() as form:
        yield form


Sent = Annotated[FormData, Depends(_sent)]
Hours = Annotated[int, Query(ge=1, le=24 * 31)]


def build_console(services: "Services", renderer: Renderer, route: type[APIRoute]) -> APIRouter:
    """Routes under `/console`; all of them need a signed-in person."""
    router = APIRouter(prefix="/console", route_class=route)

    def region_name(code: str) -> str:
        try:
            return "".join(region.name_zh for region in services.regions.path(code)[1:]) or code
        except CloudError:
            return code

    _farm_pages(router, services, renderer, region_name)
    _alarm_pages(router, services, renderer)
    _land_pages(router, services, renderer, region_name)
    _trace_pages(router, services, renderer)
    return router


def _farm_pages(router: APIRouter, services: "Services", renderer: Renderer, region_name: RegionName) -> None:
    telemetry, land, provenance = services.telemetry, services.land, services.provenance

    def farms(request: Request, who: Who) -> dict[str, Any]:
        scope, speech = who.regions(), renderer.speech(request)
        rows = farm_rows(telemetry, services.alarms, scope, speech, region_name)
        return {
            "farms": farm_views(telemetry, rows, scope, speech, region_name),
            "total": len(rows),
            "late": sum(row.state != "live" for row in rows),
            "alarms": services.alarms.board(scope, open_only=True, limit=_MOST_RINGING).items,
            "ringing": sum(row.critical + row.warnings for row in rows),
        }

    def side(request: Request, who: Who, fields: LandView) -> dict[str, Any]:
        refusals = refusal_texts(provenance, renderer.language(request))
        return {
            "case": latest_case(land, who, fields.cases),
            "refusal": refusals[0] if refusals else None,
            "log": provenance.log_state(),
        }

    def computing() -> bool:
        return any(job.state in {"waiting", "running"} for job in services.jobs.all(LAND_JOB))

    @router.get("")
    def home(request: Request, who: SignedIn) -> Response:
        """What must I know now, and can I trust it?"""
        fields = land_view(land, who)
        content = {"here": "overview", "palette": PALETTE, "land": fields, "computing": computing()}
        return renderer.page(request, "overview.html", {**content, **farms(request, who), **side(request, who, fields)})

    @router.get("/live/farms")
    def live_farms(request: Request, who: SignedIn) -> Response:
        """The farms again, for the page that is open."""
        return renderer.page(request, "_farms.html", farms(request, who))

    @router.get("/live/side")
    def live_side(request: Request, who: SignedIn) -> Response:
        """Case, refusal and log again."""
        return renderer.page(request, "_side.html", side(request, who, land_view(land, who)))

    @router.get("/live/land")
    def live_land(request: Request, who: SignedIn) -> Response:
        """Whether parcels have come by now."""
        return renderer.page(request, "_land_wait.html", {"land": land_view(land, who), "computing": computing()})

    @router.get("/farms")
    def farm_list(
        request: Request,
        who: SignedIn,
        show: str | None = None,
        find: Annotated[str, Query(max_length=100)] = "",
        page: Annotated[int, Query(ge=1, le=10_000)] = 1,
    ) -> Response:
        """Which farms are silent, behind or in danger?"""
        rows = farm_rows(telemetry, services.alarms, who.regions(), renderer.speech(request), region_name)
        fits = _FARM_FILTERS.get(show or "")
        wanted = [row for row in rows if (fits is None or fits(row)) and _named(row, find)]
        wanted.sort(key=lambda row: row.worry)
        content = {
            "here": "farms",
            "rows": wanted[(page - 1) * _FARMS_A_PAGE : page * _FARMS_A_PAGE],
            "counts": {name: sum(map(some, rows)) for name, some in _FARM_FILTERS.items()},
            "total": len(rows),
            "found": len(wanted),
            "show": show if show in _FARM_FILTERS else None,
            "find": find,
            "page": page,
            "more": page * _FARMS_A_PAGE < len(wanted),
        }
        return renderer.page(request, "farms.html", content)

    _gateway_pages(router, services, renderer, region_name)


def _gateway_pages(router: APIRouter, services: "Services", renderer: Renderer, region_name: RegionName) -> None:
    telemetry = services.telemetry

    def show(request: Request, who: Who, gateway: str, series: str | None, hours: int) -> dict[str, Any]:
        speech = renderer.speech(request)
        farm = one_farm(telemetry, gateway, who.regions(), speech, region_name)
        reading = _chosen(farm, series)
        return {
            "here": "farms",
            "farm": farm,
            "chart": chart_view(telemetry, farm, reading, hours, who.regions(), speech) if reading else None,
            "panel": gateway_panel(services, who, gateway, speech),
            "alarms": services.alarms.board(who.regions(), open_only=True, gateway=farm.id, limit=_MOST_RINGING).items,
        }

    @router.get("/gateways/{gateway}")
    def one_gateway(
        request: Request, who: SignedIn, gateway: str, series: str | None = None, hours: Hours = 6
    ) -> Response:
        """Is this farm's data whole, what is wanted of its gateway, and what became of it?"""
        return renderer.page(request, "gateway.html", show(request, who, gateway, series, hours))

    @router.get("/gateways/{gateway}/letters/{digest}")
    def one_letter(request: Request, who: Operator, gateway: str, digest: str) -> Response:
        """What did a message say that could not be taken?"""
        letter = telemetry.dead_letter(digest, who.regions(Role.ADMIN, Role.OPERATOR))
        return renderer.page(request, "letter.html", {"here": "farms", "gateway": gateway, "letter": letter})

    @router.post("/gateways/{gateway}/{form}")
    def act_on_gateway(request: Request, who: Operator, gateway: str, form: Form, sent: Sent) -> Response:
        """Ask for it; back to the page, with the reason beside the form where it cannot be."""
        try:
            steer(services, who, gateway, form, sent)
        except (NotFound, Forbidden):
            raise
        except CloudError as error:
            content, status = show(request, who, gateway, None, 6), status_of(error) or 400
            content["panel"] = failed(content["panel"], form, error, sent)
            return renderer.page(request, "gateway.html", content, reply=Reply(status=status))
        return RedirectResponse(f"/console/gateways/{quote(gateway)}#{form}", status_code=303)

    @router.get("/gateways/{gateway}/series.json")
    def series_data(request: Request, who: SignedIn, gateway: str, series: str, hours: Hours = 6) -> Response:
        """The points of the chart, for its script."""
        speech = renderer.speech(request)
        farm = one_farm(telemetry, gateway, who.regions(), speech, region_name)
        reading = _chosen(farm, series)
        if reading is None:
            raise NotFound(f"gateway {gateway} has no readings yet")
        return JSONResponse(series_columns(telemetry, reading, hours, who.regions(), speech))


def _alarm_pages(router: APIRouter, services: "Services", renderer: Renderer) -> None:
    alarms = services.alarms

    @router.get("/alarms")
    def board(
        request: Request,
        who: SignedIn,
        before: Annotated[int | None, Query(ge=1, le=2**53)] = None,
        show: str | None = None,
    ) -> Response:
        """Which farm is in danger, since when, and what should be done?"""
        found = alarms.board(who.regions(), open_only=show != _ALL, before=before, limit=_ALARMS_A_PAGE)
        stormy = {number for storm in found.storms for number in storm.alarms}
        by_number = {one.id: one for one in found.items}
        content = {
            "here": "alarms",
            "storms": [(storm, [by_number[number] for number in storm.alarms]) for storm in found.storms],
            "alarms": [one for one in found.items if one.id not in stormy],
            "total": len(found.items),
            "next": found.next,
            "every": show == _ALL,
            "names": services.accounts.names({one.acknowledged_by for one in found.items if one.acknowledged_by}),
            "may_answer": bool(who.regions(Role.ADMIN, Role.OPERATOR)),
        }
        return renderer.page(request, "alarms.html", content)

    @router.post("/alarms")
    def answer(who: Operator, sent: Sent) -> Response:
        """Say that one looks after these, or keep quiet about them for a while; back to the board."""
        own = who.regions(Role.ADMIN, Role.OPERATOR)
        # A button of one line speaks for that line alone, whatever is ticked.
        only = sent.get("only")
        numbers = [_number(one) for one in ([only] if only else sent.getlist("alarm"))]
        minutes = str(sent.get("quiet", ""))
        if numbers and minutes:
            alarms.shelve_all(numbers, _number(minutes), who.id, str(sent.get("reason", ""))[:500], own)
        elif numbers:
            alarms.acknowledge(numbers, who.id, scope=own)
        return RedirectResponse("/console/alarms", status_code=303)


def _land_pages(router: APIRouter, services: "Services", renderer: Renderer, region_name: RegionName) -> None:
    land = services.land

    @router.get("/map")
    def map_page(
        request: Request,
        who: SignedIn,
        status: str | None = None,
        after: str | None = None,
        parcel: str | None = None,
    ) -> Response:
        """Where, since when, and why?"""
        fields = land_view(land, who)
        # What has to be looked at comes first; everything is one click away.
        chosen = status or ("suspected" if any(share.status == "suspected" for share in fields.shares) else _ALL)
        rows, following = parcel_rows(land, who, status=None if chosen == _ALL else chosen, after=after, limit=_PAGE)
        content = {
            "here": "map",
            "palette": PALETTE,
            "land": fields,
            "rows": rows,
            "next": following,
            "after": after,
            "status": chosen,
            "chosen": parcel,
            "page_size": _PAGE,
        }
        return renderer.page(request, "map.html", content)

    @router.get("/map/parcels.geojson")
    def parcels(who: SignedIn) -> Response:
        """Outlines and statuses alone: what the map draws, nothing a click has not asked for."""
        return JSONResponse(light_parcels(land, who), media_type="application/geo+json")

    @router.get("/parcels/{parcel}")
    def one_parcel(request: Request, who: SignedIn, parcel: str, part: str | None = None) -> Response:
        """Why does the system think so?"""
        view = parcel_view(land.parcel(who, parcel), renderer.speech(request).words, region_name)
        template = "parcel_panel.html" if part == "panel" else "parcel.html"
        content = {"here": "map", "palette": PALETTE, "parcel": view}
        return renderer.page(request, template, content)

    @router.get("/cases")
    def all_cases(request: Request, who: SignedIn, state: str | None = None, after: str | None = None) -> Response:
        """Who does what by when?"""
        counts = land_view(land, who).cases
        page = land.cases(who, state=state, limit=_PAGE, after=after)
        content = {
            "here": "cases",
            "cases": page.items,
            "next": page.next,
            "after": after,
            "state": state,
            "states": sorted(counts.items()),
            "total": sum(counts.values()),
        }
        return renderer.page(request, "cases.html", content)

    _case_pages(router, services, renderer)


def _case_pages(router: APIRouter, services: "Services", renderer: Renderer) -> None:
    land = services.land

    def show(request: Request, who: Who, case: str, failure: Failure | None = None) -> Response:
        detail = land.case(who, case)
        content = {
            "here": "cases",
            "detail": detail,
            "names": services.accounts.names(_people_of(detail)),
            "forms": forms_of(land, who, detail, services.regions.covers, failure),
        }
        reply = Reply(status=failure.status) if failure else None
        return renderer.page(request, "case.html", content, reply=reply)

    @router.get("/cases/{case:path}")
    def one_case(request: Request, who: SignedIn, case: str) -> Response:
        """What happened, on what evidence, who signed, and what can I do now?"""
        return show(request, who, case)

    @router.post("/cases/{case}/{action}")
    def act_on_case(request: Request, who: SignedIn, case: str, action: str, form: Sent) -> Response:
        """Do it and come back; or the same page with the reason beside the form."""
        try:
            act(land, who, case, action, form)
        except CloudError as error:
            status = status_of(error) or 400
            if isinstance(error, NotFound) and action != Action.MERGE:
                raise
            return show(request, who, case, explain(action, error, status, form))
        return RedirectResponse(f"/console/cases/{quote(case)}#do", status_code=303)


def _trace_pages(router: APIRouter, services: "Services", renderer: Renderer) -> None:
    provenance = services.provenance

    @router.get("/trace")
    def trace(request: Request, who: SignedIn) -> Response:  # noqa: ARG001 - the dependency is the check
        """Which lots can be followed, what did the rules stop, is the log sound, what did farms record?"""
        language = renderer.language(request)
        content = {
            "here": "trace",
            "lots": lot_rows(provenance, language),
            "refusals": refusal_texts(provenance, language),
            "log": provenance.log_state(),
            "events": provenance.events(_RECENT_EVENTS),
            "records": provenance.records(_RECENT_EVENTS),
        }
        return renderer.page(request, "trace.html", content)


def _people_of(detail: "CaseDetail") -> set[str]:
    """Everybody who did something in a case."""
    people = {step.who for step in detail.steps} | {photo.collector for photo in detail.evidence}
    people |= {person for person in (detail.case.collector, detail.case.issuer) if person}
    return people | {verdict.signer for verdict in detail.verdicts}


def _named(row: FarmRow, find: str) -> bool:
    wanted = find.strip().casefold()
    return wanted in f"{row.name} {row.id} {row.region} {row.kind}".casefold()


def _number(text: object) -> int:
    """A number from a form. Raises `Invalid` for anything no table holds."""
    digits = str(text)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 16):  # noqa: PLR2004 - below 2**53
        raise Invalid(f"{digits[:40]!r} is no number of an alarm, nor of minutes", code="bad_number")
    return int(digits)


def _chosen(farm: FarmView, series: str | None) -> ReadingView | None:
    """The series asked for, else the farm's first; raises `NotFound` for one it does not have."""
    if series is None:
        return farm.readings[0] if farm.readings else None
    found = next((reading for reading in farm.readings if reading.name == series), None)
    if found is None:
        raise NotFound(f"gateway {farm.id} has no series {series[:80]}")
    return found
