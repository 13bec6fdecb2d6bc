"""The audit by blind visits (rule L9): drawn by an auditor, walked by people who are not told what the map says.

A round samples all parcels, also those called cultivated and those whose case is closed. What is found changes no case
and no colour on the map: it measures them. Each visit needs the same evidence as any other, and that evidence may spare
a later visit (rule L2).
"""

import json
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from cloud.land.desk import Desk
from cloud.land.filing import Spot, attempt
from cloud.land.model import ABANDONED, Claim, Evidence, VerdictKind
from cloud.land.photos import Photos
from cloud.land.store import audit_rounds, audit_visits, cases, evidence, parcels
from cloud.land.survey import Interval, Stratum, abandoned_area, draw
from cloud.problems import CloudError, Conflict, Forbidden, Invalid, NotFound
from cloud.who import Role, Who

__all__ = ["Report", "Round", "Visit", "draw_round", "record", "report", "todo"]

_LARGEST = 2_000


@dataclass(frozen=True, slots=True)
class Round:
    """One sample: repeat the draw with `seed` over the parcels of that day."""

    id: str
    region: str
    made_ms: int
    made_by: str
    seed: int
    visits: int


@dataclass(frozen=True, slots=True)
class Visit:
    """A place to go to. What the map shows there is not told."""

    id: str
    parcel: str
    region: str
    geometry: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a round says. `area_m2` is None, with the reason in `missing`, while visits are lacking.

    `found` counts, for each stratum of the map, what people found there.
    """

    round: Round
    visited: int
    total_m2: float
    found: Mapping[str, Mapping[str, int]]
    area_m2: Interval | None
    missing: str | None


def draw_round(desk: Desk, who: Who, region: str, per_stratum: int) -> Round:
    """Draw a new round in a region. Auditors (and admins) only."""
    if not 1 <= per_stratum <= _LARGEST:
        raise Invalid(f"per_stratum: expected 1..{_LARGEST}", pointer="/per_stratum")
    number, seed, now = uuid.uuid4().hex, secrets.randbelow(2**31), desk.clock()
    with desk.engine.begin() as db:
        if not desk.sees(db, who, region):
            raise NotFound(f"no region {region!r}")
        if not desk.holds(db, who, region, Role.AUDITOR, Role.ADMIN):
            raise Forbidden(f"to draw an audit in {region} needs the role auditor there")
        found = _strata(desk, db, region)
        if not found:
            raise NotFound(f"no parcels in {region}: there is nothing to audit")
        drawn = draw({name: list(rows) for name, rows in found.items()}, per_stratum, seed)
        sizes = {name: {"parcels": len(rows), "area_m2": _area(rows)} for name, rows in found.items()}
        about = {"region": region, "made_ms": now, "made_by": who.id, "seed": seed}
        db.execute(insert(audit_rounds).values(id=number, strata=json.dumps(sizes), **about))
        rows = [_visit_row(number, name, found[name][parcel]) for name, parcel in drawn]
        db.execute(insert(audit_visits), rows)
        desk.audit(db, who.id, "audit.drawn", number, {"seed": seed, "visits": len(rows)}, region)
    return Round(number, region, now, who.id, seed, len(rows))


def todo(desk: Desk, who: Who, limit: int) -> tuple[Visit, ...]:
    """The places where a collector should still go."""
    mine = who.regions(Role.COLLECTOR)
    query = (
        select(audit_visits.c.id, audit_visits.c.parcel, audit_visits.c.region, parcels.c.geometry)
        .join(parcels, parcels.c.id == audit_visits.c.parcel)
        .where(audit_visits.c.found.is_(None), audit_visits.c.region.in_(desk.inside(mine)))
        .order_by(audit_visits.c.id)
        .limit(limit)
    )
    with desk.reading() as db:
        rows = db.execute(query).mappings()
        return tuple(Visit(r["id"], r["parcel"], r["region"], json.loads(r["geometry"])) for r in rows)


def record(
    desk: Desk, photos: Photos, who: Who, visit: str, *, found: VerdictKind, claim: Claim, content: bytes
) -> Evidence:
    """Say what stands on the place, with a photo. Not for whoever has collected on that parcel before."""
    with desk.engine.begin() as db:
        row = db.execute(select(audit_visits).where(audit_visits.c.id == visit).with_for_update()).mappings().first()
        if row is None or not desk.sees(db, who, row["region"]):
            raise NotFound(f"no visit {visit!r}")
        if not desk.holds(db, who, row["region"], Role.COLLECTOR):
            raise Forbidden(f"to visit in {row['region']} needs the role collector there")
        if row["found"] is not None:
            raise Conflict(f"visit {visit} is done already")
        _refuse_own(db, who, row["parcel"])
        spot = Spot(visit, row["parcel"], row["region"], None, "audit")
        filed = attempt(desk, photos, db, who=who, spot=spot, claim=claim, content=content)
        if isinstance(filed, Evidence):
            done = {"found": str(found), "visitor": who.id, "evidence": filed.id, "at_ms": desk.clock()}
            db.execute(update(audit_visits).where(audit_visits.c.id == visit).values(**done))
            desk.audit(db, who.id, "audit.visited", visit, {"evidence": filed.id}, row["region"])
    if isinstance(filed, CloudError):
        raise filed
    return filed


def report(desk: Desk, who: Who, number: str) -> Report:
    """What a round has found so far. Raises `NotFound` outside the asker's regions."""
    query = select(audit_rounds).where(audit_rounds.c.id == number, desk.seen_by(who, audit_rounds.c.region))
    with desk.reading() as db:
        head = db.execute(query).mappings().one_or_none()
        if head is None:
            raise NotFound(f"no audit {number!r}")
        visits = db.execute(select(audit_visits).where(audit_visits.c.round == number)).mappings().all()
    sizes = json.loads(head["strata"])
    done = [row for row in visits if row["found"] is not None]
    found: dict[str, dict[str, int]] = {name: {} for name in sizes}
    for row in done:
        found[row["stratum"]][row["found"]] = found[row["stratum"]].get(row["found"], 0) + 1
    strata = [Stratum(size["parcels"], size["area_m2"], _hits(done, name)) for name, size in sorted(sizes.items())]
    area, missing = None, None
    try:
        area = abandoned_area(strata)
    except Invalid as why:
        missing = why.detail
    about = Round(head["id"], head["region"], head["made_ms"], head["made_by"], head["seed"], len(visits))
    return Report(about, len(done), sum(one.area_m2 for one in strata), found, area, missing)


