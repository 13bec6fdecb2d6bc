"""Doors of the land context. A handler takes typed input, calls one thing, gives the context's value."""

from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse, JSONResponse, Response

from cloud.land.blind import Report, Round, Visit
from cloud.land.figures import Figures
from cloud.land.model import Case, CaseDetail, Claim, Evidence, Page, VerdictKind
from cloud.land.schemas import AuditIn, CloseIn, IssueIn, MergeIn, OpenIn, ReasonIn, ReviewIn, SettleIn, VerdictIn
from cloud.land.service import Land
from cloud.problems import Invalid
from cloud.who import SignedIn

__all__ = ["build_router"]

_GEOJSON = "application/geo+json"


def build_router(land: Land) -> APIRouter:
    """Routes of `land`."""
    router = APIRouter(prefix="/api/v1/land", tags=["land"])
    _look(router, land)
    _visit(router, land)
    _judge(router, land)
    _aside(router, land)
    _audit(router, land)
    return router


def _look(router: APIRouter, land: Land) -> None:
    @router.get("/parcels")
    def parcels(
        who: SignedIn,
        bbox: Annotated[str | None, Query(description="west,south,east,north in degrees")] = None,
        status: str | None = None,
        region: str | None = None,
        limit: Annotated[int, Query(le=2**53)] = 5_000,
        after: str | None = None,
    ) -> Response:
        """Parcels as GeoJSON."""
        box = None if bbox is None else _box(bbox)
        # The collection is already plain JSON values: no second walk through ten thousand outlines.
        return JSONResponse(land.parcels(who, box, status, region, limit=limit, after=after), media_type=_GEOJSON)

    @router.get("/parcels/{parcel}")
    def parcel(parcel: str, who: SignedIn) -> dict[str, Any]:
        """One parcel: findings with reasons, verdicts, evidence, cases."""
        return land.parcel(who, parcel)

    @router.post("/parcels/{parcel}/sanction")
    def sanction(parcel: str, who: SignedIn) -> None:
        """Always refused: there is no way from a finding to a sanction, and this door says why."""
        land.refuse_sanction(who, parcel)

    @router.get("/cases")
    def cases(
        who: SignedIn,
        state: str | None = None,
        region: str | None = None,
        limit: Annotated[int, Query(le=2**53)] = 50,
        after: str | None = None,
    ) -> Page:
        """Cases, newest first."""
        return land.cases(who, state, region, limit=limit, after=after)

    @router.get("/cases/{case}")
    def case(case: str, who: SignedIn) -> CaseDetail:
        """One case with its history."""
        return land.case(who, case)

    @router.get("/summary")
    def summary(who: SignedIn) -> dict[str, dict[str, int]]:
        """How many cases and parcels stand where."""
        return land.counts(who)

    @router.get("/tasks")
    def tasks(who: SignedIn, limit: Annotated[int, Query(ge=1, le=500)] = 50) -> tuple[Case, ...]:
        """The cases that wait for the asker."""
        return land.tasks(who, limit=limit)

    @router.get("/figures")
    def figures(who: SignedIn) -> Figures:
        """What the loop has achieved."""
        return land.figures(who)

    @router.get("/photos/{sha256}")
    def photo(sha256: str, who: SignedIn) -> FileResponse:
        """A field photo."""
        path, media_type = land.photo(who, sha256)
        return FileResponse(path, media_type=media_type, headers={"X-Content-Type-Options": "nosniff"})


