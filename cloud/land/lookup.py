"""Looking things up: parcels for the map, cases for the list, each cut down to the asker's regions."""

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, Select, and_, func, or_, select, true

from cloud.land import records
from cloud.land.cycle import MAY, RESTING, WAITS_FOR, Action, State, allowed
from cloud.land.desk import Desk, no_case
from cloud.land.model import MU_M2, Case, CaseDetail, Page, Status
from cloud.land.store import batches, detections
from cloud.land.store import cases as case_table
from cloud.land.store import parcels as parcel_table
from cloud.problems import Invalid, NotFound
from cloud.who import Role, Who

__all__ = ["Wanted", "case", "case_rows", "cases", "counts", "parcel", "parcel_rows", "parcels", "tasks"]

_MOST_PARCELS: Final = 20_000
_MOST_CASES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parcels: box (west, south, east, north in degrees), status, region and below; from `after` on."""

    bbox: tuple[float, float, float, float] | None = None
    status: str | None = None
    region: str | None = None
    limit: int = 5_000
    after: str | None = None

    def __post_init__(self) -> None:
        if self.bbox is not None:
            west, south, east, north = self.bbox
            if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):  # noqa: PLR2004 - degrees
                raise Invalid("bbox: expected west,south,east,north in degrees", pointer="/bbox")
        if self.status is not None and self.status not in {str(status) for status in Status}:
            raise Invalid(f"status {self.status!r}: expected one of {', '.join(Status)}", pointer="/status")
        if not 1 <= self.limit <= _MOST_PARCELS:
            raise Invalid(f"limit: expected 1..{_MOST_PARCELS}", pointer="/limit")


def parcels(desk: Desk, who: Who, wanted: Wanted) -> dict[str, Any]:
    """See `Land.parcels`."""
    with desk.reading() as db:
        rows = db.execute(_parcel_query(desk, who, wanted)).mappings().all()
        shown = rows[: wanted.limit]
        open_cases = _open_cases(db, desk, who)
    features = [
        {
            "type": "Feature",
            "id": row["id"],
            "geometry": json.loads(row["geometry"]),
            "properties": _shown(row) | open_cases.get(row["id"], {"case": None, "case_state": None}),
        }
        for row in shown
    ]
    body: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if len(rows) > wanted.limit:
        body["next"] = shown[-1]["id"]
    return body


def parcel(desk: Desk, who: Who, number: str) -> dict[str, Any]:
    """See `Land.parcel`."""
    query = _joined().where(parcel_table.c.id == number, desk.seen_by(who, parcel_table.c.region))
    with desk.reading() as db:
        row = db.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"no parcel {number!r}")
        seen = db.execute(
            select(detections, batches.c.accuracy)
            .join(batches, batches.c.id == detections.c.batch)
            .where(detections.c.parcel == number)
            .order_by(detections.c.crop_year.desc(), detections.c.imported_ms.desc())
        ).mappings()
        findings = [
            json.loads(one["record"])
            | {"id": one["id"], "imported_ms": one["imported_ms"], "accuracy": one["accuracy"]}
            for one in seen
        ]
        found = db.execute(
            records.case_query().where(case_table.c.parcel == number).order_by(case_table.c.opened_ms.desc())
        ).mappings()
        numbered = records.case_rows(found)
        signed = [asdict(verdict) for verdict in records.verdicts_on(db, number)]
        photos = [asdict(photo) for photo in records.evidence_on(db, number, 0)]
    return _shown(row) | {
        "geometry": json.loads(row["geometry"]),
        "basic_farmland": row["basic_farmland"],
        "findings": findings,
        "verdicts": signed,
        "evidence": photos,
        "cases": [{"id": one.id, "state": str(one.state), "opened_ms": one.opened_ms} for one in numbered],
    }


def cases(desk: Desk, who: Who, state: str | None, region: str | None, *, limit: int, after: str | None) -> Page:
    """See `Land.cases`."""
    if state is not None and state not in {str(one) for one in State}:
        raise Invalid(f"state {state!r}: expected one of {', '.join(State)}", pointer="/state")
    if not 1 <= limit <= _MOST_CASES:
        raise Invalid(f"limit: expected 1..{_MOST_CASES}", pointer="/limit")
    query = records.case_query().where(desk.seen_by(who, case_table.c.region))
    if state is not None:
        query = query.where(case_table.c.state == state)
    if region is not None:
        query = query.where(case_table.c.region.in_(desk.inside([region])))
    if after is not None:
        opened, number = _opened(after)
        older = and_(case_table.c.opened_ms == opened, case_table.c.id < number)
        query = query.where(or_(case_table.c.opened_ms < opened, older))
    query = query.order_by(case_table.c.opened_ms.desc(), case_table.c.id.desc()).limit(limit + 1)
    with desk.reading() as db:
        found = records.case_rows(db.execute(query).mappings())
    shown = found[:limit]
    return Page(shown, _cursor(shown[-1]) if len(found) > limit else None)


def case(desk: Desk, who: Who, number: str) -> CaseDetail:
    """See `Land.case`."""
    with desk.reading() as db:
        found = records.find_case(db, number)
        if found is None or not desk.sees(db, who, found.region):
            raise no_case(number)
        return CaseDetail(
            case=found,
            steps=records.steps_of(db, number),
            evidence=records.evidence_of(db, number),
            verdicts=records.verdicts_of(db, number),
            actions=tuple(action for action in allowed(found.state) if _may(desk, db, who, found, action)),
        )


def counts(desk: Desk, who: Who) -> dict[str, dict[str, int]]:
    """See `Land.counts`."""
    by_state = select(case_table.c.state, func.count()).where(desk.seen_by(who, case_table.c.region))
    by_status = select(parcel_table.c.status, func.count()).where(desk.seen_by(who, parcel_table.c.region))
    with desk.reading() as db:
        states = {str(name): int(n) for name, n in db.execute(by_state.group_by(case_table.c.state))}
        statuses = {str(name): int(n) for name, n in db.execute(by_status.group_by(parcel_table.c.status))}
    return {"cases": states, "parcels": statuses}


def tasks(desk: Desk, who: Who, limit: int) -> tuple[Case, ...]:
    """See `Land.tasks`."""
    waiting = [
        and_(
            case_table.c.state.in_([str(state) for state in states]),
            case_table.c.region.in_(desk.inside(who.regions(role))),
            or_(case_table.c.collector.is_(None), case_table.c.collector == who.id)
            if role is Role.COLLECTOR
            else true(),
        )
        for role, states in WAITS_FOR.items()
        if who.regions(role)
    ]
    if not waiting:
        return ()
    query = records.case_query().where(or_(*waiting))
    soonest = query.order_by(case_table.c.due_ms.is_(None), case_table.c.due_ms, case_table.c.probability.desc())
    with desk.reading() as db:
        return records.case_rows(db.execute(soonest.limit(limit)).mappings())


def parcel_rows(desk: Desk, region: str) -> list[dict[str, Any]]:
    """See `Land.parcel_rows`."""
    query = _joined().where(parcel_table.c.region.in_(desk.inside([region]))).order_by(parcel_table.c.id)
    with desk.reading() as db:
        return [_shown(row) | {"id": row["id"]} for row in db.execute(query).mappings()]


def case_rows(desk: Desk, region: str) -> list[dict[str, Any]]:
    """See `Land.case_rows`."""
    query = records.case_query().where(case_table.c.region.in_(desk.inside([region]))).order_by(case_table.c.id)
    with desk.reading() as db:
        found = records.case_rows(db.execute(query).mappings())
        return [asdict(one) | {"history": [asdict(step) for step in records.steps_of(db, one.id)]} for one in found]


def _joined() -> Select[Any]:
    return select(
        parcel_table,
        detections.c.class_name,
        detections.c.observability,
        detections.c.probability,
        detections.c.crop_year,
    ).outerjoin(detections, detections.c.id == parcel_table.c.detection)


def _parcel_query(desk: Desk, who: Who, wanted: Wanted) -> Select[Any]:
    table = parcel_table.c
    query = _joined().where(desk.seen_by(who, table.region))
    if wanted.bbox is not None:
        west, south, east, north = wanted.bbox
        query = query.where(table.west <= east, table.east >= west, table.south <= north, table.north >= south)
    if wanted.status is not None:
        query = query.where(table.status == wanted.status)
    if wanted.region is not None:
        query = query.where(table.region.in_(desk.inside([wanted.region])))
    if wanted.after is not None:
        query = query.where(table.id > wanted.after)
    return query.order_by(table.id).limit(wanted.limit + 1)


def _shown(row: RowMapping) -> dict[str, Any]:
    return {
        "parcel": row["id"],
        "region": row["region"],
        "area_m2": round(row["area_m2"], 1),
        "area_mu": round(row["area_m2"] / MU_M2, 2),
        "status": row["status"],
        "verified": row["verified"],
        "class_name": row["class_name"],
        "observability": row["observability"],
        "probability": row["probability"],
        "crop_year": row["crop_year"],
        "synthetic": row["synthetic"],
    }


def _open_cases(db: Connection, desk: Desk, who: Who) -> dict[str, dict[str, str]]:
    query = select(case_table.c.parcel, case_table.c.id, case_table.c.state).where(
        case_table.c.state.not_in([str(state) for state in RESTING]), desk.seen_by(who, case_table.c.region)
    )
    return {row.parcel: {"case": row.id, "case_state": row.state} for row in db.execute(query)}


def _may(desk: Desk, db: Connection, who: Who, found: Case, action: Action) -> bool:
    return desk.holds(db, who, found.region, Role.ADMIN, *MAY[action])


def _cursor(last: Case) -> str:
    return base64.urlsafe_b64encode(f"{last.opened_ms}/{last.id}".encode()).decode()


def _opened(cursor: str) -> tuple[int, str]:
    try:
        opened, _, number = base64.urlsafe_b64decode(cursor.encode()).decode().partition("/")
        return int(opened), number
    except (ValueError, binascii.Error) as why:
        raise Invalid("after: not a cursor of this list", pointer="/after") from why