def _strata(desk: Desk, db: Connection, region: str) -> dict[str, dict[str, RowMapping]]:
    """Parcels of a region by what the map shows; those whose last case is closed make a stratum of their own."""
    closed = select(cases.c.parcel).where(cases.c.closed_ms.is_not(None))
    query = select(
        parcels.c.id,
        parcels.c.region,
        parcels.c.status,
        parcels.c.area_m2,
        parcels.c.id.in_(closed).label("closed"),
    ).where(parcels.c.region.in_(desk.inside([region])))
    found: dict[str, dict[str, RowMapping]] = {}
    for row in db.execute(query).mappings():
        found.setdefault("closed" if row["closed"] else row["status"], {})[row["id"]] = row
    return found


def _area(rows: Mapping[str, RowMapping]) -> float:
    return float(sum(row["area_m2"] for row in rows.values()))


def _visit_row(number: str, stratum: str, parcel: RowMapping) -> dict[str, Any]:
    about = {"parcel": parcel["id"], "region": parcel["region"], "area_m2": parcel["area_m2"]}
    return {"id": uuid.uuid4().hex, "round": number, "stratum": stratum, **about}


def _hits(done: list[RowMapping], name: str) -> tuple[tuple[float, bool], ...]:
    return tuple((row["area_m2"], row["found"] in ABANDONED) for row in done if row["stratum"] == name)


def _refuse_own(db: Connection, who: Who, parcel: str) -> None:
    own = select(func.count()).where(evidence.c.parcel == parcel, evidence.c.collector == who.id)
    if db.execute(own).scalar_one():
        raise Forbidden(
            "who has collected on a parcel does not audit it: another person must go", code="two_persons", rule="L6"
        )