def _visit(router: APIRouter, land: Land) -> None:
    @router.post("/cases", status_code=201)
    def open_case(given: OpenIn, who: SignedIn) -> Case:
        """Open a candidate on a parcel that is seen as abandoned."""
        return land.open_case(who, given.parcel)

    @router.post("/cases/{case}/issue")
    def issue(case: str, given: IssueIn, who: SignedIn) -> Case:
        """Send it out."""
        return land.issue(who, case, collector=given.collector, despite=given.despite)

    @router.post("/cases/{case}/accept")
    def accept(case: str, who: SignedIn) -> Case:
        """Take the visit on oneself."""
        return land.accept(who, case)

    @router.post("/cases/{case}/refuse")
    def refuse(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Hand it back."""
        return land.refuse(who, case, given.note)

    @router.post("/cases/{case}/evidence", status_code=201)
    def evidence(  # noqa: PLR0913, PLR0917 - the fields of a form
        case: str,
        who: SignedIn,
        photo: Annotated[UploadFile, File()],
        lon: Annotated[float, Form()],
        lat: Annotated[float, Form()],
        datum: Annotated[str, Form(max_length=20)],
        taken_ms: Annotated[int, Form(ge=0, le=2**53)],
        view: Annotated[str, Form(max_length=10)] = "overview",
        accuracy_m: Annotated[float | None, Form()] = None,
        azimuth_deg: Annotated[float | None, Form()] = None,
    ) -> Evidence:
        """File a photo with its place and time."""
        claim = Claim(lon, lat, datum, taken_ms, view, accuracy_m, azimuth_deg)
        return land.add_evidence(who, case, claim, photo.file.read(land.photo_limit + 1))

    @router.post("/cases/{case}/send-back")
    def send_back(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Ask for better evidence."""
        return land.send_back(who, case, given.note)


def _judge(router: APIRouter, land: Land) -> None:
    @router.post("/cases/{case}/verdict")
    def verdict(case: str, given: VerdictIn, who: SignedIn) -> Case:
        """Sign what was found."""
        return land.verify(who, case, given.kind, evidence=given.evidence, note=given.note)

    @router.post("/cases/{case}/plan-remedy")
    def plan_remedy(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Say what shall be done."""
        return land.plan_remedy(who, case, given.note)

    @router.post("/cases/{case}/start-remedy")
    def start_remedy(case: str, who: SignedIn) -> Case:
        """Work has begun."""
        return land.start_remedy(who, case)

    @router.post("/cases/{case}/submit")
    def submit(case: str, given: CloseIn, who: SignedIn) -> Case:
        """Report it done."""
        return land.submit(who, case, given.note)

    @router.post("/cases/{case}/review")
    def review(case: str, given: ReviewIn, who: SignedIn) -> Case:
        """Sign that the land is worked again."""
        return land.review(who, case, given.recovery, given.note)

    @router.post("/cases/{case}/close")
    def close(case: str, given: CloseIn, who: SignedIn) -> Case:
        """Strike it off."""
        return land.close(who, case, given.note)


def _aside(router: APIRouter, land: Land) -> None:
    @router.post("/cases/{case}/reopen")
    def reopen(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Look at a closed case again."""
        return land.reopen(who, case, given.note)

    @router.post("/cases/{case}/dispute")
    def dispute(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Object to a verdict."""
        return land.dispute(who, case, given.note)

    @router.post("/cases/{case}/settle")
    def settle(case: str, given: SettleIn, who: SignedIn) -> Case:
        """Decide a dispute."""
        return land.settle(who, case, upheld=given.upheld, reason=given.note)

    @router.post("/cases/{case}/escalate")
    def escalate(case: str, given: ReasonIn, who: SignedIn) -> Case:
        """Take a stuck case back up."""
        return land.escalate(who, case, given.note)

    @router.post("/cases/{case}/merge")
    def merge(case: str, given: MergeIn, who: SignedIn) -> Case:
        """Fold it into another."""
        return land.merge(who, case, given.into)


def _audit(router: APIRouter, land: Land) -> None:
    @router.post("/audits", status_code=201)
    def draw(given: AuditIn, who: SignedIn) -> Round:
        """Draw a sample to be visited blind."""
        return land.draw_audit(who, given.region, per_stratum=given.per_stratum)

    @router.get("/audits/visits")
    def visits(who: SignedIn, limit: Annotated[int, Query(ge=1, le=1_000)] = 100) -> tuple[Visit, ...]:
        """Where the asker should still go."""
        return land.audit_visits(who, limit=limit)

    @router.post("/audits/visits/{visit}", status_code=201)
    def record(  # noqa: PLR0913, PLR0917 - the fields of a form
        visit: str,
        who: SignedIn,
        photo: Annotated[UploadFile, File()],
        found: Annotated[VerdictKind, Form()],
        lon: Annotated[float, Form()],
        lat: Annotated[float, Form()],
        datum: Annotated[str, Form(max_length=20)],
        taken_ms: Annotated[int, Form(ge=0, le=2**53)],
        accuracy_m: Annotated[float | None, Form()] = None,
        azimuth_deg: Annotated[float | None, Form()] = None,
    ) -> Evidence:
        """Say what stands there."""
        claim = Claim(lon, lat, datum, taken_ms, "overview", accuracy_m, azimuth_deg, origin="audit")
        return land.record_audit(who, visit, found, claim, photo.file.read(land.photo_limit + 1))

    @router.get("/audits/{audit}")
    def report(audit: str, who: SignedIn) -> Report:
        """The area with its interval, or what is missing."""
        return land.audit_report(who, audit)


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as why:
        raise Invalid("bbox: expected four numbers, west,south,east,north", pointer="/bbox") from why
    return west, south, east, north
